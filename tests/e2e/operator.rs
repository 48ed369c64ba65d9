//! Revocation by the operator: exactly the descendants end, and stay ended.

use std::net::SocketAddr;

use cambio::clock;
use serde_json::{Value, json};

use crate::grants::{Grant, Partners, is_active, next_second, refreshes};
use crate::support::{Cambio, Connection, Response, write_private};

/// `POST /revoke`, with more header fields.
pub async fn revoke(admin: SocketAddr, fields: &str, body: &str) -> Response {
    let request = format!(
        "POST /revoke HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\n{fields}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Connection::open(admin).await.request(request).await
}

async fn revoked(admin: SocketAddr, body: &Value) -> Value {
    let response = revoke(admin, "", &body.to_string()).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.header("cambio-decision").is_some_and(|id| id.len() == 16));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.json()
}

/// Introspects and refreshes all, and expects exactly those to be inactive, and to be refused as
/// revoked, of which `is_hit` says so.
async fn assert_hit(cambio: &Cambio, grants: &mut [Grant], is_hit: impl Fn(&Grant) -> bool) {
    let admin = cambio.running.admin_address();
    let mut refused = refreshes(admin, "denied", "refresh_revoked").await;
    for grant in grants {
        let access_token = grant.access_token.clone();
        assert_eq!(is_active(cambio.address(), &access_token).await, !is_hit(grant), "{grant:?}");
        let refreshed = grant.refresh(cambio.address()).await;
        if is_hit(grant) {
            assert_eq!(refreshed, Err((400, "invalid_grant".to_owned())), "{grant:?}");
            refused += 1;
        } else {
            assert_eq!(refreshed, Ok(()), "{grant:?}");
        }
        assert_eq!(refreshes(admin, "denied", "refresh_revoked").await, refused, "{grant:?}");
        // Neither the old one, nor one that a refresh brought.
        for token in [&access_token, &grant.access_token] {
            assert_eq!(is_active(cambio.address(), token).await, !is_hit(grant), "{grant:?}");
        }
    }
}

/// Every issuer, subject and client with one another.
async fn grants(partners: &Partners, address: SocketAddr) -> Vec<Grant> {
    let mut grants = Vec::new();
    for issuer in ["partner", "other"] {
        for subject in ["alice", "bob"] {
            for client in ["portal", "kiosk"] {
                grants.push(partners.grant(address, issuer, subject, client).await);
            }
        }
    }
    grants
}

