//! The fetched keys of one issuer: one task fetches them, requests only read what is at hand.
//!
//! Because that task is the only one that ever fetches, there is never more than one fetch at a
//! time, a caller that goes away takes no fetch with it, and an issuer that hangs holds up nobody
//! else's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::error::KeyError;
use super::fetch::{Http, TOTAL_TIMEOUT};
use super::keeping::Keeping;
use super::lanes::Lanes;
use super::source::{Document, Fetched, Source};
use super::status::{IssuerStatus, KeyState, Origin};
use crate::clock;
use crate::config::MAX_STALE;
use crate::count::Count;
use crate::exchange::error::Failure;
use crate::jwt::key_set::{KeyRefused, KeySet, SkippedKey};
use crate::telemetry::metrics::{FetchOutcome, JwksGauge, Metrics};
use crate::time::Timestamp;

/// Between two fetches that unknown keys may cause.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Between a failed fetch and the next: doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// For metadata and keys together.
pub(super) const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// The fetched sets of all issuers, each for as long as it may serve.
pub(super) type KeyCache = Cache<u64, Arc<Kept>>;

pub(super) fn key_cache() -> KeyCache {
    Cache::builder().time_to_live(*MAX_STALE.end()).build()
}

/// A fetched set, and since when it is known to be current.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) document: Document,
    /// By a clock that nobody sets: what the age is counted by.
    pub(super) confirmed_at: Instant,
    /// By the wall clock: what other runs of this process can make something of.
    pub(super) confirmed_on: Timestamp,
    pub(super) ttl: Duration,
    pub(super) origin: Origin,
}

/// What an issuer whose keys are fetched consists of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) name: Arc<str>,
    pub(super) source: Source,
    pub(super) http: Arc<Http>,
    pub(super) cache: KeyCache,
    pub(super) lanes: Arc<Lanes>,
    /// How long keys serve on while their issuer can't be reached.
    pub(super) max_stale: Duration,
    /// Where they outlive this process.
    pub(super) keeping: Option<Arc<Keeping>>,
    pub(super) metrics: Arc<Metrics>,
}

/// What one issuer's keys begin with: those that another one fetched from the same place.
#[derive(Debug)]
pub(super) struct Seed {
    kept: Arc<Kept>,
    next: Instant,
}

/// One issuer and the task that fetches its keys. The task ends with it.
#[derive(Debug)]
pub(super) struct FetchedIssuer {
    shared: Arc<Shared>,
    task: AbortHandle,
    waiting: Count,
}

#[derive(Debug)]
struct Shared {
    id: u64,
    parts: Parts,
    gauge: Arc<JwksGauge>,
    state: Mutex<State>,
    /// Tells the task to look at the state.
    wake: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// A fetch is under way, or about to begin.
    fetching: bool,
    next: Instant,
    /// When an unknown key last caused a fetch.
    claimed_at: Option<Instant>,
    /// Failed fetches since the last good one.
    failures: u32,
    /// Of the last fetch.
    error: Option<KeyError>,
    ever_fetched: bool,
    /// What was last logged: the error, and whether keys were at hand.
    logged: Option<(KeyError, bool)>,
}

impl FetchedIssuer {
    /// Begins to fetch. Must be called within a tokio runtime.
    pub(super) fn start(parts: Parts, seed: Option<&Seed>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let next = seed.map_or(now, |seed| seed.next);
        let gauge = parts.metrics.jwks_gauge(&parts.name);
        let keeping = parts.keeping.as_ref().inspect(|keeping| keeping.take_over());
        let kept = match seed {
            Some(seed) => {
                keeping.inspect(|keeping| keeping.keep(&seed.kept));
                Some(Arc::clone(&seed.kept))
            }
            None => keeping.and_then(|keeping| keeping.recall()).map(Arc::new),
        };
        if let Some(kept) = kept {
            gauge.confirm(kept.confirmed_at, kept.document.keys.len());
            parts.cache.insert(id, kept);
        }
        let state = State {
            fetching: next <= now,
            next,
            claimed_at: None,
            failures: 0,
            error: None,
            ever_fetched: seed.is_some(),
            logged: None,
        };
        let shared = Arc::new(Shared {
            id,
            parts,
            gauge,
            state: Mutex::new(state),
            wake: Notify::new(),
            ended: watch::Sender::new(0),
        });
        let task = tokio::spawn(refresh_forever(Arc::clone(&shared))).abort_handle();
        Self { shared, task, waiting: Count::default() }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.shared.parts.name
    }

