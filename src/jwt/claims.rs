//! The claims of a token (RFC 7519 §4.1), read with their types.

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// The claims of a token, each of the type that its RFC gives it.
#[derive(Clone)]
pub struct Claims {
    pub issuer: String,
    pub subject: String,
    pub audience: Vec<String>,
    pub expires_at: Timestamp,
    pub issued_at: Option<Timestamp>,
    pub jwt_id: Option<String>,
    /// All claims as they stand in the token.
    pub all: Map<String, Value>,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claims(…)")
    }
}

/// A `NumericDate` in whole seconds, of 64 bits, so that sums of a few can't wrap. `Err` where it is
/// no number.
pub(super) fn numeric_date(value: &Value) -> Result<i128, ()> {
    let Value::Number(number) = value else { return Err(()) };
    if let Some(seconds) = number.as_i64() {
        return Ok(seconds.into());
    }
    if let Some(seconds) = number.as_u64() {
        return Ok(seconds.into());
    }
    // A fraction is dropped: a token is never taken for fresher than it says.
    let seconds = number.as_f64().filter(|seconds| seconds.is_finite()).ok_or(())?;
    #[expect(clippy::cast_possible_truncation, reason = "a float-to-int cast saturates")]
    let seconds = seconds.floor() as i64;
    Ok(seconds.into())
}

/// `aud`: a string, or an array of strings (RFC 7519 §4.1.3). `Err` for everything else.
pub(super) fn audience(value: &Value) -> Result<Vec<String>, ()> {
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(several) => {
            several.iter().map(|one| one.as_str().map(str::to_owned).ok_or(())).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(()),
    }
}

/// The longest `sub`, in bytes.
pub const MAX_SUBJECT: usize = 255;

/// Whether `sub` may name somebody: 1 to 255 bytes, no control characters, no blank at either end.
pub fn is_subject(subject: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&subject.len())
        && !subject.chars().any(char::is_control)
        && !subject.starts_with(char::is_whitespace)
        && !subject.ends_with(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dates_are_numbers_and_lose_their_fraction() {
        assert_eq!(numeric_date(&json!(1.9)), Ok(1));
        assert_eq!(numeric_date(&json!(-1.5)), Ok(-2));
        assert_eq!(numeric_date(&json!(u64::MAX)), Ok(u64::MAX.into()));
        assert_eq!(numeric_date(&json!(1e300)), Ok(i64::MAX.into()));
        for bad in [json!(null), json!("1"), json!(true), json!([1]), json!({})] {
            assert_eq!(numeric_date(&bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_subject_is_a_name_that_prints() {
        for good in ["a", "a b", "ä", &"x".repeat(255)] {
            assert!(is_subject(good), "{good:?}");
        }
        for bad in ["", " a", "a ", "a\nb", "a\0", "\u{a0}a", "a\u{85}b", &"x".repeat(256)] {
            assert!(!is_subject(bad), "{bad:?}");
        }
    }
}
