//! Whose token comes in: the trusted token issuers, and what is asked of their tokens.

use std::sync::Arc;

use thiserror::Error;

use super::client::AuthenticatedClient;
use super::issued::Inactive;
use super::policy::Policy;
use crate::jwt::claims::Claims;
use crate::jwt::unverified::{UnverifiedError, UnverifiedToken};
use crate::jwt::verify::{Candidate, Rules, VerifyError};
use crate::secret::sha256;
use crate::time::Timestamp;

/// Why a subject token is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SubjectTokenError {
    #[error(transparent)]
    Unverified(#[from] UnverifiedError),
    #[error("no trusted token issuer has this `iss`")]
    IssuerUnknown,
    #[error("the token issuer is disabled")]
    IssuerDisabled,
    #[error("the application may not use this token issuer")]
    IssuerNotAllowed,
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("the token has no `jti`, and its issuer's tokens are accepted once only")]
    JwtIdMissing,
    #[error("the token was exchanged before, and its issuer's tokens are accepted once only")]
    Replayed,
    #[error("the token is one of ours, and was revoked")]
    Revoked,
}

impl From<Inactive> for SubjectTokenError {
    fn from(inactive: Inactive) -> Self {
        match inactive {
            Inactive::Expired | Inactive::Unknown => Self::Verify(VerifyError::Expired),
            Inactive::Revoked | Inactive::Spent | Inactive::Forged | Inactive::NotForCaller => {
                Self::Revoked
            }
        }
    }
}

/// A token that is accepted once only, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// SHA-256 of `iss` and `jti`, each after its length as 8 octets, big-endian. The token itself
    /// would be of no use: a signature can have more than one form.
    pub key: [u8; 32],
    /// From then on the token is refused in any case.
    pub until: Timestamp,
}

impl Once {
    pub(super) fn of(issuer: &TrustedIssuer, claims: &Claims) -> Option<Self> {
        let mut bytes = Vec::new();
        for part in [&claims.issuer, claims.jwt_id.as_ref()?] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        let until = claims.expires_at.plus(issuer.rules.clock_skew);
        Some(Self { key: sha256(&bytes), until })
    }
}

/// A third party whose JWTs are accepted.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    /// The only form in which the issuer appears in metrics and logs.
    pub name: Arc<str>,
    pub enabled: bool,
    pub rules: Rules,
    /// Which of its claims are copied.
    pub claims: Vec<ClaimMapping>,
    /// Put before `sub`.
    pub subject_prefix: String,
    /// Each token is accepted once only, by its `jti`, which is then required.
    pub once: bool,
}

impl TrustedIssuer {
    /// `sub` of minted tokens for this `sub` of the issuer's.
    pub(super) fn subject_of(&self, subject: &str) -> String {
        format!("{}{subject}", self.subject_prefix)
    }
}

/// A claim of the minted token and the claim of the subject token that it is copied from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMapping {
    pub(super) minted: String,
    pub(super) subject: String,
}

impl ClaimMapping {
    /// `None` where the claim of the minted token is one of [`RESERVED_CLAIMS`].
    pub fn new(minted: &str, subject: &str) -> Option<Self> {
        (!RESERVED_CLAIMS.contains(&minted))
            .then(|| Self { minted: minted.to_owned(), subject: subject.to_owned() })
    }
}

/// Claims of a minted token that are ours to set, so that no mapping may name them (RFC 9068 §2.2,
/// RFC 8693 §4, RFC 7800 §3.1).
pub const RESERVED_CLAIMS: [&str; 14] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "azp",
    "scope",
    "act",
    "may_act",
    "cnf",
    "typ",
];

/// Finds the issuer whose rules the token is to be held to. `name` is told as soon as it is known.
pub(super) fn issuer_of(
    token: &UnverifiedToken,
    client: &AuthenticatedClient,
    policy: &Policy,
    name: &mut Option<Arc<str>>,
) -> Result<Arc<TrustedIssuer>, SubjectTokenError> {
    let unverified_issuer = token.unverified_issuer()?.ok_or(SubjectTokenError::IssuerUnknown)?;
    let issuer = policy.issuer(unverified_issuer).ok_or(SubjectTokenError::IssuerUnknown)?;
    *name = Some(Arc::clone(&issuer.name));
    if !issuer.enabled {
        return Err(SubjectTokenError::IssuerDisabled);
    }
    if !client.application().may_use(issuer) {
        return Err(SubjectTokenError::IssuerNotAllowed);
    }
    Ok(Arc::clone(issuer))
}

/// A subject token whose issuer's keys are to be had before anything more can be said of it.
#[derive(Clone, Debug)]
pub(super) struct PendingSubject {
    pub(super) issuer: Arc<TrustedIssuer>,
    pub(super) candidate: Candidate,
}

impl PendingSubject {
    pub(super) fn new(
        issuer: Arc<TrustedIssuer>,
        token: UnverifiedToken,
    ) -> Result<Self, SubjectTokenError> {
        let candidate = Candidate::new(token, &issuer.rules)?;
        Ok(Self { issuer, candidate })
    }
}
