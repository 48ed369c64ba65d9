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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    async fn filled() -> (Arc<Slot>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let slot = Arc::new(Slot::default());
        assert!(slot.is_empty());
        assert!(matches!(slot.get(), Err(StoreError::Closed)));
        let store = Embedded::open(folder.path(), Duration::ZERO).await.unwrap();
        slot.fill(Arc::new(store));
        assert!(!slot.is_empty());
        (slot, folder)
    }

    #[tokio::test]
    async fn a_closed_store_is_another_process_s_and_no_other_takes_its_place() {
        let (slot, folder) = filled().await;
        let taken = slot.get().unwrap();
        assert!(Embedded::open(folder.path(), Duration::ZERO).await.is_err());
        slot.close(Duration::ZERO).await;
        let successor = Embedded::open(folder.path(), Duration::ZERO).await.unwrap();
        assert_eq!(taken.ping().await, Err(StoreError::Closed));
        assert!(!slot.is_empty());
        slot.fill(Arc::new(successor));
        assert!(matches!(slot.get(), Err(StoreError::Closed)));
    }

    #[tokio::test]
    async fn requests_under_way_are_waited_for_and_not_for_ever() {
        let (slot, _folder) = filled().await;
        let (one, two) = (slot.begin(), slot.begin());
        let closing = tokio::spawn({
            let slot = Arc::clone(&slot);
            async move { slot.close(Duration::from_hours(1)).await }
        });
        tokio::task::yield_now().await;
        drop(one);
        tokio::task::yield_now().await;
        // The other one may still ask for it.
        assert_eq!(slot.get().unwrap().ping().await, Ok(()));
        assert!(!closing.is_finished());
        drop(two);
        closing.await.unwrap();
        assert!(slot.get().is_err());

        let (slot, _folder) = filled().await;
        let _never_ends = slot.begin();
        slot.close(Duration::from_millis(1)).await;
        assert!(slot.get().is_err());
    }
}
