//! Merged metadata are the upstream's in every member that is not ours, to the byte and in order, and
//! say what we add; merging again changes nothing.

use cambio::config::Endpoints;
use cambio::jwt::json::parse_object;
use cambio::overlay::NotMerged;
use cambio::overlay::finding::metadata_findings;
use cambio::overlay::metadata::Advertised;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const ISSUER: &str = "https://idp.example.com/oauth2/token";
const GRANTS: &str = "grant_types_supported";
const OURS: [&str; 2] = ["urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token"];
const ENDPOINTS: [(&str, &str); 4] = [
    ("token_endpoint", "/oauth2/token"),
    ("jwks_uri", "/oauth2/jwks"),
    ("introspection_endpoint", "/oauth2/introspect"),
    ("revocation_endpoint", "/oauth2/revoke"),
];

pub fn check(data: &[u8]) -> bool {
    let [token, jwks, introspection, revocation] = ENDPOINTS.map(|(_, path)| path.to_owned());
    let endpoints = Endpoints {
        token: vec![token],
        jwks: Some(jwks),
        metadata: Vec::new(),
        introspection: Some(introspection),
        revocation: Some(revocation),
    };
    let advertised = Advertised::new(ISSUER, &endpoints, true);
    drop(metadata_findings(data, &advertised, &endpoints));
    let result = advertised.merge(data);
    let issuer = parse_object(data).ok().map(|object| object.get("issuer").cloned());
    let names = |issuer: &str| Some(Some(Value::from(issuer))) == self::issuer(data).map(Some);
    match (&result, advertised.merge_own(data)) {
        (Ok(merged), Ok(own)) => assert!(*merged == own && names(ISSUER)),
        (Err(why), Err(own)) => assert!(*why == own || !names(ISSUER)),
        (Ok(_), Err(own)) => assert!(own == NotMerged::Unlike && !names(ISSUER)),
        (Err(_), Ok(_)) => panic!("merged for us, and not for the path"),
    }
    match result {
        Ok(merged) => {
            only_ours_differ(data, &merged);
            assert_eq!(advertised.merge(&merged).as_ref(), Ok(&merged), "merged again");
            true
        }
        Err(NotMerged::Signed) => {
            assert!(members(data).is_some_and(|all| all.contains_key("signed_metadata")));
            false
        }
        Err(NotMerged::Unlike) => {
            assert!(!matches!(issuer, Some(Some(Value::String(_)))), "metadata are not merged");
            false
        }
    }
}

fn issuer(data: &[u8]) -> Option<Value> {
    serde_json::from_str(members(data)?.get("issuer")?).ok()
}

/// The members as they are written.
fn members(json: &[u8]) -> Option<BTreeMap<String, &str>> {
    let all: BTreeMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
    Some(all.into_iter().map(|(name, value)| (name, value.get())).collect())
}

fn only_ours_differ(before: &[u8], after: &[u8]) {
    let (theirs, all) =
        (members(before).expect("an object"), members(after).expect("a merge is JSON"));
    let is_ours = |name: &str| name == GRANTS || ENDPOINTS.iter().any(|(own, _)| *own == name);
    for (name, value) in &theirs {
        if !is_ours(name) {
            assert_eq!(all.get(name), Some(value), "{name}");
        }
    }
    for name in all.keys() {
        assert!(theirs.contains_key(name) || is_ours(name), "{name} was added");
    }
    for (name, path) in ENDPOINTS {
        // An endpoint that the upstream has stays its own.
        match theirs.get(name) {
            Some(value) if *value != "null" => assert_eq!(all.get(name), Some(value), "{name}"),
            _ => assert_eq!(all[name], format!("\"https://idp.example.com{path}\"")),
        }
    }
    let grants: Vec<&RawValue> = serde_json::from_str(all[GRANTS]).expect("an array");
    for own in OURS {
        let count = grants.iter().filter(|one| string(one).as_deref() == Some(own)).count();
        assert!(count >= 1, "{own} is not there");
    }
    let written: Option<Vec<&RawValue>> =
        theirs.get(GRANTS).and_then(|grants| serde_json::from_str(grants).ok());
    if let Some(written) = written {
        let texts =
            |all: &[&RawValue]| all.iter().map(|one| one.get().to_owned()).collect::<Vec<_>>();
        assert!(texts(&grants).starts_with(&texts(&written)), "a grant of theirs is gone");
    }
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}
