//! Our own keys: parsed once, held in memory, published as JWKs (RFC 7517) and signed with.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::key_set::{KeySet, KeySetError};
use crate::secret::sha256;
use crate::time::Timestamp;

/// Why a private key can't be used to sign.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SigningKeyError {
    #[error("is not a PKCS#8 private key in PEM (`-----BEGIN PRIVATE KEY-----`)")]
    NotPkcs8,
    #[error("is not a private key for the algorithm named beside it")]
    AlgorithmMismatch,
    #[error("is an RSA key of less than 2048 bits")]
    TooShort,
    #[error(
        "Cambio does not sign with this algorithm: ES256, ES384, RS256, RS384, RS512, PS256 and EdDSA are possible"
    )]
    Unsupported,
}

/// The signature could not be computed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the token could not be signed")]
pub struct SignError;

enum KeyPair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// The public half of a signing key as it is published. It can't hold a private member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    pub kty: &'static str,
    #[serde(rename = "use")]
    pub usage: &'static str,
    pub alg: &'static str,
    pub kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
}

impl PublicJwk {
    /// RFC 7638 §3: SHA-256 over the required members in lexicographic order.
    pub fn thumbprint(&self) -> String {
        let member = |value: &Option<String>| value.clone().unwrap_or_default();
        let (crv, kty) = (self.crv.unwrap_or_default(), self.kty);
        let canonical = match kty {
            "RSA" => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, member(&self.e), member(&self.n))
            }
            "EC" => format!(
                r#"{{"crv":"{crv}","kty":"EC","x":"{}","y":"{}"}}"#,
                member(&self.x),
                member(&self.y)
            ),
            _ => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{}"}}"#, member(&self.x)),
        };
        URL_SAFE_NO_PAD.encode(sha256(canonical.as_bytes()))
    }
}

/// One private key with its public half.
pub struct SigningKey {
    algorithm: Algorithm,
    key_pair: KeyPair,
    jwk: PublicJwk,
    not_before: Option<Timestamp>,
    /// Other secrets come from it, which say nothing of the key.
    root: Prk,
    /// Relying parties find another key under its `kid`.
    is_withheld: AtomicBool,
}

impl SigningKey {
    /// `kid` is the RFC 7638 thumbprint unless one is given.
    pub fn from_pkcs8_pem(
        pem: &[u8],
        algorithm: Algorithm,
        kid: Option<String>,
        not_before: Option<Timestamp>,
    ) -> Result<Self, SigningKeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| SigningKeyError::NotPkcs8)?;
        let key_pair = key_pair(der.secret_pkcs8_der(), algorithm)?;
        let mut jwk = public_jwk(&key_pair, algorithm);
        jwk.kid = kid.unwrap_or_else(|| jwk.thumbprint());
        let root = Salt::new(HKDF_SHA256, b"cambio").extract(der.secret_pkcs8_der());
        let is_withheld = AtomicBool::new(false);
        Ok(Self { algorithm, key_pair, jwk, not_before, root, is_withheld })
    }

    /// A secret for a purpose that is no signature: who has the key has the secret, and not the
    /// other way round (RFC 5869 §3.2).
    pub fn derive(&self, purpose: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let mut secret = Zeroizing::new([0; 32]);
        self.root.expand(&[purpose], HKDF_SHA256).ok()?.fill(&mut *secret).ok()?;
        Some(secret)
    }

    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    pub const fn jwk(&self) -> &PublicJwk {
        &self.jwk
    }

    pub const fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// A compact JWS over `claims` whose header has `typ`, `alg` and `kid`.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignError> {
        #[derive(Serialize)]
        struct Header<'a> {
            alg: &'static str,
            typ: &'a str,
            kid: &'a str,
        }
        let header = Header { alg: self.algorithm.as_str(), typ, kid: self.kid() };
        let header = serde_json::to_vec(&header).map_err(|_| SignError)?;
        let claims = serde_json::to_vec(claims).map_err(|_| SignError)?;
        let mut token = String::with_capacity((header.len() + claims.len()) * 4 / 3 + 700);
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn signature(&self, input: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        match &self.key_pair {
            KeyPair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, input, &mut signature).map_err(|_| SignError)?;
                Ok(signature)
            }
            KeyPair::Ec(pair) => {
                Ok(pair.sign(&random, input).map_err(|_| SignError)?.as_ref().to_vec())
            }
            KeyPair::Ed(pair) => Ok(pair.sign(input).as_ref().to_vec()),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("jwk", &self.jwk).finish_non_exhaustive()
    }
}

