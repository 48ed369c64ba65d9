//! Which keys of ours are still needed to verify with after a configuration has lost them.

use std::time::Duration;

use super::sign::{SigningKey, SigningKeys};
use crate::time::Timestamp;

/// The keys that have signed, and until when a token of each may live.
#[derive(Clone, Debug, Default)]
pub struct PastKeys(Vec<PastKey>);

#[derive(Clone, Debug)]
struct PastKey {
    kid: String,
    /// Under one name there may be another key.
    thumbprint: String,
    tokens_until: Timestamp,
}

/// A key that is not published any more, while tokens may live that it has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedKey {
    pub kid: String,
    pub tokens_until: Timestamp,
}

impl PastKeys {
    /// What is known when a process begins: a key that is published and does not sign may have
    /// signed before. `longest` is the longest life of a token.
    pub fn begin(keys: &SigningKeys, now: Timestamp, longest: Duration) -> Self {
        let mut past = Self::default();
        for (key, overtaken) in with_overtaking(keys) {
            let last = match overtaken {
                // It stands there for the sake of something.
                Overtaken::FromTheBeginning | Overtaken::Never => now,
                Overtaken::At(at) => at.min(now),
            };
            if begins(key) <= last {
                past.remember(key, last.plus(longest));
            }
        }
        past
    }

    /// These keys have been configured from then until now.
    pub fn serve(
        &mut self,
        keys: &SigningKeys,
        since: Timestamp,
        now: Timestamp,
        longest: Duration,
    ) {
        self.0.retain(|past| past.tokens_until > now);
        // Where a key was withheld, another one may have signed instead.
        let is_plain = keys.withheld().next().is_none();
        for (key, overtaken) in with_overtaking(keys) {
            let last = match overtaken {
                Overtaken::FromTheBeginning if is_plain => continue,
                Overtaken::At(at) if is_plain => at.min(now),
                Overtaken::FromTheBeginning | Overtaken::At(_) | Overtaken::Never => now,
            };
            if begins(key) <= last && since <= last {
                self.remember(key, last.plus(longest));
            }
        }
    }

    /// The keys that relying parties still need and do not find among these.
    pub fn missed(&self, keys: &SigningKeys, now: Timestamp) -> Vec<MissedKey> {
        let is_published = |past: &PastKey| {
            let same = |key: &SigningKey| {
                key.kid() == past.kid && key.jwk().thumbprint() == past.thumbprint
            };
            keys.iter().any(same)
        };
        let missed = self.0.iter().filter(|past| past.tokens_until > now && !is_published(past));
        missed
            .map(|past| MissedKey { kid: past.kid.clone(), tokens_until: past.tokens_until })
            .collect()
    }

    fn remember(&mut self, key: &SigningKey, tokens_until: Timestamp) {
        let (kid, thumbprint) = (key.kid().to_owned(), key.jwk().thumbprint());
        let same = |past: &&mut PastKey| past.kid == kid && past.thumbprint == thumbprint;
        match self.0.iter_mut().find(same) {
            Some(past) => past.tokens_until = past.tokens_until.max(tokens_until),
            None => self.0.push(PastKey { kid, thumbprint, tokens_until }),
        }
    }
}

/// When a key stops signing because one before it in the list begins to.
#[derive(Clone, Copy)]
enum Overtaken {
    Never,
    At(Timestamp),
    FromTheBeginning,
}

fn with_overtaking(keys: &SigningKeys) -> impl Iterator<Item = (&SigningKey, Overtaken)> {
    let mut before = Overtaken::Never;
    keys.iter().map(move |key| {
        let overtaken = before;
        before = match (before, key.not_before()) {
            (Overtaken::FromTheBeginning, _) | (_, None) => Overtaken::FromTheBeginning,
            (Overtaken::Never, Some(at)) => Overtaken::At(at),
            (Overtaken::At(one), Some(other)) => Overtaken::At(one.min(other)),
        };
        (key, overtaken)
    })
}

