//! A panic ends the request that it came over, and no other.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The other choice ends the process, with every request in it.
const _: () = assert!(cfg!(panic = "unwind"), "build with panic = \"unwind\"");

/// What `work` comes to; `None` where it panicked, which the panic hook has told by then.
///
/// What it held is dropped. What all requests share is safe to use on: poisoned locks are taken
/// all the same, and the stores' own threads contain their panics themselves.
pub async fn contained<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| work.as_mut().poll(context).map(Some));
        catch_unwind(poll).unwrap_or(Poll::Ready(None))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_well_comes_through_and_a_panic_does_not() {
        assert_eq!(contained(async { 7 }).await, Some(7));
        let at_once = contained(async { assert_eq!(1, 2) });
        assert_eq!(at_once.await, None);
        let later = contained(async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2);
        });
        assert_eq!(later.await, None);
    }
}
