//! A token to try the published keys on: signed as those are that are handed out, and of no use to
//! anybody.

use thiserror::Error;
use zeroize::Zeroizing;

use super::client::Format;
use super::mint::{TYP, access_token, specimen};
use super::token_id::Entropy;
use crate::jwt::algorithm::{Algorithm, AlgorithmSet};
use crate::jwt::key_set::KeySet;
use crate::jwt::sign::SigningKeys;
use crate::jwt::unverified::{UnverifiedError, UnverifiedToken};
use crate::jwt::verify::{Candidate, MediaType, Rules, VerifyError, verify};
use crate::time::Timestamp;

/// The audience of a specimen, which no resource server may have.
pub const AUDIENCE: &str = "urn:cambio:specimen";

/// Why a specimen does not verify.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SpecimenError {
    #[error(transparent)]
    Unverified(#[from] UnverifiedError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// A token that was signed for nobody. It can't be got out of here.
pub struct Specimen {
    token: Zeroizing<String>,
    /// The key that signed it.
    pub kid: String,
}

impl std::fmt::Debug for Specimen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Specimen").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Specimen {
    /// Signed by the key that signs at present, if one may.
    pub fn sign(keys: &SigningKeys, issuer: &str, now: Timestamp) -> Option<Self> {
        let entropy = Entropy::from_octets([0; Entropy::OCTETS]);
        let access = access_token(&specimen(issuer, now), Format::Jwt, keys, &entropy, now).ok()?;
        Some(Self { token: access.token, kid: access.kid? })
    }

    /// Holds it to these keys, as a resource server would that goes by them.
    pub fn verify(&self, keys: &KeySet, issuer: &str, now: Timestamp) -> Result<(), SpecimenError> {
        let rules = Rules {
            issuer: issuer.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: AlgorithmSet::of(&Algorithm::ALL),
            token_types: vec![MediaType::new(TYP)],
            clock_skew: std::time::Duration::ZERO,
            max_age: None,
            max_lifetime: None,
        };
        let candidate = Candidate::new(UnverifiedToken::parse(&self.token)?, &rules)?;
        verify(candidate, &rules, keys, now)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::sign::{SigningKey, generate_pem};

    fn keys() -> SigningKeys {
        let pem = generate_pem(Algorithm::ES256).unwrap();
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None);
        SigningKeys::new(vec![key.unwrap()])
    }

    #[test]
    fn it_verifies_by_the_keys_that_it_was_signed_with_alone() {
        let (own, other) = (keys(), keys());
        let now = Timestamp::from_secs(1_000);
        let specimen = Specimen::sign(&own, "https://idp.example", now).unwrap();
        let verified = |keys: &SigningKeys, issuer: &str, now| {
            specimen.verify(&keys.verification_keys().unwrap(), issuer, now)
        };
        assert_eq!(verified(&own, "https://idp.example", now), Ok(()));
        let unknown = SpecimenError::Verify(VerifyError::KeyUnknown);
        assert_eq!(verified(&other, "https://idp.example", now), Err(unknown));
        let claims = SpecimenError::Verify(VerifyError::Claims);
        assert_eq!(verified(&own, "https://other.example", now), Err(claims));
        let later = now.plus(std::time::Duration::from_secs(60));
        let expired = SpecimenError::Verify(VerifyError::Expired);
        assert_eq!(verified(&own, "https://idp.example", later), Err(expired));
    }
}
