//! A store in a folder of this process alone.
//!
//! One thread writes, in transactions that hold all that waits; whoever asked for a change is
//! answered once it is durable. Reads see what is durable, on threads that may wait for a disk.

mod backend;
mod opening;
mod reading;
mod tables;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase as _, StorageBackend};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use self::backend::Counters;
pub use self::backend::Counts;
use self::opening::{Refused, Source};
use self::tables::{Change, Entries, Verdict};
use self::writer::{Job, Writer};
use super::{Hit, OpenError, Store, StoreError};
use crate::clock;
use crate::exchange::cut_off::{Ancestor, CutOff};
use crate::exchange::family::{End, Family};
use crate::exchange::mint::Kept;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::time::Timestamp;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to look at everything that is kept.
const SCAN_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to finish what was begun.
const CLOSING_PATIENCE: Duration = Duration::from_secs(30);

/// How many changes may wait.
const QUEUE: usize = 1024;

/// How many may read at a time.
const READERS: usize = 32;

/// How often it is tried to open what another process holds.
const POLL: Duration = Duration::from_millis(50);

/// What a test may set otherwise.
#[derive(Clone)]
pub struct Settings {
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How many tokens that come once only are remembered. Beyond, none is accepted.
    pub once_max: u64,
    /// How often what is past its time is forgotten.
    pub sweep_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock: Arc::new(clock::now),
            once_max: tables::ONCE_MAX,
            sweep_every: Duration::from_secs(60),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("once_max", &self.once_max)
            .field("sweep_every", &self.sweep_every)
            .finish_non_exhaustive()
    }
}

/// The database, as long as there is one.
#[derive(Debug)]
struct Shared {
    database: RwLock<Option<Database>>,
    /// Something has failed on it.
    is_suspect: AtomicBool,
    is_closed: AtomicBool,
    counters: Arc<Counters>,
}

impl Shared {
    fn with_database<T>(&self, work: impl FnOnce(&Database) -> T) -> Option<T> {
        self.database.read().as_ref().map(work)
    }

    fn begin_read(&self) -> Result<ReadTransaction, reading::Error> {
        let begun = self.with_database(Database::begin_read);
        Ok(begun.ok_or_else(|| reading::Error::Store(self.lost()))??)
    }

    /// What is said of a read that has failed, and of the database, unless it was closed meanwhile.
    fn blamed(&self, error: reading::Error) -> StoreError {
        match error {
            reading::Error::Store(error) => error,
            reading::Error::Database(error) => {
                if !matches!(*error, redb::Error::DatabaseClosed) {
                    tracing::error!(%error, "the store has failed");
                    self.suspect();
                }
                self.lost()
            }
        }
    }

    /// What is said of a database that is not there.
    fn lost(&self) -> StoreError {
        let is_closed = self.is_closed.load(Ordering::Acquire);
        if is_closed { StoreError::Closed } else { StoreError::Failed }
    }

    fn take(&self) -> Option<Database> {
        self.database.write().take()
    }

    fn put(&self, database: Database) {
        *self.database.write() = Some(database);
        self.is_suspect.store(false, Ordering::Release);
    }

    fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Release);
    }

    fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Acquire)
    }
}

/// A store in a file of its own.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    jobs: RwLock<Option<SyncSender<Job>>>,
    readers: Arc<Semaphore>,
    done: watch::Receiver<()>,
}

impl Embedded {
    /// Opens the store in this folder, or makes one. `patience` is how long another process may
    /// still hold it.
    pub async fn open(folder: &Path, patience: Duration) -> Result<Self, OpenError> {
        Self::open_with(folder, patience, Settings::default()).await
    }

    pub async fn open_with(
        folder: &Path,
        patience: Duration,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        Self::start(Source::Folder(folder.to_owned()), patience, settings).await
    }

    /// Opens the store that lies in what `open` gives: once now, and again after each failure.
    pub async fn over(
        open: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        Self::start(Source::Backend(Box::new(open)), Duration::ZERO, settings).await
    }

