//! The replacement token: a JWT access token (RFC 9068 §2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

use super::policy::Permit;
use crate::jwt::verify::VerifyError;
use crate::time::Timestamp;

/// `typ` of a minted token (RFC 9068 §2.1).
pub const TYP: &str = "at+jwt";

/// 128 random bits, so that no two tokens have one `jti` (RFC 9068 §2.2).
pub type TokenId = [u8; 16];

/// The claims of a token that is to be signed. Made by [`mint`] alone.
pub struct Minted {
    issuer: String,
    subject: String,
    audiences: Vec<String>,
    client_id: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    jwt_id: String,
    scope: Option<String>,
    copied: Vec<(String, Value)>,
}

impl Minted {
    pub fn jwt_id(&self) -> &str {
        &self.jwt_id
    }

    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Seconds, at least 1.
    pub const fn expires_in(&self) -> u64 {
        self.expires_at.since(self.issued_at).as_secs()
    }
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("jwt_id", &self.jwt_id).finish_non_exhaustive()
    }
}

impl Serialize for Minted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("iss", &self.issuer)?;
        map.serialize_entry("sub", &self.subject)?;
        match self.audiences.as_slice() {
            [one] => map.serialize_entry("aud", one)?,
            several => map.serialize_entry("aud", several)?,
        }
        map.serialize_entry("client_id", &self.client_id)?;
        map.serialize_entry("iat", &self.issued_at.as_secs())?;
        map.serialize_entry("exp", &self.expires_at.as_secs())?;
        map.serialize_entry("jti", &self.jwt_id)?;
        if let Some(scope) = &self.scope {
            map.serialize_entry("scope", scope)?;
        }
        for (name, value) in &self.copied {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Makes the claims that a permit allows. The token never outlives the subject token unless the
/// application may, and lives at least a second: a subject token past its `exp` is refused here
/// even where the clock skew let it by.
pub fn mint(
    permit: &Permit<'_>,
    issuer: &str,
    token_id: TokenId,
    now: Timestamp,
) -> Result<Minted, VerifyError> {
    let application = permit.client.application();
    let subject = permit.subject.get();
    let settings = application.access_token;
    let mut expires_at = now.plus(settings.lifetime);
    if !settings.outlive_subject {
        expires_at = expires_at.min(subject.expires_at);
    }
    if expires_at <= now {
        return Err(VerifyError::Expired);
    }
    let copied = permit
        .issuer
        .claims
        .iter()
        .filter_map(|mapping| {
            let value = subject.all.get(&mapping.subject)?;
            Some((mapping.minted.clone(), value.clone()))
        })
        .collect();
    Ok(Minted {
        issuer: issuer.to_owned(),
        subject: format!("{}{}", permit.issuer.subject_prefix, subject.subject),
        audiences: permit.audiences.clone(),
        client_id: application.client_id.clone(),
        issued_at: now,
        expires_at,
        jwt_id: URL_SAFE_NO_PAD.encode(token_id),
        scope: (!permit.scope.is_empty()).then(|| permit.scope.to_string()),
        copied,
    })
}
