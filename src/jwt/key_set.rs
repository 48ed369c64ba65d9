//! Public keys to verify with: a JWK Set (RFC 7517 §5) read key by key, or keys of certificates.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};
use thiserror::Error;

use super::algorithm::{Algorithm, AlgorithmSet};
use super::json;
use super::unverified::MAX_KID;

/// The largest JWK Set document, in bytes.
pub const MAX_DOCUMENT: usize = 512 * 1024;
/// The most keys in a set.
pub const MAX_KEYS: usize = 100;
/// How many keys that can't be told apart are tried on one token.
pub const MAX_TRIED: usize = 8;
/// RSA modulus sizes that are accepted, in bits (RFC 7518 §3.3 for the lower one).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a document is no usable key set.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeySetError {
    #[error("the document is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    #[error("the document is not a JWK Set: a JSON object with an array `keys`")]
    Malformed,
    #[error("the set has more than {MAX_KEYS} keys")]
    TooManyKeys,
    #[error("more than {MAX_TRIED} keys of one kind have no name to choose them by")]
    TooManyAlike,
    #[error("the set has no key that could verify a token")]
    NoUsableKey,
}

/// Why one key is passed over.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyRefused {
    #[error("it is not a JSON object with a `kty`")]
    NotAKey,
    #[error("a member has the wrong type")]
    WrongType,
    #[error("it has private or symmetric key material")]
    PrivateMaterial,
    #[error("its `kty` or `crv` is not supported")]
    Unsupported,
    #[error("`use`, `key_ops` or `alg` say that it is not for verifying signatures")]
    OtherUse,
    #[error("`alg` does not fit the key")]
    AlgorithmMismatch,
    #[error("its `kid` is longer than {MAX_KID} bytes")]
    KidTooLong,
    #[error(
        "the RSA modulus is not of 2048 to 8192 bits, or not canonical, or the exponent is weak"
    )]
    WeakRsa,
    #[error("the RSA modulus has the mark of a generator that makes weak keys (CVE-2017-15361)")]
    Roca,
    #[error("it is not a point of its curve")]
    NotOnCurve,
    #[error("it is a point of small order, under which anybody can sign")]
    SmallOrder,
}

/// A key of a set that was passed over; the others stand (RFC 7517 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in `keys`, from 0.
    pub index: usize,
    pub why: KeyRefused,
}

/// One public key, and what it may be used for.
#[derive(Clone)]
pub struct VerificationKey {
    kid: Option<String>,
    algorithms: AlgorithmSet,
    key: DecodingKey,
}

