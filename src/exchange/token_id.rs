//! The names of what is issued: `jti`s, refresh token families, and the random numbers for both.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::secret::sha256;

/// Random numbers for everything that one answer can hold. No secret is made of two of them, or two
/// of one.
pub struct Entropy {
    pub jwt_id: [u8; 16],
    pub family: FamilyId,
    pub family_key: [u8; 32],
    pub refresh_token: [u8; 32],
    pub opaque_token: [u8; 32],
}

impl Entropy {
    /// How many random octets [`Entropy::from_octets`] takes.
    pub const OCTETS: usize = 128;

    pub fn from_octets(mut octets: [u8; Self::OCTETS]) -> Self {
        let mut rest = octets.as_slice();
        let entropy = Self {
            jwt_id: take(&mut rest),
            family: FamilyId(take(&mut rest)),
            family_key: take(&mut rest),
            refresh_token: take(&mut rest),
            opaque_token: take(&mut rest),
        };
        octets.zeroize();
        entropy
    }
}

impl ZeroizeOnDrop for Entropy {}

impl Drop for Entropy {
    fn drop(&mut self) {
        self.family_key.zeroize();
        self.refresh_token.zeroize();
        self.opaque_token.zeroize();
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(…)")
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut out = [0; N];
    if let Some((head, tail)) = rest.split_at_checked(N) {
        out.copy_from_slice(head);
        *rest = tail;
    }
    out
}

/// Names a refresh token family. It is no secret: it stands in every token of the family, and in
/// the `jti` of its access tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyId(pub [u8; 16]);

impl FamilyId {
    pub fn parse(text: &str) -> Option<Self> {
        let octets = URL_SAFE_NO_PAD.decode(text).ok()?;
        octets.try_into().ok().map(Self)
    }
}

impl std::fmt::Display for FamilyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FamilyId({self})")
    }
}

impl Serialize for FamilyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FamilyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not the name of a family"))
    }
}

/// Tells the tokens that were exchanged for those of one trusted token issuer from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IssuerTag([u8; 8]);

impl IssuerTag {
    /// Of the issuer with this `iss`.
    pub fn of(issuer: &str) -> Self {
        let digest = sha256(issuer.as_bytes());
        let mut rest = digest.as_slice();
        Self(take(&mut rest))
    }

    pub const fn octets(&self) -> &[u8; 8] {
        &self.0
    }
}

/// The `jti` of a minted token (RFC 7519 §4.1.7): 128 random bits, whose token it was exchanged for,
/// and the family that it belongs to, if any.
///
/// An access token is not kept anywhere, yet it has to be told whether it descends from what was
/// revoked: what is needed for that stands in the only claim that nobody else reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwtId {
    pub random: [u8; 16],
    pub issuer: IssuerTag,
    pub family: Option<FamilyId>,
}

impl JwtId {
    pub fn parse(text: &str) -> Option<Self> {
        let octets = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut rest = octets.as_slice();
        let id = Self { random: take(&mut rest), issuer: IssuerTag(take(&mut rest)), family: None };
        match octets.len() {
            24 => Some(id),
            40 => Some(Self { family: Some(FamilyId(take(&mut rest))), ..id }),
            _ => None,
        }
    }
}

impl std::fmt::Display for JwtId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = self.family.as_ref().map_or(&[][..], |family| &family.0);
        let octets = [&self.random[..], &self.issuer.0, family].concat();
        f.write_str(&URL_SAFE_NO_PAD.encode(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jti_says_what_it_was_made_of() {
        let issuer = IssuerTag::of("https://issuer.example");
        for family in [None, Some(FamilyId([9; 16]))] {
            let id = JwtId { random: [7; 16], issuer, family };
            assert_eq!(JwtId::parse(&id.to_string()), Some(id));
        }
        assert_ne!(issuer, IssuerTag::of("https://issuer.example/"));
        for other in ["", "t-1", "BwcHBwcHBwcHBwcHBwcHBw", "!"] {
            assert_eq!(JwtId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn no_random_number_is_used_twice() {
        let octets = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let Entropy { jwt_id, family, family_key, refresh_token, opaque_token } =
            &Entropy::from_octets(octets);
        let all = [&jwt_id[..], &family.0, family_key, refresh_token, opaque_token].concat();
        assert_eq!(all, octets);
    }
}
