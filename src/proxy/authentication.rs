//! Who calls: credentials held to our own list of applications, or tried at the upstream.

use std::net::IpAddr;
use std::sync::Arc;

use super::client_probe::ClientProbe;
use super::client_verdicts::ClientVerdicts;
use super::guesses::{self, Guess, Guesses};
use crate::config::Config;
use crate::exchange::client::{AuthenticatedClient, ClientCheck};
use crate::exchange::credentials::Credentials;
use crate::exchange::error::{Failure, Refusal};
use crate::oauth::form::Form;

/// A request, as far as it says who calls.
#[derive(Clone, Copy)]
pub struct Calling<'a> {
    /// The value of every `Authorization` field as the client sent it.
    pub authorization: &'a [&'a [u8]],
    pub address: Option<IpAddr>,
}

impl std::fmt::Debug for Calling<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calling").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<'a> Calling<'a> {
    /// As what it counts while nobody knows whether it is right.
    pub fn guess(&self, config: &'a Config) -> Guess<'a> {
        let limits = &config.limits.failed_authentications;
        // The other half is for those that are known.
        let waiting = (config.limits.requests / 2).max(1);
        Guess { limits, origin: guesses::origin(self.address), waiting }
    }
}

/// Authenticates callers. What it knows outlives a reload.
#[derive(Debug)]
pub struct Authentication {
    pub guesses: Arc<Guesses>,
    verdicts: ClientVerdicts,
}

impl Authentication {
    /// `None` where the system has no random numbers.
    pub fn new() -> Option<Self> {
        Some(Self { guesses: Arc::new(Guesses::new()?), verdicts: ClientVerdicts::default() })
    }

    /// The caller, if it is one of our applications. `probe` is there where the upstream can be asked.
    pub async fn of(
        &self,
        config: &Config,
        probe: Option<&ClientProbe>,
        form: &Form,
        calling: Calling<'_>,
    ) -> Result<AuthenticatedClient, Refusal> {
        let credentials = Credentials::present(calling.authorization, form)?;
        let guess = calling.guess(config);
        match config.policy.client_check(credentials)? {
            ClientCheck::Own(check) => {
                let verdict = self.verdicts.of(&check, &self.guesses, guess).await?;
                Ok(check.conclude(verdict)?)
            }
            ClientCheck::Upstream(check) => {
                let probe = probe.ok_or(Failure::CallerUnproven)?;
                let vouched = probe.of(check.attempt(), guess).await?;
                Ok(check.conclude(&vouched, &self.guesses.key)?)
            }
        }
    }
}
