//! Wycheproof's vectors of signatures, keys and their confusions, up to the claims: what they sign
//! is mostly no JSON.

use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::compact::Compact;
use cambio::jwt::key_set::KeySet;
use cambio::jwt::unverified::UnverifiedToken;
use cambio::jwt::verify::{Candidate, MediaType, Rules};
use serde_json::{Value, json};

use crate::support::partner_rules;

/// The folder that holds the vectors (`testvectors_v1` of C2SP/wycheproof). They are not part of
/// this tree: where the variable is unset, the test says that it compared nothing.
const FOLDER: &str = "CAMBIO_JOSE_VECTORS";
const FILES: [&str; 3] =
    ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"];

/// Asymmetric signatures that are valid there and refused here.
const STRICTER: [&str; 3] = [
    // Claims are a JSON object (RFC 7519 §7.2).
    "emptyPayload",
    // A key is used with the one algorithm that it names, and this one names PS256 beside a
    // signature with PS384 (RFC 8725 §3.1).
    "Figure20",
    // ES512 is not supported.
    "Figure27",
];

/// Whether a key of the set verifies the text, which the header's rules allow.
fn accepts(text: &str, keys: &KeySet) -> Option<bool> {
    let compact = Compact::parse(text).ok()?;
    let (header, rest) = text.split_once('.')?;
    let (_, signature) = rest.split_once('.')?;
    let token = UnverifiedToken::parse(&format!("{header}.e30.{signature}")).ok()?;
    let header: Value = serde_json::from_slice(compact.header()).ok()?;
    // Which types and algorithms an issuer may use is asked elsewhere.
    let typ = MediaType::new(header.get("typ").and_then(Value::as_str).unwrap_or("JWT"));
    let algorithms = AlgorithmSet::of(&Algorithm::ALL);
    let rules = Rules { token_types: vec![typ], algorithms, ..partner_rules() };
    let algorithm = Candidate::new(token, &rules).ok()?.algorithm();
    let candidates = keys.candidates(header.get("kid").and_then(Value::as_str), algorithm);
    let (signature, input) = (compact.signature(), compact.signing_input());
    Some(candidates.iter().any(|key| key.verifies(signature, input, algorithm)))
}

#[test]
fn every_vector_ends_as_it_should() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        eprintln!("NOT COMPARED: {FOLDER} names no folder of vectors");
        return;
    };
    let mut accepted = 0;
    let mut refused = 0;
    for file in FILES {
        let file = std::fs::read(std::path::Path::new(&folder).join(file)).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        for group in file["testGroups"].as_array().unwrap() {
            let keys = group.get("public").unwrap_or(&group["private"]);
            let document = match keys.get("keys") {
                Some(_) => keys.to_string(),
                None => json!({ "keys": [keys] }).to_string(),
            };
            let keys = KeySet::from_jwks(document.as_bytes());
            for test in group["tests"].as_array().unwrap() {
                let comment = test["comment"].as_str().unwrap();
                // What has no public half is symmetric.
                let valid = test["result"] == "valid"
                    && group.get("public").is_some()
                    && test.get("jws").is_some()
                    && !STRICTER.contains(&comment);
                let text = match test.get("jws").or(test.get("jwe")) {
                    Some(Value::String(text)) => text.clone(),
                    // Of the JSON serialization.
                    other => json!(other).to_string(),
                };
                let verified = keys.as_ref().ok().and_then(|(keys, _)| accepts(&text, keys));
                assert_eq!(verified == Some(true), valid, "{} {comment}", test["tcId"]);
                accepted += usize::from(valid);
                refused += usize::from(!valid);
            }
        }
    }
    assert_eq!((accepted, refused), (29, 481));
}
