//! A form is taken if, and only if, every parser reads the same parameters from it; and those are
//! what a second parser reads.

use std::collections::HashSet;

use cambio::oauth::form::{Form, FormError, MAX_BODY};
use url::form_urlencoded;

/// RFC 8693 §2.1.
const REPEATABLE: [&str; 2] = ["resource", "audience"];
const MAX_PARAMETERS: usize = 64;

pub fn check(data: &[u8]) -> bool {
    let result = Form::parse(data);
    if data.len() > MAX_BODY {
        assert_eq!(result.err(), Some(FormError::TooLarge));
        return false;
    }
    let pairs: Vec<(String, String)> = form_urlencoded::parse(data).into_owned().collect();
    match result {
        Ok(form) => {
            assert!(!is_malformed(data, &pairs), "taken, and not well-formed");
            assert!(!repeats(&pairs), "taken, and a parameter stands twice");
            agrees(&form, &pairs);
            let written =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            if written.len() <= MAX_BODY {
                agrees(
                    &Form::parse(written.as_bytes()).expect("what was taken is written"),
                    &pairs,
                );
            }
            true
        }
        Err(FormError::Malformed) => {
            assert!(is_malformed(data, &pairs), "refused, and well-formed");
            false
        }
        Err(FormError::Repeated) => {
            assert!(repeats(&pairs), "refused, and no parameter stands twice");
            false
        }
        Err(other) => panic!("{other:?} is no fault of a body of this size"),
    }
}

/// Whether the form says what the pairs say, and no more.
fn agrees(form: &Form, pairs: &[(String, String)]) {
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(form.names().collect::<Vec<_>>(), names);
    for name in names {
        // RFC 6749 §3.2: an empty value is none.
        let values: Vec<&str> = (pairs.iter())
            .filter(|(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(form.all(name).collect::<Vec<_>>(), values);
        assert_eq!(form.get(name), values.first().copied());
    }
}

fn repeats(pairs: &[(String, String)]) -> bool {
    let mut seen = HashSet::new();
    let once = pairs.iter().filter(|(name, _)| !REPEATABLE.contains(&name.as_str()));
    let mut once = once.map(|(name, _)| name);
    !once.all(|name| seen.insert(name))
}

/// Whether anybody could read it differently, as far as the bytes show.
fn is_malformed(data: &[u8], pairs: &[(String, String)]) -> bool {
    let escape = |at: usize| data.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
    let is_broken = |at: usize| {
        let digits = escape(at).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        digits.is_none_or(|two| two == "00")
    };
    let is_bad = |(at, byte): (usize, &u8)| match byte {
        b'%' => is_broken(at),
        b';' | 0 => true,
        _ => false,
    };
    pairs.len() > MAX_PARAMETERS
        || data.iter().enumerate().any(is_bad)
        || replaced(pairs) != written(data)
}

/// How often the second parser's texts have the character that it puts in the place of what is not
/// UTF-8.
fn replaced(pairs: &[(String, String)]) -> usize {
    let all = pairs.iter().flat_map(|(name, value)| [name, value]);
    all.map(|text| text.matches('\u{fffd}').count()).sum()
}

/// How often that character was written.
fn written(data: &[u8]) -> usize {
    let mut bytes = data.to_ascii_lowercase();
    for (escaped, byte) in [(b"%ef", 0xef), (b"%bf", 0xbf), (b"%bd", 0xbd)] {
        while let Some(at) = bytes.windows(3).position(|window| window == escaped) {
            bytes.splice(at..at + 3, [byte]);
        }
    }
    bytes.windows(3).filter(|window| *window == [0xef, 0xbf, 0xbd]).count()
}