    pub(super) fn source(&self) -> &Source {
        &self.shared.parts.source
    }

    pub(super) const fn waiting(&self) -> &Count {
        &self.waiting
    }

    pub(super) fn http(&self) -> &Arc<Http> {
        &self.shared.parts.http
    }

    /// Whether it keeps its keys for so long, and there.
    pub(super) fn keeps(&self, max_stale: Duration, keeping: Option<&Keeping>) -> bool {
        self.shared.parts.max_stale == max_stale && self.keeping() == keeping
    }

    pub(super) fn keeping(&self) -> Option<&Keeping> {
        self.shared.parts.keeping.as_deref()
    }

    /// What another issuer may begin with that fetches from the same place. `at_once` is whether
    /// it is to fetch for itself before this one would have.
    pub(super) fn seed(&self, at_once: bool) -> Option<Seed> {
        let kept = self.shared.usable()?;
        let next = if at_once { Instant::now() } else { self.shared.state().next };
        Some(Seed { kept, next })
    }

    /// The keys at hand where they fit, or fresher ones. Waits only where nothing at hand fits, for
    /// a fetch that is under way or may be begun, and not for long.
    pub(super) async fn resolve(
        &self,
        fits: impl Fn(&KeySet) -> bool,
    ) -> Result<Arc<KeySet>, Failure> {
        let at_hand = self.shared.usable();
        if let Some(kept) = &at_hand
            && fits(&kept.document.keys)
        {
            return Ok(Arc::clone(&kept.document.keys));
        }
        if let Some(mut ended) = self.shared.ask(at_hand.is_some()) {
            // Whether it ended or not, what is at hand then is what there is.
            let _ = timeout(TOTAL_TIMEOUT, ended.changed()).await;
        }
        let kept = self.shared.usable().ok_or(Failure::KeysUnavailable)?;
        Ok(Arc::clone(&kept.document.keys))
    }

    pub(super) fn status(&self) -> IssuerStatus {
        let kept = self.shared.usable();
        let state = self.shared.state();
        let key_state = match &kept {
            Some(kept) if kept.confirmed_at.elapsed() <= kept.ttl => KeyState::Fresh,
            Some(_) => KeyState::Stale,
            None if state.ever_fetched || state.error.is_some() => KeyState::Unavailable,
            None => KeyState::NeverFetched,
        };
        let next = state.next.saturating_duration_since(Instant::now());
        IssuerStatus {
            name: Arc::clone(self.name()),
            source: self.source().kind(),
            state: key_state,
            keys: kept.as_ref().map_or(0, |kept| kept.document.keys.len()),
            keys_from: kept.as_ref().map(|kept| kept.origin),
            age_seconds: kept.map(|kept| kept.confirmed_at.elapsed().as_secs()),
            last_error: state.error.map(|error| error.to_string()),
            next_fetch_in_seconds: Some(next.as_secs()),
        }
    }
}

impl Drop for FetchedIssuer {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(keeping) = self.keeping() {
            keeping.give_back();
        }
        self.shared.parts.cache.invalidate(&self.shared.id);
    }
}

