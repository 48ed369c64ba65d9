//! How much of one kind is going on at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is going on.
#[derive(Debug, Default)]
pub struct Count(Arc<AtomicUsize>);

/// Counts until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Count {
    /// `None` where `most` are going on already. It is told each time: a reload may have changed it.
    pub fn enter(&self, most: usize) -> Option<Counted> {
        let counted = |now: usize| (now < most).then_some(now + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).ok()?;
        Some(Counted(Arc::clone(&self.0)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more_until_one_has_left() {
        let count = Count::default();
        let held: Vec<Counted> = (0..3).map(|_| count.enter(3).unwrap()).collect();
        assert!(count.enter(3).is_none());
        assert!(count.enter(4).is_some(), "the bound was raised meanwhile");
        drop(held);
        assert!(count.enter(1).is_some());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
