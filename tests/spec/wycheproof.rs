//! Wycheproof's vectors of signatures, keys and their confusions, by the code that serves, up to the
//! claims: what they sign is mostly no JSON.

use std::collections::BTreeMap;

use cambio::exchange::error::Reason;
use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::key_set::{KeySet, KeySetError};
use cambio::jwt::unverified::{UnverifiedError, UnverifiedJws, UnverifiedToken};
use serde_json::{Value, json};

use crate::support::{self, Exchange};
use crate::vectors;

/// The folder that holds the vectors (`testvectors_v1` of C2SP/wycheproof).
const FOLDER: &str = "CAMBIO_JOSE_VECTORS";
const FILES: [&str; 3] =
    ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"];

/// Asymmetric signatures that are valid there and refused here, each with its reason.
const STRICTER: [(u64, &str); 4] = [
    (346, "the key names PS256 and the signature is PS384's: one algorithm a key (RFC 8725 §3.1)"),
    (347, "ES512 is not supported, and the key names an ES521 that nobody registered"),
    (350, "as 346"),
    (351, "as 347"),
];

/// Cases whose verdict there is of another text than the one that they have.
const QUIRKS: [(u64, &str); 4] = [
    (367, "invalid for its padding, which is not in the vector: the text is that of 357, valid"),
    (370, "as 367"),
    (372, "valid, with a `?` in its header, which is no letter of base64url (RFC 7515 §2)"),
    (373, "valid, with a `?` in its payload"),
];

/// Whether a key of the set made the signature, if the header may be looked at.
fn accepts(text: &str, keys: &KeySet) -> bool {
    let verified = |jws: UnverifiedJws| {
        let algorithm = jws.algorithm(AlgorithmSet::ALL).ok()?;
        jws.verify(algorithm, keys).ok()
    };
    UnverifiedJws::parse(text).ok().and_then(verified).is_some()
}

/// One case: its text, and the keys that its group has.
struct Case {
    id: u64,
    is_valid: bool,
    /// Whether there is a public half, as there is none of a symmetric key.
    is_asymmetric: bool,
    is_jws: bool,
    text: String,
    jwks: String,
}

fn cases(file: &Value) -> Vec<Case> {
    let mut cases = Vec::new();
    for group in file["testGroups"].as_array().unwrap() {
        let keys = group.get("public").unwrap_or(&group["private"]);
        let jwks = match keys.get("keys") {
            Some(_) => keys.to_string(),
            None => json!({ "keys": [keys] }).to_string(),
        };
        for test in group["tests"].as_array().unwrap() {
            let text = match test.get("jws").or(test.get("jwe")) {
                Some(Value::String(text)) => text.clone(),
                // Of the JSON serialization.
                other => json!(other).to_string(),
            };
            cases.push(Case {
                id: test["tcId"].as_u64().unwrap(),
                is_valid: test["result"] == "valid",
                is_asymmetric: group.get("public").is_some(),
                is_jws: test.get("jws").is_some(),
                text,
                jwks: jwks.clone(),
            });
        }
    }
    assert_eq!(file["numberOfTests"], cases.len());
    cases
}

