//! Opaque access tokens: a random name for claims that are kept, for resource servers that
//! introspect.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::secret::sha256;
use crate::time::Timestamp;

/// What every opaque access token of ours begins with, for those who scan for leaked secrets.
pub const PREFIX: &str = "cambio_at_";

const LOCATOR: usize = 16;
const SECRET: usize = 32;

/// By what an opaque access token is found: never the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpaqueId {
    /// The family of the token, or a random number: what is kept of one family can lie together.
    pub locator: [u8; LOCATOR],
    /// SHA-256 of the 256 random bits in it.
    pub hash: [u8; 32],
}

impl OpaqueId {
    pub(super) fn new(locator: [u8; LOCATOR], secret: &[u8; SECRET]) -> (Zeroizing<String>, Self) {
        let octets = Zeroizing::new([&locator[..], secret].concat());
        let text = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*octets)));
        (text, Self { locator, hash: sha256(secret) })
    }

    /// `None` where this is not of the form of a token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        let octets: &[u8; LOCATOR + SECRET] = octets.as_slice().try_into().ok()?;
        let (locator, secret) = octets.split_first_chunk::<LOCATOR>()?;
        Some(Self { locator: *locator, hash: sha256(secret) })
    }
}

/// An opaque access token as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct OpaqueAccessToken {
    pub id: OpaqueId,
    /// The claims that it stands for: the JSON object that would be a JWT's payload.
    pub claims: Vec<u8>,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for OpaqueAccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpaqueAccessToken").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_itself_by_its_hash() {
        let (text, id) = OpaqueId::new([1; 16], &[2; 32]);
        assert!(text.starts_with(PREFIX));
        assert_eq!(OpaqueId::parse(&text), Some(id));
        assert_eq!(id.hash, sha256(&[2; 32]));
        let cut = &text[..text.len() - 2];
        for other in ["", PREFIX, &text[1..], cut, "cambio_rt_AAAA", &format!("{}=", &*text)] {
            assert_eq!(OpaqueId::parse(other), None, "{other}");
        }
    }
}
