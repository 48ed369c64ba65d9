//! How much of one kind is going on at a time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

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

    /// Counts what was let in elsewhere already, however many there are.
    pub fn join(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// How many are going on.
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Too much is going on already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Counted {
    /// What `work` comes to, which may have to wait for somebody else: from there on it is counted
    /// among those that are `waiting`, and again as before once it is done. An error where `most`
    /// are going on there or here by then.
    pub async fn aside<T>(
        self,
        waiting: &Count,
        most: usize,
        work: impl Future<Output = T>,
    ) -> Result<(T, Self), Full> {
        let count = Count(Arc::clone(&self.0));
        let mut work = pin!(work);
        // Polled once, it is known whether it waits.
        let at_once = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = at_once.await {
            return Ok((done, self));
        }
        drop(self);
        let waits = waiting.enter(most).ok_or(Full)?;
        let done = work.await;
        drop(waits);
        Ok((done, count.enter(most).ok_or(Full)?))
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

    #[tokio::test]
    async fn who_waits_is_counted_elsewhere() {
        let (count, waiting) = (Count::default(), Count::default());
        let going_on = || (count.0.load(Ordering::Relaxed), waiting.0.load(Ordering::Relaxed));
        let counted = count.enter(1).unwrap();
        let (seen, counted) = counted.aside(&waiting, 1, async { going_on() }).await.unwrap();
        assert_eq!(seen, (1, 0), "it did not wait");
        let waits = async {
            tokio::task::yield_now().await;
            going_on()
        };
        let (seen, counted) = counted.aside(&waiting, 1, waits).await.unwrap();
        assert_eq!(seen, (0, 1));
        assert_eq!(going_on(), (1, 0));
        drop(counted);
        assert_eq!(going_on(), (0, 0));
    }

    #[tokio::test]
    async fn there_has_to_be_room_to_wait_and_to_go_on() {
        let (count, waiting) = (Count::default(), Count::default());
        let other = waiting.enter(1).unwrap();
        let waits = count.enter(1).unwrap().aside(&waiting, 1, tokio::task::yield_now());
        assert_eq!(waits.await.unwrap_err(), Full);
        drop(other);
        let in_its_place = async {
            tokio::task::yield_now().await;
            count.enter(1).unwrap()
        };
        let waits = count.enter(1).unwrap().aside(&waiting, 1, in_its_place);
        assert_eq!(waits.await.unwrap_err(), Full);
        assert_eq!(count.0.load(Ordering::Relaxed) + waiting.0.load(Ordering::Relaxed), 0);
    }

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
