//! Tokens of ours that come back: whether they are ours, whether they still hold, and who may know
//! (RFC 7662, RFC 7009).

use serde_json::{Map, Value};

use super::cut_off::{Ancestor, Descent};
use super::error::Reason;
use super::family::{End, Family, Presented, RefreshToken};
use super::mint::TYP;
use super::opaque::{self, OpaqueId};
use super::policy::Policy;
use super::refresh;
use super::token_id::{FamilyId, IssuerTag, JwtId};
use crate::jwt::json::parse_object;
use crate::jwt::key_set::KeySet;
use crate::jwt::unverified::UnverifiedToken;
use crate::jwt::verify::signed_claims;
use crate::time::Timestamp;

/// What a token is that could be ours.
#[derive(Debug)]
pub enum Suspected {
    /// It has the prefix of our refresh tokens. `None` where it is none nevertheless.
    Refresh(Option<RefreshToken>),
    /// It has the prefix of our opaque access tokens. `None` where it is none nevertheless.
    Opaque(Option<OpaqueId>),
    /// It says that we signed it. `None` where we did not.
    Jwt(Option<AccessToken>),
}

impl Suspected {
    /// `None` where nothing about the token has to do with us. `keys` are our own, public.
    pub fn of(token: &str, keys: &KeySet, policy: &Policy) -> Option<Self> {
        let token = refresh::trimmed(token);
        if refresh::is_ours(token) {
            return Some(Self::Refresh(RefreshToken::parse(token)));
        }
        if token.starts_with(opaque::PREFIX) {
            return Some(Self::Opaque(OpaqueId::parse(token)));
        }
        let token = UnverifiedToken::parse(token).ok()?;
        // In front of an identity provider of the same issuer only the key tells whose it is.
        let says_ours = matches!(token.unverified_issuer(), Ok(Some(issuer)) if issuer == policy.authorization_server())
            && token.names_key_of(keys);
        says_ours.then(|| {
            let claims = signed_claims(token, TYP, keys).ok();
            Self::Jwt(claims.and_then(|claims| AccessToken::new(claims.get().clone())))
        })
    }
}

/// An access token of ours: verified by its signature, or found by its name.
#[derive(Clone)]
pub struct AccessToken {
    claims: Map<String, Value>,
    id: JwtId,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AccessToken {
    /// The access token that has these claims, which only we can have made; `None` where we did not.
    pub(super) fn new(claims: Map<String, Value>) -> Option<Self> {
        let id = JwtId::parse(claims.get("jti")?.as_str()?)?;
        let expires_at = Timestamp::from_secs(claims.get("exp")?.as_u64()?);
        Some(Self { claims, id, expires_at })
    }

    /// What an opaque token was found to stand for.
    pub fn from_kept(claims: &[u8]) -> Option<Self> {
        Self::new(parse_object(claims).ok()?)
    }

    pub fn jwt_id(&self) -> &str {
        self.text("jti")
    }

    pub const fn family(&self) -> Option<FamilyId> {
        self.id.family
    }

    pub fn client_id(&self) -> &str {
        self.text("client_id")
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// What it descends from.
    pub fn descent(&self) -> Descent {
        let issued_at = self.claims.get("iat").and_then(Value::as_u64).unwrap_or_default();
        Descent {
            ancestors: [
                Ancestor::Subject(self.text("sub").to_owned()),
                Ancestor::Client(self.client_id().to_owned()),
                Ancestor::Issuer(self.issuer()),
            ],
            granted_at: Timestamp::from_secs(issued_at),
        }
    }

    pub const fn issuer(&self) -> IssuerTag {
        self.id.issuer
    }

    /// Whether this client may know of it: its own client, those it is meant for, and those whom the
    /// configuration names for one of its audiences.
    pub fn is_visible_to(&self, client_id: &str, policy: &Policy) -> bool {
        let audiences = self.audiences();
        client_id == self.client_id()
            || audiences.contains(&client_id)
            || policy.resource_servers().iter().any(|server| {
                server.client_id == client_id
                    && server.audiences.iter().any(|one| audiences.contains(&one.as_str()))
            })
    }

    /// The answer of RFC 7662 §2.2.
    pub fn introspection(&self) -> Map<String, Value> {
        let mut answer = self.claims.clone();
        answer.insert("active".to_owned(), Value::Bool(true));
        answer.insert("token_type".to_owned(), "Bearer".into());
        answer
    }

    /// Whether it still holds, by what is kept of it.
    pub fn standing(&self, kept: &KeptOfAccess, now: Timestamp) -> Result<(), Inactive> {
        if self.is_expired(now) {
            return Err(Inactive::Expired);
        }
        let mut descent = self.descent();
        if self.family().is_some() {
            // It is kept for as long as its access tokens live: where it is gone, so is the
            // knowledge of whether it was revoked.
            let family = kept.family.as_ref().ok_or(Inactive::Unknown)?;
            if family.ended == Some(End::Revoked) {
                return Err(Inactive::Revoked);
            }
            // What was granted before a cut-off stays cut off, however often it is refreshed.
            descent.granted_at = family.grant.granted_at;
        }
        let is_cut_off = kept.cut_off.is_some_and(|before| descent.is_cut_off(before));
        if kept.is_revoked || is_cut_off { Err(Inactive::Revoked) } else { Ok(()) }
    }

    fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
                Vec::new()
            }
        }
    }

    fn text(&self, name: &str) -> &str {
        self.claims.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// What is kept of an access token, as far as it decides whether the token holds.
#[derive(Clone, Debug, Default)]
pub struct KeptOfAccess {
    /// It was revoked by itself.
    pub is_revoked: bool,
    /// The family that it belongs to.
    pub family: Option<Family>,
    /// The furthest cut-off of its ancestors.
    pub cut_off: Option<Timestamp>,
}

/// Why a token is inactive for whoever asks. The caller is told none of it (RFC 7662 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inactive {
    /// It looks like one of ours, and we never made it.
    Forged,
    /// It has the form of one of ours, and nothing is kept of it: its time is long over, or it never
    /// was.
    Unknown,
    Expired,
    Revoked,
    /// A refresh token whose successor is in use.
    Spent,
    /// It holds, but is none of the caller's business.
    NotForCaller,
}

