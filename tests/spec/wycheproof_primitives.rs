//! Wycheproof's vectors of the signature schemes themselves, by the keys and the function that serve:
//! a signature holds under the one algorithm whose parameters it has, and under no other of ours.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::certificate::{Certificate, CertificateError};
use cambio::jwt::key_set::{KeyRefused, KeySet, SkippedKey, VerificationKey};
use serde_json::{Value, json};
use wycheproof::{EllipticCurve, HashFunction, TestResult, ecdsa, eddsa};
use wycheproof::{rsa_pkcs1_verify, rsa_pss_verify};

use crate::subject_token::certificate;
use crate::support::pkcs8;

/// What was met, by what it came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    accepted: usize,
    refused: usize,
    /// Whose key is passed over.
    without_key: usize,
    /// Refused, as they are of another of our algorithms than their file, and say so.
    misplaced: usize,
    /// Of curves that have no name in JOSE: what was signed with them can't even be asked.
    nameless: usize,
}

impl Count {
    /// Holds one signature to what is expected of it: `algorithm` is the only one under which it
    /// may hold, unless its vector says that it was made with another one on purpose.
    fn judge(
        &mut self,
        key: Option<&VerificationKey>,
        algorithm: Option<Algorithm>,
        (message, signature, result): (&[u8], &[u8], TestResult),
        is_misplaced: bool,
        name: &str,
    ) {
        let Some(key) = key else {
            self.without_key += 1;
            return;
        };
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let holds: Vec<_> = Algorithm::ALL
            .into_iter()
            .filter(|one| key.verifies(&signature, message, *one))
            .collect();
        // What may be accepted need not be: PKCS #1 padding without its NULL is refused.
        let expected = algorithm.filter(|_| result == TestResult::Valid);
        match (expected, &holds[..]) {
            (Some(expected), [one]) if expected == *one => self.accepted += 1,
            (None, []) => self.refused += 1,
            (None, [one]) if is_misplaced && Some(*one) != algorithm => self.misplaced += 1,
            _ => panic!("{name}: {result:?}, and holds under {holds:?}"),
        }
    }
}

/// The key of a set of one, or why it was passed over.
fn key(jwk: &Value) -> Result<VerificationKey, KeyRefused> {
    let document = json!({ "keys": [jwk] }).to_string();
    let alone = VerificationKey::from_jwk(jwk);
    // In a set it fares as it does alone, and beside a good one it does no harm.
    assert_eq!(KeySet::from_jwks(document.as_bytes()).is_ok(), alone.is_ok());
    let good = &crate::support::forge(Algorithm::ES256).jwk;
    let document = json!({ "keys": [jwk, good] }).to_string();
    let (_, skipped) = KeySet::from_jwks(document.as_bytes()).unwrap();
    let expected = alone.as_ref().err().map(|why| SkippedKey { index: 0, why: *why });
    assert_eq!(skipped, expected.into_iter().collect::<Vec<_>>());
    alone
}

fn rsa(n: &[u8], e: &[u8]) -> Result<VerificationKey, KeyRefused> {
    // ASN.1's sign octet, which a JWK does not have (RFC 7518 §6.3.1.1).
    let encode =
        |number: &[u8]| URL_SAFE_NO_PAD.encode(number.strip_prefix(&[0]).unwrap_or(number));
    key(&json!({"kty": "RSA", "n": encode(n), "e": encode(e)}))
}

/// RFC 7518 §3.3.
#[test]
fn rsa_pkcs1_signatures_hold_under_their_own_hash_alone() {
    let mut count = Count::default();
    for name in rsa_pkcs1_verify::TestName::all() {
        let set = rsa_pkcs1_verify::TestSet::load(name).unwrap();
        for group in set.test_groups {
            let algorithm = [
                (HashFunction::Sha2_256, Algorithm::RS256),
                (HashFunction::Sha2_384, Algorithm::RS384),
                (HashFunction::Sha2_512, Algorithm::RS512),
            ]
            .into_iter()
            .find_map(|(hash, algorithm)| (hash == group.hash).then_some(algorithm));
            let key = rsa(&group.key.n, &group.key.e).unwrap();
            for test in group.tests {
                use rsa_pkcs1_verify::TestFlag::{WrongHash, WrongPrimitive};
                let is_misplaced =
                    [WrongHash, WrongPrimitive].iter().any(|one| test.flags.contains(one));
                let vector = (&test.msg[..], &test.sig[..], test.result);
                count.judge(
                    Some(&key),
                    algorithm,
                    vector,
                    is_misplaced,
                    &format!("{name:?} {}", test.tc_id),
                );
            }
        }
    }
    crate::vectors::tell(&format!("RSA PKCS #1: {count:?}"));
    let expected =
        Count { accepted: 89, refused: 6041, without_key: 0, misplaced: 72, nameless: 0 };
    assert_eq!(count, expected);
}

