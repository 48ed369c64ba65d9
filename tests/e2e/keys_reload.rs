//! A new configuration: what was fetched is taken over, and what is gone ends.

use std::sync::Arc;
use std::time::Duration;

use cambio::config::{Endpoint, KeySource};
use cambio::exchange::error::Failure;
use cambio::keys::{KeyRing, KeyState};
use cambio::telemetry::metrics::Metrics;

use crate::issuer::{Issuer, status, whole};
use crate::leap::{at_once, leap, settle, until};
use crate::setting::{config, disabled, endpoint, is_granted, issuer, jwks, key, pending};

const SECOND: Duration = Duration::from_secs(1);

async fn server(set: String) -> Issuer {
    Issuer::start(move |_| whole(set.clone())).await
}

#[tokio::test]
async fn an_equal_source_goes_on_as_it_was() {
    let own = key("a");
    let server = server(jwks(&[&own])).await;
    let metrics = Arc::new(Metrics::new());
    let before = config(vec![issuer("partner", endpoint(server.url("/")))]);
    let ring = KeyRing::new(&before, &metrics, None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    leap(100 * SECOND).await;
    // An unknown key has just caused a fetch: a reload does not make it forgotten.
    let unknown = key("b");
    ring.resolve(&pending(&before, "partner", &unknown)).await.unwrap();
    assert_eq!(server.count(), 2);

    let after = config(vec![
        issuer("first", endpoint(server.url("/new"))),
        issuer("partner", endpoint(server.url("/"))),
    ]);
    let reloaded = KeyRing::new(&after, &metrics, Some(&ring));
    drop(ring);
    until(|| reloaded.status()[0].state == KeyState::Fresh).await;
    let keys = at_once(reloaded.resolve(&pending(&after, "partner", &own))).await.unwrap();
    assert!(is_granted(&after, pending(&after, "partner", &own), &keys));
    at_once(reloaded.resolve(&pending(&after, "partner", &unknown))).await.unwrap();
    settle().await;
    // The new issuer's alone.
    assert_eq!(server.count(), 3);
    // It still is refreshed, once.
    leap(300 * SECOND).await;
    until(|| server.count() == 5).await;
    settle().await;
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn an_issuer_that_was_renamed_begins_with_what_was_fetched() {
    let own = key("a");
    let server = server(jwks(&[&own])).await;
    let metrics = Arc::new(Metrics::new());
    let before = config(vec![issuer("partner", endpoint(server.url("/")))]);
    let ring = KeyRing::new(&before, &metrics, None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    let after = config(vec![issuer("renamed", endpoint(server.url("/")))]);
    metrics.configure(&after);
    let reloaded = KeyRing::new(&after, &metrics, Some(&ring));
    drop(ring);
    at_once(reloaded.resolve(&pending(&after, "renamed", &own))).await.unwrap();
    settle().await;
    assert_eq!(server.count(), 1);
    let rendered = metrics.render();
    assert!(rendered.contains("cambio_jwks_keys{issuer=\"renamed\"} 1"), "{rendered}");
    assert!(!rendered.contains("partner"), "{rendered}");
    leap(300 * SECOND).await;
    server.asked_times(2).await;
}

#[tokio::test]
async fn a_new_token_for_the_endpoint_is_tried_at_once_while_the_old_keys_serve() {
    let own = key("a");
    let set = jwks(&[&own]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let with = |token: &str| {
        let bearer_token = Some(token.into());
        let source = Endpoint { url: server.url("/"), ca: None, bearer_token };
        config(vec![issuer("partner", KeySource::Endpoint(source))])
    };
    let metrics = Arc::new(Metrics::new());
    let ring = KeyRing::new(&with("1"), &metrics, None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    server.answer(|_| status(401));
    let after = with("2");
    let reloaded = KeyRing::new(&after, &metrics, Some(&ring));
    drop(ring);
    at_once(reloaded.resolve(&pending(&after, "partner", &own))).await.unwrap();
    until(|| reloaded.status()[0].last_error.is_some()).await;
    assert_eq!(server.asked()[1].headers["authorization"], "Bearer 2");
    at_once(reloaded.resolve(&pending(&after, "partner", &own))).await.unwrap();
}

#[tokio::test]
async fn another_source_begins_with_nothing() {
    let own = key("a");
    let server = server(jwks(&[&own])).await;
    let metrics = Arc::new(Metrics::new());
    let before = config(vec![issuer("partner", endpoint(server.url("/")))]);
    let ring = KeyRing::new(&before, &metrics, None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    server.answer(|_| status(404));
    let after = config(vec![issuer("partner", endpoint(server.url("/other")))]);
    let reloaded = KeyRing::new(&after, &metrics, Some(&ring));
    let keys = reloaded.resolve(&pending(&after, "partner", &own)).await;
    assert_eq!(keys.map(|_| ()), Err(Failure::KeysUnavailable));
    // Requests that began before the reload end as they began.
    at_once(ring.resolve(&pending(&before, "partner", &own))).await.unwrap();
}

#[tokio::test]
async fn what_is_gone_is_asked_no_more_and_shown_no_more() {
    let own = key("a");
    let server = server(jwks(&[&own])).await;
    let metrics = Arc::new(Metrics::new());
    let before = config(vec![
        issuer("gone", endpoint(server.url("/gone"))),
        issuer("off", endpoint(server.url("/off"))),
    ]);
    metrics.configure(&before);
    let ring = KeyRing::new(&before, &metrics, None);
    until(|| ring.status().iter().all(|status| status.state == KeyState::Fresh)).await;
    assert!(metrics.render().contains("cambio_jwks_keys{issuer=\"gone\"} 1"));

    let after = config(vec![disabled(issuer("off", endpoint(server.url("/off"))))]);
    metrics.configure(&after);
    let reloaded = KeyRing::new(&after, &metrics, Some(&ring));
    drop(ring);
    leap(24 * 3600 * SECOND).await;
    settle().await;
    assert_eq!(server.count(), 2);
    assert_eq!(reloaded.status()[0].state, KeyState::Disabled);
    let rendered = metrics.render();
    assert!(!rendered.contains("gone"), "{rendered}");
    assert!(!rendered.contains("cambio_jwks_keys{"), "{rendered}");
    assert!(!rendered.contains("cambio_jwks_age_seconds{"), "{rendered}");
}

#[tokio::test]
async fn a_configuration_that_never_served_takes_nothing_with_it() {
    let own = key("a");
    let server = server(jwks(&[&own])).await;
    let metrics = Arc::new(Metrics::new());
    let config = config(vec![issuer("partner", endpoint(server.url("/")))]);
    let ring = KeyRing::new(&config, &metrics, None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    drop(KeyRing::new(&config, &metrics, Some(&ring)));
    settle().await;
    at_once(ring.resolve(&pending(&config, "partner", &own))).await.unwrap();
    leap(300 * SECOND).await;
    server.asked_times(2).await;
}