    async fn start(
        source: Source,
        patience: Duration,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let path = source.path();
        let failed = |why: String| OpenError::Embedded { path: path.clone(), why };
        let source = Arc::new(source);
        let counters = Arc::new(Counters::default());
        let began = Instant::now();
        let database = loop {
            let (source, counters) = (Arc::clone(&source), Arc::clone(&counters));
            let opened = tokio::task::spawn_blocking(move || source.open(&counters, false)).await;
            match opened.map_err(|_| failed("a thread was lost".to_owned()))? {
                Ok(database) => break database,
                Err(Refused::Held) if began.elapsed() < patience => sleep(POLL).await,
                Err(refused) => return Err(failed(refused.to_string())),
            }
        };
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            is_suspect: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            counters,
        });
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let (ended, done) = watch::channel(());
        let writer = Writer::new(queue, Arc::clone(&shared), source, settings, ended);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| failed(error.to_string()))?;
        let readers = Arc::new(Semaphore::new(READERS));
        Ok(Self { shared, jobs: RwLock::new(Some(jobs)), readers, done })
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    async fn change(&self, change: Change) -> Verdict {
        let (answer, answered) = oneshot::channel();
        {
            let jobs = self.jobs.read();
            let jobs = jobs.as_ref().ok_or(StoreError::Closed)?;
            jobs.try_send(Job { change, answer }).map_err(|error| match error {
                TrySendError::Full(_) => StoreError::TimedOut,
                TrySendError::Disconnected(_) => StoreError::Failed,
            })?;
        }
        let answer = timeout(PATIENCE, answered).await.map_err(|_| StoreError::TimedOut)?;
        answer.unwrap_or(Err(StoreError::Failed))
    }

    async fn read<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce(&ReadTransaction) -> Result<T, reading::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (shared, suspect) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let readers = Arc::clone(&self.readers);
        let reading = async move {
            let permit = readers.acquire_owned().await.map_err(|_| StoreError::Closed)?;
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let result = shared.begin_read().and_then(|transaction| read(&transaction));
                result.map_err(|error| shared.blamed(error))
            });
            task.await.unwrap_or_else(|_| {
                suspect.suspect();
                Err(StoreError::Failed)
            })
        };
        timeout(patience, reading).await.map_err(|_| StoreError::TimedOut)?
    }
}

#[async_trait]
impl Store for Embedded {
    async fn issue(&self, kept: &Kept) -> Result<(), StoreError> {
        self.change(Change::Issue(Entries::from(kept))).await.map(drop)
    }

    async fn family(&self, id: FamilyId) -> Result<Option<Family>, StoreError> {
        self.read(PATIENCE, move |transaction| reading::family(transaction, id)).await
    }

    async fn rotate(&self, kept: &Kept) -> Result<bool, StoreError> {
        self.change(Change::Rotate(Entries::from(kept))).await
    }

    async fn end_family(&self, id: FamilyId, end: End) -> Result<(), StoreError> {
        self.change(Change::EndFamily(id, end)).await.map(drop)
    }

    async fn opaque_claims(&self, id: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError> {
        let id = *id;
        self.read(PATIENCE, move |transaction| reading::opaque_claims(transaction, &id)).await
    }

    async fn revoke_access_token(
        &self,
        jwt_id: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let key = tables::revoked_key(jwt_id);
        self.change(Change::Revoke { key, expires_at }).await.map(drop)
    }

    async fn is_access_token_revoked(&self, jwt_id: &str) -> Result<bool, StoreError> {
        let key = tables::revoked_key(jwt_id);
        self.read(PATIENCE, move |transaction| reading::is_revoked(transaction, &key)).await
    }

    async fn remember_once(&self, once: &Once) -> Result<bool, StoreError> {
        self.change(Change::RememberOnce(*once)).await
    }

    async fn cut_off(&self, cut_off: &CutOff, now: Timestamp) -> Result<Hit, StoreError> {
        self.change(Change::CutOff(cut_off.clone())).await?;
        let cut_off = cut_off.clone();
        self.read(SCAN_PATIENCE, move |transaction| reading::hit(transaction, &cut_off, now)).await
    }

    async fn cut_off_of(&self, ancestors: &[Ancestor]) -> Result<Option<Timestamp>, StoreError> {
        let keys: Vec<_> = ancestors.iter().map(Ancestor::key).collect();
        self.read(PATIENCE, move |transaction| reading::furthest(transaction, &keys)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read(PATIENCE, reading::ping).await
    }

    async fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Release);
        drop(self.jobs.write().take());
        let mut done = self.done.clone();
        // The writer never says anything, and in the end it goes.
        if timeout(CLOSING_PATIENCE, done.changed()).await.is_err() {
            tracing::error!("the store does not come to an end");
        }
    }
}
