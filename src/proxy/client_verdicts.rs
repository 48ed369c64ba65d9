//! Verdicts on client secrets, kept for a while so that a request does not cost an argon2.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::exchange::client::{SecretCheck, Verdict};
use crate::exchange::error::Failure;

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
    /// Made anew in every process: what is kept is worth nothing outside.
    key: hmac::Key,
    turns: Arc<Semaphore>,
}

enum NotRight {
    Verdict(Verdict),
    Failure(Failure),
}

impl ClientVerdicts {
    /// `None` where the system has no random numbers.
    pub fn new() -> Option<Self> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).ok()?;
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Some(Self {
            right: Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            turns: Arc::new(Semaphore::new(turns)),
        })
    }

    /// The verdict on `check`. Callers with the same credentials share one comparison.
    pub async fn of(&self, check: &SecretCheck) -> Result<Verdict, Failure> {
        if !check.is_costly() {
            return Ok(check.run());
        }
        let tag = hmac::sign(&self.key, &check.binding());
        let key = <[u8; 32]>::try_from(tag.as_ref()).map_err(|_| Failure::Internal)?;
        let verdict = self.right.try_get_with(key, self.compare(check)).await;
        match verdict.map_err(|not_right| match *not_right {
            NotRight::Verdict(verdict) => Ok(verdict),
            NotRight::Failure(failure) => Err(failure),
        }) {
            Ok(verdict) | Err(Ok(verdict)) => Ok(verdict),
            Err(Err(failure)) => Err(failure),
        }
    }

    async fn compare(&self, check: &SecretCheck) -> Result<Verdict, NotRight> {
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| NotRight::Failure(Failure::Overloaded))?
            .map_err(|_| NotRight::Failure(Failure::Internal))?;
        let check = check.clone();
        // The turn goes with the work: a caller that leaves does not let another one in early.
        let compared = tokio::task::spawn_blocking(move || {
            let verdict = check.run();
            drop(turn);
            verdict
        });
        let verdict = compared.await.map_err(|_| NotRight::Failure(Failure::Internal))?;
        if verdict.is_right() { Ok(verdict) } else { Err(NotRight::Verdict(verdict)) }
    }
}