fn begins(key: &SigningKey) -> Timestamp {
    key.not_before().unwrap_or(Timestamp::from_secs(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::algorithm::Algorithm;
    use crate::jwt::sign::generate_pem;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOON: u64 = 1_800_000_000;

    struct Named(&'static str, String);

    fn named(kid: &'static str) -> Named {
        Named(kid, generate_pem(Algorithm::ES256).unwrap().to_string())
    }

    fn keys(all: &[(&Named, Option<u64>)]) -> SigningKeys {
        let key = |(Named(kid, pem), not_before): &(&Named, Option<u64>)| {
            let not_before = not_before.map(Timestamp::from_secs);
            let kid = Some((*kid).to_owned());
            SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, kid, not_before).unwrap()
        };
        SigningKeys::new(all.iter().map(key).collect())
    }

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn missed(past: &PastKeys, now: &SigningKeys, when: u64) -> Vec<(String, u64)> {
        let missed = past.missed(now, at(when));
        missed.into_iter().map(|key| (key.kid, key.tokens_until.as_secs())).collect()
    }

    #[test]
    fn a_key_that_signed_until_now_is_missed_for_as_long_as_its_tokens_live() {
        let (old, new) = (named("old"), named("new"));
        let before = keys(&[(&old, None)]);
        let mut past = PastKeys::begin(&before, at(NOON), HOUR);
        past.serve(&before, at(NOON), at(NOON + 50), HOUR);
        let after = keys(&[(&new, None)]);
        assert_eq!(missed(&past, &after, NOON + 50), [("old".into(), NOON + 3650)]);
        assert_eq!(missed(&past, &after, NOON + 3649).len(), 1);
        assert_eq!(missed(&past, &after, NOON + 3650), []);
        // As long as it is published, nothing is missed.
        assert_eq!(missed(&past, &keys(&[(&new, None), (&old, None)]), NOON + 50), []);
        // Another key of that name does not verify what the first one signed.
        let other = named("old");
        assert_eq!(missed(&past, &keys(&[(&other, None)]), NOON + 50).len(), 1);
    }

    /// The rotation that is recommended: announced, begun, ended.
    #[test]
    fn a_key_that_was_overtaken_is_missed_from_then_on_and_no_longer() {
        let (old, new) = (named("old"), named("new"));
        let alone = keys(&[(&old, None)]);
        let both = keys(&[(&new, Some(NOON + 100)), (&old, None)]);
        let mut past = PastKeys::begin(&alone, at(NOON), HOUR);
        past.serve(&alone, at(NOON), at(NOON + 10), HOUR);
        // Taken back before it has begun, the new one has signed nothing.
        past.serve(&both, at(NOON + 10), at(NOON + 20), HOUR);
        assert_eq!(missed(&past, &alone, NOON + 20), []);
        past.serve(&both, at(NOON + 20), at(NOON + 500), HOUR);
        let after = keys(&[(&new, None)]);
        assert_eq!(missed(&past, &after, NOON + 500), [("old".into(), NOON + 3700)]);
        assert_eq!(missed(&past, &after, NOON + 3700), []);
        assert_eq!(missed(&past, &alone, NOON + 500), [("new".into(), NOON + 4100)]);
    }

    #[test]
    fn after_a_restart_a_key_that_only_stands_there_may_have_signed() {
        let (old, new, never) = (named("old"), named("new"), named("never"));
        let after = keys(&[(&new, None)]);
        let timed = keys(&[(&never, Some(NOON + 9)), (&new, Some(NOON - 100)), (&old, None)]);
        let past = PastKeys::begin(&timed, at(NOON), HOUR);
        assert_eq!(missed(&past, &after, NOON), [("old".into(), NOON + 3500)]);
        let untimed = keys(&[(&new, None), (&old, None)]);
        let mut past = PastKeys::begin(&untimed, at(NOON), HOUR);
        assert_eq!(missed(&past, &after, NOON), [("old".into(), NOON + 3600)]);
        // It has not signed since.
        past.serve(&untimed, at(NOON), at(NOON + 1000), HOUR);
        assert_eq!(missed(&past, &after, NOON + 1000), [("old".into(), NOON + 3600)]);
    }

    #[test]
    fn where_the_first_key_is_withheld_the_second_one_signs() {
        let (first, second) = (named("first"), named("second"));
        let both = keys(&[(&first, None), (&second, None)]);
        let mut past = PastKeys::default();
        past.serve(&both, at(NOON), at(NOON + 1), HOUR);
        assert_eq!(missed(&past, &keys(&[]), NOON + 1), [("first".into(), NOON + 3601)]);
        both.withhold(|kid| kid == "first");
        past.serve(&both, at(NOON + 1), at(NOON + 2), HOUR);
        let names = missed(&past, &keys(&[]), NOON + 2).into_iter().map(|(kid, _)| kid);
        assert_eq!(names.collect::<Vec<_>>(), ["first", "second"]);
    }

    /// It may have signed instead of the one that overtook it, so that it is missed for longer.
    #[test]
    fn where_the_overtaking_key_is_withheld_the_one_before_it_signs_on() {
        let (new, old) = (named("new"), named("old"));
        let both = keys(&[(&new, Some(NOON + 100)), (&old, None)]);
        let until = |past: &PastKeys| {
            missed(past, &keys(&[(&new, None)]), NOON + 500).into_iter().next().unwrap().1
        };
        let mut past = PastKeys::default();
        past.serve(&both, at(NOON), at(NOON + 500), HOUR);
        assert_eq!(until(&past), NOON + 3700);
        both.withhold(|kid| kid == "new");
        past.serve(&both, at(NOON), at(NOON + 500), HOUR);
        assert_eq!(until(&past), NOON + 4100);
    }

    #[test]
    fn keys_of_one_name_are_remembered_apart() {
        let (one, other, renamed) = (named("k"), named("k"), named("r"));
        let twin = Named("k2", renamed.1.clone());
        let mut past = PastKeys::default();
        for (key, now) in [(&one, 1), (&other, 2), (&renamed, 3), (&twin, 4), (&one, 5)] {
            past.serve(&keys(&[(key, None)]), at(NOON), at(NOON + now), HOUR);
        }
        let missed = missed(&past, &keys(&[]), NOON + 5);
        let expected = [("k", 3605), ("k", 3602), ("r", 3603), ("k2", 3604)];
        assert_eq!(missed, expected.map(|(kid, until)| (kid.into(), NOON + until)));
    }

    #[test]
    fn what_nobody_needs_any_more_is_forgotten() {
        let mut past = PastKeys::default();
        for round in 0..50 {
            let key = named("k");
            past.serve(&keys(&[(&key, None)]), at(NOON), at(NOON + round * 1000), HOUR);
        }
        assert!(past.0.len() <= 5, "{}", past.0.len());
        let last = past.0.iter().map(|past| past.tokens_until).max().unwrap();
        let before = past.0.len();
        past.serve(&keys(&[]), at(NOON), last, HOUR);
        assert_eq!((before > 0, past.0.len()), (true, 0));
    }
}
