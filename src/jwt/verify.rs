//! The rules that a token must satisfy, and the one place where a [`Verified`] is made.

use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use super::algorithm::{Algorithm, AlgorithmSet};
use super::claims::{Claims, audience, is_subject, numeric_date};
use super::key_set::KeySet;
pub use super::media_type::MediaType;
use super::unverified::{UnverifiedJws, UnverifiedToken};
use crate::time::Timestamp;

/// What is asked of a token of one issuer.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `iss`, to the byte (RFC 8725 §3.8).
    pub issuer: String,
    /// `aud` must name one of these (RFC 8725 §3.9).
    pub audiences: Vec<String>,
    /// RFC 8725 §3.1.
    pub algorithms: AlgorithmSet,
    /// RFC 8725 §3.11. A token without `typ` counts as `JWT`.
    pub token_types: Vec<MediaType>,
    /// Loosens every comparison with the clock, and never tightens one.
    pub clock_skew: Duration,
    /// The greatest age by `iat`, which is then required.
    pub max_age: Option<Duration>,
    /// How far ahead of now `exp` may lie.
    pub max_lifetime: Option<Duration>,
}

/// Why a token is not what its issuer's rules ask for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VerifyError {
    #[error("`typ` is not an accepted one")]
    Type,
    #[error("`alg` is not an accepted one")]
    Algorithm,
    #[error("no key of the issuer fits the token")]
    KeyUnknown,
    #[error("the signature does not hold")]
    Signature,
    #[error("a claim has the wrong type, or is missing")]
    Claims,
    #[error("`aud` does not name us")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("`iat` lies in the future")]
    IssuedInFuture,
    #[error("`iat` lies too far back")]
    TooOld,
    #[error("`exp` lies too far ahead")]
    LifetimeTooLong,
    #[error("`sub` does not name anybody")]
    Subject,
    #[error("the token is bound to a key that the caller did not prove")]
    SenderConstrained,
}

impl UnverifiedJws {
    /// The algorithm that the header names, if it is one of these (RFC 8725 §3.1).
    pub fn algorithm(&self, allowed: AlgorithmSet) -> Result<Algorithm, VerifyError> {
        Algorithm::parse(&self.unverified_alg)
            .filter(|algorithm| allowed.contains(*algorithm))
            .ok_or(VerifyError::Algorithm)
    }

    /// Whether one of these keys made the signature (RFC 7515 §5.2). It says nothing of what was
    /// signed.
    pub fn verify(&self, algorithm: Algorithm, keys: &KeySet) -> Result<(), VerifyError> {
        let tried = keys.candidates(self.unverified_kid.as_deref(), algorithm);
        if tried.is_empty() {
            return Err(VerifyError::KeyUnknown);
        }
        let (signature, input) = (self.compact.signature(), self.compact.signing_input());
        if !tried.iter().any(|key| key.verifies(signature, input.as_bytes(), algorithm)) {
            return Err(VerifyError::Signature);
        }
        Ok(())
    }
}

/// A token whose type and algorithm its issuer may use, and which now needs that issuer's keys.
#[derive(Clone, Debug)]
pub struct Candidate {
    token: UnverifiedToken,
    algorithm: Algorithm,
}

impl Candidate {
    /// Holds the header to the rules (RFC 8725 §3.1, §3.11).
    pub fn new(token: UnverifiedToken, rules: &Rules) -> Result<Self, VerifyError> {
        let typ = MediaType::new(token.jws.unverified_typ.as_deref().unwrap_or("JWT"));
        if !rules.token_types.contains(&typ) {
            return Err(VerifyError::Type);
        }
        let algorithm = token.jws.algorithm(rules.algorithms)?;
        Ok(Self { token, algorithm })
    }

    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key that the header names.
    pub fn kid(&self) -> Option<&str> {
        self.token.jws.unverified_kid.as_deref()
    }

    /// Whether the set has the key that this token was signed with, as far as can be told without
    /// a fresher set. The key that the token names is the one, whatever the signature is worth. One
    /// that was chosen without its name is the one only if the signature holds: another may have
    /// taken its place since, and nothing but the signature would tell.
    pub fn has_key_in(&self, keys: &KeySet) -> bool {
        let jws = &self.token.jws;
        let kid = jws.unverified_kid.as_deref();
        let tried = keys.candidates(kid, self.algorithm);
        tried.iter().any(|key| key.kid().is_some() && key.kid() == kid)
            || jws.verify(self.algorithm, keys).is_ok()
    }

