//! `application/x-www-form-urlencoded` bodies, read strictly (RFC 6749 §3.2 and appendix B).

use std::fmt;

use thiserror::Error;

/// The largest body of a token request, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// More parameters than any request has use for.
const MAX_PARAMETERS: usize = 64;
/// RFC 8693 §2.1: the only parameters that may come more than once.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// Why a body is no form.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormError {
    #[error("the body is larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error("the request is not a POST")]
    NotPost,
    #[error("the body did not arrive in time")]
    TimedOut,
    #[error("the body has a content coding")]
    ContentCoding,
    #[error("the content type is not application/x-www-form-urlencoded in UTF-8")]
    ContentType,
    #[error("a parameter of the request stands in its query")]
    InQuery,
    #[error("the body is not well-formed")]
    Malformed,
    #[error("a parameter stands more than once")]
    Repeated,
}

/// The parameters of a request: bounded, well-formed, none twice but `resource` and `audience`.
#[derive(Clone)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub fn parse(body: &[u8]) -> Result<Self, FormError> {
        if body.len() > MAX_BODY {
            return Err(FormError::TooLarge);
        }
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(8);
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(FormError::Malformed);
            }
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (pair.get(..at), pair.get(at + 1..)),
                None => (Some(pair), Some(&[][..])),
            };
            let name = decode(name.unwrap_or_default()).ok_or(FormError::Malformed)?;
            let value = decode(value.unwrap_or_default()).ok_or(FormError::Malformed)?;
            if !REPEATABLE.contains(&name.as_str()) && pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(FormError::Repeated);
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter. An empty one counts as omitted (RFC 6749 §3.2).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The name of every parameter, decoded.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The values of a parameter that may come more than once.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(…)")
    }
}

/// One name or value, decoded; `None` where it has a broken escape, is not UTF-8, has a NUL or a
/// bare `;`, which some parsers take for a separator.
pub fn decode(encoded: &[u8]) -> Option<String> {
    let is_special = |b: &u8| matches!(b, b'+' | b'%' | b';' | 0);
    let mut out = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    // Tokens make up most of a form and have nothing to decode: they are copied in one go.
    while let Some((plain, tail)) =
        rest.iter().position(is_special).and_then(|at| rest.split_at_checked(at))
    {
        out.extend_from_slice(plain);
        rest = match tail {
            [b'+', tail @ ..] => {
                out.push(b' ');
                tail
            }
            [b'%', high, low, tail @ ..] => match hex(*high)? << 4 | hex(*low)? {
                0 => return None,
                byte => {
                    out.push(byte);
                    tail
                }
            },
            _ => return None,
        };
    }
    out.extend_from_slice(rest);
    String::from_utf8(out).ok()
}

/// The value of a hexadecimal digit.
pub const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether a `Content-Type` value names a form in UTF-8: no charset, or `charset=UTF-8`.
pub fn is_form_content_type(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let mut parts = value.split(';').map(|part| part.trim_matches([' ', '\t']));
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && parts.all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim_matches('"');
            parameter.is_empty()
                || (name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_omitted() {
        let form = Form::parse(b"grant%5Ftype=a%20b+c&&scope=&x&resource=1&resource=2").unwrap();
        assert_eq!(form.get("grant_type"), Some("a b c"));
        assert_eq!(form.get("scope"), None);
        assert_eq!(form.get("x"), None);
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let cases: [(&[u8], FormError); 8] = [
            (b"a=1&a=2", FormError::Repeated),
            (b"a=1&%61=2", FormError::Repeated),
            (b"a=&a=2", FormError::Repeated),
            (b"a=%", FormError::Malformed),
            (b"a=%4", FormError::Malformed),
            (b"a=%zz", FormError::Malformed),
            (b"a=1;b=2", FormError::Malformed),
            (b"a=%00", FormError::Malformed),
        ];
        for (body, error) in cases {
            assert_eq!(Form::parse(body).unwrap_err(), error, "{body:?}");
        }
        for bad_utf8 in [&b"a=%C0%80"[..], b"a=\xff", b"a=%ED%A0%80"] {
            assert_eq!(Form::parse(bad_utf8).unwrap_err(), FormError::Malformed);
        }
    }

    #[test]
    fn size_and_number_are_bounded() {
        let largest = [b"a=".to_vec(), vec![b'x'; MAX_BODY - 2]].concat();
        assert!(Form::parse(&largest).is_ok());
        assert_eq!(Form::parse(&[largest, vec![b'x']].concat()).unwrap_err(), FormError::TooLarge);
        let many = |n: usize| (0..n).map(|i| format!("p{i}=1")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(many(MAX_PARAMETERS).as_bytes()).is_ok());
        assert_eq!(
            Form::parse(many(MAX_PARAMETERS + 1).as_bytes()).unwrap_err(),
            FormError::Malformed
        );
    }

    #[test]
    fn the_content_type_is_a_form_in_utf8() {
        for good in [
            "application/x-www-form-urlencoded",
            "Application/X-WWW-Form-Urlencoded; charset=UTF-8",
            "application/x-www-form-urlencoded;charset=\"utf-8\";",
        ] {
            assert!(is_form_content_type(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "application/json",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded; charset=utf-16",
            "application/x-www-form-urlencoded, application/json",
            "application/x-www-form-urlencodedx",
        ] {
            assert!(!is_form_content_type(bad.as_bytes()), "{bad}");
        }
    }
}
