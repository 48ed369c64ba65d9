//! Audit events: one for each decision.
//!
//! An event has only fields whose values are configured, verified or ours. `sub` is never in it:
//! `sub_hash` tells whether two events concern one subject, and lets whoever knows a subject find
//! its events. It is SHA-256 over the issuer's name and `sub`, each after its length in bytes as 8
//! octets, big-endian; in base64url without padding. Where an operator revokes a subject, `sub` is
//! that of minted tokens, and the issuer's name is empty.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::labels::UNKNOWN;
use super::metrics::{GRANTED, NO_REASON};
use crate::exchange::Record;
use crate::exchange::error::{Blame, Level, Reason, Refusal};
use crate::exchange::inquiry::{InquiryRecord, Purpose};
use crate::secret::sha256;

/// The most characters of a `jti` that somebody else chose.
const MAX_JWT_ID: usize = 128;

/// One macro call for each level, because a level is a constant of its call site.
macro_rules! event {
    ($level:expr, $($fields:tt)*) => {
        match $level {
            Level::Info => tracing::info!(target: "audit", $($fields)*),
            Level::Warn => tracing::warn!(target: "audit", $($fields)*),
            Level::Error => tracing::error!(target: "audit", $($fields)*),
        }
    };
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Exchange,
    Refresh,
}

impl Asked {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Refresh => "refresh",
        }
    }
}

/// Writes the audit event of one token request, target `audit`.
pub fn token_request(asked: Asked, decision: &str, record: &Record, refusal: Option<Refusal>) {
    let (outcome, reason, level) = match refusal.map(Refusal::outcome) {
        None => (GRANTED, NO_REASON, Level::Info),
        Some(refused) => (refused.blame.as_str(), refused.reason.as_str(), refused.level),
    };
    let issuer = record.issuer.as_deref();
    let sub_hash =
        record.subject.as_deref().map(|subject| subject_hash(issuer.unwrap_or_default(), subject));
    let subject_jti = record.subject_jwt_id.as_deref().map(shortened);
    let minted = record.minted.as_ref();
    let family = record.family.map(|family| family.to_string());
    let audiences = minted.map(|minted| minted.audiences.join(" "));
    event!(
        level,
        decision,
        outcome,
        reason,
        client = record.client.as_deref(),
        issuer,
        sub_hash = sub_hash.as_deref(),
        subject_jti,
        jti = minted.map(|minted| minted.jwt_id.as_str()),
        kid = minted.and_then(|minted| minted.kid.as_deref()),
        family = family.as_deref(),
        audiences = audiences.as_deref(),
        scope = minted.and_then(|minted| minted.scope.as_deref()),
        exp = minted.map(|minted| minted.expires_at.as_secs()),
        "{}",
        asked.as_str()
    );
}

/// How an inquiry about a token of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquired {
    /// It was shown, or revoked.
    Granted,
    /// It is of no use to whoever asks.
    Denied(Reason),
    Refused(Refusal),
}

/// Writes the audit event of one introspection or revocation that concerned a token of ours.
pub fn inquiry(purpose: Purpose, decision: &str, record: &InquiryRecord, ended: Inquired) {
    let (outcome, reason, level) = match ended {
        Inquired::Granted => (GRANTED, NO_REASON, Level::Info),
        Inquired::Denied(reason) => {
            // Somebody has a token that is not theirs.
            let is_theft = reason == Reason::RefreshOtherClient;
            let level = if is_theft { Level::Warn } else { Level::Info };
            (Blame::Caller.as_str(), reason.as_str(), level)
        }
        Inquired::Refused(refusal) => {
            let refused = refusal.outcome();
            (refused.blame.as_str(), refused.reason.as_str(), refused.level)
        }
    };
    let asked = match purpose {
        Purpose::Introspection => "introspection",
        Purpose::Revocation => "revocation",
    };
    let family = record.family.map(|family| family.to_string());
    event!(
        level,
        decision,
        outcome,
        reason,
        client = record.client.as_deref().unwrap_or(UNKNOWN),
        issuer = record.issuer.as_deref(),
        jti = record.jwt_id.as_deref(),
        family = family.as_deref(),
        "{asked}"
    );
}

/// An operator's revocation, as it is written down.
#[derive(Clone, Copy)]
pub struct CutOff<'a> {
    pub decision: &'a str,
    /// `subject`, `issuer` or `client`.
    pub ancestor: &'static str,
    /// Its configured name.
    pub issuer: Option<&'a str>,
    pub iss: Option<&'a str>,
    /// The application's configured name.
    pub client: Option<&'a str>,
    pub client_id: Option<&'a str>,
    /// To be hashed.
    pub subject: Option<&'a str>,
    /// RFC 3339.
    pub before: &'a str,
    /// How many families and opaque access tokens it hit; or else whether we are to blame, and why.
    pub result: Result<(u64, u64), (bool, &'static str)>,
}

impl std::fmt::Debug for CutOff<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CutOff").field("decision", &self.decision).finish_non_exhaustive()
    }
}

/// Writes the audit event of an operator's revocation, target `audit`.
pub fn cut_off(event: &CutOff<'_>) {
    let (outcome, reason, level) = match event.result {
        Ok(_) => (GRANTED, NO_REASON, Level::Warn),
        Err((true, reason)) => (Blame::Us.as_str(), reason, Level::Error),
        Err((false, reason)) => (Blame::Caller.as_str(), reason, Level::Warn),
    };
    let (families, opaque_access_tokens) = event.result.ok().unzip();
    let sub_hash = event.subject.map(|subject| subject_hash("", subject));
    event!(
        level,
        decision = event.decision,
        outcome,
        reason,
        ancestor = event.ancestor,
        issuer = event.issuer,
        iss = event.iss,
        client = event.client,
        client_id = event.client_id,
        sub_hash = sub_hash.as_deref(),
        before = event.before,
        families,
        opaque_access_tokens,
        "cut_off"
    );
}

/// What stands for a subject in the log.
pub fn subject_hash(issuer: &str, subject: &str) -> String {
    let mut bytes = Vec::with_capacity(issuer.len() + subject.len() + 16);
    for part in [issuer, subject] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(sha256(&bytes))
}

fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_JWT_ID).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