/// RFC 7515 §5.2, RFC 7517, RFC 8725 §3.
#[test]
fn every_vector_ends_as_it_should() {
    let Some(folder) = vectors::folder(FOLDER) else { return };
    let (mut accepted, mut refused) = (0, 0);
    let mut met = BTreeMap::new();
    for name in FILES {
        for case in cases(&vectors::json(&folder.join(name))) {
            let named = |list: &[(u64, &'static str)]| {
                let mut own = list.iter().filter(|(id, _)| *id == case.id);
                own.next().filter(|_| name == FILES[0]).map(|(_, why)| *why)
            };
            let why = named(&STRICTER).or(named(&QUIRKS));
            let expected = case.is_valid && case.is_asymmetric && case.is_jws && why.is_none();
            if let Some(why) = why {
                met.insert(case.id, why);
            }
            let keys = KeySet::from_jwks(case.jwks.as_bytes());
            let verdict = keys.is_ok_and(|(keys, _)| accepts(&case.text, &keys));
            assert_eq!(verdict, expected, "{name} {}", case.id);
            // What is signed is one thing, and that it is claims another (RFC 7519 §7.2).
            let payload = UnverifiedToken::parse(&case.text).map(|_| ());
            assert!(!case.is_asymmetric || payload.is_err() || expected, "{name} {}", case.id);
            accepted += usize::from(expected);
            refused += usize::from(!expected);
        }
    }
    for (id, why) in &met {
        vectors::tell(&format!("{id}: {why}"));
    }
    vectors::tell(&format!(
        "{} vectors: {accepted} accepted, {refused} refused",
        accepted + refused
    ));
    assert_eq!(met.len(), STRICTER.len() + QUIRKS.len(), "one that is named is not there");
    assert_eq!((accepted, refused), (35, 475));
}

/// The same, held to a list of one verdict a case that was drawn up without this code.
#[test]
fn every_vector_ends_as_the_profile_expects() {
    let Some(folder) = vectors::folder(FOLDER) else { return };
    let profile = vectors::json(&folder.join("expected_for_profile.json"));
    let mut counted = BTreeMap::new();
    for name in FILES {
        let stem = name.trim_end_matches(".json");
        for case in cases(&vectors::json(&folder.join(name))) {
            let mut lines = profile["cases"].as_array().unwrap().iter();
            let line = lines.find(|line| line["file"] == stem && line["tcId"] == case.id).unwrap();
            let expected = line["expect"].as_str().unwrap();
            let keys = KeySet::from_jwks(case.jwks.as_bytes());
            let verdict = keys.is_ok_and(|(keys, _)| accepts(&case.text, &keys));
            // What does not apply is no reason to accept it.
            assert_eq!(verdict, expected == "accept", "{name} {}: {}", case.id, line["why"]);
            *counted.entry(expected.to_owned()).or_insert(0) += 1;
        }
    }
    vectors::tell(&format!("{counted:?}"));
    let expected = [("accept", 35), ("n/a", 2), ("reject", 473)];
    assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

/// RFC 7516, RFC 8725 §3.12: nothing that is encrypted is looked into, valid or not, and no key that
/// encrypts verifies.
#[test]
fn every_encrypted_vector_is_refused() {
    let Some(folder) = vectors::folder(FOLDER) else { return };
    let cases = cases(&vectors::json(&folder.join("json_web_encryption_test.json")));
    let own = &support::forge(Algorithm::ES256).jwk;
    let (mut valid, mut by_parts) = (0, BTreeMap::new());
    for case in &cases {
        assert!(!case.is_jws, "{}", case.id);
        assert_eq!(
            UnverifiedJws::parse(&case.text).err(),
            Some(UnverifiedError::Malformed),
            "{}",
            case.id
        );
        let keys = KeySet::from_jwks(case.jwks.as_bytes());
        assert_eq!(keys.map(|(keys, _)| keys.len()), Err(KeySetError::NoUsableKey), "{}", case.id);
        // As a subject token, and beside a key that is usable.
        let beside = case.jwks.replacen("{\"keys\":[", &format!("{{\"keys\":[{own},"), 1);
        let (keys, skipped) = KeySet::from_jwks(beside.as_bytes()).unwrap();
        assert_eq!((keys.len(), skipped.is_empty()), (1, false), "{}", case.id);
        Exchange::new()
            .with(|exchange| (exchange.keys, exchange.token) = (keys, Some(case.text.clone())))
            .refused(Reason::TokenMalformed);
        valid += usize::from(case.is_valid);
        *by_parts.entry(case.text.split('.').count()).or_insert(0) += 1;
    }
    Exchange::new().granted();
    vectors::tell(&format!(
        "{} encrypted vectors, {valid} of them valid: all refused; by their parts {by_parts:?}",
        cases.len()
    ));
    assert_eq!((cases.len(), valid), (139, 65));
    assert_eq!(by_parts, [(1, 1), (4, 10), (5, 128)].into());
}
