//! Of a key set every key is taken or named as passed over; none is private, and no more than a few
//! are ever tried.

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::json::parse_object;
use cambio::jwt::key_set::{
    KeySet, KeySetError, MAX_DOCUMENT, MAX_KEYS, MAX_TRIED, SkippedKey, VerificationKey,
};
use serde_json::{Map, Value};

use super::{forgery, jwk};

pub fn check(data: &[u8]) -> bool {
    let result = KeySet::from_jwks(data);
    let document = parse_object(data).ok();
    let members = document.as_ref().and_then(|object| object.get("keys")?.as_array());
    match result {
        Ok((set, skipped)) => {
            let members = members.expect("the document was taken for a key set");
            assert!(data.len() <= MAX_DOCUMENT && members.len() <= MAX_KEYS);
            each_is_accounted_for(members, &set, &skipped);
            for algorithm in Algorithm::ALL {
                candidates(&set, members, algorithm);
            }
            let again = KeySet::from_jwks(data).expect("it was taken before");
            assert_eq!(format!("{again:?}"), format!("{:?}", (set, skipped)));
            true
        }
        Err(why) => {
            let expected = match members {
                _ if data.len() > MAX_DOCUMENT => KeySetError::TooLarge,
                None => KeySetError::Malformed,
                Some(members) if members.len() > MAX_KEYS => KeySetError::TooManyKeys,
                Some(members) => {
                    assert!(!members.iter().any(|key| VerificationKey::from_jwk(key).is_ok()));
                    KeySetError::NoUsableKey
                }
            };
            assert_eq!(why, expected);
            false
        }
    }
}

/// RFC 7517 §5: each key stands for itself.
fn each_is_accounted_for(members: &[Value], set: &KeySet, skipped: &[SkippedKey]) {
    assert_eq!(set.len() + skipped.len(), members.len());
    assert_ne!(set.len(), 0);
    for (index, member) in members.iter().enumerate() {
        let why = skipped.iter().find(|key| key.index == index).map(|key| key.why);
        match VerificationKey::from_jwk(member) {
            Ok(key) => {
                assert_eq!(why, None);
                jwk::is_sound(member, &key);
                forgery::refused_by(&key);
                assert!(key.kid().is_none_or(|kid| set.has_kid(kid)));
            }
            Err(refused) => assert_eq!(why, Some(refused)),
        }
    }
}

/// Whoever is tried fits the algorithm, and has the name that was asked for or none.
fn candidates(set: &KeySet, members: &[Value], algorithm: Algorithm) {
    let kid = |member: &Value| {
        member.as_object().and_then(|key: &Map<_, _>| Some(key.get("kid")?.as_str()?.to_owned()))
    };
    let names = members.iter().filter_map(kid).map(Some).chain([None, Some("no such".to_owned())]);
    for name in names {
        let tried = set.candidates(name.as_deref(), algorithm);
        assert!(tried.len() <= MAX_TRIED);
        for key in &tried {
            assert!(key.algorithms().contains(algorithm));
            let is_only = name.is_none() && tried.len() == 1;
            assert!(is_only || key.kid().is_none() || key.kid() == name.as_deref());
        }
    }
}
