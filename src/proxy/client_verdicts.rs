//! Verdicts on client secrets, kept for a while so that a request does not cost an argon2.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::guesses::{Guess, Guesses, Shown};
use crate::exchange::client::{SecretCheck, Verdict};
use crate::exchange::error::{Failure, Refusal};

/// How long a right secret is remembered.
const KEPT: Duration = Duration::from_secs(300);
/// How many are.
const CAPACITY: u64 = 10_000;
/// How long a caller waits for its turn to be compared.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs secret checks: costly ones off the request threads, a few at a time, and not again while
/// their verdict is remembered. Only right secrets are remembered: wrong ones are for an attacker
/// to choose, and would push out the others.
#[derive(Debug)]
pub struct ClientVerdicts {
    right: Cache<[u8; 32], Verdict>,
    turns: Arc<Semaphore>,
}

enum NotRight {
    Verdict(Verdict),
    Refusal(Refusal),
}

impl Default for ClientVerdicts {
    fn default() -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            right: Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build(),
            turns: Arc::new(Semaphore::new(turns)),
        }
    }
}

impl ClientVerdicts {
    /// The verdict on `check`, unless too much was guessed. Callers with the same credentials share
    /// one comparison.
    pub async fn of(
        &self,
        check: &SecretCheck,
        guesses: &Guesses,
        guess: Guess<'_>,
    ) -> Result<Verdict, Refusal> {
        if !check.has_secret() {
            return Ok(check.run());
        }
        let key = guesses.key.tag(&check.binding());
        if !check.is_costly() {
            let admitted = guesses.admit(guess, check.unverified_client_ids(), key)?;
            let verdict = check.run();
            guesses.conclude(admitted, shown(verdict));
            return Ok(verdict);
        }
        let compared = self.compare(check, guesses, guess, key);
        match self.right.try_get_with(key, compared).await {
            Ok(verdict) => Ok(verdict),
            Err(not_right) => match *not_right {
                NotRight::Verdict(verdict) => Ok(verdict),
                NotRight::Refusal(refusal) => Err(refusal),
            },
        }
    }

    async fn compare(
        &self,
        check: &SecretCheck,
        guesses: &Guesses,
        guess: Guess<'_>,
        key: [u8; 32],
    ) -> Result<Verdict, NotRight> {
        let admitted = guesses.admit(guess, check.unverified_client_ids(), key);
        let admitted = admitted.map_err(|error| NotRight::Refusal(error.into()))?;
        match self.run(check.clone()).await {
            Ok(verdict) => {
                guesses.conclude(admitted, shown(verdict));
                if verdict.is_right() { Ok(verdict) } else { Err(NotRight::Verdict(verdict)) }
            }
            Err(failure) => {
                guesses.conclude(admitted, Shown::Nothing);
                Err(NotRight::Refusal(failure.into()))
            }
        }
    }

    async fn run(&self, check: SecretCheck) -> Result<Verdict, Failure> {
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| Failure::Overloaded)?
            .map_err(|_| Failure::Internal)?;
        // The turn goes with the work: a caller that leaves does not let another one in early.
        let compared = tokio::task::spawn_blocking(move || {
            let verdict = check.run();
            drop(turn);
            verdict
        });
        compared.await.map_err(|_| Failure::Internal)
    }
}

fn shown(verdict: Verdict) -> Shown {
    if verdict.is_right() { Shown::Right } else { Shown::Wrong }
}
