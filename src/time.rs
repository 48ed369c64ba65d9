//! Points in time as the RFCs write them: whole seconds since 1970-01-01T00:00:00Z.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A `NumericDate` (RFC 7519 §2) in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64")]
pub struct Timestamp(u64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z. Whatever lies beyond is not a date that anybody meant.
    pub const MAX: Self = Self(253_402_300_799);

    /// Clamped to [`Timestamp::MAX`], so that sums of two timestamps and durations can't wrap.
    pub const fn from_secs(secs: u64) -> Self {
        if secs > Self::MAX.0 { Self::MAX } else { Self(secs) }
    }

    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// `self + duration`, never beyond [`Timestamp::MAX`].
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self::from_secs(self.0.saturating_add(duration.as_secs()))
    }

    /// `self - duration`, never before 1970.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }

    /// How long from `earlier` until `self`; zero when `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl From<u64> for Timestamp {
    fn from(secs: u64) -> Self {
        Self::from_secs(secs)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stop_at_the_year_9999_and_differences_at_1970() {
        let now = Timestamp::from_secs(1_000);
        assert_eq!(now.plus(Duration::from_secs(u64::MAX)), Timestamp::MAX);
        assert_eq!(now.minus(Duration::from_secs(1_001)), Timestamp::from_secs(0));
        assert_eq!(now.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::from_secs(u64::MAX), Timestamp::MAX);
    }
}
