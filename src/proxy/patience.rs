//! By when an answer has to begin, where its connection to the upstream is given more time: while a
//! body is still to come the upstream waits as we do, and from then on it is what is waited for.
//!
//! The library is told once how long it may wait for what comes next. So the client's connection, which
//! it listens to meanwhile, says when that is over (`stream`). Where it does not listen, as on HTTP/2,
//! the longer time holds.

use std::cell::Cell;

use pingora::Error;
use thiserror::Error;
use tokio::time::Instant;

tokio::task_local! {
    /// That of one request.
    static DEADLINE: Cell<Option<Instant>>;
}

/// An answer has not begun in time.
#[derive(Debug, Error)]
#[error("the upstream does not answer in time")]
pub struct Overdue;

/// Does `work`, which is one request.
pub async fn of_one_request<T>(work: impl Future<Output = T>) -> T {
    DEADLINE.scope(Cell::new(None), work).await
}

/// Sets the deadline, or takes it back.
pub fn expect_by(deadline: Option<Instant>) {
    let _ = DEADLINE.try_with(|own| own.set(deadline));
}

/// `None` between requests, too.
pub fn deadline() -> Option<Instant> {
    DEADLINE.try_with(Cell::get).ok().flatten()
}

/// Whether a request has failed for that.
pub fn is_overdue(error: &Error) -> bool {
    let error = error.root_cause().downcast_ref::<std::io::Error>();
    let why = error.and_then(std::io::Error::get_ref);
    matches!(why, Some(why) if why.is::<Overdue>())
}