    /// What stands in the token, if one of these keys signed it.
    fn claims(self, keys: &KeySet) -> Result<Map<String, Value>, VerifyError> {
        let Self { token, algorithm } = self;
        token.jws.verify(algorithm, keys)?;
        Ok(token.unverified_claims)
    }
}

/// Something of a token whose signature, issuer, audience, times and type hold.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub const fn get(&self) -> &T {
        &self.0
    }
}

/// The claims of a token of our own, of this type, by our own keys. What we sign is right: nothing
/// but the signature is asked.
pub fn signed_claims(
    token: UnverifiedToken,
    typ: &str,
    keys: &KeySet,
) -> Result<Verified<Map<String, Value>>, VerifyError> {
    let own = MediaType::new(token.jws.unverified_typ.as_deref().unwrap_or_default());
    if own != MediaType::new(typ) {
        return Err(VerifyError::Type);
    }
    let algorithm = token.jws.algorithm(AlgorithmSet::ALL)?;
    Candidate { token, algorithm }.claims(keys).map(Verified)
}

/// Holds a token to the rules of its issuer, by keys of that issuer.
pub fn verify(
    candidate: Candidate,
    rules: &Rules,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Verified<Claims>, VerifyError> {
    // From here on the claims are the issuer's own words.
    let claims = candidate.claims(keys)?;
    let issuer = match claims.get("iss") {
        Some(Value::String(issuer)) if *issuer == rules.issuer => issuer.clone(),
        _ => return Err(VerifyError::Claims),
    };
    let named = claims.get("aud").ok_or(VerifyError::Audience)?;
    let audience = audience(named).map_err(|()| VerifyError::Claims)?;
    if !audience.iter().any(|one| rules.audiences.contains(one)) {
        return Err(VerifyError::Audience);
    }
    let (expires_at, issued_at) = times(&claims, rules, now)?;
    // RFC 7800 §3.1: whoever presents such a token must prove the key, which nobody here can.
    if claims.contains_key("cnf") {
        return Err(VerifyError::SenderConstrained);
    }
    // RFC 8417 §2.2: it tells of something that happened, as a logout token does, and authorises
    // nobody. Older ones do not say so by their `typ`.
    if claims.get("events").is_some_and(Value::is_object) {
        return Err(VerifyError::Type);
    }
    let subject = match claims.get("sub") {
        Some(Value::String(subject)) if is_subject(subject) => subject.clone(),
        _ => return Err(VerifyError::Subject),
    };
    let jwt_id = match claims.get("jti") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(VerifyError::Claims),
    };
    Ok(Verified(Claims { issuer, subject, audience, expires_at, issued_at, jwt_id, all: claims }))
}

/// `exp`, `nbf` and `iat` against the clock (RFC 7519 §4.1.4 to §4.1.6).
fn times(
    claims: &Map<String, Value>,
    rules: &Rules,
    now: Timestamp,
) -> Result<(Timestamp, Option<Timestamp>), VerifyError> {
    let date = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => numeric_date(value).map(Some).map_err(|()| VerifyError::Claims),
    };
    let expiry = date("exp")?.ok_or(VerifyError::Claims)?;
    let not_before = date("nbf")?;
    let issued = date("iat")?;
    let seconds = |duration: Duration| i128::from(duration.as_secs());
    let (now, skew) = (i128::from(now.as_secs()), seconds(rules.clock_skew));

    if expiry + skew <= now {
        return Err(VerifyError::Expired);
    }
    if not_before.is_some_and(|not_before| not_before > now + skew) {
        return Err(VerifyError::NotYetValid);
    }
    if issued.is_some_and(|issued| issued > now + skew) {
        return Err(VerifyError::IssuedInFuture);
    }
    if let Some(max_age) = rules.max_age {
        let issued = issued.ok_or(VerifyError::Claims)?;
        if issued + seconds(max_age) + skew < now {
            return Err(VerifyError::TooOld);
        }
    }
    let longest = rules.max_lifetime.map_or(i128::MAX, |longest| now + seconds(longest) + skew);
    if expiry > longest.min(Timestamp::MAX.as_secs().into()) {
        return Err(VerifyError::LifetimeTooLong);
    }
    // A token that expires before it begins has expired at every moment of its life.
    if issued.is_some_and(|issued| expiry <= issued)
        || not_before.is_some_and(|not_before| expiry <= not_before)
    {
        return Err(VerifyError::Expired);
    }
    let timestamp =
        |date: i128| Timestamp::from_secs(u64::try_from(date.max(0)).unwrap_or(u64::MAX));
    Ok((timestamp(expiry), issued.map(timestamp)))
}
