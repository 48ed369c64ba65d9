//! Client secrets at rest: what is kept of them, and how one that arrives is compared.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The most memory, in KiB, that a configured hash may make us spend on one comparison.
pub const MAX_MEMORY_KIB: u32 = 262_144;
/// The most passes over that memory.
pub const MAX_PASSES: u32 = 16;
/// The most lanes.
pub const MAX_LANES: u32 = 16;

/// A client secret as the configuration gave it. The secret itself is not kept.
#[derive(Clone)]
pub struct StoredSecret(Inner);

#[derive(Clone)]
enum Inner {
    /// SHA-256 of a secret that stands in a file or an environment variable.
    Digest([u8; 32]),
    /// A PHC string of argon2id, and the work that it asks for.
    Argon2(String, Cost),
}

/// The work of one comparison with a hash: memory, passes, lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost(u32, u32, u32);

/// Memory in KiB times passes of the cheapest of those parameters that OWASP's Password Storage Cheat
/// Sheet takes for equal: 7 MiB and 5 passes.
const LEAST_WORK: u64 = 7_168 * 5;

impl Cost {
    /// Whether whoever has the hash can try secrets faster than is generally held to be tolerable.
    pub fn is_small(self) -> bool {
        let Self(memory, passes, _) = self;
        u64::from(memory) * u64::from(passes) < LEAST_WORK
    }
}

/// Why a `hash:` in the configuration can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HashError {
    #[error("is not an argon2id hash in PHC form, such as `cambio hash-secret` prints")]
    NotArgon2id,
    #[error(
        "asks for more work than {MAX_MEMORY_KIB} KiB, {MAX_PASSES} passes and {MAX_LANES} lanes"
    )]
    TooCostly,
    #[error("could not be computed")]
    Failed,
}

impl StoredSecret {
    pub fn from_plain(secret: &[u8]) -> Self {
        Self(Inner::Digest(sha256(secret)))
    }

    /// Takes what [`hash`] prints.
    pub fn from_hash(phc: &str) -> Result<Self, HashError> {
        let parsed = PasswordHash::new(phc).map_err(|_| HashError::NotArgon2id)?;
        if parsed.algorithm.as_str() != "argon2id" || parsed.hash.is_none() || parsed.salt.is_none()
        {
            return Err(HashError::NotArgon2id);
        }
        let params = Params::try_from(&parsed).map_err(|_| HashError::NotArgon2id)?;
        if params.m_cost() > MAX_MEMORY_KIB
            || params.t_cost() > MAX_PASSES
            || params.p_cost() > MAX_LANES
        {
            return Err(HashError::TooCostly);
        }
        let cost = Cost(params.m_cost(), params.t_cost(), params.p_cost());
        Ok(Self(Inner::Argon2(phc.to_owned(), cost)))
    }

    /// The work of one comparison, where it takes milliseconds rather than microseconds.
    pub const fn cost(&self) -> Option<Cost> {
        match self.0 {
            Inner::Digest(_) => None,
            Inner::Argon2(_, cost) => Some(cost),
        }
    }

    /// Compares in constant time. May take tens of milliseconds where it has a [`Self::cost`].
    pub fn matches(&self, presented: &[u8]) -> bool {
        match &self.0 {
            Inner::Digest(kept) => kept.ct_eq(&sha256(presented)).into(),
            Inner::Argon2(phc, _) => PasswordHash::new(phc)
                .is_ok_and(|parsed| Argon2::default().verify_password(presented, &parsed).is_ok()),
        }
    }

    /// Bytes that change whenever the secret does: what a cached verdict must be bound to.
    pub fn fingerprint(&self) -> &[u8] {
        match &self.0 {
            Inner::Digest(kept) => kept,
            Inner::Argon2(phc, _) => phc.as_bytes(),
        }
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredSecret(…)")
    }
}

/// The argon2id hash of `secret` in PHC form, for the configuration's `hash:`.
pub fn hash(secret: &[u8], salt: &[u8; 16]) -> Result<String, HashError> {
    let hashed =
        Argon2::default().hash_password_with_salt(secret, salt).map_err(|_| HashError::Failed)?;
    Ok(hashed.to_string())
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_secret_matches_itself_alone() {
        let stored = StoredSecret::from_plain(b"correct horse");
        assert!(stored.matches(b"correct horse"));
        assert!(!stored.matches(b"correct horsf"));
        assert!(!stored.matches(b""));
    }

    #[test]
    fn a_hash_matches_the_secret_it_was_made_of() {
        let phc = hash(b"correct horse", &[7; 16]).unwrap();
        let stored = StoredSecret::from_hash(&phc).unwrap();
        let cost = stored.cost().unwrap();
        assert_eq!((cost, cost.is_small()), (Cost(19_456, 2, 1), false));
        assert!(stored.matches(b"correct horse"));
        assert!(!stored.matches(b"correct horsf"));
    }

    #[test]
    fn work_is_small_below_what_is_recommended() {
        // Every one of the recommended, and what is just below.
        for (memory, passes) in [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)] {
            assert!(!Cost(memory, passes, 1).is_small(), "{memory} {passes}");
        }
        for (memory, passes) in [(7_167, 5), (19_456, 1), (8, 1), (17_919, 2)] {
            assert!(Cost(memory, passes, 16).is_small(), "{memory} {passes}");
        }
    }

    #[test]
    fn other_hashes_and_ruinous_ones_are_refused() {
        let good = hash(b"x", &[7; 16]).unwrap();
        for bad in
            ["", "plain", "$2b$12$abcdefghijklmnopqrstuv", &good.replace("argon2id", "argon2i")]
        {
            assert_eq!(StoredSecret::from_hash(bad).unwrap_err(), HashError::NotArgon2id, "{bad}");
        }
        for (from, to) in [("m=19456", "m=4000000"), ("t=2", "t=99"), ("p=1", "p=99")] {
            let costly = good.replace(from, to);
            assert_ne!(costly, good);
            assert_eq!(StoredSecret::from_hash(&costly).unwrap_err(), HashError::TooCostly);
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?}", StoredSecret::from_plain(b"hunter2"));
        assert_eq!(shown, "StoredSecret(…)");
    }
}
