//! Properties: no input panics, targets and scopes only narrow, a foreign key set never verifies.

use cambio::exchange::request::TokenPathRequest;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::certificate::Certificate;
use cambio::jwt::key_set::KeySet;
use cambio::jwt::unverified::UnverifiedToken;
use cambio::oauth::form::Form;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Exchange, Forge, NOW, encode, forge, jwks};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048), text in ".{0,512}") {
        drop(Form::parse(&bytes));
        drop(UnverifiedToken::parse(&text));
        drop(UnverifiedToken::parse(&String::from_utf8_lossy(&bytes)));
        drop(KeySet::from_jwks(&bytes));
        drop(Certificate::parse_pem(&bytes));
        for method in ["POST", "GET"] {
            let content_types: &[&[u8]] = &[b"application/x-www-form-urlencoded"];
            let request = TokenPathRequest { method, query: Some(&bytes), content_types, is_encoded: false, body: text.as_bytes() };
            drop(request.recognise());
        }
    }

    #[test]
    fn a_form_comes_back_as_it_was_written(values in proptest::collection::vec("[^\u{0}]{1,40}", 1..20)) {
        let parameters: Vec<(String, String)> =
            values.iter().enumerate().map(|(i, value)| (format!("p{i}"), value.clone())).collect();
        let form = Form::parse(encode(&parameters).as_bytes()).unwrap();
        for (name, value) in &parameters {
            prop_assert_eq!(form.get(name), Some(value.as_str()));
        }
    }

    #[test]
    fn a_changed_token_is_never_accepted(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
        let exchange = Exchange::new();
        let good = exchange.token();
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(token) = String::from_utf8(bytes) {
            let changed = exchange.with(|exchange| exchange.token = Some(token.clone()));
            // Blanks at the ends are trimmed and so change nothing.
            prop_assert!(changed.run().is_err() || token.trim() == good);
        }
    }

    #[test]
    fn what_is_minted_is_bounded_by_what_came_in(
        lifetime in 1..100_000_u64, expires in 1..100_000_u64,
        audience in prop::sample::select(vec!["https://api.example.com", "urn:example:other", "x", ""]),
        scope in prop::sample::select(vec!["", "read", "read write", "write admin", "admin"]),
    ) {
        let exchange = Exchange::new()
            .with(|exchange| exchange.application.access_token.lifetime = std::time::Duration::from_secs(lifetime))
            .claim("exp", json!(NOW + expires))
            .parameter("audience", audience)
            .parameter("scope", scope);
        if let Ok(minted) = exchange.run() {
            prop_assert_eq!(minted["exp"].as_u64().unwrap(), NOW + lifetime.min(expires));
            let aud = minted["aud"].as_str().unwrap().to_owned();
            prop_assert!(exchange.application.audiences.contains(&aud));
            let granted = minted.get("scope").and_then(|scope| scope.as_str()).unwrap_or_default();
            prop_assert!(granted.split_whitespace().all(|one| exchange.application.scopes.contains(one)));
        } else {
            prop_assert!(audience == "x" || scope.contains("admin"));
        }
    }
}

#[test]
fn a_foreign_key_set_never_verifies() {
    for algorithm in Algorithm::ALL {
        let foreign = Forge::new(algorithm, forge(algorithm).kid());
        let keys = KeySet::from_jwks(&jwks(&[&foreign])).unwrap().0;
        let exchange = Exchange::signed_by(algorithm).with(|exchange| exchange.keys = keys);
        exchange.refused(cambio::exchange::error::Reason::SignatureInvalid);
    }
}
