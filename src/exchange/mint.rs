//! The replacement token: a JWT access token (RFC 9068 §2), or an opaque one that stands for the same
//! claims.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use zeroize::Zeroizing;

use super::MintedRecord;
use super::client::Format;
use super::error::Failure;
use super::family::Family;
use super::grant::CopiedClaim;
use super::opaque::{OpaqueAccessToken, OpaqueId};
use super::policy::Permit;
use super::token_id::{Entropy, FamilyId, IssuerTag, JwtId};
use crate::jwt::sign::SigningKeys;
use crate::time::Timestamp;

/// `typ` of a minted token (RFC 9068 §2.1).
pub const TYP: &str = "at+jwt";

/// The claims of a token that is to be handed out. Made by `mint` alone.
pub struct Minted {
    issuer: String,
    subject: String,
    audiences: Vec<String>,
    client_id: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    id: JwtId,
    jwt_id: String,
    scope: Option<String>,
    copied: Vec<CopiedClaim>,
}

impl Minted {
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Seconds, at least 1.
    pub const fn expires_in(&self) -> u64 {
        self.expires_at.since(self.issued_at).as_secs()
    }

    /// What may be logged of it.
    pub(super) fn record(&self, kid: Option<String>) -> MintedRecord {
        MintedRecord {
            jwt_id: self.jwt_id.clone(),
            audiences: self.audiences.clone(),
            scope: self.scope.clone(),
            expires_at: self.expires_at,
            kid,
        }
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
        for CopiedClaim { minted, value, .. } in &self.copied {
            map.serialize_entry(minted, value)?;
        }
        map.end()
    }
}

/// Makes the claims that a permit allows. The token never outlives what the permit says, and lives
/// at least a second: `None` where that can't be.
pub(super) fn mint(
    permit: &Permit,
    issuer: &str,
    family: Option<FamilyId>,
    random: [u8; 16],
    now: Timestamp,
) -> Option<Minted> {
    let grant = &permit.grant;
    let expires_at = now.plus(permit.lifetime).min(permit.not_after);
    if expires_at <= now {
        return None;
    }
    let id = JwtId { random, issuer: IssuerTag::of(&grant.issuer), family };
    Some(Minted {
        issuer: issuer.to_owned(),
        subject: grant.subject.clone(),
        audiences: grant.audiences.clone(),
        client_id: grant.client_id.clone(),
        issued_at: now,
        expires_at,
        id,
        jwt_id: id.to_string(),
        scope: (!grant.scope.is_empty()).then(|| grant.scope.to_string()),
        copied: grant.claims.clone(),
    })
}

/// Claims that are for nobody, for a moment: no resource server has this audience.
pub(super) fn specimen(issuer: &str, now: Timestamp) -> Minted {
    let id = JwtId { random: [0; 16], issuer: IssuerTag::of(""), family: None };
    Minted {
        issuer: issuer.to_owned(),
        subject: "specimen".to_owned(),
        audiences: vec![super::specimen::AUDIENCE.to_owned()],
        client_id: "specimen".to_owned(),
        issued_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(60)),
        id,
        jwt_id: id.to_string(),
        scope: None,
        copied: Vec::new(),
    }
}

/// An access token as it is handed out.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) token: Zeroizing<String>,
    /// What an opaque one stands for.
    pub(super) opaque: Option<OpaqueAccessToken>,
    /// The key that signed a JWT.
    pub(super) kid: Option<String>,
}

/// Gives what was minted, and nothing else, its form: signed with the first key whose time has come,
/// or kept under an opaque name.
pub(super) fn access_token(
    minted: &Minted,
    format: Format,
    keys: &SigningKeys,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<Access, Failure> {
    match format {
        Format::Jwt => {
            let key = keys.active(now).ok_or(Failure::SigningUnavailable)?;
            let token = key.sign(TYP, minted).map_err(|_| Failure::SigningUnavailable)?;
            let kid = Some(key.kid().to_owned());
            Ok(Access { token: Zeroizing::new(token), opaque: None, kid })
        }
        Format::Opaque => {
            let claims = serde_json::to_vec(minted).map_err(|_| Failure::Internal)?;
            let locator = minted.id.family.map_or(minted.id.random, |family| family.0);
            let (token, id) = OpaqueId::new(locator, &entropy.opaque_token);
            let opaque = OpaqueAccessToken { id, claims, expires_at: minted.expires_at };
            Ok(Access { token, opaque: Some(opaque), kid: None })
        }
    }
}

/// What was granted, and what has to be kept before anybody is told.
#[derive(Debug)]
pub struct Issued {
    pub granted: super::Granted,
    pub kept: Kept,
}

/// What has to be kept of an answer, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// A family that begins, or that has rotated.
    pub family: Option<Family>,
    pub opaque: Option<OpaqueAccessToken>,
}

impl Kept {
    pub const fn is_nothing(&self) -> bool {
        self.family.is_none() && self.opaque.is_none()
    }
}
