//! Requests whose bodies are still to come: how many there may be, and which make room.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::stream::STALLED;
use crate::count::{Count, Counted};

/// What an upload brings on average, in octets a second, where others need its place.
const SLOW: u64 = 240;
/// How long it may take before it is asked.
const GRACE: Duration = Duration::from_mins(1);

/// Uploads that are going on. Their clients decide how long they take, so they are counted among
/// themselves, apart from what is whole.
#[derive(Debug, Default)]
pub struct Uploads(Count);

/// A request body on its way from a client to the upstream.
#[derive(Debug)]
pub struct Upload {
    _counted: Counted,
    began: Instant,
    octets: u64,
}

impl Uploads {
    /// `None` where `most` are going on already.
    pub fn begin(&self, most: usize) -> Option<Upload> {
        Some(Upload { _counted: self.0.enter(most)?, began: Instant::now(), octets: 0 })
    }

    /// Notes what has come. `false` where it is so little that others should have the place, as more
    /// than half of them are taken.
    pub fn go_on(&self, upload: &mut Upload, octets: usize, most: usize) -> bool {
        upload.octets = upload.octets.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        let took = upload.began.elapsed();
        let is_slow = took > GRACE && upload.octets < took.as_secs().saturating_mul(SLOW);
        !is_slow || self.0.now() <= most / 2
    }
}

tokio::task_local! {
    /// When something last went on in a request whose body is still to come.
    static LAST: Arc<Mutex<Option<Instant>>>;
}

/// Does `work`, which is one request of HTTP/2, or gives it up once its body has brought nothing for
/// too long, and nothing of its answer went to its client either. The library itself waits for a body
/// for ever there, even where the answer has been given.
pub async fn unless_silent(work: impl Future<Output = ()>) {
    let last = Arc::new(Mutex::new(None));
    let mut work = pin!(LAST.scope(Arc::clone(&last), work));
    loop {
        let since = last.lock().unwrap_or_else(Instant::now);
        let ends = since + STALLED;
        tokio::select! {
            () = &mut work => return,
            () = sleep_until(ends) => {
                if last.lock().is_some_and(|last| last + STALLED <= ends) {
                    return;
                }
            }
        }
    }
}

/// Notes that a body is still to come, and that something went on.
pub fn went_on() {
    let _ = LAST.try_with(|last| *last.lock() = Some(Instant::now()));
}

/// Notes that a body has come.
pub fn came() {
    let _ = LAST.try_with(|last| *last.lock() = None);
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slow_ones_make_room_where_many_are_going_on() {
        let uploads = Uploads::default();
        let [mut slow, mut quick] = [(); 2].map(|()| uploads.begin(4).unwrap());
        let second = Duration::from_secs(1);
        for _ in 0..60 {
            advance(second).await;
            assert!(uploads.go_on(&mut slow, 1, 4));
            assert!(uploads.go_on(&mut quick, 240, 4));
        }
        // There is room.
        advance(second).await;
        assert!(uploads.go_on(&mut slow, 1, 4));
        assert!(uploads.go_on(&mut quick, 240, 4));
        let mut new = uploads.begin(4).unwrap();
        assert!(!uploads.go_on(&mut slow, 1, 4));
        assert!(uploads.go_on(&mut quick, 0, 4));
        assert!(uploads.go_on(&mut new, 0, 4));
        // A large piece makes up for it.
        assert!(uploads.go_on(&mut slow, 240 * 61, 4));
        let last = uploads.begin(4).unwrap();
        assert!(uploads.begin(4).is_none());
        drop((last, new));
        assert!(uploads.go_on(&mut slow, 0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_brings_nothing_ends_its_request() {
        let began = Instant::now();
        unless_silent(async {
            went_on();
            advance(STALLED / 2).await;
            went_on();
            std::future::pending::<()>().await;
        })
        .await;
        assert_eq!(began.elapsed(), STALLED / 2 + STALLED);
        // What has come, or brings something, or has no body, takes as long as it takes.
        for pieces in [0, 1, 4] {
            let began = Instant::now();
            unless_silent(async {
                for _ in 0..pieces {
                    went_on();
                    advance(STALLED / 2).await;
                }
                came();
                advance(5 * STALLED).await;
            })
            .await;
            assert_eq!(began.elapsed(), (STALLED / 2) * pieces + 5 * STALLED);
        }
    }
}