async fn refresh_forever(shared: Arc<Shared>) {
    loop {
        let (due, next) = {
            let state = shared.state();
            (state.fetching || state.next <= Instant::now(), state.next)
        };
        if due {
            shared.refresh().await;
        } else {
            tokio::select! {
                () = sleep_until(next) => {}
                () = shared.wake.notified() => {}
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at hand and may still serve.
    fn usable(&self) -> Option<Arc<Kept>> {
        let at_hand = self.parts.cache.get(&self.id);
        at_hand.filter(|kept| kept.confirmed_at.elapsed() <= self.parts.max_stale)
    }

    /// The end of a fetch to wait for, if there is one. An unknown key begins one where none has for
    /// a while: the claim is made before the fetch and whatever it brings, so that no flood of
    /// tokens becomes a flood of fetches. Where nothing is at hand at all, only the task itself
    /// retries.
    fn ask(&self, at_hand: bool) -> Option<watch::Receiver<u64>> {
        let mut state = self.state();
        if !state.fetching {
            let claimed = state.claimed_at.is_some_and(|at| at.elapsed() < COOL_DOWN);
            if claimed || !at_hand {
                return None;
            }
            state.claimed_at = Some(Instant::now());
            state.fetching = true;
            self.wake.notify_one();
        }
        // Fetches end under the same lock, so that an earlier one isn't taken for this one.
        Some(self.ended.subscribe())
    }

    /// Fetches once and sets the time of the next fetch.
    async fn refresh(&self) {
        let has_failed = {
            let mut state = self.state();
            state.fetching = true;
            state.failures > 0
        };
        let _permit = self.parts.lanes.enter(has_failed).await;
        let (started_at, started_on) = (Instant::now(), clock::now());
        let at_hand = self.parts.cache.get(&self.id);
        let fetch = self
            .parts
            .source
            .fetch(&self.parts.http, at_hand.as_deref().map(|kept| &kept.document));
        let fetched = timeout(REFRESH_TIMEOUT, fetch).await.unwrap_or(Err(KeyError::Timeout));
        let brought = match (fetched, at_hand) {
            (Ok(Fetched::Document(document, ttl)), at_hand) => {
                self.count(FetchOutcome::Ok);
                let before = at_hand.as_deref().map(|kept| kept.document.skipped.as_slice());
                self.log_skipped(&document.skipped, before);
                Ok((document, ttl))
            }
            (Ok(Fetched::NotModified(ttl)), Some(kept)) => {
                self.count(FetchOutcome::NotModified);
                Ok((kept.document.clone(), ttl))
            }
            // Only what is at hand is asked after, so there is always something not modified.
            (Ok(Fetched::NotModified(_)), None) => Err(KeyError::Status(304)),
            (Err(error), _) => Err(error),
        };
        match brought {
            Ok((document, ttl)) => self.succeed(Kept {
                document,
                confirmed_at: started_at,
                confirmed_on: started_on,
                // What must not be used any more is no longer fresh.
                ttl: ttl.min(self.parts.max_stale),
                origin: Origin::Fetched,
            }),
            Err(error) => self.fail(error),
        }
    }

    fn succeed(&self, kept: Kept) {
        let keys = kept.document.keys.len();
        self.gauge.confirm(kept.confirmed_at, keys);
        let lead = kept.ttl.mul_f64(0.8 + 0.1 * random_fraction());
        let next = kept.confirmed_at + lead;
        let kept = Arc::new(kept);
        self.parts.cache.insert(self.id, Arc::clone(&kept));
        let mut state = self.state();
        state.fetching = false;
        state.failures = 0;
        state.error = None;
        state.next = next;
        let first = !std::mem::replace(&mut state.ever_fetched, true);
        let recovered = state.logged.take().is_some();
        self.ended.send_modify(|ended| *ended += 1);
        drop(state);
        if let Some(keeping) = &self.parts.keeping {
            keeping.keep(&kept);
        }
        if first || recovered {
            tracing::info!(issuer = &*self.parts.name, keys, "the issuer's keys are fetched");
        }
    }

    fn fail(&self, error: KeyError) {
        self.count(FetchOutcome::Failed);
        let usable = self.usable();
        let at_hand = usable.is_some();
        if let Some(keeping) = &self.parts.keeping {
            keeping.review(usable.as_deref());
        }
        let mut state = self.state();
        let retry = FIRST_RETRY.saturating_mul(1 << state.failures.min(5)).min(LAST_RETRY);
        state.fetching = false;
        state.failures = state.failures.saturating_add(1);
        state.error = Some(error);
        state.next = Instant::now() + retry.mul_f64(0.9 + 0.1 * random_fraction());
        let news = state.logged.replace((error, at_hand)) != Some((error, at_hand));
        self.ended.send_modify(|ended| *ended += 1);
        drop(state);
        let issuer = &*self.parts.name;
        if news && error == KeyError::PrivateKeys {
            tracing::error!(issuer, %error, at_hand, "the issuer's keys cannot be fetched");
        } else if news {
            tracing::warn!(issuer, %error, at_hand, "the issuer's keys cannot be fetched");
        }
    }

    fn count(&self, outcome: FetchOutcome) {
        self.parts.metrics.jwks_fetch(&self.parts.name, outcome);
    }

    fn log_skipped(&self, skipped: &[SkippedKey], before: Option<&[SkippedKey]>) {
        if before == Some(skipped) {
            return;
        }
        let issuer = &*self.parts.name;
        for SkippedKey { index, why } in skipped {
            if *why == KeyRefused::PrivateMaterial {
                tracing::error!(issuer, index, %why, "the issuer publishes a key that is no public one");
            } else {
                tracing::warn!(issuer, index, %why, "a key of the issuer is passed over");
            }
        }
    }
}

/// From 0 to 1, so that many instances don't ask at one moment.
fn random_fraction() -> f64 {
    let mut bytes = [0; 2];
    // Without randomness there is merely no spread.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}
