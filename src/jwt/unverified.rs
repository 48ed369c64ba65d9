//! What a token says of itself before anybody vouches for it. All that is read here is named
//! `unverified_*` and serves to choose rules and keys, never to decide or to log.

use serde_json::{Map, Value};
use thiserror::Error;

use super::compact::{Compact, CompactError};
use super::json;
use super::key_set::KeySet;
use super::media_type::MediaType;

/// The longest `kid` that is looked up, in bytes. A longer one names no key.
pub const MAX_KID: usize = 256;

/// Why a token is refused before its issuer is known.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UnverifiedError {
    #[error("the token is too large")]
    TooLarge,
    #[error("the token is not a compact JWS over JSON objects")]
    Malformed,
    #[error("the header has a member that is not accepted, or lacks one")]
    Header,
    #[error("`iss` is not a string")]
    Issuer,
}

impl From<CompactError> for UnverifiedError {
    fn from(error: CompactError) -> Self {
        match error {
            CompactError::TooLarge => Self::TooLarge,
            CompactError::Malformed => Self::Malformed,
        }
    }
}

/// A compact JWS with a header that may be looked at, of which nothing is proven. What it carries
/// may be anything.
#[derive(Clone)]
pub struct UnverifiedJws {
    pub(super) compact: Compact,
    pub(super) unverified_alg: String,
    pub(super) unverified_kid: Option<String>,
    pub(super) unverified_typ: Option<String>,
}

impl UnverifiedJws {
    pub fn parse(text: &str) -> Result<Self, UnverifiedError> {
        let compact = Compact::parse(text)?;
        let header =
            json::parse_object(compact.header()).map_err(|_| UnverifiedError::Malformed)?;
        // RFC 7515 §4.1.11: no extension is understood, so none may be critical. A payload that is
        // not base64url (RFC 7797), compressed, encrypted or nested is never looked into.
        if ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name)) {
            return Err(UnverifiedError::Header);
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value.clone())),
            Some(_) => Err(UnverifiedError::Header),
        };
        if text("cty")?.is_some_and(|cty| MediaType::new(&cty) == MediaType::new("JWT")) {
            return Err(UnverifiedError::Header);
        }
        Ok(Self {
            unverified_alg: text("alg")?.ok_or(UnverifiedError::Header)?,
            unverified_kid: text("kid")?,
            unverified_typ: text("typ")?,
            compact,
        })
    }
}

impl std::fmt::Debug for UnverifiedJws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedJws(…)")
    }
}

/// A well-formed token: a JWS that carries claims, of which nothing is proven.
#[derive(Clone)]
pub struct UnverifiedToken {
    pub(super) jws: UnverifiedJws,
    pub(super) unverified_claims: Map<String, Value>,
}

impl UnverifiedToken {
    pub fn parse(text: &str) -> Result<Self, UnverifiedError> {
        let jws = UnverifiedJws::parse(text)?;
        // RFC 7519 §7.2: claims are a JSON object.
        let unverified_claims =
            json::parse_object(jws.compact.payload()).map_err(|_| UnverifiedError::Malformed)?;
        Ok(Self { jws, unverified_claims })
    }

    /// `iss`, as the index of the rules and keys to hold the token to (RFC 8725 §3.8). `None` where
    /// it is absent.
    pub fn unverified_issuer(&self) -> Result<Option<&str>, UnverifiedError> {
        match self.unverified_claims.get("iss") {
            None => Ok(None),
            Some(Value::String(issuer)) => Ok(Some(issuer)),
            Some(_) => Err(UnverifiedError::Issuer),
        }
    }

    /// Whether the header names one of these keys.
    pub fn names_key_of(&self, keys: &KeySet) -> bool {
        self.jws.unverified_kid.as_deref().is_some_and(|kid| keys.has_kid(kid))
    }
}

impl std::fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedToken(…)")
    }
}