impl Inactive {
    /// As audit events say it of a token of this kind.
    pub const fn reason(self, is_refresh_token: bool) -> Reason {
        match (self, is_refresh_token) {
            (Self::Forged | Self::Unknown, true) => Reason::RefreshUnknown,
            (Self::Forged, false) => Reason::SignatureInvalid,
            (Self::Expired, true) => Reason::RefreshExpired,
            (Self::Unknown | Self::Expired, false) => Reason::Expired,
            (Self::Revoked, _) => Reason::RefreshRevoked,
            (Self::Spent, _) => Reason::RefreshReused,
            (Self::NotForCaller, true) => Reason::RefreshOtherClient,
            (Self::NotForCaller, false) => Reason::AudienceMismatch,
        }
    }
}

/// A token that is ours beyond doubt: verified by its signature, or by what is kept of it.
#[derive(Debug)]
pub enum Owned {
    Access(AccessToken),
    Refresh(RefreshToken, Box<Family>),
}

impl Owned {
    /// A refresh token with the family that it says it is of.
    pub fn refresh(
        token: RefreshToken,
        family: Option<Family>,
        now: Timestamp,
    ) -> Result<Self, Inactive> {
        let family = family.ok_or(Inactive::Unknown)?;
        if !family.has(&token, now) {
            return Err(Inactive::Forged);
        }
        Ok(Self::Refresh(token, Box::new(family)))
    }

    /// The client that it was handed to.
    pub fn client_id(&self) -> &str {
        match self {
            Self::Access(token) => token.client_id(),
            Self::Refresh(_, family) => &family.grant.client_id,
        }
    }

    /// The family that it is of, or belongs to.
    pub fn family(&self) -> Option<FamilyId> {
        match self {
            Self::Access(token) => token.family(),
            Self::Refresh(_, family) => Some(family.id),
        }
    }

    /// Whether this client may know of it: a refresh token is its own client's business alone.
    pub fn is_visible_to(&self, client_id: &str, policy: &Policy) -> bool {
        match self {
            Self::Access(token) => token.is_visible_to(client_id, policy),
            Self::Refresh(_, family) => family.grant.client_id == client_id,
        }
    }

    /// The issuer of the subject token that it descends from.
    pub fn issuer(&self) -> IssuerTag {
        match self {
            Self::Access(token) => token.issuer(),
            Self::Refresh(_, family) => IssuerTag::of(&family.grant.issuer),
        }
    }

    /// The answer of RFC 7662 §2.2, where it holds.
    pub fn introspection(&self, policy: &Policy) -> Map<String, Value> {
        match self {
            Self::Access(token) => token.introspection(),
            Self::Refresh(_, family) => family.introspection(policy.authorization_server()),
        }
    }
}

impl Family {
    /// Whether this token of the family would be refreshed, policy aside. `cut_off` is the furthest
    /// one of what the family descends from.
    pub fn standing(
        &self,
        token: &RefreshToken,
        cut_off: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Inactive> {
        let presented = self.recognise(token, now);
        match self.ended {
            _ if presented == Presented::MadeUp => return Err(Inactive::Forged),
            Some(End::Revoked) => return Err(Inactive::Revoked),
            Some(End::Expired) => return Err(Inactive::Expired),
            None => {}
        }
        if cut_off.is_some_and(|before| self.descent().is_cut_off(before)) {
            return Err(Inactive::Revoked);
        }
        if self.is_expired(now) {
            return Err(Inactive::Expired);
        }
        match presented {
            Presented::Current | Presented::Preceding(_) => Ok(()),
            Presented::Spent | Presented::MadeUp => Err(Inactive::Spent),
        }
    }

    /// Whether the token was made by us for this family, be it spent or not.
    pub fn has(&self, token: &RefreshToken, now: Timestamp) -> bool {
        self.recognise(token, now) != Presented::MadeUp
    }

    /// The answer of RFC 7662 §2.2, for its client alone.
    pub fn introspection(&self, issuer: &str) -> Map<String, Value> {
        let grant = &self.grant;
        let mut answer = Map::new();
        let mut add = |name: &str, value: Value| answer.insert(name.to_owned(), value);
        add("active", Value::Bool(true));
        add("iss", issuer.into());
        add("sub", grant.subject.as_str().into());
        match grant.audiences.as_slice() {
            [one] => add("aud", one.as_str().into()),
            several => add("aud", several.to_vec().into()),
        };
        add("client_id", grant.client_id.as_str().into());
        add("iat", grant.granted_at.as_secs().into());
        add("exp", self.expires_at.as_secs().into());
        if !grant.scope.is_empty() {
            add("scope", grant.scope.to_string().into());
        }
        answer
    }
}
