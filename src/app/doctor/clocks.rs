//! Whether clocks agree: what others put into `Date`, against ours.

use std::time::Duration;

use super::Finding;
use crate::time::Timestamp;

const CHECK: &str = "clock";
/// `Date` has whole seconds, and an answer takes its time.
const ROUNDING: Duration = Duration::from_secs(2);

/// Somebody's clock, read at a moment of ours.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) whose: String,
    pub(super) theirs: Timestamp,
    pub(super) ours: Timestamp,
    /// What is let pass.
    pub(super) tolerance: Duration,
    /// What goes wrong where it is ahead of ours, and where it is behind.
    pub(super) consequence: [&'static str; 2],
}

impl Reading {
    const fn is_ahead(&self) -> bool {
        self.theirs.as_secs() > self.ours.as_secs()
    }

    fn difference(&self) -> Duration {
        self.theirs.since(self.ours).max(self.ours.since(self.theirs))
    }

    fn is_off(&self) -> bool {
        self.difference() > self.tolerance + ROUNDING
    }
}

/// One finding for each clock.
pub(super) fn compare(readings: &[Reading]) -> Vec<Finding> {
    let same_way =
        |ahead: bool| readings.iter().filter(|one| one.is_off() && one.is_ahead() == ahead).count();
    // Where all are off the same way, it is rather this one that is wrong.
    let is_ours = readings.len() > 1
        && [true, false].into_iter().any(|ahead| same_way(ahead) == readings.len());
    let tell = |one: &Reading| {
        let seconds = one.difference().as_secs();
        if !one.is_off() {
            return Finding::ok(CHECK, &one.whose, format!("agrees with ours ({seconds} s apart)"));
        }
        let [ahead, behind] = one.consequence;
        let (way, consequence) =
            if one.is_ahead() { ("ahead of", ahead) } else { ("behind", behind) };
        let advice = if is_ours {
            "all others differ the same way: set the clock of this machine, with NTP"
        } else {
            "find out which of the two clocks is wrong, and have it set with NTP"
        };
        let seen = format!("is {seconds} s {way} ours: {consequence}");
        Finding::warning(CHECK, &one.whose, seen, advice)
    };
    readings.iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(theirs: u64) -> Reading {
        Reading {
            whose: "partner".to_owned(),
            theirs: Timestamp::from_secs(theirs),
            ours: Timestamp::from_secs(10_000),
            tolerance: Duration::from_secs(30),
            consequence: ["A", "B"],
        }
    }

    #[test]
    fn a_clock_is_off_beyond_what_is_tolerated_and_it_is_told_which_way() {
        for (theirs, seen) in [
            (10_000, "agrees with ours (0 s apart)"),
            (10_032, "agrees with ours (32 s apart)"),
            (9_968, "agrees with ours (32 s apart)"),
            (10_033, "is 33 s ahead of ours: A"),
            (9_700, "is 300 s behind ours: B"),
        ] {
            let findings = compare(&[reading(theirs)]);
            assert_eq!(findings[0].seen, seen);
            assert_eq!(findings[0].advice.is_empty(), seen.starts_with("agrees"));
        }
    }

    #[test]
    fn where_all_others_differ_the_same_way_it_is_this_one() {
        let advice = |all: &[u64]| {
            let readings: Vec<_> = all.iter().map(|theirs| reading(*theirs)).collect();
            compare(&readings).iter().filter(|one| one.advice.starts_with("all others")).count()
        };
        assert_eq!(advice(&[10_300, 10_301]), 2);
        assert_eq!(advice(&[10_300]), 0);
        assert_eq!(advice(&[10_300, 10_000]), 0);
        assert_eq!(advice(&[10_300, 9_700]), 0);
    }
}