/// RFC 7518 §3.5: MGF1 with the same hash, and a salt as long as its output.
#[test]
fn rsa_pss_signatures_hold_with_the_parameters_of_rfc_7518_alone() {
    let mut count = Count::default();
    for name in rsa_pss_verify::TestName::all() {
        let set = rsa_pss_verify::TestSet::load(name).unwrap();
        for group in set.test_groups {
            let algorithm = match (group.hash, group.salt_size) {
                (HashFunction::Sha2_256, 32) => Some(Algorithm::PS256),
                (HashFunction::Sha2_384, 48) => Some(Algorithm::PS384),
                (HashFunction::Sha2_512, 64) => Some(Algorithm::PS512),
                _ => None,
            };
            let algorithm = algorithm.filter(|_| group.mgf_hash == Some(group.hash));
            let key = rsa(&group.key.n, &group.key.e);
            if group.key_size < 2048 {
                assert_eq!(key.as_ref().err(), Some(&KeyRefused::WeakRsa), "{name:?}");
            }
            let key = key.ok();
            for test in group.tests {
                // In a file of another length of salts, one of our length is wrong.
                let is_misplaced = test.flags.contains(&rsa_pss_verify::TestFlag::WrongPrimitive)
                    || test.comment.starts_with("s_len changed to ");
                let vector = (&test.msg[..], &test.sig[..], test.result);
                count.judge(
                    key.as_ref(),
                    algorithm,
                    vector,
                    is_misplaced,
                    &format!("{name:?} {}", test.tc_id),
                );
            }
        }
    }
    crate::vectors::tell(&format!("RSA PSS: {count:?}"));
    let expected =
        Count { accepted: 775, refused: 2689, without_key: 0, misplaced: 33, nameless: 0 };
    assert_eq!(count, expected);
}

/// Those that have a name in JOSE, and the octets of a coordinate.
const CURVES: [(EllipticCurve, &str, usize); 4] = [
    (EllipticCurve::Secp256r1, "P-256", 32),
    (EllipticCurve::Secp384r1, "P-384", 48),
    (EllipticCurve::Secp521r1, "P-521", 66),
    (EllipticCurve::Secp256k1, "secp256k1", 32),
];

/// A certificate, of which another is made for each key: who signed one is not looked at.
struct Certificates(Vec<u8>);

impl Certificates {
    fn new() -> Self {
        let pem = certificate(Algorithm::ES256, |parameters| {
            // So long that its lengths have two octets each.
            let name = parameters.subject_alt_names[0].clone();
            parameters.subject_alt_names = vec![name; 20];
        });
        Self(pkcs8(&pem))
    }

