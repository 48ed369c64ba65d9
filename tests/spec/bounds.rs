//! Bounds as they are documented: other tests go by their names, and would go along with a change.

use std::time::{Duration, Instant};

use cambio::exchange::{cut_off, family};
use cambio::jwt::unverified::{UnverifiedError, UnverifiedToken};
use cambio::jwt::{compact, key_set};
use cambio::oauth::form;
use cambio::oauth::scope::Scope;

#[test]
fn bounds_are_as_they_are_documented() {
    assert_eq!(form::MAX_BODY, 65_536);
    assert_eq!((compact::MAX_TOKEN, compact::MAX_HEADER), (16_384, 4_096));
    assert_eq!((key_set::MAX_DOCUMENT, key_set::MAX_KEYS), (524_288, 100));
    assert_eq!(cut_off::LONGEST_LIFE, Duration::from_hours(24 * 366));
    assert_eq!(family::PREFIX, "cambio_rt_");
}

/// RFC 6749 §3.3.
#[test]
fn a_scope_is_its_tokens_in_their_order() {
    let scope = Scope::parse("write read write a:b").unwrap();
    assert_eq!(scope.iter().collect::<Vec<_>>(), ["write", "read", "a:b"]);
    assert_eq!(scope.to_string(), "write read a:b");
}

/// CVE-2025-30204, CVE-2025-27144: whatever is as long as that costs nothing, dots least of all.
#[test]
fn a_mebibyte_of_anything_is_refused_before_it_is_decoded() {
    const MEBIBYTE: usize = 1 << 20;
    // Nothing of it could be decoded, and what it is refused for is its length.
    for unit in [".", "A", "A.", "e30.", "{", "=", "\0", " ", "ä", "[\"", "\u{1F600}"] {
        let text = unit.repeat(MEBIBYTE / unit.len());
        let refused = || {
            let began = Instant::now();
            let why = UnverifiedToken::parse(&text).err();
            (began.elapsed(), why)
        };
        let tries: Vec<_> = (0..10).map(|_| refused()).collect();
        assert!(tries.iter().all(|(_, why)| *why == Some(UnverifiedError::TooLarge)), "{unit:?}");
        // The best of them: the machine may have been busy with something else.
        let best = tries.iter().map(|(elapsed, _)| *elapsed).min().unwrap();
        assert!(best < Duration::from_millis(5), "{unit:?}: {best:?}");
    }
    // What is just short enough is looked at, and found to be no token.
    let parse = |length: usize| UnverifiedToken::parse(&".".repeat(length)).err();
    assert_eq!(parse(compact::MAX_TOKEN), Some(UnverifiedError::Malformed));
    assert_eq!(parse(compact::MAX_TOKEN + 1), Some(UnverifiedError::TooLarge));
}
