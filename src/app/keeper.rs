//! The store's life in the process: opened when a configuration first needs it, looked after while
//! one does, and closed before the process ends.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::admin::StoreStatus;
use crate::config::{Config, StoreSettings};
use crate::store::{self, OpenError, Slot, Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// How often the store is asked whether it is there.
const INTERVAL: Duration = Duration::from_secs(5);
/// For its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For what a store has begun when it is closed.
const CLOSING: Duration = Duration::from_secs(5);

/// A store that was opened for a configuration, which may still come to nothing.
pub struct Opened {
    store: Arc<dyn Store>,
    known: Known,
}

/// What is known of the store that is there.
struct Known {
    settings: StoreSettings,
    /// When it last did.
    answered: Option<Instant>,
    /// What it said when it was last asked.
    error: Option<StoreError>,
}

impl Known {
    fn note(&mut self, answer: Result<(), StoreError>) {
        if self.error.is_some() != answer.is_err() {
            match answer {
                Ok(()) => tracing::info!("the store answers again"),
                Err(error) => tracing::warn!(%error, "the store does not answer"),
            }
        }
        self.error = answer.err();
        if self.error.is_none() {
            self.answered = Some(Instant::now());
        }
    }
}

/// Keeps the store.
pub struct Keeper {
    slot: Arc<Slot>,
    metrics: Arc<Metrics>,
    known: Mutex<Option<Known>>,
}

impl Keeper {
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            slot: Arc::new(Slot::default()),
            metrics: Arc::clone(metrics),
            known: Mutex::new(None),
        }
    }

    pub const fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Opens the store where the configuration needs one and there is none yet. `patience` is how
    /// long another process may still hold it.
    pub async fn open(
        &self,
        config: &Config,
        patience: Duration,
    ) -> Result<Option<Opened>, OpenError> {
        if !config.needs_store() || !self.slot.is_empty() {
            return Ok(None);
        }
        let store = store::open(&config.store, &self.metrics, patience).await?;
        Ok(Some(Opened::of(store, &config.store).await))
    }

    /// The configuration serves, and so does its store.
    pub fn keep(&self, opened: Option<Opened>) {
        let Some(Opened { store, known }) = opened else { return };
        self.slot.fill(store);
        *self.known.lock() = Some(known);
    }

    /// Whether the configuration wants another store than the one that is there.
    pub fn is_other(&self, config: &Config) -> bool {
        let known = self.known.lock();
        config.needs_store() && known.as_ref().is_some_and(|known| known.settings != config.store)
    }

    /// What is shown of it, where it is needed.
    pub fn status(&self, config: &Config) -> Option<StoreStatus> {
        if !config.needs_store() {
            return None;
        }
        let known = self.known.lock();
        known.as_ref().map(|known| StoreStatus {
            kind: match known.settings {
                StoreSettings::Embedded { .. } => "embedded",
                StoreSettings::Redis(_) => "redis",
            },
            ok: known.error.is_none(),
            age_seconds: known.answered.map(|answered| answered.elapsed().as_secs()),
            last_error: known.error.map(|error| error.to_string()),
        })
    }

    /// Asks the store now and then whether it is there, while `is_needed` says so; for as long as
    /// the keeper is kept.
    pub async fn watch(keeper: Weak<Self>, is_needed: impl Fn() -> bool) {
        loop {
            let Some(kept) = keeper.upgrade() else { return };
            if is_needed() {
                kept.ask().await;
            }
            drop(kept);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn ask(&self) {
        if self.slot.is_empty() {
            return;
        }
        let answer = match self.slot.get() {
            Ok(store) => ping(&*store).await,
            Err(error) => Err(error),
        };
        if let Some(known) = self.known.lock().as_mut() {
            known.note(answer);
        }
    }

    /// Closes the store, once no request is under way that may ask it, or after `patience`.
    pub async fn close(&self, patience: Duration) {
        if timeout(patience + CLOSING, self.slot.close(patience)).await.is_err() {
            tracing::error!("the store does not close");
        }
    }
}

async fn ping(store: &dyn Store) -> Result<(), StoreError> {
    timeout(PATIENCE, store.ping()).await.unwrap_or(Err(StoreError::TimedOut))
}

impl Opened {
    /// A store that was just opened, and whether it is there.
    pub async fn of(store: Arc<dyn Store>, settings: &StoreSettings) -> Self {
        let mut known = Known { settings: settings.clone(), answered: None, error: None };
        known.note(ping(&*store).await);
        Self { store, known }
    }

    /// For a configuration that does not serve after all.
    pub async fn discard(self) {
        let _ = timeout(CLOSING, self.store.close()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    #[tokio::test]
    async fn it_is_told_whether_the_store_answers() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::Embedded { folder: folder.path().to_owned() };
        let keeper = Keeper::new(&Arc::new(Metrics::new()));
        // Nothing is there to be asked.
        keeper.ask().await;
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(folder.path(), Duration::ZERO).await.unwrap());
        let known = Known { settings, answered: None, error: None };
        keeper.keep(Some(Opened { store: Arc::clone(&store), known }));
        let shown = || {
            let known = keeper.known.lock();
            known.as_ref().map(|known| (known.answered.is_some(), known.error))
        };
        assert_eq!(shown(), Some((false, None)));
        keeper.ask().await;
        assert_eq!(shown(), Some((true, None)));
        store.close().await;
        keeper.ask().await;
        assert_eq!(shown(), Some((true, Some(StoreError::Closed))));
    }
}