fn key_pair(pkcs8: &[u8], algorithm: Algorithm) -> Result<KeyPair, SigningKeyError> {
    let mismatch = |_| SigningKeyError::AlgorithmMismatch;
    let rsa = |encoding: &'static dyn RsaEncoding| {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|rejected| {
            if rejected.to_string() == "TooSmall" {
                SigningKeyError::TooShort
            } else {
                SigningKeyError::AlgorithmMismatch
            }
        })?;
        if pair.public_modulus_len() < 256 {
            return Err(SigningKeyError::TooShort);
        }
        Ok(KeyPair::Rsa(pair, encoding))
    };
    match algorithm {
        Algorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
        Algorithm::RS384 => rsa(&RSA_PKCS1_SHA384),
        Algorithm::RS512 => rsa(&RSA_PKCS1_SHA512),
        Algorithm::PS256 => rsa(&RSA_PSS_SHA256),
        Algorithm::ES256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map(KeyPair::Ec)
            .map_err(mismatch),
        Algorithm::ES384 => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8)
            .map(KeyPair::Ec)
            .map_err(mismatch),
        // OpenSSL writes version 1 of PKCS#8, which has no public half to be checked against.
        Algorithm::EdDSA => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(KeyPair::Ed).map_err(mismatch)
        }
        Algorithm::PS384 | Algorithm::PS512 => Err(SigningKeyError::Unsupported),
    }
}

fn public_jwk(key_pair: &KeyPair, algorithm: Algorithm) -> PublicJwk {
    let encode = |octets: &[u8]| Some(URL_SAFE_NO_PAD.encode(octets));
    let mut jwk = PublicJwk {
        kty: "",
        usage: "sig",
        alg: algorithm.as_str(),
        kid: String::new(),
        crv: None,
        n: None,
        e: None,
        x: None,
        y: None,
    };
    match key_pair {
        KeyPair::Rsa(pair, _) => {
            jwk.kty = "RSA";
            jwk.n = encode(pair.public_key().modulus().big_endian_without_leading_zero());
            jwk.e = encode(pair.public_key().exponent().big_endian_without_leading_zero());
        }
        KeyPair::Ec(pair) => {
            // SEC 1 §2.3.3: 0x04, then x and y of equal length.
            let coordinates = pair.public_key().as_ref().get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            jwk.kty = "EC";
            jwk.crv = Some(if x.len() == 32 { "P-256" } else { "P-384" });
            (jwk.x, jwk.y) = (encode(x), encode(y));
        }
        KeyPair::Ed(pair) => {
            jwk.kty = "OKP";
            jwk.crv = Some("Ed25519");
            jwk.x = encode(pair.public_key().as_ref());
        }
    }
    jwk
}

/// All signing keys in the order of the configuration. All are published.
#[derive(Debug)]
pub struct SigningKeys(Vec<SigningKey>);

impl SigningKeys {
    pub const fn new(keys: Vec<SigningKey>) -> Self {
        Self(keys)
    }

    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        self.0.iter()
    }

    /// The first key whose time has come and that is not withheld.
    pub fn active(&self, now: Timestamp) -> Option<&SigningKey> {
        self.0.iter().find(|key| {
            key.not_before.is_none_or(|not_before| not_before <= now)
                && !key.is_withheld.load(Ordering::Relaxed)
        })
    }

    /// The public halves, to verify with what was signed here.
    pub fn verification_keys(&self) -> Result<KeySet, KeySetError> {
        let keys: Vec<&PublicJwk> = self.iter().map(SigningKey::jwk).collect();
        let document = serde_json::json!({ "keys": keys }).to_string();
        KeySet::from_jwks(document.as_bytes()).map(|(keys, _)| keys)
    }

    /// Keeps those keys from signing whose `kid` is one of these, and lets all others sign.
    pub fn withhold(&self, is_one: impl Fn(&str) -> bool) {
        for key in &self.0 {
            key.is_withheld.store(is_one(key.kid()), Ordering::Relaxed);
        }
    }

    /// The `kid`s of the keys that are kept from signing.
    pub fn withheld(&self) -> impl Iterator<Item = &str> {
        let withheld = self.0.iter().filter(|key| key.is_withheld.load(Ordering::Relaxed));
        withheld.map(SigningKey::kid)
    }
}

