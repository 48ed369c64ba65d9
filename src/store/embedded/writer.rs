//! The one thread that writes: all that waits becomes durable at once, and is answered then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{oneshot, watch};

use super::opening::Source;
use super::tables::{Change, Tables, Verdict};
use super::{Settings, Shared};
use crate::store::StoreError;

/// How many changes become durable at once.
const BATCH: usize = 256;

/// How long at most nothing is looked after.
const TICK: Duration = Duration::from_secs(1);

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// A change, and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Verdict>,
}

pub(super) struct Writer {
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
    source: Arc<Source>,
    settings: Settings,
    sweep_at: Instant,
    retry_at: Instant,
    retry: Duration,
    /// Says that all is done.
    _done: watch::Sender<()>,
}

impl Writer {
    pub(super) fn new(
        jobs: Receiver<Job>,
        shared: Arc<Shared>,
        source: Arc<Source>,
        settings: Settings,
        done: watch::Sender<()>,
    ) -> Self {
        let now = Instant::now();
        Self {
            jobs,
            shared,
            source,
            settings,
            sweep_at: now,
            retry_at: now,
            retry: FIRST_RETRY,
            _done: done,
        }
    }

    /// Runs until nobody can ask any more, and all who have asked are answered.
    pub(super) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(self.wait()) {
                Ok(job) => {
                    let rest = self.jobs.try_iter().take(BATCH - 1);
                    let jobs: Vec<_> = std::iter::once(job).chain(rest).collect();
                    self.serve(jobs);
                }
                Err(RecvTimeoutError::Timeout) => self.serve(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(database) = self.shared.take() {
            close(database);
        }
    }

    fn wait(&self) -> Duration {
        self.sweep_at.saturating_duration_since(Instant::now()).min(TICK)
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        if self.shared.is_suspect() {
            self.mend();
        }
        let changes: Vec<&Change> = jobs.iter().map(|job| &job.change).collect();
        let verdicts = self.commit(&changes);
        self.shared.counters.changes.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        let mut verdicts = verdicts.unwrap_or_default().into_iter();
        for job in jobs {
            // Who asked may have gone.
            let _ = job.answer.send(verdicts.next().unwrap_or(Err(StoreError::Failed)));
        }
    }

    /// `None` where it is not known what became of it.
    fn commit(&mut self, changes: &[&Change]) -> Option<Vec<Verdict>> {
        let is_sweep_due = self.sweep_at <= Instant::now();
        if changes.is_empty() && !is_sweep_due {
            return None;
        }
        if is_sweep_due {
            self.sweep_at = Instant::now() + self.settings.sweep_every;
        }
        let shared = Arc::clone(&self.shared);
        let committed = catch_unwind(AssertUnwindSafe(|| {
            shared.with_database(|database| self.transact(database, changes, is_sweep_due))
        }));
        match committed {
            Ok(Some(Ok(verdicts))) => Some(verdicts),
            Ok(None) => None,
            Ok(Some(Err(error))) => {
                tracing::error!(%error, "the store has failed");
                self.shared.suspect();
                None
            }
            Err(_) => {
                tracing::error!("the store has failed over its own file");
                self.shared.suspect();
                None
            }
        }
    }

    fn transact(
        &mut self,
        database: &Database,
        changes: &[&Change],
        is_sweep_due: bool,
    ) -> Result<Vec<Verdict>, redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let now = (self.settings.clock)();
        let mut tables = Tables::open(&transaction, self.settings.once_max, now)?;
        let mut verdicts = Vec::with_capacity(changes.len());
        for change in changes {
            verdicts.push(tables.apply(change)?);
        }
        let swept = if is_sweep_due { tables.sweep()? } else { 0 };
        let has_changed = tables.has_changed;
        drop(tables);
        if has_changed {
            transaction.commit()?;
            self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.shared.counters.swept.fetch_add(swept as u64, Ordering::Relaxed);
        } else {
            transaction.abort()?;
        }
        if swept > 0 {
            // There may be more.
            self.sweep_at = Instant::now();
        }
        Ok(verdicts)
    }

    /// After a failure a database does nothing more until it is opened anew.
    fn mend(&mut self) {
        if let Some(database) = self.shared.take() {
            close(database);
            self.retry = FIRST_RETRY;
            self.retry_at = Instant::now();
        }
        if self.retry_at > Instant::now() {
            return;
        }
        match self.source.open(&self.shared.counters, true) {
            Ok(database) => {
                tracing::info!("the store works again");
                self.shared.put(database);
            }
            Err(error) => {
                tracing::error!(%error, "the store can't be opened again yet");
                self.retry_at = Instant::now() + self.retry;
                self.retry = (self.retry * 2).min(LAST_RETRY);
            }
        }
    }
}

/// What a database has to say at its end changes nothing: what it has committed is durable.
fn close(database: Database) {
    match catch_unwind(AssertUnwindSafe(|| database.close())) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the store was not closed cleanly"),
        Err(_) => tracing::warn!("the store was not closed cleanly"),
    }
}
