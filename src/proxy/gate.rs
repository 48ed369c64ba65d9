//! How many connections there may be: of all clients, and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::guesses;
use crate::count::{Count, Counted};
use crate::exchange::throttle::Origin;

/// Refused connections are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counts connections over all listeners, and what goes on beside the first request of each.
#[derive(Debug)]
pub struct Gate {
    places: Count,
    capacity: usize,
    shares: Shares,
    /// Told of each that leaves.
    left: Arc<Notify>,
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
    _counted: Counted,
    _share: Option<Share>,
    // The last of them, so that it is told once the place is free.
    _leaving: Leaving,
}

#[derive(Debug)]
struct Leaving(Arc<Notify>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
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
        Self {
            places: Count::default(),
            capacity: connections,
            shares: Shares::default(),
            left: Arc::default(),
            turned_away: AtomicU64::new(0),
            began: Instant::now(),
            logged: AtomicU64::new(0),
        }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.places.now()
    }

    /// Waits until no connection is left. Meanwhile those that are there may take more places: a
    /// client of HTTP/2 learns late that it should not.
    pub async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Before the look: one that leaves in between is not missed.
            left.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            left.await;
        }
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
        let counted = self.places.enter(self.capacity)?;
        let share = match share {
            None => None,
            Some(most) => Some(self.share(guesses::origin(address), most)?),
        };
        let leaving = Leaving(Arc::clone(&self.left));
        Some(Place { _counted: counted, _share: share, _leaving: leaving })
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

    #[tokio::test]
    async fn whoever_waits_for_the_last_to_leave_keeps_nobody_out() {
        let gate = Arc::new(Gate::new(3));
        gate.emptied().await;
        let first = enter(&gate, "192.0.2.1", Some(2)).unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.emptied().await }
        });
        tokio::task::yield_now().await;
        let second = enter(&gate, "192.0.2.1", Some(2)).unwrap();
        assert_eq!(gate.connections(), 2);
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
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
