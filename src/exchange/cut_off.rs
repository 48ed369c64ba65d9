//! Revocation by the operator: all that descends from a subject, a trusted token issuer or a client,
//! up to a point in time.

use std::time::Duration;

use super::token_id::IssuerTag;
use crate::secret::sha256;
use crate::time::Timestamp;

/// The longest that anything which is granted lives.
pub const LONGEST_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whose descendants end.
#[derive(Clone, PartialEq, Eq)]
pub enum Ancestor {
    /// `sub` of minted tokens.
    Subject(String),
    /// `client_id`.
    Client(String),
    /// The issuer of subject tokens.
    Issuer(IssuerTag),
}

impl std::fmt::Debug for Ancestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Subject(_) => "Subject(…)",
            Self::Client(_) => "Client(…)",
            Self::Issuer(_) => "Issuer(…)",
        })
    }
}

impl Ancestor {
    /// By what it is kept: of one length, and nobody's name.
    pub fn key(&self) -> [u8; 32] {
        let (kind, name) = match self {
            Self::Subject(subject) => (b's', subject.as_bytes()),
            Self::Client(client_id) => (b'c', client_id.as_bytes()),
            Self::Issuer(tag) => (b'i', &tag.octets()[..]),
        };
        sha256(&[&[kind], name].concat())
    }
}

/// All of one ancestor's descendants that were granted at this second or before are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutOff {
    pub ancestor: Ancestor,
    pub before: Timestamp,
}

impl CutOff {
    /// From then on it cuts nothing off that lives.
    pub const fn kept_until(&self) -> Timestamp {
        self.before.plus(LONGEST_LIFE)
    }
}

/// What a token descends from, as far as it decides whether it is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descent {
    pub ancestors: [Ancestor; 3],
    pub granted_at: Timestamp,
}

impl Descent {
    /// Whether a cut-off of one of its ancestors concerns it.
    pub fn is_cut_off(&self, before: Timestamp) -> bool {
        self.granted_at <= before
    }
}
