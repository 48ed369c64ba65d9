//! Refresh tokens and the families that they rotate in (RFC 6749 §6, RFC 9700 §4.14.2).
//!
//! A family begins with an exchange and has one token that counts. Using that one puts its successor
//! in its place; any other that the family once had ends the family. The order is that of a sequence
//! number, never of a clock.
//!
//! Of a token only a hash is kept. Where an answer may have been lost, the preceding token gets the
//! same successor for a while: that one is kept sealed under a key which only the preceding token
//! yields.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::grant::Grant;
use super::token_id::{Entropy, FamilyId};
use crate::secret::sha256;
use crate::time::Timestamp;

/// What every refresh token of ours begins with, for those who scan for leaked secrets.
pub const PREFIX: &str = "cambio_rt_";

const SECRET: usize = 32;
const TAG: usize = 16;
/// Family, secret and tag.
const OCTETS: usize = 16 + SECRET + TAG;

/// How the refresh tokens of an application live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTokenSettings {
    /// Of the family, from the exchange on.
    pub lifetime: Duration,
    /// How long a token may be left unused.
    pub idle: Option<Duration>,
    /// How long the preceding token still gets the same successor. Zero is off.
    pub grace: Duration,
}

/// A refresh token as it is handed out.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    family: FamilyId,
    secret: [u8; SECRET],
    tag: [u8; TAG],
}

impl RefreshToken {
    /// `None` where this is not of the form of a token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        let octets: &[u8; OCTETS] = octets.as_slice().try_into().ok()?;
        let (family, rest) = octets.split_first_chunk::<16>()?;
        let (secret, rest) = rest.split_first_chunk::<SECRET>()?;
        let (tag, _) = rest.split_first_chunk::<TAG>()?;
        Some(Self { family: FamilyId(*family), secret: *secret, tag: *tag })
    }

    /// The family that it says it is of.
    pub const fn family(&self) -> FamilyId {
        self.family
    }

    pub fn to_text(&self) -> Zeroizing<String> {
        let octets = Zeroizing::new([&self.family.0[..], &self.secret[..], &self.tag[..]].concat());
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*octets)))
    }

    fn new(family: FamilyId, secret: [u8; SECRET], key: &[u8; 32]) -> Self {
        Self { family, secret, tag: tag(key, family, &secret) }
    }

    /// 256 random bits need no slow hash.
    fn hash(&self) -> Octets<32> {
        Octets(sha256(&self.secret))
    }

    /// What the successor of this token is sealed under.
    fn sealing_key(&self) -> Option<RandomizedNonceKey> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let derived = hmac::sign(&key, b"cambio: the successor of a refresh token");
        RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref()).ok()
    }

    fn seal(&self, successor: &Self) -> Option<Vec<u8>> {
        let mut sealed = successor.secret.to_vec();
        let key = self.sealing_key()?;
        let nonce = key.seal_in_place_append_tag(Aad::from(self.family.0), &mut sealed).ok()?;
        Some([&nonce.as_ref()[..], &sealed].concat())
    }

    fn unseal(&self, sealed: &[u8], key: &[u8; 32]) -> Option<Self> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let secret = self
            .sealing_key()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(self.family.0),
                &mut opened,
            )
            .ok()?;
        Some(Self::new(self.family, (&*secret).try_into().ok()?, key))
    }
}

impl ZeroizeOnDrop for RefreshToken {}

impl Drop for RefreshToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken(…)")
    }
}

/// Tells a token that the family once had from one that somebody made up: who has seen but the name
/// of a family can't end it.
fn tag(key: &[u8; 32], family: FamilyId, secret: &[u8; SECRET]) -> [u8; TAG] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(&family.0);
    context.update(secret);
    context.sign().as_ref().first_chunk().copied().unwrap_or_default()
}

/// Octets as they are kept: in base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Octets<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Octets<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Octets<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = URL_SAFE_NO_PAD.decode(text).ok().and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or_else(|| serde::de::Error::custom("not octets of this length"))
    }
}

/// How a family came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Its time was seen to be over. A clock that is set back does not bring it back.
    Expired,
    /// By its client, by an operator, or because a spent token came back. Its access tokens are
    /// revoked with it.
    Revoked,
}

/// The token before the one that counts.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Preceding {
    hash: Octets<32>,
    /// The token that counts, for whoever has the preceding one. In base64url.
    sealed: String,
    until: Timestamp,
}

/// A refresh token family as it is kept: no token of it can be had from it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Family {
    pub id: FamilyId,
    pub grant: Grant,
    /// Nothing is refreshed from then on.
    pub expires_at: Timestamp,
    /// Until then it must be remembered: as long as a token of it may be shown to anybody.
    pub kept_until: Timestamp,
    /// One more with each rotation.
    pub sequence: u64,
    pub ended: Option<End>,
    key: Octets<32>,
    current: Octets<32>,
    preceding: Option<Preceding>,
    idle_until: Option<Timestamp>,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family")
            .field("id", &self.id)
            .field("sequence", &self.sequence)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What a token that is presented is to its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// The one that counts.
    Current,
    /// The one before, while there is grace, with the one that counts.
    Preceding(RefreshToken),
    /// One that counts no more.
    Spent,
    /// None that the family ever had.
    MadeUp,
}

