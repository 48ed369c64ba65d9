//! Keys that have no name: which one a token was signed with, the signature alone tells.

use std::sync::Arc;
use std::time::Duration;

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use cambio::keys::{KeyRing, KeyState};
use cambio::telemetry::metrics::Metrics;
use serde_json::json;

use crate::issuer::{Issuer, whole};
use crate::leap::{at_once, leap, settle, until};
use crate::setting::{config, endpoint, is_granted, issuer, jwks, key, key_of, pending, unnamed};

const SECOND: Duration = Duration::from_secs(1);

/// The set of these keys, none of which says its name.
fn nameless(keys: &[&SigningKey]) -> String {
    let mut set: serde_json::Value = serde_json::from_str(&jwks(keys)).unwrap();
    for key in set["keys"].as_array_mut().unwrap() {
        key.as_object_mut().unwrap().remove("kid");
    }
    json!(set).to_string()
}

#[tokio::test]
async fn a_key_without_a_name_that_was_replaced_is_fetched_once_for_each_cool_down() {
    // With a name that no key of the set has, and without any.
    for names_its_key in [true, false] {
        let pems = [(); 2].map(|()| generate_pem(Algorithm::ES256).unwrap());
        let (old, new) = (key_of(&pems[0], "a"), key_of(&pems[1], "b"));
        let set = nameless(&[&old]);
        let server = Issuer::start(move |_| whole(set.clone())).await;
        let config = config(vec![issuer("partner", endpoint(server.url("/jwks")))]);
        let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
        until(|| ring.status()[0].state == KeyState::Fresh).await;
        let wanting = |nth: usize| {
            if names_its_key {
                pending(&config, "partner", [&old, &new][nth])
            } else {
                unnamed(&config, "partner", &pems[nth])
            }
        };
        // The one at hand is right: nothing is fetched, and nobody waits.
        let keys = at_once(ring.resolve(&wanting(0))).await.unwrap();
        assert!(is_granted(&config, wanting(0), &keys));
        assert_eq!(server.count(), 1);

        let set = nameless(&[&new]);
        server.answer(move |_| whole(set.clone()));
        let keys = ring.resolve(&wanting(1)).await.unwrap();
        assert!(is_granted(&config, wanting(1), &keys));
        assert_eq!(server.count(), 2);
        // The old one is gone, and whoever comes with it changes nothing for others.
        for _ in 0..100 {
            let keys = at_once(ring.resolve(&wanting(0))).await.unwrap();
            assert!(!is_granted(&config, wanting(0), &keys));
            at_once(ring.resolve(&wanting(1))).await.unwrap();
        }
        settle().await;
        assert_eq!(server.count(), 2);
        leap(10 * SECOND).await;
        ring.resolve(&wanting(0)).await.unwrap();
        assert_eq!(server.count(), 3);
    }
}

#[tokio::test]
async fn a_key_that_the_token_names_is_the_one_whatever_the_signature_is_worth() {
    let pem = generate_pem(Algorithm::ES256).unwrap();
    let (own, forged) = (key_of(&pem, "a"), key("a"));
    let set = jwks(&[&own]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let config = config(vec![issuer("partner", endpoint(server.url("/jwks")))]);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    let keys = at_once(ring.resolve(&pending(&config, "partner", &forged))).await.unwrap();
    assert!(!is_granted(&config, pending(&config, "partner", &forged), &keys));
    assert!(is_granted(&config, pending(&config, "partner", &own), &keys));
    // Without a name the only key is the one that is meant, if it is the one that signed.
    let keys = at_once(ring.resolve(&unnamed(&config, "partner", &pem))).await.unwrap();
    assert!(is_granted(&config, unnamed(&config, "partner", &pem), &keys));
    settle().await;
    assert_eq!(server.count(), 1);
}
