//! What lies between the database and its file: it counts, and it can hold back whatever is
//! written until it is known that the file is one that may be written to.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

/// In this unit is kept what is held back.
const BLOCK: usize = 4096;

/// How much is read and written at once where the whole file is.
const STRIDE: usize = 1 << 18;

/// What a store has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes that were asked for.
    pub changes: u64,
    /// Transactions that became durable.
    pub commits: u64,
    /// How often the file was synced.
    pub syncs: u64,
    /// What was past its time and has been forgotten.
    pub swept: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) changes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) swept: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            changes: read(&self.changes),
            commits: read(&self.commits),
            syncs: read(&self.syncs),
            swept: read(&self.swept),
        }
    }
}

/// Something to do to the file, once it may be.
enum Step {
    Length(u64),
    Write(u64, Vec<u8>),
    Sync,
}

/// What is held back: in order, and as it is to be read meanwhile.
#[derive(Default)]
struct Held {
    steps: Vec<Step>,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
    length: u64,
    /// What the file has from here on counts as zero.
    floor: u64,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("length", &self.length).finish_non_exhaustive()
    }
}

/// A file behind its guard.
#[derive(Debug)]
pub(super) struct Guarded {
    inner: Box<dyn StorageBackend>,
    held: Mutex<Option<Held>>,
    counters: Arc<Counters>,
}

impl Guarded {
    /// Nothing is written before [`Guarded::release`]. With `anew`, what is there counts as empty.
    pub(super) fn hold(
        inner: Box<dyn StorageBackend>,
        anew: bool,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let length = inner.len()?;
        let mut held = Held { length, floor: length, ..Held::default() };
        if anew {
            held.set_len(0);
        }
        Ok(Self { inner, held: Mutex::new(Some(held)), counters })
    }

    /// Writes what was held back, in the order and with the syncs that it came with, and holds back
    /// nothing more.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut held = self.held.lock();
        let Some(Held { steps, .. }) = held.as_ref() else { return Ok(()) };
        for step in steps {
            match step {
                Step::Length(length) => self.inner.set_len(*length)?,
                Step::Write(offset, data) => self.inner.write(*offset, data)?,
                Step::Sync => self.sync()?,
            }
        }
        self.sync()?;
        *held = None;
        Ok(())
    }

    /// Writes the whole file as it is read. After a failure the system may take for written what
    /// is not: so that it is, or fails again.
    pub(super) fn rewrite(&self) -> io::Result<()> {
        let length = self.inner.len()?;
        let mut buffer = vec![0; STRIDE];
        let mut offset = 0;
        while offset < length {
            let size = usize::try_from(length - offset).unwrap_or(STRIDE).min(STRIDE);
            let Some(buffer) = buffer.get_mut(..size) else { break };
            self.inner.read(offset, buffer)?;
            self.inner.write(offset, buffer)?;
            offset += size as u64;
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_data()
    }
}

impl Held {
    fn set_len(&mut self, length: u64) {
        self.steps.push(Step::Length(length));
        if length < self.length {
            self.floor = self.floor.min(length);
            drop(self.blocks.split_off(&length.div_ceil(BLOCK as u64)));
            let within = usize::try_from(length % BLOCK as u64).unwrap_or_default();
            let last = self.blocks.get_mut(&(length / BLOCK as u64));
            if let Some(tail) = last.and_then(|block| block.get_mut(within..)) {
                tail.fill(0);
            }
        }
        self.length = length;
    }

    /// What is read without regard to what is held back for the same place.
    fn beneath(&self, inner: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.floor.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (old, new) = out.split_at_mut(there.min(out.len()));
        new.fill(0);
        if old.is_empty() { Ok(()) } else { inner.read(offset, old) }
    }

    fn read(&self, inner: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.beneath(inner, offset, out)?;
        for (block, at, range) in pieces(offset, out.len()) {
            let held = self.blocks.get(&block).and_then(|held| held.get(at..at + range.len()));
            if let (Some(held), Some(out)) = (held, out.get_mut(range)) {
                out.copy_from_slice(held);
            }
        }
        Ok(())
    }

    fn write(&mut self, inner: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset.saturating_add(data.len() as u64) > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.steps.push(Step::Write(offset, data.to_vec()));
        for (block, at, range) in pieces(offset, data.len()) {
            if !self.blocks.contains_key(&block) {
                let mut fresh = Box::new([0; BLOCK]);
                self.beneath(inner, block * BLOCK as u64, &mut fresh[..])?;
                self.blocks.insert(block, fresh);
            }
            let held =
                self.blocks.get_mut(&block).and_then(|held| held.get_mut(at..at + range.len()));
            if let (Some(held), Some(data)) = (held, data.get(range)) {
                held.copy_from_slice(data);
            }
        }
        Ok(())
    }
}

/// Which parts of which blocks a range of the file is: block, where in it, and where in the range.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let position = offset + done as u64;
        let at = usize::try_from(position % BLOCK as u64).unwrap_or_default();
        let size = (BLOCK - at).min(length - done);
        let piece = (position / BLOCK as u64, at, done..done + size);
        done += size;
        (size > 0).then_some(piece)
    })
}

/// What the database is given. The other one of the two stays with whoever opens it.
#[derive(Clone, Debug)]
pub(super) struct Handle(pub(super) Arc<Guarded>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.0.held.lock().as_ref().map_or_else(|| self.0.inner.len(), |held| Ok(held.length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(held) = self.0.held.lock().as_ref() {
            return held.read(&*self.0.inner, offset, out);
        }
        self.0.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(held) = self.0.held.lock().as_mut() {
            held.set_len(len);
            return Ok(());
        }
        self.0.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(held) = self.0.held.lock().as_mut() {
            held.steps.push(Step::Sync);
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(held) = self.0.held.lock().as_mut() {
            return held.write(&*self.0.inner, offset, data);
        }
        self.0.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.query_lock_range(start, end)
    }
}
