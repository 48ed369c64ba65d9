//! The place of a process's store: it may be filled by a later configuration, and is given up before
//! the process ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Store, StoreError};

#[derive(Debug, Default)]
enum Place {
    #[default]
    Empty,
    Filled(Arc<dyn Store>),
    /// For good.
    Closed,
}

/// The store of a process.
#[derive(Debug, Default)]
pub struct Slot {
    place: RwLock<Place>,
    requests: AtomicUsize,
    idle: Notify,
}

impl Slot {
    pub fn get(&self) -> Result<Arc<dyn Store>, StoreError> {
        match &*self.place.read() {
            Place::Filled(store) => Ok(Arc::clone(store)),
            Place::Empty | Place::Closed => Err(StoreError::Closed),
        }
    }

    /// Whether a store is still to come.
    pub fn is_empty(&self) -> bool {
        matches!(&*self.place.read(), Place::Empty)
    }

    /// Does nothing where there is, or was, a store already.
    pub fn fill(&self, store: Arc<dyn Store>) {
        let mut place = self.place.write();
        if matches!(&*place, Place::Empty) {
            *place = Place::Filled(store);
        }
    }

    /// Says that a request is under way which may ask the store more than once.
    pub fn begin(self: &Arc<Self>) -> Use {
        self.requests.fetch_add(1, Ordering::SeqCst);
        Use(Arc::clone(self))
    }

    /// Closes the store, and takes no other. Requests that are under way have `patience` to end.
    pub async fn close(&self, patience: Duration) {
        let _ = timeout(patience, self.unused()).await;
        let place = std::mem::replace(&mut *self.place.write(), Place::Closed);
        if let Place::Filled(store) = place {
            store.close().await;
        }
    }

    async fn unused(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Before the look: a request that ends in between is not missed.
            idle.as_mut().enable();
            if self.requests.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A request that may ask the store, until it is dropped.
#[derive(Debug)]
pub struct Use(Arc<Slot>);

impl Drop for Use {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