impl VerificationKey {
    /// From big-endian modulus and exponent without leading zeros.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyRefused> {
        let (Some(first), Some(last)) = (n.first(), n.last()) else {
            return Err(KeyRefused::WeakRsa);
        };
        let bits = n.len() * 8 - first.leading_zeros() as usize;
        // Odd and at least 3, in at most 32 bits.
        let sound_exponent = match e {
            [] | [0, ..] => false,
            [only] => *only >= 3 && only & 1 == 1,
            [.., last] => e.len() <= 4 && last & 1 == 1,
        };
        let canonical = *first != 0 && last & 1 == 1;
        if !canonical || !RSA_BITS.contains(&bits) || !sound_exponent {
            return Err(KeyRefused::WeakRsa);
        }
        if is_roca(n) {
            return Err(KeyRefused::Roca);
        }
        let key = DecodingKey::from_rsa_raw_components(n, e);
        Ok(Self { kid: None, algorithms: AlgorithmSet::RSA, key })
    }

    /// From an uncompressed P-256 or P-384 point (SEC 1 §2.3.3).
    pub fn ec(point: &[u8]) -> Result<Self, KeyRefused> {
        let (primitive, algorithm): (&'static dyn VerificationAlgorithm, _) = match point.len() {
            65 => (&ECDSA_P256_SHA256_FIXED, Algorithm::ES256),
            97 => (&ECDSA_P384_SHA384_FIXED, Algorithm::ES384),
            _ => return Err(KeyRefused::NotOnCurve),
        };
        if point.first() != Some(&4) || ParsedPublicKey::new(primitive, point).is_err() {
            return Err(KeyRefused::NotOnCurve);
        }
        let key = DecodingKey::from_ec_der(point);
        Ok(Self { kid: None, algorithms: AlgorithmSet::of(&[algorithm]), key })
    }

    /// From the 32 octets of an Ed25519 key (RFC 8032 §5.1.5).
    pub fn ed25519(x: &[u8]) -> Result<Self, KeyRefused> {
        if x.len() != 32 || ParsedPublicKey::new(&ED25519, x).is_err() {
            return Err(KeyRefused::NotOnCurve);
        }
        if is_of_small_order(x) {
            return Err(KeyRefused::SmallOrder);
        }
        let key = DecodingKey::from_ed_der(x);
        Ok(Self { kid: None, algorithms: AlgorithmSet::of(&[Algorithm::EdDSA]), key })
    }

    /// From one member of `keys` (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyRefused> {
        let Value::Object(jwk) = jwk else { return Err(KeyRefused::NotAKey) };
        let kty = text(jwk, "kty")?.ok_or(KeyRefused::NotAKey)?;
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.contains_key(*name))
        {
            return Err(KeyRefused::PrivateMaterial);
        }
        if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
            return Err(KeyRefused::OtherUse);
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => {}
            Some(Value::Array(_)) => return Err(KeyRefused::OtherUse),
            Some(_) => return Err(KeyRefused::WrongType),
        }
        let octets = |name: &str| {
            let encoded = text(jwk, name)?.ok_or(KeyRefused::NotAKey)?;
            URL_SAFE_NO_PAD.decode(encoded).map_err(|_| KeyRefused::WrongType)
        };
        let mut key = match (kty, text(jwk, "crv")?) {
            ("RSA", _) => Self::rsa(&octets("n")?, &octets("e")?)?,
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let (x, y) = (octets("x")?, octets("y")?);
                let size = if curve == "P-256" { 32 } else { 48 };
                if x.len() != size || y.len() != size {
                    return Err(KeyRefused::NotOnCurve);
                }
                Self::ec(&[&[4][..], &x, &y].concat())?
            }
            ("OKP", Some("Ed25519")) => Self::ed25519(&octets("x")?)?,
            _ => return Err(KeyRefused::Unsupported),
        };
        if let Some(name) = text(jwk, "alg")? {
            let only = Algorithm::parse(name).ok_or(KeyRefused::OtherUse)?;
            key.algorithms = key.algorithms.and(AlgorithmSet::of(&[only]));
            if key.algorithms.is_empty() {
                return Err(KeyRefused::AlgorithmMismatch);
            }
        }
        key.kid = text(jwk, "kid")?.map(str::to_owned);
        if key.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(KeyRefused::KidTooLong);
        }
        Ok(key)
    }

    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What the key may verify.
    pub const fn algorithms(&self) -> AlgorithmSet {
        self.algorithms
    }

    /// Whether `signature`, in base64url, is this key's over `input`. It says nothing of what was
    /// signed.
    pub fn verifies(&self, signature: &str, input: &[u8], algorithm: Algorithm) -> bool {
        self.algorithms.contains(algorithm)
            && jsonwebtoken::crypto::verify(signature, input, &self.key, algorithm.primitive())
                .unwrap_or(false)
    }
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kid, algorithms, key: _ } = self;
        f.debug_struct("VerificationKey").field("kid", kid).field("algorithms", algorithms).finish()
    }
}

