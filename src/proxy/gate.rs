//! How many connections there may be: of all clients, and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guesses;
use crate::exchange::throttle::Origin;

/// Refused connections are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counts connections over all listeners, and what goes on beside the first request of each.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    capacity: u32,
    shares: Shares,
    turned_away: AtomicU64,
    began: Instant,
    /// When that was last logged, in milliseconds from `began`.
    logged: AtomicU64,
}

/// How many places each address has taken, where that is bounded.
type Shares = Arc<Mutex<HashMap<Origin, usize>>>;

/// Taken until it is dropped.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

#[derive(Debug)]
struct Share {
    origin: Origin,
    shares: Shares,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.shares.lock();
        match shares.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            // Nothing is remembered of who has left.
            Some(_) | None => {
                shares.remove(&self.origin);
            }
        }
    }
}

impl Gate {
    pub fn new(connections: usize) -> Self {
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let connections = connections.min(most);
        Self {
            places: Arc::new(Semaphore::new(connections)),
            capacity: u32::try_from(connections).unwrap_or(u32::MAX),
            shares: Shares::default(),
            turned_away: AtomicU64::new(0),
            began: Instant::now(),
            logged: AtomicU64::new(0),
        }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX) - self.places.available_permits()
    }

    /// Waits until no connection is left.
    pub async fn emptied(&self) {
        // An error would mean that the semaphore is closed, which it never is.
        let _ = self.places.acquire_many(self.capacity).await;
    }

    /// `share` is how many places one address may have, if that is bounded.
    pub fn enter(&self, address: Option<IpAddr>, share: Option<usize>) -> Option<Place> {
        let place = self.place(address, share);
        if place.is_none() {
            self.note_refusal();
        }
        place
    }

    fn place(&self, address: Option<IpAddr>, share: Option<usize>) -> Option<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let share = match share {
            None => None,
            Some(most) => Some(self.share(guesses::origin(address), most)?),
        };
        Some(Place { _place: place, _share: share })
    }

    fn share(&self, origin: Origin, most: usize) -> Option<Share> {
        let mut shares = self.shares.lock();
        let count = shares.get(&origin).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        shares.insert(origin, count + 1);
        Some(Share { origin, shares: Arc::clone(&self.shares) })
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

    fn enter(gate: &Gate, address: &str, share: Option<usize>) -> Option<Place> {
        gate.enter(Some(address.parse().unwrap()), share)
    }

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest_to_others() {
        let gate = Gate::new(5);
        let one = |share| enter(&gate, "192.0.2.1", share);
        let held: Vec<Place> = (0..3).map(|_| one(Some(3)).unwrap()).collect();
        assert!(one(Some(3)).is_none());
        assert!(one(None).is_some(), "it is not bounded any more");
        let other = enter(&gate, "192.0.2.2", Some(3)).unwrap();
        assert_eq!(gate.connections(), 4);
        drop(held);
        assert_eq!(gate.connections(), 1);
        assert!(one(Some(3)).is_some());
        drop(other);
        assert!(gate.shares.lock().is_empty());
    }

    #[test]
    fn without_a_bound_one_address_may_have_them_all() {
        let gate = Gate::new(2);
        let _held: Vec<Place> = (0..2).map(|_| enter(&gate, "192.0.2.1", None).unwrap()).collect();
        assert!(enter(&gate, "192.0.2.2", None).is_none());
    }

    #[test]
    fn an_address_has_one_share_however_it_is_written_and_a_network_of_ipv6_has_one() {
        let gate = Gate::new(9);
        let one = |address| enter(&gate, address, Some(1));
        let _held = [one("192.0.2.1").unwrap(), one("2001:db8::1").unwrap()];
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::ffff:ffff:ffff:ffff"] {
            assert!(one(address).is_none(), "{address}");
        }
        for address in ["192.0.2.2", "2001:db8:0:1::1"] {
            assert!(one(address).is_some(), "{address}");
        }
    }

    /// What is refused is not counted.
    #[test]
    fn a_refusal_takes_nothing_up() {
        let gate = Gate::new(2);
        let held = enter(&gate, "192.0.2.1", Some(1)).unwrap();
        for _ in 0..5 {
            assert!(enter(&gate, "192.0.2.1", Some(1)).is_none());
        }
        let other = enter(&gate, "192.0.2.2", Some(2)).unwrap();
        for _ in 0..5 {
            assert!(enter(&gate, "192.0.2.2", Some(2)).is_none(), "the whole is taken");
        }
        drop((held, other));
        assert_eq!((gate.connections(), gate.shares.lock().len()), (0, 0));
    }
}
