//! Keys by the issuer's metadata: its `issuer` is ours to the byte, its `jwks_uri` where we allow.

use std::sync::Arc;
use std::time::Duration;

use cambio::config::{Config, Discovery, KeySource};
use cambio::keys::{IssuerStatus, KeyRing, KeyState};
use cambio::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use url::Url;

use crate::issuer::{Issuer, status, whole};
use crate::leap::{at_once, leap, until};
use crate::setting::{config, is_granted, issuer, jwks, key, pending};

const FIRST: &str = "/.well-known/openid-configuration";
const SECOND: &str = "/.well-known/oauth-authorization-server";

/// A server with metadata at the first place and keys at `/jwks`.
async fn server(set: String) -> Issuer {
    let server = Issuer::start(|_| status(500)).await;
    let (issuer, jwks_uri) = (server.url("").to_string(), server.url("/jwks"));
    serve(&server, json!({ "issuer": issuer, "jwks_uri": jwks_uri.as_str() }), set);
    server
}

fn serve(server: &Issuer, metadata: Value, set: String) {
    server.answer(move |asked| match &*asked.path {
        FIRST => whole(metadata.to_string()),
        "/jwks" => whole(set.clone()),
        _ => status(404),
    });
}

fn discovery(server: &Issuer, origins: Vec<Url>) -> KeySource {
    KeySource::Discovery(Discovery {
        metadata: vec![server.url(FIRST), server.url(SECOND)],
        issuer: server.url("").to_string(),
        origins,
        ca: None,
    })
}

async fn after_first_fetch(source: KeySource) -> (Config, KeyRing, IssuerStatus) {
    let config = config(vec![issuer("partner", source)]);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status()[0].state != KeyState::NeverFetched).await;
    let status = ring.status().remove(0);
    (config, ring, status)
}

fn paths(server: &Issuer) -> Vec<String> {
    server.asked().into_iter().map(|asked| asked.path).collect()
}

#[tokio::test]
async fn the_keys_are_where_the_metadata_says() {
    let own = key("a");
    let server = server(jwks(&[&own])).await;
    let (config, ring, status) = after_first_fetch(discovery(&server, Vec::new())).await;
    assert_eq!((status.state, status.source), (KeyState::Fresh, "discovery"));
    let keys = at_once(ring.resolve(&pending(&config, "partner", &own))).await.unwrap();
    assert!(is_granted(&config, pending(&config, "partner", &own), &keys));
    assert_eq!(paths(&server), [FIRST, "/jwks"]);
}

#[tokio::test]
async fn the_metadata_is_read_again_with_the_keys() {
    let (first, second) = (key("a"), key("b"));
    let server = server(String::new()).await;
    let (issuer, jwks_uri) = (server.url("").to_string(), server.url("/jwks"));
    let set = jwks(&[&first]);
    server.answer(move |asked| {
        let mut answer = whole(match &*asked.path {
            FIRST => json!({ "issuer": issuer, "jwks_uri": jwks_uri.as_str() }).to_string(),
            _ => set.clone(),
        });
        answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
        answer
    });
    let (config, ring, _) = after_first_fetch(discovery(&server, Vec::new())).await;
    let (issuer, jwks_uri) = (server.url("").to_string(), server.url("/moved"));
    let set = jwks(&[&second]);
    server.answer(move |asked| match &*asked.path {
        FIRST => whole(json!({ "issuer": issuer, "jwks_uri": jwks_uri.as_str() }).to_string()),
        "/moved" => whole(set.clone()),
        _ => status(404),
    });
    leap(Duration::from_mins(5)).await;
    until(|| server.count() >= 4 && ring.status()[0].age_seconds.unwrap() < 60).await;
    let keys = at_once(ring.resolve(&pending(&config, "partner", &second))).await.unwrap();
    assert!(is_granted(&config, pending(&config, "partner", &second), &keys));
    assert_eq!(paths(&server), [FIRST, "/jwks", FIRST, "/moved"]);
    // A tag is good for the document that it came with.
    assert!(server.asked().iter().all(|asked| !asked.headers.contains_key("if-none-match")));
}

