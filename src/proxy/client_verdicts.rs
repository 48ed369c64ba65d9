//! Verdicts on client secrets, kept for a while so that a request does not cost an argon2.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::guesses::{Admitted, Guess, Guesses, Shown};
use crate::count::{Count, Full};
use crate::exchange::client::{SecretCheck, Verdict};
use crate::exchange::error::{Failure, Refusal};

/// How long a right secret is remembered.
const KEPT: Duration = Duration::from_secs(300);
/// How many are.
const CAPACITY: u64 = 10_000;
/// How long a caller waits for its turn to be compared.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many callers that were never right before may wait for it. More of them would wait in vain.
const QUEUE: usize = 200;

/// Runs secret checks: costly ones off the request threads, a few at a time, and not again while
/// their verdict is remembered. Only right secrets are remembered: wrong ones are for an attacker
/// to choose, and would push out the others.
#[derive(Debug)]
pub struct ClientVerdicts {
    right: Cache<[u8; 32], Verdict>,
    known: Arc<Semaphore>,
    /// Of those that were never right: anybody can be as many of them as they like. They keep no more
    /// than half of the machine busy, and those that are known do not wait behind them.
    strangers: Arc<Semaphore>,
    queue: Count,
}

#[derive(Clone, Copy)]
enum NotRight {
    Verdict(Verdict),
    Refusal(Refusal),
}

impl Default for ClientVerdicts {
    fn default() -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            right: Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build(),
            known: Arc::new(Semaphore::new(turns)),
            strangers: Arc::new(Semaphore::new((turns / 2).max(1))),
            queue: Count::default(),
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
        let admitted = guesses.admit(guess, check.unverified_client_ids(), key)?;
        let compared = if check.is_costly() {
            self.remembered(check, key, &admitted, guess.waiting).await
        } else {
            Ok(check.run())
        };
        let (shown, result) = match compared {
            Ok(verdict) | Err(NotRight::Verdict(verdict)) => (shown(verdict), Ok(verdict)),
            Err(NotRight::Refusal(refusal)) => (Shown::Nothing, Err(refusal)),
        };
        guesses.conclude(admitted, shown);
        result
    }

    /// A verdict that is remembered, or one to remember. Of those that were never right, `waiting`
    /// wait for one at a time, those included who share it.
    async fn remembered(
        &self,
        check: &SecretCheck,
        key: [u8; 32],
        admitted: &Admitted,
        waiting: usize,
    ) -> Result<Verdict, NotRight> {
        if let Some(verdict) = self.right.get(&key).await {
            return Ok(verdict);
        }
        let queued = admitted.queue(&self.queue, waiting.min(QUEUE));
        let _queued = queued.map_err(|Full| NotRight::Refusal(Failure::Overloaded.into()))?;
        let compared = self.compare(check, admitted.was_right());
        self.right.try_get_with(key, compared).await.map_err(|not_right| *not_right)
    }

    async fn compare(&self, check: &SecretCheck, is_known: bool) -> Result<Verdict, NotRight> {
        let verdict = self.run(check.clone(), is_known).await;
        let verdict = verdict.map_err(|failure| NotRight::Refusal(failure.into()))?;
        if verdict.is_right() { Ok(verdict) } else { Err(NotRight::Verdict(verdict)) }
    }

    async fn run(&self, check: SecretCheck, is_known: bool) -> Result<Verdict, Failure> {
        let turns = if is_known { &self.known } else { &self.strangers };
        let turn = timeout(PATIENCE, Arc::clone(turns).acquire_owned())
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