/// Whether a modulus is of the generator of CVE-2017-15361: its primes, and so their product, are
/// powers of 65537 modulo every small prime. Of other moduli one in 2^27 is.
fn is_roca(n: &[u8]) -> bool {
    const PRIMES: [u32; 17] =
        [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.into_iter().all(|prime| {
        let remainder = n.iter().fold(0, |sum, byte| (sum << 8 | u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65_537 % prime));
        powers.take(prime as usize).any(|power| power == remainder)
    })
}

/// Whether an Ed25519 key is one of the eight points whose order divides the cofactor, in whatever
/// encoding. Verification by RFC 8032 §5.1.7 takes them, and signatures that nobody had to sign.
fn is_of_small_order(x: &[u8]) -> bool {
    const fn y(low: u8, middle: u8, high: u8) -> [u8; 32] {
        let mut y = [middle; 32];
        (y[0], y[31]) = (low, high);
        y
    }
    // 0, 1, -1, 0 and 1 with the prime added, and the two of order eight.
    const SMALL: [[u8; 32]; 7] = [
        y(0, 0, 0),
        y(1, 0, 0),
        y(0xEC, 0xFF, 0x7F),
        y(0xED, 0xFF, 0x7F),
        y(0xEE, 0xFF, 0x7F),
        [
            0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF,
            0x98, 0xF0, 0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88,
            0x6D, 0x53, 0xFC, 0x05,
        ],
        [
            0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10,
            0x67, 0x0F, 0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77,
            0x92, 0xAC, 0x03, 0x7A,
        ],
    ];
    let Ok(mut y) = <[u8; 32]>::try_from(x) else { return false };
    // The last bit is the sign of x.
    y[31] &= 0x7F;
    SMALL.contains(&y)
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, KeyRefused> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => Err(KeyRefused::WrongType),
    }
}

/// The keys of one trusted token issuer.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<VerificationKey>);

impl KeySet {
    /// Reads a JWK Set document. Keys that can't be used are passed over and named.
    pub fn from_jwks(document: &[u8]) -> Result<(Self, Vec<SkippedKey>), KeySetError> {
        if document.len() > MAX_DOCUMENT {
            return Err(KeySetError::TooLarge);
        }
        let object = json::parse_object(document).map_err(|_| KeySetError::Malformed)?;
        let Some(Value::Array(members)) = object.get("keys") else {
            return Err(KeySetError::Malformed);
        };
        if members.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            match VerificationKey::from_jwk(member) {
                Ok(key) => keys.push(key),
                Err(why) => skipped.push(SkippedKey { index, why }),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok((Self(keys), skipped))
    }

    /// Keys that have no `kid`, such as those of certificates: never more than are tried.
    pub fn from_keys(keys: Vec<VerificationKey>) -> Result<Self, KeySetError> {
        let fitting = |algorithm| {
            let fits = |key: &&VerificationKey| key.algorithms.contains(algorithm);
            keys.iter().filter(fits).count()
        };
        if Algorithm::ALL.into_iter().any(|algorithm| fitting(algorithm) > MAX_TRIED) {
            return Err(KeySetError::TooManyAlike);
        }
        match keys.len() {
            0 => Err(KeySetError::NoUsableKey),
            1..=MAX_KEYS => Ok(Self(keys)),
            _ => Err(KeySetError::TooManyKeys),
        }
    }

    #[expect(clippy::len_without_is_empty, reason = "there is no empty one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key has this name.
    pub fn has_kid(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid() == Some(kid))
    }

    /// The keys to try on a token of `algorithm` that names `kid`.
    ///
    /// A named key is chosen by its name; where no key has that name, or none is named, the keys
    /// without a name are what is left, as those of certificates. A token that names no key can be
    /// meant for a named one only where a single key fits.
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<&VerificationKey> {
        let fitting = || self.0.iter().filter(move |key| key.algorithms.contains(algorithm));
        let named: Vec<_> = match kid {
            Some(kid) => fitting().filter(|key| key.kid() == Some(kid)).take(MAX_TRIED).collect(),
            None if fitting().count() == 1 => fitting().collect(),
            None => Vec::new(),
        };
        if named.is_empty() {
            fitting().filter(|key| key.kid.is_none()).take(MAX_TRIED).collect()
        } else {
            named
        }
    }
}
