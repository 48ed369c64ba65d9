//! The examples that the RFCs print: RFC 7515 appendix A and E, RFC 8037 appendix A, and the cookbook
//! of RFC 7520 with its companions, by the code that serves.

use cambio::jwt::algorithm::AlgorithmSet;
use cambio::jwt::key_set::{KeyRefused, KeySet, VerificationKey};
use cambio::jwt::unverified::{UnverifiedError, UnverifiedJws, UnverifiedToken};
use cambio::jwt::verify::VerifyError;
use serde_json::{Value, json};

use crate::vectors;

/// The folder that holds the cookbook's examples as files (`ietf-jose/cookbook`).
const FOLDER: &str = "CAMBIO_RFC_VECTORS";

/// Why an example is not accepted.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Unverified(UnverifiedError),
    Verify(VerifyError),
    NoKey,
}

/// Judges a text by a key, of which the public half is taken.
fn judge(text: &str, key: &Value) -> Result<(), Refused> {
    let jws = UnverifiedJws::parse(text).map_err(Refused::Unverified)?;
    let algorithm = jws.algorithm(AlgorithmSet::ALL).map_err(Refused::Verify)?;
    let keys = json!({ "keys": [public(key)] }).to_string();
    let keys = KeySet::from_jwks(keys.as_bytes()).map_err(|_| Refused::NoKey)?.0;
    jws.verify(algorithm, &keys).map_err(Refused::Verify)
}

fn public(key: &Value) -> Value {
    let mut key = key.clone();
    for name in ["d", "p", "q", "dp", "dq", "qi"] {
        key.as_object_mut().unwrap().remove(name);
    }
    key
}

/// Asserts that a signature holds, and no longer with one bit of the payload changed.
#[track_caller]
fn holds(text: &str, key: &Value) {
    assert_eq!(judge(text, key), Ok(()));
    let (header, rest) = text.split_once('.').unwrap();
    // Another letter in the high bits of an octet.
    let other = if rest.starts_with('A') { "B" } else { "A" };
    let changed = format!("{header}.{other}{}", &rest[1..]);
    assert_eq!(judge(&changed, key), Err(Refused::Verify(VerifyError::Signature)));
}

/// The claims of RFC 7515 appendix A.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// RFC 7515 appendix A.2.
#[test]
fn the_rs256_example_holds() {
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let key = json!({
        "kty": "RSA", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    });
    let text = format!("eyJhbGciOiJSUzI1NiJ9.{JOE}.{signature}");
    holds(&text, &key);
    let token = UnverifiedToken::parse(&text).unwrap();
    assert_eq!(token.unverified_issuer(), Ok(Some("joe")));
}

/// RFC 7515 appendix A.3.
#[test]
fn the_es256_example_holds() {
    let signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let key = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    holds(&format!("eyJhbGciOiJFUzI1NiJ9.{JOE}.{signature}"), &key);
}

/// RFC 8037 appendix A.4; RFC 9864 §2.2 for the other name of the algorithm.
#[test]
fn the_ed25519_example_holds() {
    let text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let mut key = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    holds(text, &key);
    for (name, expected) in [("Ed25519", true), ("EdDSA", true), ("Ed448", false)] {
        key["alg"] = json!(name);
        assert_eq!(judge(text, &key).is_ok(), expected, "{name}");
    }
}

