//! Whose token comes in: the trusted token issuers, and what is asked of their tokens.

use std::sync::Arc;

use thiserror::Error;

use super::client::AuthenticatedClient;
use super::policy::Policy;
use crate::jwt::unverified::{UnverifiedError, UnverifiedToken};
use crate::jwt::verify::{Candidate, Rules, VerifyError};

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
    let allowed = client.application().trusted_token_issuers.as_ref();
    if allowed.is_some_and(|names| !names.contains(&issuer.name)) {
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
