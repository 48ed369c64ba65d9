//! How much of one kind is going on at a time: of all clients, and of one address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::share::{Origin, Share, Shares};

/// Counts what is going on. The bound is told each time: a reload may have changed it.
#[derive(Debug, Default)]
pub struct Count {
    all: Arc<AtomicUsize>,
    shares: Shares,
}

/// Counts until it is dropped.
#[derive(Debug)]
pub struct Counted {
    all: Arc<AtomicUsize>,
    _share: Option<Share>,
}

impl Count {
    /// `None` where `most` are going on already, or `share` of this address.
    pub fn enter(&self, most: usize, share: usize, address: Option<IpAddr>) -> Option<Counted> {
        let share = self.shares.enter(address.map(Origin::new), share, most)?;
        let counted = |now: usize| (now < most).then_some(now + 1);
        self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).ok()?;
        Some(Counted { all: Arc::clone(&self.all), _share: share })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more_until_one_has_left() {
        let count = Count::default();
        let enter = |most| count.enter(most, 1, None);
        let held: Vec<Counted> = (0..3).map(|_| enter(3).unwrap()).collect();
        assert!(enter(3).is_none());
        assert!(enter(4).is_some(), "the bound was raised meanwhile");
        drop(held);
        assert!(enter(1).is_some());
    }

    #[test]
    fn an_address_has_no_more_than_its_share() {
        let count = Count::default();
        let (one, other) = (Some("192.0.2.1".parse().unwrap()), Some("192.0.2.2".parse().unwrap()));
        let held: Vec<Counted> = (0..2).map(|_| count.enter(8, 2, one).unwrap()).collect();
        assert!(count.enter(8, 2, one).is_none());
        assert!(count.enter(8, 2, other).is_some());
        assert!(count.enter(8, 8, one).is_some(), "it is switched off");
        drop(held);
        assert!(count.enter(8, 2, one).is_some());
        assert_eq!(count.all.load(Ordering::Relaxed), 0);
    }

    /// What is refused for the whole is not counted for the address.
    #[test]
    fn a_refusal_takes_nothing_up() {
        let count = Count::default();
        let one = Some("192.0.2.1".parse().unwrap());
        let held = count.enter(4, 1, None).unwrap();
        let others: Vec<Counted> = (0..3).map(|_| count.enter(4, 1, None).unwrap()).collect();
        for _ in 0..5 {
            assert!(count.enter(4, 1, one).is_none());
        }
        drop((held, others));
        assert!(count.enter(4, 1, one).is_some());
    }
}