/// A second begins in which `body` revokes `hit`, and nothing else: now, after a restart, and what
/// is granted later is not concerned.
async fn ends_exactly(body: Value, report: Value, is_hit: impl Fn(&Grant) -> bool + Copy) {
    let partners = Partners::start().await;
    let lines = partners.lines();
    let cambio = Cambio::start(&partners.url(), &lines).await;
    let mut all = grants(&partners, cambio.address()).await;
    assert_hit(&cambio, &mut all, |_| false).await;

    let before = clock::now().as_secs();
    let mut shown = revoked(cambio.running.admin_address(), &body).await;
    let at: jiff::Timestamp = shown["before"].as_str().unwrap().parse().unwrap();
    let seconds = u64::try_from(at.as_second()).unwrap();
    assert!((before..=clock::now().as_secs()).contains(&seconds), "{shown}");
    shown.as_object_mut().unwrap().remove("before");
    assert_eq!(shown, report);
    assert_hit(&cambio, &mut all, is_hit).await;

    let Cambio { running, folder } = cambio;
    assert!(running.stop().await);
    let cambio = Cambio::start_in(folder, &partners.url(), &lines).await;
    assert_hit(&cambio, &mut all, is_hit).await;
    next_second().await;
    let mut later = grants(&partners, cambio.address()).await;
    assert_hit(&cambio, &mut later, |_| false).await;
    assert_hit(&cambio, &mut all, is_hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject() {
    // The one of the other issuer is somebody else.
    let report = json!({ "ancestor": "subject", "families": 2, "opaque_access_tokens": 2 });
    let is_hit = |grant: &Grant| grant.issuer == "partner" && grant.subject == "alice";
    ends_exactly(json!({ "subject": "p:alice" }), report, is_hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client() {
    // Its first access tokens, and those that the first refresh brought.
    let report = json!({
        "ancestor": "client", "client_id": "kiosk", "name": "Kiosk", "families": 4,
        "opaque_access_tokens": 8,
    });
    let is_hit = |grant: &Grant| grant.client == "kiosk";
    ends_exactly(json!({ "client": "kiosk" }), report, is_hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_tokens_are_jwts() {
    let report = json!({
        "ancestor": "client", "client_id": "portal", "name": "Portal", "families": 4,
        "opaque_access_tokens": 0,
    });
    let is_hit = |grant: &Grant| grant.client == "portal";
    ends_exactly(json!({ "client": "Portal" }), report, is_hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_by_name_and_by_iss() {
    let partners = Partners::start().await;
    let lines = partners.lines();
    let cambio = Cambio::start(&partners.url(), &lines).await;
    let admin = cambio.running.admin_address();
    let mut all = grants(&partners, cambio.address()).await;
    let iss = partners.issuer("partner").issuer();
    let report = json!({
        "ancestor": "issuer", "iss": iss, "name": "partner", "families": 4,
        "opaque_access_tokens": 2,
    });
    for body in [json!({ "issuer": "partner" }), json!({ "issuer": iss })] {
        let mut shown = revoked(admin, &body).await;
        shown.as_object_mut().unwrap().remove("before");
        assert_eq!(shown, report);
    }
    assert_hit(&cambio, &mut all, |grant| grant.issuer == "partner").await;
    let nobody = json!({ "issuer": "partner2" }).to_string();
    let refused = revoke(admin, "", &nobody).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("unknown_issuer")));
    assert!(refused.header("cambio-decision").is_some());
    assert_hit(&cambio, &mut all, |grant| grant.issuer == "partner").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_and_a_client_that_the_configuration_no_longer_has() {
    let partners = Partners::start().await;
    let lines = partners.lines();
    let url = partners.url();
    let cambio = Cambio::start(&url, &lines).await;
    let admin = cambio.running.admin_address();
    let mut all = grants(&partners, cambio.address()).await;
    cambio.reload(&url, "").await;
    let iss = partners.issuer("other").issuer();
    let by_name = revoke(admin, "", r#"{"issuer":"other"}"#).await;
    assert_eq!(by_name.json()["error"], "unknown_issuer");
    let shown = revoked(admin, &json!({ "issuer": iss })).await;
    assert_eq!((&shown["families"], &shown["iss"]), (&json!(4), &json!(iss)));
    assert_eq!(shown["name"], Value::Null);
    let shown = revoked(admin, &json!({ "client": "kiosk" })).await;
    assert_eq!((&shown["families"], &shown["client_id"]), (&json!(4), &json!("kiosk")));
    assert_eq!(shown["name"], Value::Null);
    // It holds where they come back.
    cambio.reload(&url, &lines).await;
    let is_hit = |grant: &Grant| grant.issuer == "other" || grant.client == "kiosk";
    assert_hit(&cambio, &mut all, is_hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_granted_before_a_time() {
    let partners = Partners::start().await;
    let cambio = Cambio::start(&partners.url(), &partners.lines()).await;
    let (address, admin) = (cambio.address(), cambio.running.admin_address());
    let mut first = partners.grant(address, "partner", "alice", "kiosk").await;
    let between = jiff::Timestamp::now();
    next_second().await;
    // An access token that is younger, and goes back to what was granted then.
    assert_eq!(first.refresh(address).await, Ok(()));
    let mut grants = [first, partners.grant(address, "partner", "alice", "portal").await];
    let body = json!({ "subject": "p:alice", "before": between.to_string() });
    let shown = revoked(admin, &body).await;
    let second = jiff::Timestamp::from_second(between.as_second()).unwrap().to_string();
    assert_eq!(shown["before"], json!(second));
    assert_eq!((&shown["families"], &shown["opaque_access_tokens"]), (&json!(1), &json!(1)));
    let is_hit = |grant: &Grant| grant.client == "kiosk";
    assert_hit(&cambio, &mut grants, is_hit).await;
    // One that reaches less far takes nothing back.
    let long_ago = json!({ "subject": "p:alice", "before": "2001-01-01T00:00:00Z" });
    assert_eq!(revoked(admin, &long_ago).await["families"], 0);
    assert_hit(&cambio, &mut grants, is_hit).await;
    let hour = jiff::SignedDuration::from_hours(1);
    let later = (jiff::Timestamp::now() + hour).to_string();
    let future = json!({ "subject": "p:alice", "before": later }).to_string();
    let refused = revoke(admin, "", &future).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_time")));
    assert_hit(&cambio, &mut grants, is_hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_the_configuration_that_serves_is_asked_for() {
    let partners = Partners::start().await;
    let lines = |secret: &str| {
        format!("admin: {{ address: \"127.0.0.1:0\", token: {{ file: {secret} }} }}\n")
            + &partners.lines()
    };
    let url = partners.url();
    let folder = crate::support::folder();
    write_private(&folder.path().join("one"), "the-first-token-of-many-bytes\n");
    write_private(&folder.path().join("two"), "another-token-of-many-bytes");
    let cambio = Cambio::start_in(folder, &url, &lines("one")).await;
    let admin = cambio.running.admin_address();
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (one, two) = (with("the-first-token-of-many-bytes"), with("another-token-of-many-bytes"));
    let body = r#"{"subject":"p:alice"}"#;
    for (fields, status) in [("", 401), (&*two, 401), (&*one, 200)] {
        let response = revoke(admin, fields, body).await;
        assert_eq!(response.status, status, "{fields}");
        if status == 401 {
            assert_eq!(response.json()["error"], "invalid_token");
            assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"admin\""));
        }
    }
    cambio.reload(&url, &lines("two")).await;
    assert_eq!(revoke(admin, &one, body).await.status, 401);
    assert_eq!(revoke(admin, &two, body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_keeps_nothing_has_nothing_to_revoke() {
    let upstream = crate::support::Upstream::start().await;
    let stateless = "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  \
                     endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks }\n";
    let cambio = Cambio::start(&upstream.url(), stateless).await;
    let admin = cambio.running.admin_address();
    let response = revoke(admin, "", r#"{"subject":"alice"}"#).await;
    assert_eq!((response.status, response.json()["error"].as_str()), (409, Some("nothing_kept")));
    cambio
        .reload(&upstream.url(), &format!("{stateless}store: {{ embedded: {{ path: kept }} }}\n"))
        .await;
    assert_eq!(revoke(admin, "", r#"{"subject":"alice"}"#).await.status, 200);
    assert!(cambio.folder.path().join("kept").is_dir());
}