    /// Reads the certificate that has this key (RFC 5280 §4.1.2.7).
    fn with(&self, key: &[u8]) -> Result<(), CertificateError> {
        // RFC 5480 §2: the beginning of a key of P-256, and how long that is.
        const OWN: &[u8] = &[0x30, 0x59, 0x30, 0x13, 6, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
        const LENGTH: usize = 0x59 + 2;
        let at = self.0.windows(OWN.len()).position(|window| window == OWN).unwrap();
        let mut der = [&self.0[..at], key, &self.0[at + LENGTH..]].concat();
        // The two sequences around it.
        for begin in [0, 4] {
            assert_eq!(der[begin..begin + 2], [0x30, 0x82]);
            let before = u16::from_be_bytes([der[begin + 2], der[begin + 3]]);
            let length = u16::try_from(usize::from(before) + key.len() - LENGTH).unwrap();
            der[begin + 2..begin + 4].copy_from_slice(&length.to_be_bytes());
        }
        let body = STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Certificate::parse_pem(pem.as_bytes()).map(|one| assert_eq!(one.len(), 1))
    }
}

/// A key of a curve without a name in JOSE is none, in every form in which we could be given it:
/// under the name that others have for its curve, under ours, as a point, in a certificate, bare.
fn is_no_key(group: &ecdsa::TestGroup, certificates: &Certificates) {
    let (curve, point) = (format!("{:?}", group.key.curve), &group.key.key[..]);
    // SEC 1 §2.3.3: after the octet that says so, x and y.
    let (x, y) = point[1..].split_at(point.len() / 2);
    let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    for (name, why) in [
        (curve.as_str(), KeyRefused::Unsupported),
        ("P-256", KeyRefused::NotOnCurve),
        ("P-384", KeyRefused::NotOnCurve),
    ] {
        let jwk = json!({"kty": "EC", "crv": name, "x": encode(x), "y": encode(y)});
        assert_eq!(key(&jwk).err(), Some(why), "{curve} as {name}");
    }
    assert_eq!(VerificationKey::ec(point).err(), Some(KeyRefused::NotOnCurve), "{curve}");
    let unsupported = Err(CertificateError::Key(KeyRefused::Unsupported));
    assert_eq!(certificates.with(&group.der), unsupported, "{curve}");
    let bare = Certificate::parse_pem(group.pem.as_bytes());
    assert_eq!(bare.err(), Some(CertificateError::OtherBlock), "{curve}");
}

/// RFC 7518 §3.4: r and s side by side, each as long as the order.
#[test]
fn ecdsa_signatures_hold_with_their_own_curve_hash_and_encoding_alone() {
    let mut count = Count::default();
    let certificates = Certificates::new();
    let (mut nameless, mut keys, mut jwks) = (HashSet::new(), 0, 0);
    for name in ecdsa::TestName::all() {
        let set = ecdsa::TestSet::load(name).unwrap();
        for group in set.test_groups {
            let known = CURVES.into_iter().find(|(curve, _, _)| *curve == group.key.curve);
            let Some((_, curve, size)) = known else {
                is_no_key(&group, &certificates);
                nameless.insert(format!("{:?}", group.key.curve));
                keys += 1;
                jwks += usize::from(group.jwk.is_some());
                count.nameless += group.tests.len();
                continue;
            };
            let is_jose = group.test_type == ecdsa::TestGroupTypeId::EcdsaP1363;
            let algorithm = match (curve, group.hash) {
                ("P-256", HashFunction::Sha2_256) => Some(Algorithm::ES256),
                ("P-384", HashFunction::Sha2_384) => Some(Algorithm::ES384),
                _ => None,
            };
            let algorithm = algorithm.filter(|_| is_jose);
            let (x, y) = group.key.key[1..].split_at(size);
            let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
            let jwk = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
            let key = key(&jwk);
            if ["P-521", "secp256k1"].contains(&curve) {
                assert_eq!(key.as_ref().err(), Some(&KeyRefused::Unsupported), "{name:?}");
                // And it is no point of the curve of its size.
                assert!(VerificationKey::ec(&group.key.key).is_err(), "{name:?}");
                let unsupported = Err(CertificateError::Key(KeyRefused::Unsupported));
                assert_eq!(certificates.with(&group.der), unsupported, "{name:?}");
            } else {
                assert!(key.is_ok(), "{name:?}");
                assert_eq!(certificates.with(&group.der), Ok(()), "{name:?}");
            }
            let key = key.ok();
            for test in group.tests {
                let is_misplaced = false;
                let vector = (&test.msg[..], &test.sig[..], test.result);
                count.judge(
                    key.as_ref(),
                    algorithm,
                    vector,
                    is_misplaced,
                    &format!("{name:?} {}", test.tc_id),
                );
            }
        }
    }
    crate::vectors::tell(&format!("ECDSA: {count:?}"));
    crate::vectors::tell(&format!(
        "ECDSA: {keys} keys of {} curves without a name in JOSE, each refused as JWK, point, \
         certificate and PEM; {jwks} of them come as a JWK, the others are made from their points",
        nameless.len()
    ));
    let expected =
        Count { accepted: 366, refused: 7042, without_key: 6897, misplaced: 0, nameless: 15_598 };
    assert_eq!(count, expected);
    assert_eq!((nameless.len(), jwks), (12, 0));
}

/// RFC 8037 §3.1.
#[test]
fn ed25519_signatures_hold_and_ed448_keys_are_none() {
    let mut count = Count::default();
    for name in eddsa::TestName::all() {
        let set = eddsa::TestSet::load(name).unwrap();
        for group in set.test_groups {
            let is_ed25519 = name == eddsa::TestName::Ed25519;
            let curve = if is_ed25519 { "Ed25519" } else { "Ed448" };
            let x = URL_SAFE_NO_PAD.encode(&*group.key.pk);
            let key = key(&json!({"kty": "OKP", "crv": curve, "x": x}));
            assert_eq!(key.is_ok(), is_ed25519, "{name:?}");
            let (key, algorithm) = (key.ok(), is_ed25519.then_some(Algorithm::EdDSA));
            for test in group.tests {
                let is_misplaced = false;
                let vector = (&test.msg[..], &test.sig[..], test.result);
                count.judge(
                    key.as_ref(),
                    algorithm,
                    vector,
                    is_misplaced,
                    &format!("{name:?} {}", test.tc_id),
                );
            }
        }
    }
    crate::vectors::tell(&format!("EdDSA: {count:?}"));
    let expected = Count { accepted: 88, refused: 63, without_key: 87, misplaced: 0, nameless: 0 };
    assert_eq!(count, expected);
}
