//! Bounds as they are documented: other tests go by their names, and would go along with a change.

use std::time::Duration;

use cambio::exchange::{cut_off, family};
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
