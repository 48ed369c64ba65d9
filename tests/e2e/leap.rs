//! Time that passes when a test says so, although its sockets are real.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, advance, pause, resume};

/// Lets `time` pass at once. The clock only stands still meanwhile: were it to stand still while
/// a socket is waited for, tokio would jump to the next timeout.
pub async fn leap(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

/// Lets everything else go on until `holds`.
pub async fn until(holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came to be");
        yield_now().await;
    }
}

/// Lets everything else go on for as long as it takes a local request to come and be answered
/// many times over, to see that none comes.
pub async fn settle() {
    for _ in 0..2_000 {
        yield_now().await;
    }
}

/// The result of a future for which no time has to pass, however long it takes: nothing times out
/// meanwhile. Something else goes on all the time, so that tokio jumps to no timeout.
pub async fn in_no_time<T>(future: impl Future<Output = T>) -> T {
    pause();
    let result = tokio::select! {
        biased;
        result = future => result,
        () = until(|| false) => unreachable!("it never holds"),
    };
    resume();
    result
}

/// The result of a future that has to be ready without waiting.
pub async fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    let Poll::Ready(ready) = polled else { panic!("it waits") };
    ready
}

/// How long `future` took.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (future.await, began.elapsed())
}
