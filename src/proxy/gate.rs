//! How many connections there may be: of all clients, and of one address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::share::{Origin, Share, Shares};

/// For how long, and what part of its share, an address loses for a connection that was ended because
/// of what it sent: whoever does that over and over is soon not let in any more.
const FINE_LASTS: Duration = Duration::from_secs(60);
const FINE: usize = 50;
/// So many at a time.
const FINES: usize = 10_000;
/// Whoever was not let in for that waits so long to hear of it; so many at a time.
const HOLD: Duration = Duration::from_secs(1);
const HELD: usize = 1000;

/// Refused connections are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counts connections over all listeners, and what goes on beside the first request of each.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    capacity: u32,
    shares: Shares,
    fines: Arc<Semaphore>,
    /// Connections of those who were fined that are not closed yet.
    held: Semaphore,
    turned_away: AtomicU64,
    began: Instant,
    /// When that was last logged, in milliseconds from `began`.
    logged: AtomicU64,
}

/// Taken until it is dropped.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl Gate {
    pub fn new(connections: usize) -> Self {
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let connections = connections.min(most);
        Self {
            places: Arc::new(Semaphore::new(connections)),
            capacity: u32::try_from(connections).unwrap_or(u32::MAX),
            shares: Shares::default(),
            fines: Arc::new(Semaphore::new(FINES)),
            held: Semaphore::new(HELD),
            turned_away: AtomicU64::new(0),
            began: Instant::now(),
            logged: AtomicU64::new(0),
        }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.capacity() - self.places.available_permits()
    }

    /// Waits until no connection is left.
    pub async fn emptied(&self) {
        // An error would mean that the semaphore is closed, which it never is.
        let _ = self.places.acquire_many(self.capacity).await;
    }

    /// `share` is how many places one address may take.
    pub fn enter(&self, origin: Option<Origin>, share: usize) -> Option<Place> {
        let place = self.place(origin, share);
        if place.is_none() {
            self.note_refusal();
        }
        place
    }

    /// Takes a part of its share from an address for a while, where addresses have shares.
    pub fn fine(&self, origin: Option<Origin>, share: usize) {
        let Some(origin) = origin.filter(|_| share < self.capacity()) else { return };
        let Ok(one) = Arc::clone(&self.fines).try_acquire_owned() else { return };
        let fine = self.shares.take(origin, share.div_ceil(FINE));
        tokio::spawn(async move {
            tokio::time::sleep(FINE_LASTS).await;
            drop((fine, one));
        });
    }

    /// Waits before a connection is closed that was not let in, where its address was fined.
    pub async fn hold(&self, origin: Option<Origin>, share: usize) {
        let is_fined = origin.is_some_and(|origin| self.shares.of(origin) > share);
        if is_fined && let Ok(_one) = self.held.try_acquire() {
            tokio::time::sleep(HOLD).await;
        }
    }

    fn place(&self, origin: Option<Origin>, share: usize) -> Option<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let share = self.shares.enter(origin, share, self.capacity())?;
        Some(Place { _place: place, _share: share })
    }

    fn capacity(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX)
    }

    fn note_refusal(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.logged.load(Ordering::Relaxed);
        let interval = u64::try_from(LOG_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let is_due = last == 0 || now.saturating_sub(last) >= interval;
        let swapped = |to| {
            let order = Ordering::Relaxed;
            self.logged.compare_exchange(last, to, order, order).is_ok()
        };
        if is_due && swapped(now.max(1)) {
            let count = self.turned_away.swap(0, Ordering::Relaxed);
            tracing::warn!(count, "too many connections: new ones are closed at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(gate: &Gate, address: &str, share: usize) -> Option<Place> {
        gate.enter(Some(Origin::new(address.parse().unwrap())), share)
    }

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest_to_others() {
        let gate = Gate::new(5);
        let held: Vec<Place> = (0..3).map(|_| enter(&gate, "192.0.2.1", 3).unwrap()).collect();
        assert!(enter(&gate, "192.0.2.1", 3).is_none());
        let other = enter(&gate, "192.0.2.2", 3).unwrap();
        assert_eq!(gate.connections(), 4);
        drop(held);
        assert_eq!(gate.connections(), 1);
        assert!(enter(&gate, "192.0.2.1", 3).is_some());
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_fined_over_and_over_is_not_let_in_for_a_while() {
        let gate = Gate::new(1000);
        let one = Some(Origin::new("192.0.2.1".parse().unwrap()));
        for _ in 0..FINE {
            assert!(gate.enter(one, 100).is_some());
            gate.fine(one, 100);
        }
        assert!(gate.enter(one, 100).is_none());
        assert!(enter(&gate, "192.0.2.2", 100).is_some());
        gate.fine(one, 100);
        for (address, expected) in [(one, HOLD), (None, Duration::ZERO)] {
            let began = tokio::time::Instant::now();
            gate.hold(address, 100).await;
            assert_eq!(began.elapsed(), expected);
        }
        assert!(gate.enter(one, 1000).is_some(), "it is switched off");
        tokio::time::sleep(FINE_LASTS * 2).await;
        assert!(gate.enter(one, 100).is_some());
    }

    #[test]
    fn a_share_as_large_as_the_whole_is_none() {
        let gate = Gate::new(2);
        let _held: Vec<Place> = (0..2).map(|_| enter(&gate, "192.0.2.1", 2).unwrap()).collect();
        assert!(enter(&gate, "192.0.2.2", 2).is_none());
    }
}
