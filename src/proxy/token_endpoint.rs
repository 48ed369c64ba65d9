//! The token endpoint: an intercepted request becomes an answer, or goes on to the upstream.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::Answer;
use super::client_verdicts::ClientVerdicts;
use crate::clock;
use crate::config::Config;
use crate::exchange::client::{AuthenticatedClient, Credentials};
use crate::exchange::error::{Failure, Refusal};
use crate::exchange::mint::TokenId;
use crate::exchange::request::{Recognised, TokenPathRequest};
use crate::exchange::{self, Granted, Record};
use crate::keys::KeyRing;
use crate::oauth::form::Form;
use crate::telemetry::audit;
use crate::telemetry::metrics::Metrics;

/// A buffered request to a token path.
#[derive(Clone, Copy)]
pub struct Intercepted<'a> {
    pub request: TokenPathRequest<'a>,
    /// The value of every `Authorization` field as the client sent it.
    pub authorization: &'a [&'a [u8]],
}

impl std::fmt::Debug for Intercepted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intercepted(…)")
    }
}

/// What becomes of an intercepted request.
#[derive(Debug)]
pub enum Disposition {
    /// It is the upstream's: replay it as it came.
    Forward,
    Answer(Answer),
}

/// Answers token exchanges.
#[derive(Debug)]
pub struct TokenEndpoint {
    metrics: Arc<Metrics>,
    verdicts: ClientVerdicts,
}

impl TokenEndpoint {
    /// `None` where the system has no random numbers.
    pub fn new(metrics: Arc<Metrics>) -> Option<Self> {
        Some(Self { metrics, verdicts: ClientVerdicts::new()? })
    }

    /// Decides, audits and counts.
    pub async fn answer(
        &self,
        config: &Config,
        keys: &KeyRing,
        intercepted: Intercepted<'_>,
    ) -> Disposition {
        let began = Instant::now();
        let mut record = Record::default();
        let result = match intercepted.request.recognise() {
            Ok(Recognised::Other) => return Disposition::Forward,
            Ok(Recognised::Exchange(form)) => {
                if exchange::is_forwarded(&form, &config.policy) {
                    return Disposition::Forward;
                }
                self.exchange(config, keys, &form, intercepted.authorization, &mut record).await
            }
            Err(error) => Err(error.into()),
        };
        Disposition::Answer(self.conclude(&record, result, began))
    }

    /// Answers, audits and counts a refusal that was found before the request was whole: too large,
    /// too slow, too many.
    pub fn refuse(&self, refusal: Refusal) -> Answer {
        self.conclude(&Record::default(), Err(refusal), Instant::now())
    }

    async fn exchange(
        &self,
        config: &Config,
        keys: &KeyRing,
        form: &Form,
        authorization: &[&[u8]],
        record: &mut Record,
    ) -> Result<Granted, Refusal> {
        let client = self.authenticate(config, form, authorization).await?;
        let pending = exchange::begin(form, client, &config.policy, record)?;
        let key_set = keys.resolve(&pending).await?;
        let token_id = random::<{ size_of::<TokenId>() }>()?;
        // A signature takes a fraction of a millisecond (RSA: one); handing it to another thread
        // would cost more than it spares.
        pending.finish(
            &key_set,
            &config.signing_keys,
            &config.policy,
            token_id,
            clock::now(),
            record,
        )
    }

    async fn authenticate(
        &self,
        config: &Config,
        form: &Form,
        authorization: &[&[u8]],
    ) -> Result<AuthenticatedClient, Refusal> {
        let credentials = Credentials::present(authorization, form)?;
        let check = config.policy.secret_check(credentials);
        let verdict = self.verdicts.of(&check).await?;
        Ok(check.conclude(verdict)?)
    }

    fn conclude(
        &self,
        record: &Record,
        result: Result<Granted, Refusal>,
        began: Instant,
    ) -> Answer {
        let decision = decision_id();
        let refusal = result.as_ref().err().copied();
        audit::exchange(&decision, record, refusal);
        self.metrics.exchange(record, refusal, began.elapsed());
        match result {
            Ok(granted) => Answer::granted(&granted, &decision),
            Err(refusal) => Answer::refused(&refusal.outcome(), &decision),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::Internal)?;
    Ok(bytes)
}

/// Names a decision in the answer and in the audit log.
pub fn decision_id() -> String {
    URL_SAFE_NO_PAD.encode(random::<12>().unwrap_or_default())
}