/// RFC 7515 appendix A.1, A.4 to A.7 and E.
#[test]
fn the_examples_of_what_is_not_supported_are_refused() {
    let key = &crate::support::forge(cambio::jwt::algorithm::Algorithm::ES256).jwk;
    let hs256 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let es512 = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    for unsupported in [&hs256, es512] {
        assert_eq!(judge(unsupported, key), Err(Refused::Verify(VerifyError::Algorithm)));
    }
    let unsecured = format!("eyJhbGciOiJub25lIn0.{JOE}.");
    let malformed = Err(Refused::Unverified(UnverifiedError::Malformed));
    assert_eq!(judge(&unsecured, key), malformed);
    assert_eq!(judge(&format!("{unsecured}AA"), key), Err(Refused::Verify(VerifyError::Algorithm)));
    // The general and the flattened JSON serialization.
    let signature = json!({"protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "AA"});
    let general = json!({"payload": JOE, "signatures": [signature]});
    let flattened = json!({"payload": JOE, "protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "AA"});
    for text in [general, flattened] {
        assert_eq!(judge(&text.to_string(), key), malformed);
    }
    // An extension that is critical and defined by nobody.
    let critical = "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.";
    assert_eq!(judge(critical, key), malformed);
    let header = Err(Refused::Unverified(UnverifiedError::Header));
    assert_eq!(judge(&format!("{critical}AA"), key), header);
}

/// RFC 7520 §3 and §4, RFC 7797 §4, RFC 8037 appendix A: what of each file is accepted.
#[test]
fn the_cookbooks_signatures_end_as_they_should() {
    let Some(folder) = vectors::folder(FOLDER) else { return };
    let algorithm = || Err(Refused::Verify(VerifyError::Algorithm));
    let malformed = || Err(Refused::Unverified(UnverifiedError::Malformed));
    let files = [
        ("jws/4_1.rsa_v15_signature", Ok(())),
        ("jws/4_2.rsa-pss_signature", Ok(())),
        ("curve25519/jws", Ok(())),
        // ES512 and HS256. The last has its payload elsewhere, and an empty one is no claims.
        ("jws/4_3.ecdsa_signature", algorithm()),
        ("jws/4_4.hmac-sha2_integrity_protection", algorithm()),
        ("jws/4_5.signature_with_detached_content", algorithm()),
        // A payload that is not base64url.
        ("rfc7797/hmac-sha2_b64_false", malformed()),
        ("jws/4_6.protecting_specific_header_fields", malformed()),
        ("jws/4_7.protecting_content_only", malformed()),
        ("jws/4_8.multiple_signatures", malformed()),
        ("rfc7797/4.2.hmac-sha2_b64_false", malformed()),
    ];
    let mut judged = 0;
    for (name, expected) in files {
        let file = vectors::json(&folder.join(format!("{name}.json")));
        let (key, output) = (&file["input"]["key"], file["output"].as_object().unwrap());
        for (form, text) in output {
            match (form.as_str(), text) {
                ("compact", Value::String(text)) => {
                    assert_eq!(judge(text, key), expected, "{name}");
                    if expected.is_ok() {
                        holds(text, key);
                    }
                    assert!(UnverifiedToken::parse(text).is_err(), "{name}: prose is no claims");
                }
                (_, text) => {
                    let key = json!({"kty": "EC"});
                    assert_eq!(judge(&text.to_string(), &key), malformed(), "{name} {form}");
                }
            }
            judged += 1;
        }
    }
    vectors::tell(&format!("{judged} signatures judged"));
    assert_eq!(judged, 28);
}

/// RFC 7520 §5 and §6: what is encrypted is refused before anything is tried, also where a signed
/// token is in it, which by itself would be accepted.
#[test]
fn the_cookbooks_encryptions_are_refused() {
    let Some(folder) = vectors::folder(FOLDER) else { return };
    let nested = vectors::json(&folder.join("6.nesting_signatures_and_encryption.json"));
    let (inner, outer) = (&nested["sign"], &nested["encrypt"]["output"]["compact"]);
    let signed = inner["output"]["compact"].as_str().unwrap();
    holds(signed, &inner["input"]["key"]);
    assert!(UnverifiedToken::parse(signed).is_ok());
    let mut texts = vec![outer.clone()];
    let mut files: Vec<_> = std::fs::read_dir(folder.join("jwe")).unwrap().collect();
    files.push(
        std::fs::read_dir(folder.join("curve25519"))
            .unwrap()
            .find(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() == "ecdh-es.json"))
            .unwrap(),
    );
    for entry in files {
        let file = vectors::json(&entry.unwrap().path());
        texts.extend(file["output"].as_object().unwrap().values().cloned());
    }
    for text in &texts {
        let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
        assert_eq!(UnverifiedJws::parse(&text).unwrap_err(), UnverifiedError::Malformed, "{text}");
    }
    vectors::tell(&format!("{} encryptions refused", texts.len()));
    assert_eq!(texts.len(), 38);
}

/// RFC 7520 §3.
#[test]
fn the_cookbooks_keys_are_taken_where_they_are_public_and_supported() {
    let Some(folder) = vectors::folder(FOLDER) else { return };
    for (name, expected) in [
        ("3_1.ec_public_key", Some(KeyRefused::Unsupported)),
        ("3_2.ec_private_key", Some(KeyRefused::PrivateMaterial)),
        ("3_3.rsa_public_key", None),
        ("3_4.rsa_private_key", Some(KeyRefused::PrivateMaterial)),
        ("3_5.symmetric_key_mac_computation", Some(KeyRefused::PrivateMaterial)),
        ("3_6.symmetric_key_encryption", Some(KeyRefused::PrivateMaterial)),
    ] {
        let key = vectors::json(&folder.join(format!("jwk/{name}.json")));
        assert_eq!(VerificationKey::from_jwk(&key).err(), expected, "{name}");
    }
}
