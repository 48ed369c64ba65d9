//! Credentials as they arrive (RFC 6749 §2.3): what a caller says of itself, before anybody has
//! looked whether it is so.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::client::ClientError;
use crate::oauth::form::{self, Form};

/// How a caller presented itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 6749 §2.3.1, `Authorization: Basic`.
    ClientSecretBasic,
    /// RFC 6749 §2.3.1, in the body.
    ClientSecretPost,
    /// RFC 6749 §3.2.1, `client_id` alone.
    None,
}

/// A secret as it was presented. Servers differ in how they decode it, so that whoever passes it on
/// passes this on.
#[derive(Clone, PartialEq, Eq)]
pub enum Presented {
    /// The value of the `Authorization` field.
    Basic(Zeroizing<Vec<u8>>),
    /// `client_secret` in the body.
    Post(Zeroizing<String>),
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presented(…)")
    }
}

/// What a caller says of itself. Nothing is proven yet.
#[derive(Clone)]
pub struct Credentials {
    pub method: Method,
    /// As RFC 6749 §2.3.1 wants them, percent-encoded, and as many clients send them, raw: where
    /// the two readings differ there are two.
    readings: Vec<(String, Option<SecretString>)>,
    /// Whether every server reads the same `client_id` from them.
    has_one_name: bool,
    presented: Option<Presented>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("method", &self.method).finish_non_exhaustive()
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Credentials {
    /// Reads the one way in which the caller authenticates. `authorization` has the value of every
    /// `Authorization` field of the request.
    pub fn present(authorization: &[&[u8]], form: &Form) -> Result<Self, ClientError> {
        let posted = form.get("client_secret");
        let assertion = form.get("client_assertion").or(form.get("client_assertion_type"));
        let ways =
            authorization.len() + usize::from(posted.is_some()) + usize::from(assertion.is_some());
        if ways > 1 {
            return Err(ClientError::AuthMultiple);
        }
        let secret = |text: &str| Some(SecretString::from(text)).filter(|_| !text.is_empty());
        if let [value] = authorization {
            let Basic { mut readings, has_one_name } =
                basic(value).ok_or(ClientError::AuthMissing)?;
            if let Some(named) = form.get("client_id") {
                readings.retain(|(id, _)| id == named);
            }
            if readings.is_empty() {
                return Err(ClientError::AuthMultiple);
            }
            let readings = readings.into_iter().map(|(id, text)| (id, secret(&text))).collect();
            return Ok(Self {
                method: Method::ClientSecretBasic,
                readings,
                has_one_name,
                presented: Some(Presented::Basic(Zeroizing::new(value.to_vec()))),
            });
        }
        let id = form.get("client_id").ok_or(ClientError::AuthMissing)?.to_owned();
        if assertion.is_some() {
            return Err(ClientError::AuthMissing);
        }
        let method = if posted.is_some() { Method::ClientSecretPost } else { Method::None };
        Ok(Self {
            method,
            has_one_name: is_printable(&id),
            readings: vec![(id, posted.and_then(secret))],
            presented: posted.map(|secret| Presented::Post(Zeroizing::new(secret.to_owned()))),
        })
    }

    /// The `client_id`, where everybody reads the same one. Somebody else has to say whether it is
    /// the caller's. A second parameter that names one of two readings changes nothing: whoever
    /// decodes in the other way sees another client.
    pub fn unverified_client_id(&self) -> Option<&str> {
        let (id, _) = self.readings.first()?;
        self.has_one_name.then_some(id)
    }

    /// Whether there is a secret, so that there is something to be right or wrong.
    pub fn has_secret(&self) -> bool {
        self.readings.iter().all(|(_, secret)| secret.is_some())
    }

    /// The secret as it came, where there is one.
    pub fn presented(&self) -> Option<&Presented> {
        self.presented.as_ref().filter(|_| self.has_secret())
    }

    /// Every way in which they can be read.
    pub(super) fn into_readings(self) -> impl Iterator<Item = (String, Option<SecretString>)> {
        self.readings.into_iter()
    }
}

/// RFC 6749 Appendix A.1. What lies beyond is one thing in UTF-8 and another in Latin-1.
fn is_printable(client_id: &str) -> bool {
    client_id.bytes().all(|b| matches!(b, 0x20..=0x7e))
}

/// The value of an `Authorization` field of the same client as in `value`, to the byte, and with
/// another secret. `None` where `value` is not of Basic.
pub fn basic_with_secret(value: &[u8], secret: &str) -> Option<Zeroizing<String>> {
    let decoded = basic_octets(value)?;
    let at = decoded.iter().position(|b| *b == b':')?;
    let other = Zeroizing::new([decoded.get(..=at)?, secret.as_bytes()].concat());
    Some(basic_of(&other))
}

/// The value of an `Authorization` field with these octets: `client_id:secret`.
pub fn basic_of(octets: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("Basic {}", BASE64.encode(octets)))
}

/// What `Basic <base64(id ":" secret)>` holds.
fn basic_octets(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    BASE64.decode(encoded.trim_matches(' ')).ok().map(Zeroizing::new)
}

/// The readings of `Basic <base64(id ":" secret)>`, with or without padding.
struct Basic {
    readings: Vec<(String, String)>,
    has_one_name: bool,
}

fn basic(value: &[u8]) -> Option<Basic> {
    let decoded = basic_octets(value)?;
    let at = decoded.iter().position(|b| *b == b':')?;
    let (id, secret) = (decoded.get(..at)?, decoded.get(at + 1..)?);
    let as_encoded = form::decode(id).zip(form::decode(secret));
    let as_raw = String::from_utf8(id.to_vec()).ok().zip(String::from_utf8(secret.to_vec()).ok());
    let mut readings: Vec<_> = as_encoded.into_iter().chain(as_raw).collect();
    readings.dedup();
    readings.retain(|(id, _)| !id.is_empty());
    // Lax servers decode what we find malformed, such as `%zz%61`.
    let is_coded = id.iter().any(|b| matches!(b, b'%' | b'+'));
    let has_one_name = !is_coded && readings.iter().all(|(id, _)| is_printable(id));
    (!readings.is_empty()).then_some(Basic { readings, has_one_name })
}