#[tokio::test]
async fn the_next_place_is_tried_where_the_first_has_nothing() {
    let own = key("a");
    let server = server(String::new()).await;
    let (issuer, jwks_uri) = (server.url("").to_string(), server.url("/jwks"));
    let set = jwks(&[&own]);
    server.answer(move |asked| match &*asked.path {
        SECOND => whole(json!({ "issuer": issuer, "jwks_uri": jwks_uri.as_str() }).to_string()),
        "/jwks" => whole(set.clone()),
        _ => status(404),
    });
    let (.., status) = after_first_fetch(discovery(&server, Vec::new())).await;
    assert_eq!(status.state, KeyState::Fresh);
    assert_eq!(paths(&server), [FIRST, SECOND, "/jwks"]);
}

#[tokio::test]
async fn metadata_of_another_issuer_is_refused() {
    let own = key("a");
    let server = server(String::new()).await;
    let (url, jwks_uri) = (server.url(""), server.url("/jwks"));
    let exact = url.to_string();
    let others = [
        json!(exact.trim_end_matches('/')),
        json!(format!("{exact}x")),
        json!(exact.to_uppercase()),
        json!(""),
        json!([exact]),
        json!(null),
    ];
    for other in others {
        serve(&server, json!({ "issuer": other, "jwks_uri": jwks_uri.as_str() }), jwks(&[&own]));
        let (.., status) = after_first_fetch(discovery(&server, Vec::new())).await;
        assert_eq!(status.last_error.as_deref(), Some("the metadata names another issuer"));
        assert_eq!(status.state, KeyState::Unavailable);
    }
    assert!(!paths(&server).contains(&"/jwks".to_owned()));
}

#[tokio::test]
async fn keys_elsewhere_are_fetched_only_where_the_configuration_names_the_place() {
    let own = key("a");
    let set = jwks(&[&own]);
    let elsewhere = Issuer::start(move |_| whole(set.clone())).await;
    let server = server(String::new()).await;
    let issuer = server.url("").to_string();
    let refused = "the metadata's `jwks_uri` is not HTTPS on the issuer's own origin, \
                   or one named in `origins`";
    serve(
        &server,
        json!({ "issuer": issuer, "jwks_uri": elsewhere.url("/jwks").as_str() }),
        String::new(),
    );
    let (.., status) = after_first_fetch(discovery(&server, Vec::new())).await;
    assert_eq!(status.last_error.as_deref(), Some(refused));
    assert_eq!(elsewhere.count(), 0);

    let (.., status) = after_first_fetch(discovery(&server, vec![elsewhere.url("/")])).await;
    assert_eq!(status.state, KeyState::Fresh);
    assert_eq!(elsewhere.count(), 1);
}

#[tokio::test]
async fn metadata_that_is_none_is_a_failed_fetch() {
    let server = server(String::new()).await;
    let issuer = server.url("").to_string();
    let broken = "the metadata is larger than allowed, or not a JSON object, or has no `jwks_uri`";
    let cases = [
        ("<html>".to_owned(), broken),
        (json!({ "issuer": issuer }).to_string(), broken),
        (json!({ "issuer": issuer, "jwks_uri": 5 }).to_string(), broken),
        (format!("{{\"issuer\":\"{issuer}\",\"issuer\":\"{issuer}\"}}"), broken),
        (" ".repeat(600 * 1024), broken),
    ];
    for (metadata, words) in cases {
        server.answer(
            move |asked| {
                if asked.path == FIRST { whole(metadata.clone()) } else { status(404) }
            },
        );
        let (.., status) = after_first_fetch(discovery(&server, Vec::new())).await;
        assert_eq!(status.last_error.as_deref(), Some(words));
    }
}
