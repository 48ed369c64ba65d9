//! Tokens of ours that come back: whether they are ours, whether they still hold, and who may know
//! (RFC 7662, RFC 7009).

use serde_json::{Map, Value};

use super::cut_off::{Ancestor, Descent};
use super::family::{Family, Presented, RefreshToken};
use super::mint::TYP;
use super::opaque::{self, OpaqueId};
use super::policy::Policy;
use super::refresh;
use super::token_id::{FamilyId, IssuerTag, JwtId};
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
#[derive(Clone, Debug)]
pub struct AccessToken {
    claims: Map<String, Value>,
    id: JwtId,
    pub expires_at: Timestamp,
}

impl AccessToken {
    /// The access token that has these claims, which only we can have made; `None` where we did not.
    fn new(claims: Map<String, Value>) -> Option<Self> {
        let id = JwtId::parse(claims.get("jti")?.as_str()?)?;
        let expires_at = Timestamp::from_secs(claims.get("exp")?.as_u64()?);
        Some(Self { claims, id, expires_at })
    }

    /// What an opaque token was found to stand for.
    pub fn from_kept(claims: &[u8]) -> Option<Self> {
        Self::new(serde_json::from_slice(claims).ok()?)
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

impl Family {
    /// Whether this token of the family would be refreshed, policy aside.
    pub fn is_active(&self, token: &RefreshToken, now: Timestamp) -> bool {
        let counts =
            matches!(self.recognise(token, now), Presented::Current | Presented::Preceding(_));
        counts && self.ended.is_none() && !self.is_expired(now)
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
