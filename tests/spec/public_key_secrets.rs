//! HMAC with a public key as its secret (CVE-2015-9235 and what followed): refused whatever the key is
//! and however it is written down.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::exchange::error::Reason;
use cambio::jwt::algorithm::Algorithm;
use serde_json::json;

use crate::support::{Exchange, Forge, forge};

/// The key as certificates have it (RFC 5280 §4.1.2.7).
fn der(forge: &Forge) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = match forge.algorithm {
        Algorithm::ES256 | Algorithm::ES384 => {
            let curve = if forge.algorithm == Algorithm::ES256 {
                &ECDSA_P256_SHA256_FIXED_SIGNING
            } else {
                &ECDSA_P384_SHA384_FIXED_SIGNING
            };
            EcdsaKeyPair::from_pkcs8(curve, &forge.pkcs8).unwrap().public_key().as_der()
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&forge.pkcs8);
            pair.unwrap().public_key().as_der()
        }
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => RsaKeyPair::from_pkcs8(&forge.pkcs8).unwrap().public_key().as_der(),
    }
    .unwrap();
    der.as_ref().to_vec()
}

/// RFC 7468 §13: lines of 64 letters, each with this end.
fn pem(der: &[u8], end: &str) -> String {
    let body = STANDARD.encode(der);
    let lines = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    let lines: Vec<_> = ["-----BEGIN PUBLIC KEY-----"]
        .into_iter()
        .chain(lines)
        .chain(["-----END PUBLIC KEY-----", ""])
        .collect();
    lines.join(end)
}

/// As ssh has it (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4), and the word that it begins with.
fn ssh(forge: &Forge) -> (&'static str, Vec<u8>) {
    let octets = |name: &str| URL_SAFE_NO_PAD.decode(forge.jwk[name].as_str().unwrap()).unwrap();
    // A number whose first bit is set would be below zero.
    let number = |name: &str| {
        let octets = octets(name);
        if octets[0] < 0x80 { octets } else { [&[0], &octets[..]].concat() }
    };
    let point = || [&[4][..], &octets("x"), &octets("y")].concat();
    let (word, fields) = match forge.algorithm {
        Algorithm::ES256 => ("ecdsa-sha2-nistp256", vec![b"nistp256".to_vec(), point()]),
        Algorithm::ES384 => ("ecdsa-sha2-nistp384", vec![b"nistp384".to_vec(), point()]),
        Algorithm::EdDSA => ("ssh-ed25519", vec![octets("x")]),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => ("ssh-rsa", vec![number("e"), number("n")]),
    };
    let with_length =
        |field: &[u8]| [&u32::try_from(field.len()).unwrap().to_be_bytes()[..], field].concat();
    let mut wire = with_length(word.as_bytes());
    wire.extend(fields.iter().flat_map(|field| with_length(field)));
    (word, wire)
}

/// Every way in which somebody may have the key, or a library may hand it on.
fn spellings(forge: &Forge) -> Vec<(&'static str, Vec<u8>)> {
    let text = |name: &str| forge.jwk[name].as_str().unwrap_or_default().to_owned();
    let octets = |name: &str| URL_SAFE_NO_PAD.decode(text(name)).unwrap();
    let (der, jwk, (word, wire)) = (der(forge), forge.jwk.to_string(), ssh(forge));
    let unix = pem(&der, "\n");
    let of_rsa = forge.jwk["kty"] == "RSA";
    // The modulus, or the point: 0x04 before it says that it is whole (SEC 1 §2.3.3).
    let first = if of_rsa { "n" } else { "x" };
    let raw = [octets(first), octets("y")].concat();
    vec![
        ("PEM", unix.clone().into_bytes()),
        ("PEM without its last line end", unix.trim_end().as_bytes().to_vec()),
        ("PEM after a blank", format!(" {unix}").into_bytes()),
        ("PEM after a line end", format!("\n{unix}").into_bytes()),
        ("PEM of Windows", pem(&der, "\r\n").into_bytes()),
        ("PEM in one line", pem(&der, "").into_bytes()),
        ("DER in base64", STANDARD.encode(&der).into_bytes()),
        ("DER", der),
        ("JWK", jwk.clone().into_bytes()),
        ("JWK Set", format!(r#"{{"keys":[{jwk}]}}"#).into_bytes()),
        ("modulus or x as text", text(first).into_bytes()),
        ("modulus or x after a blank", format!(" {}", text(first)).into_bytes()),
        ("y or exponent as text", text(if of_rsa { "e" } else { "y" }).into_bytes()),
        ("modulus or point", raw.clone()),
        ("point that says it is whole", [&[4], &raw[..]].concat()),
        ("ssh", format!("{word} {}", STANDARD.encode(&wire)).into_bytes()),
        ("ssh on the wire", wire),
    ]
}

/// RFC 8725 §2.1, §3.1; CVE-2022-29217, CVE-2024-33663.
#[test]
fn hs256_over_the_public_key_is_refused_in_every_spelling() {
    let mut refused = 0;
    let of_each_kind = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    for algorithm in of_each_kind {
        let own = forge(algorithm);
        let good = Exchange::signed_by(algorithm);
        good.granted();
        for (name, secret) in spellings(own) {
            for (alg, hash) in [
                ("HS256", hmac::HMAC_SHA256),
                ("HS384", hmac::HMAC_SHA384),
                ("HS512", hmac::HMAC_SHA512),
            ] {
                eprintln!("{alg} with {algorithm}: {name}");
                let header = json!({"alg": alg, "typ": "JWT", "kid": own.kid()}).to_string();
                let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
                let input = format!("{}.{}", encode(header), encode(good.claims.to_string()));
                let tag = hmac::sign(&hmac::Key::new(hash, &secret), input.as_bytes());
                let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag));
                good.clone()
                    .with(|exchange| exchange.token = Some(token))
                    .refused(Reason::AlgorithmRefused);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, of_each_kind.len() * 17 * 3);
}

/// The spellings are what they are called: other people's readers take them for the key.
#[test]
fn the_spellings_of_a_public_key_are_its_own() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let own = forge(algorithm);
        let spelt = spellings(own);
        let of = |name: &str| &spelt.iter().find(|(own, _)| *own == name).unwrap().1[..];
        let (rest, info) = x509(of("DER"));
        assert_eq!((rest, &info), (0, &x509(&STANDARD.decode(of("DER in base64")).unwrap()).1));
        // The same octets stand in all that have them plainly.
        let first = if algorithm == Algorithm::RS256 { "n" } else { "x" };
        let key = URL_SAFE_NO_PAD.decode(own.jwk[first].as_str().unwrap()).unwrap();
        for name in ["DER", "modulus or point", "point that says it is whole", "ssh on the wire"] {
            let spelt = of(name);
            assert!(spelt.windows(key.len()).any(|one| one == key), "{algorithm}: {name}");
        }
        let different: std::collections::HashSet<_> = spelt.iter().map(|(_, one)| one).collect();
        // An Ed25519 key has no y.
        assert_eq!(different.len(), spelt.len(), "{algorithm}");
    }
}

/// What is left over, and the key in there.
fn x509(der: &[u8]) -> (usize, Vec<u8>) {
    use x509_parser::prelude::FromDer as _;
    let (rest, info) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der).unwrap();
    (rest.len(), info.subject_public_key.data.to_vec())
}