/// A new private key for `algorithm`, as PKCS#8 PEM.
pub fn generate_pem(algorithm: Algorithm) -> Result<Zeroizing<String>, SigningKeyError> {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    let failed = |_| SigningKeyError::Unsupported;
    let ec = |curve| {
        let document = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).map_err(failed)?;
        Ok(document.as_ref().to_vec())
    };
    let der = match algorithm {
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
            der.as_ref().to_vec()
        }
        Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
        Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING)?,
        Algorithm::EdDSA => {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
            document.as_ref().to_vec()
        }
        Algorithm::PS384 | Algorithm::PS512 => return Err(SigningKeyError::Unsupported),
    };
    let der = Zeroizing::new(der);
    let body = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(&*der));
    let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_back_and_its_kid_is_the_thumbprint() {
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::PS256] {
            let pem = generate_pem(algorithm).unwrap();
            let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None).unwrap();
            assert_eq!(key.kid(), key.jwk().thumbprint());
            assert_eq!(key.kid().len(), 43);
        }
    }

    #[test]
    fn a_key_is_held_to_its_algorithm() {
        let pem = generate_pem(Algorithm::ES256).unwrap();
        let load = |algorithm| {
            SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None).map(|_| ())
        };
        assert_eq!(load(Algorithm::ES256), Ok(()));
        for other in [Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA] {
            assert_eq!(load(other), Err(SigningKeyError::AlgorithmMismatch), "{other}");
        }
        assert_eq!(load(Algorithm::PS512), Err(SigningKeyError::Unsupported));
        let not_pem = SigningKey::from_pkcs8_pem(b"secret", Algorithm::ES256, None, None);
        assert_eq!(not_pem.map(|_| ()), Err(SigningKeyError::NotPkcs8));
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_section_3_1() {
        let jwk = PublicJwk {
            kty: "RSA",
            usage: "sig",
            alg: "RS256",
            kid: String::new(),
            crv: None,
            n: Some("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw".into()),
            e: Some("AQAB".into()),
            x: None,
            y: None,
        };
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn the_thumbprint_of_a_point_is_that_of_rfc_9449_section_6_1() {
        let jwk = PublicJwk {
            kty: "EC",
            usage: "sig",
            alg: "ES256",
            kid: String::new(),
            crv: Some("P-256"),
            n: None,
            e: None,
            x: Some("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs".into()),
            y: Some("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA".into()),
        };
        assert_eq!(jwk.thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn what_is_derived_is_of_its_key_and_its_purpose() {
        let pem = || generate_pem(Algorithm::ES256).unwrap();
        let (one, other) = (pem(), pem());
        let derive = |pem: &str, purpose: &[u8]| {
            let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None);
            *key.unwrap().derive(purpose).unwrap()
        };
        let secret = derive(&one, b"a");
        assert_eq!(derive(&one, b"a"), secret);
        assert_ne!(derive(&one, b"b"), secret);
        assert_ne!(derive(&other, b"a"), secret);
    }

    #[test]
    fn rsa_keys_of_2048_bits_and_more_are_taken() {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use aws_lc_rs::rsa::KeySize;

        for (size, bits) in [(KeySize::Rsa2048, 2048), (KeySize::Rsa3072, 3072)] {
            let pair = RsaKeyPair::generate(size).unwrap();
            let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            let pair = key_pair(der.as_ref(), Algorithm::RS256).unwrap();
            let jwk = public_jwk(&pair, Algorithm::RS256);
            assert_eq!(URL_SAFE_NO_PAD.decode(jwk.n.unwrap()).unwrap().len() * 8, bits);
        }
    }

    /// RFC 7518 §3.3.
    #[test]
    fn an_rsa_key_of_less_than_2048_bits_is_too_short() {
        let short = include_str!("../../tests/spec/rsa_1024.pem");
        let long = generate_pem(Algorithm::RS256).unwrap();
        let load = |pem: &str, algorithm| {
            SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None).map(|_| ())
        };
        for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
            assert_eq!(load(short, algorithm), Err(SigningKeyError::TooShort), "{algorithm}");
            assert_eq!(load(&long, algorithm), Ok(()), "{algorithm}");
        }
        // It is the length that is wrong with it: for other algorithms it is of another kind.
        for other in [Algorithm::ES256, Algorithm::EdDSA] {
            assert_eq!(load(short, other), Err(SigningKeyError::AlgorithmMismatch), "{other}");
        }
    }

    #[test]
    fn the_first_key_whose_time_has_come_signs() {
        let key = |not_before| {
            let pem = generate_pem(Algorithm::ES256).unwrap();
            let not_before = Some(Timestamp::from_secs(not_before));
            SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, not_before).unwrap()
        };
        let keys = SigningKeys::new(vec![key(200), key(100)]);
        let active = |at| keys.active(Timestamp::from_secs(at)).map(SigningKey::not_before);
        assert_eq!(active(99), None);
        assert_eq!(active(100), Some(Some(Timestamp::from_secs(100))));
        assert_eq!(active(200), Some(Some(Timestamp::from_secs(200))));
        let first = keys.active(Timestamp::from_secs(200)).unwrap().kid().to_owned();
        keys.withhold(|kid| kid == first);
        assert_eq!(keys.withheld().collect::<Vec<_>>(), [first]);
        assert_eq!(active(200), Some(Some(Timestamp::from_secs(100))));
        keys.withhold(|_| true);
        assert_eq!(active(200), None);
        keys.withhold(|_| false);
        assert_eq!(active(200), Some(Some(Timestamp::from_secs(200))));
    }
}
