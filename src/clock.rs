//! The only place where the wall clock is read.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// The present second.
pub fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since_1970.as_secs())
}