impl Family {
    /// Begins a family. `outlived_by` is when the first access token expires.
    pub fn begin(
        grant: Grant,
        settings: &RefreshTokenSettings,
        outlived_by: Timestamp,
        entropy: &Entropy,
    ) -> (Self, RefreshToken) {
        let now = grant.granted_at;
        let token = RefreshToken::new(entropy.family, entropy.refresh_token, &entropy.family_key);
        let expires_at = now.plus(settings.lifetime);
        let family = Self {
            id: entropy.family,
            grant,
            expires_at,
            kept_until: expires_at.max(outlived_by),
            sequence: 0,
            ended: None,
            key: Octets(entropy.family_key),
            current: token.hash(),
            preceding: None,
            idle_until: settings.idle.map(|idle| now.plus(idle)),
        };
        (family, token)
    }

    /// Whether its time is over: the whole of it, or the time that a token may be left unused.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now || self.idle_until.is_some_and(|until| until <= now)
    }

    /// Tells what a token of this family is to it.
    pub fn recognise(&self, token: &RefreshToken, now: Timestamp) -> Presented {
        let expected = tag(&self.key.0, self.id, &token.secret);
        if token.family != self.id || !bool::from(expected.ct_eq(&token.tag)) {
            return Presented::MadeUp;
        }
        let hash = token.hash();
        let is = |other: &Octets<32>| bool::from(hash.0.ct_eq(&other.0));
        if is(&self.current) {
            return Presented::Current;
        }
        let preceding = self.preceding.as_ref();
        let preceding = preceding.filter(|preceding| is(&preceding.hash) && now <= preceding.until);
        preceding
            .and_then(|preceding| URL_SAFE_NO_PAD.decode(&preceding.sealed).ok())
            .and_then(|sealed| token.unseal(&sealed, &self.key.0))
            .map_or(Presented::Spent, Presented::Preceding)
    }

    /// The family with a successor in the place of the token that counts. `token` is that one.
    #[must_use]
    pub fn rotated(
        &self,
        token: &RefreshToken,
        settings: &RefreshTokenSettings,
        entropy: &Entropy,
        now: Timestamp,
    ) -> (Self, RefreshToken) {
        let successor = RefreshToken::new(self.id, entropy.refresh_token, &self.key.0);
        let has_grace = !settings.grace.is_zero();
        let preceding =
            has_grace.then(|| token.seal(&successor)).flatten().map(|sealed| Preceding {
                hash: token.hash(),
                sealed: URL_SAFE_NO_PAD.encode(sealed),
                until: now.plus(settings.grace),
            });
        let family = Self {
            sequence: self.sequence + 1,
            current: successor.hash(),
            preceding,
            idle_until: settings.idle.map(|idle| now.plus(idle)),
            ..self.clone()
        };
        (family, successor)
    }

    /// What is written down.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` where these octets are not what [`Family::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [3; 32];

    fn token(family: u8, secret: u8) -> RefreshToken {
        RefreshToken::new(FamilyId([family; 16]), [secret; SECRET], &KEY)
    }

    #[test]
    fn a_token_has_one_spelling() {
        let text = token(1, 2).to_text();
        assert!(RefreshToken::parse(&text) == Some(token(1, 2)));
        let (bare, cut) = (&text[PREFIX.len()..], &text[..text.len() - 1]);
        // The last letter has four bits that are no part of the octets.
        let (head, last) = text.split_at(text.len() - 1);
        assert!(matches!(last, "A" | "Q" | "g" | "w"), "{last}");
        let loose = format!("{head}{}", if last == "A" { "B" } else { "x" });
        for other in [bare, cut, &loose, &format!("{}=", &*text), &format!("{}A", &*text), PREFIX] {
            assert!(RefreshToken::parse(other).is_none(), "{other}");
        }
        assert!(RefreshToken::parse(&text.replace(PREFIX, "cambio_at_")).is_none());
    }

    #[test]
    fn a_tag_is_of_one_family_one_secret_and_one_key() {
        let tags = [
            token(1, 2).tag,
            token(9, 2).tag,
            token(1, 9).tag,
            RefreshToken::new(FamilyId([1; 16]), [2; SECRET], &[9; 32]).tag,
        ];
        for (at, one) in tags.iter().enumerate() {
            assert!(tags.iter().skip(at + 1).all(|other| other != one));
        }
    }

    #[test]
    fn what_is_sealed_opens_for_the_token_it_was_sealed_for_alone() {
        let (first, second) = (token(1, 2), token(1, 4));
        let sealed = first.seal(&second).unwrap();
        assert!(first.unseal(&sealed, &KEY) == Some(second.clone()));
        for other in [second.clone(), token(1, 5), token(9, 2)] {
            assert!(other.unseal(&sealed, &KEY).is_none());
        }
        // No nonce is used twice.
        assert_ne!(sealed, first.seal(&second).unwrap());
        assert!(sealed.windows(8).all(|window| window != [4; 8]));
    }
}
