//! A merged key set is the upstream's, to the byte, with our keys put in at one place; merging again
//! changes nothing.

use cambio::jwt::json::parse_object;
use cambio::jwt::sign::PublicJwk;
use cambio::overlay::finding::keys_findings;
use cambio::overlay::keys::merge_keys;
use serde_json::Value;
use serde_json::value::RawValue;

fn ours() -> Vec<PublicJwk> {
    let key = |kid: &str, x: &str| PublicJwk {
        kty: "EC",
        usage: "sig",
        alg: "ES256",
        kid: kid.to_owned(),
        crv: Some("P-256"),
        n: None,
        e: None,
        x: Some(x.to_owned()),
        y: Some("yy".to_owned()),
    };
    vec![key("own", "xx"), key("next", "xz")]
}

pub fn check(data: &[u8]) -> bool {
    let ours = ours();
    let findings = keys_findings(data, ours.iter());
    let Ok(merged) = merge_keys(data, ours.iter()) else {
        assert_eq!(findings.len(), 1);
        let strict = parse_object(data).ok();
        let is_set = strict.is_some_and(|object| object.get("keys").is_some_and(Value::is_array));
        assert!(!is_set, "a key set is not merged");
        return false;
    };
    serde_json::from_slice::<&RawValue>(&merged.body).expect("a merge is JSON");
    is_insertion(data, &merged.body);
    let again = merge_keys(&merged.body, ours.iter()).expect("a merge can be merged");
    assert_eq!(again, merged);
    // What an ordinary parser can't read has numbers or escapes that are the upstream's own matter.
    if let (Ok(before), Ok(after)) = (value(data), value(&merged.body)) {
        appended(&before, &after, &ours, &merged.clashing);
    }
    true
}

fn value(json: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(json)
}

/// Asserts that nothing was done to a text but to put something in at one place.
fn is_insertion(before: &[u8], after: &[u8]) {
    let common = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let rest = before.len() - common;
    assert!(after.len() >= before.len() && after.ends_with(&before[before.len() - rest..]));
}

fn appended(before: &Value, after: &Value, ours: &[PublicJwk], clashing: &[String]) {
    let keys = |set: &Value| set["keys"].as_array().expect("an array").clone();
    let (theirs, all) = (keys(before), keys(after));
    let has_kid = |kid: &str| theirs.iter().any(|key| key["kid"] == kid);
    let added: Vec<Value> = (ours.iter())
        .filter(|own| !all[..theirs.len()].iter().any(|key| key["kid"] == *own.kid))
        .map(|own| serde_json::to_value(own).expect("a key of ours is JSON"))
        .filter(|own| all[theirs.len()..].contains(own))
        .collect();
    assert_eq!(all, [theirs.clone(), added.clone()].concat());
    for own in ours {
        // A name of theirs is theirs; every other key of ours is there.
        let is_added = added.iter().any(|key| key["kid"] == *own.kid);
        assert!(is_added || has_kid(&own.kid) || clashing.contains(&own.kid), "{}", own.kid);
        assert!(!(is_added && clashing.contains(&own.kid)), "{}", own.kid);
    }
    let others = |set: &Value| {
        let mut set = set.clone();
        set["keys"] = Value::Null;
        set
    };
    assert_eq!(others(before), others(after));
}
