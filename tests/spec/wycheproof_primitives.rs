//! Wycheproof's vectors of the signature schemes themselves, by the keys and the function that serve:
//! a signature holds under the one algorithm whose parameters it has, and under no other of ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::{KeyRefused, KeySet, SkippedKey, VerificationKey};
use serde_json::{Value, json};
use wycheproof::{EllipticCurve, HashFunction, TestResult, ecdsa, eddsa};
use wycheproof::{rsa_pkcs1_verify, rsa_pss_verify};

/// What was met, by what it came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    accepted: usize,
    refused: usize,
    /// Whose key is passed over.
    without_key: usize,
    /// Refused, as they are of another of our algorithms than their file, and say so.
    misplaced: usize,
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
    assert_eq!(count, Count { accepted: 89, refused: 6041, without_key: 0, misplaced: 72 });
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
    assert_eq!(count, Count { accepted: 775, refused: 2689, without_key: 0, misplaced: 33 });
}

/// Those that have a name in JOSE, and the octets of a coordinate.
const CURVES: [(EllipticCurve, &str, usize); 4] = [
    (EllipticCurve::Secp256r1, "P-256", 32),
    (EllipticCurve::Secp384r1, "P-384", 48),
    (EllipticCurve::Secp521r1, "P-521", 66),
    (EllipticCurve::Secp256k1, "secp256k1", 32),
];

/// RFC 7518 §3.4: r and s side by side, each as long as the order.
#[test]
fn ecdsa_signatures_hold_with_their_own_curve_hash_and_encoding_alone() {
    let mut count = Count::default();
    for name in ecdsa::TestName::all() {
        let set = ecdsa::TestSet::load(name).unwrap();
        for group in set.test_groups {
            let known = CURVES.into_iter().find(|(curve, _, _)| *curve == group.key.curve);
            let Some((_, curve, size)) = known else { continue };
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
            } else {
                assert!(key.is_ok(), "{name:?}");
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
    assert_eq!(count, Count { accepted: 366, refused: 7042, without_key: 6897, misplaced: 0 });
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
    assert_eq!(count, Count { accepted: 88, refused: 63, without_key: 87, misplaced: 0 });
}
