//! Access tokens of ours that come back as subject tokens, where the configuration trusts our own issuer:
//! they gain no time by that (RFC 8693 §2.1).

use cambio::exchange::{self, Approved, Record};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::KeySet;
use cambio::time::Timestamp;
use serde_json::json;

use crate::support::{Exchange, NOW, OURS, SECRET, authenticate, decode, forge, signing_keys};

const API: &str = "https://api.example.com";

/// An exchange by an application that may refresh, whose tokens may outlive their subject tokens.
fn generous() -> Exchange {
    Exchange::new().with(|exchange| {
        exchange.application.grant_types.push("refresh_token".to_owned());
        exchange.application.access_token.outlive_subject = true;
    })
}

/// The same, where our own issuer is trusted, with our keys and with another one.
fn of_our_own(token: String) -> Exchange {
    let other = &forge(Algorithm::ES256).jwk;
    let ours = signing_keys();
    let keys: Vec<_> = ours.iter().map(|key| json!(key.jwk())).chain([other.clone()]).collect();
    let keys = KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0;
    generous().with(|exchange| {
        exchange.issuer.rules.issuer = OURS.to_owned();
        exchange.issuer.rules.audiences = vec![API.to_owned()];
        exchange.keys = keys;
        exchange.token = Some(token);
        exchange.now = NOW + 60;
    })
}

fn approved(exchange: &Exchange) -> Approved {
    let policy = exchange.policy();
    let client = authenticate(&policy, "portal", SECRET);
    let pending =
        exchange::begin(&exchange.form(), client, &policy, &mut Record::default()).unwrap();
    let now = Timestamp::from_secs(exchange.now);
    pending.approve(&exchange.keys, now, &mut Record::default()).unwrap()
}

#[test]
fn what_is_exchanged_again_never_outlives_the_first_and_begins_no_family() {
    let first = generous().run_with(&signing_keys()).0.unwrap();
    assert!(first.refresh_token.is_some());
    let (mut token, expires_at) = (first.access_token.to_string(), decode(&first.access_token).1);
    for _ in 0..10 {
        let again = of_our_own(token.clone());
        let own = approved(&again).own_subject(&signing_keys(), &again.policy()).unwrap();
        assert_eq!(own.jwt_id(), decode(&token).1["jti"]);
        let granted = again.run_with(&signing_keys()).0.unwrap();
        assert!(granted.refresh_token.is_none());
        token = granted.access_token.to_string();
        assert_eq!(decode(&token).1["exp"], expires_at["exp"]);
    }
}

/// In front of an identity provider the same `iss` is in its tokens and in ours.
#[test]
fn what_the_identity_provider_signed_is_not_ours() {
    let of_the_idp = Exchange::new()
        .claim("iss", json!(OURS))
        .claim("aud", json!(API))
        // Of the same form as one of ours.
        .claim("jti", json!("BwcHBwcHBwcHBwcHBwcHB67pxggiA62I"));
    let exchange = of_our_own(of_the_idp.token());
    let is_ours = |exchange: &Exchange| {
        approved(exchange).own_subject(&signing_keys(), &exchange.policy()).is_some()
    };
    assert!(!is_ours(&exchange));
    let granted = exchange.run_with(&signing_keys()).0.unwrap();
    assert!(granted.refresh_token.is_some());
    let lifetime = exchange.application.access_token.lifetime.as_secs();
    assert_eq!(decode(&granted.access_token).1["exp"], NOW + 60 + lifetime);
    // Nor is what somebody else signed with the same key under another name.
    let elsewhere = generous();
    assert!(!is_ours(&elsewhere));
}
