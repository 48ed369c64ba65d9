//! A JWK is taken for a key to verify with only where it is public, strong and for that; and no key
//! takes a signature that nobody made.
//!
//! An input is a JWK, or else octets of which one is made: its kind, then what it consists of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::{KeyRefused, VerificationKey};
use serde_json::{Value, json};

use super::forgery;

pub fn check(data: &[u8]) -> bool {
    let jwk = match data {
        [b'{', ..] => match serde_json::from_slice(data) {
            Ok(jwk) => jwk,
            Err(_) => return false,
        },
        [kind, material @ ..] => made(*kind, material),
        [] => return false,
    };
    let result = VerificationKey::from_jwk(&jwk);
    match &result {
        Ok(key) => {
            is_sound(&jwk, key);
            forgery::refused_by(key);
        }
        Err(why) => is_right(&jwk, *why),
    }
    assert_eq!(format!("{:?}", VerificationKey::from_jwk(&jwk)), format!("{result:?}"));
    result.is_ok()
}

/// A JWK of this material, which the encoding of JSON and base64 would hide from a fuzzer.
fn made(kind: u8, material: &[u8]) -> Value {
    let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    let half = material.split_at(material.len() / 2);
    let ec = |curve| json!({"kty": "EC", "crv": curve, "x": encode(half.0), "y": encode(half.1)});
    match kind {
        b'R' => json!({"kty": "RSA", "n": encode(material), "e": "AQAB"}),
        b'r' => {
            let (e, n) = material.split_at(material.len().min(3));
            json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
        }
        b'2' => ec("P-256"),
        b'3' => ec("P-384"),
        _ => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(material)}),
    }
}

/// What must hold of a JWK that was taken.
pub fn is_sound(jwk: &Value, key: &VerificationKey) {
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert!(jwk.get(private).is_none(), "taken with `{private}`");
    }
    assert!(jwk.get("use").is_none_or(|purpose| purpose == "sig"));
    let is_verify = |ops: &Value| ops.as_array().is_some_and(|ops| ops.contains(&json!("verify")));
    assert!(jwk.get("key_ops").is_none_or(is_verify));
    assert_eq!(key.kid(), jwk.get("kid").map(|kid| kid.as_str().expect("a string")));
    assert!(key.kid().is_none_or(|kid| kid.len() <= 256));
    let octets = |name: &str| {
        let text = jwk[name].as_str().expect("a string");
        let octets = URL_SAFE_NO_PAD.decode(text).expect("base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(&octets), text, "a second spelling");
        octets
    };
    let fits: &[Algorithm] = match jwk["kty"].as_str() {
        Some("RSA") => {
            let (n, e) = (octets("n"), octets("e"));
            assert!(
                (2048..=8192).contains(&bits(&n)) && n.last().is_some_and(|last| last % 2 == 1)
            );
            assert!((2..=33).contains(&bits(&e)) && e.last().is_some_and(|last| last % 2 == 1));
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            &[RS256, RS384, RS512, PS256, PS384, PS512]
        }
        Some("EC") => {
            let size = if jwk["crv"] == "P-256" { 32 } else { 48 };
            assert_eq!((octets("x").len(), octets("y").len()), (size, size));
            if size == 32 { &[Algorithm::ES256] } else { &[Algorithm::ES384] }
        }
        Some("OKP") => {
            assert!(jwk["crv"] == "Ed25519" && octets("x").len() == 32);
            &[Algorithm::EdDSA]
        }
        other => panic!("taken with the type {other:?}"),
    };
    // RFC 7517 §4.4: `alg` narrows, and never widens.
    for algorithm in Algorithm::ALL {
        let is_named = match jwk.get("alg") {
            None => true,
            Some(name) => {
                let name = name.as_str().expect("a string");
                name == algorithm.as_str() || (name == "Ed25519" && algorithm == Algorithm::EdDSA)
            }
        };
        let expected = fits.contains(&algorithm) && is_named;
        assert_eq!(key.algorithms().contains(algorithm), expected, "{algorithm}");
    }
    assert!(!key.algorithms().is_empty());
}

/// What must hold of a JWK that was refused, as far as the reason says.
fn is_right(jwk: &Value, why: KeyRefused) {
    match why {
        KeyRefused::NotAKey => assert!(
            ["kty", "n", "e", "x", "y"].iter().any(|name| jwk.get(name).is_none()),
            "it has all that a key needs"
        ),
        KeyRefused::PrivateMaterial => assert!(
            ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
                .iter()
                .any(|name| jwk.get(name).is_some())
        ),
        KeyRefused::OtherUse => assert!(
            ["use", "key_ops", "alg"].iter().any(|name| jwk.get(name).is_some()),
            "it does not say what it is for"
        ),
        KeyRefused::AlgorithmMismatch => assert!(jwk["alg"].is_string()),
        KeyRefused::KidTooLong => {
            assert!(jwk["kid"].as_str().is_some_and(|kid| kid.len() > 256));
        }
        KeyRefused::WeakRsa | KeyRefused::Roca => assert_eq!(jwk["kty"], "RSA"),
        KeyRefused::NotOnCurve => assert!(jwk["kty"] == "EC" || jwk["kty"] == "OKP"),
        KeyRefused::SmallOrder => assert_eq!(jwk["kty"], "OKP"),
        KeyRefused::WrongType | KeyRefused::Unsupported => {}
    }
}

/// How long a number is, leading zeros refused.
fn bits(number: &[u8]) -> usize {
    let first = number.first().copied().filter(|first| *first != 0).expect("no leading zero");
    (number.len() - 1) * 8 + format!("{first:b}").len()
}
