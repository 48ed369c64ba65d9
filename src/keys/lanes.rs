//! How many fetches go on at a time, over all issuers: those that fail wait for one another, and
//! hold up nobody who answers.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Fetches of issuers that answered when they were last asked, or were not asked yet.
pub(super) const SOUND: usize = 64;
/// Fetches of issuers whose last fetch failed.
pub(super) const FAILING: usize = 16;

/// The bounds. One fetch takes up to one document of memory, and one connection.
#[derive(Debug)]
pub(super) struct Lanes {
    sound: Semaphore,
    failing: Semaphore,
}

impl Lanes {
    pub(super) const fn new() -> Self {
        Self { sound: Semaphore::const_new(SOUND), failing: Semaphore::const_new(FAILING) }
    }

    /// Waits until a fetch may begin. It goes on for as long as the permit is held.
    pub(super) async fn enter(&self, has_failed: bool) -> Option<SemaphorePermit<'_>> {
        let lane = if has_failed { &self.failing } else { &self.sound };
        // Nobody closes them.
        lane.acquire().await.ok()
    }
}
