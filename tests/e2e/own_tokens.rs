//! Access tokens of ours as subject tokens, on real sockets: what was revoked is not exchanged again.

use std::path::Path;

use serde_json::{Value, json};

use crate::inquiry_support::{API, Estate, Says, assert_ours, basic, our_secret};
use crate::operator::revoke;
use crate::support::{Response, get, load, post, write_private};

const ISSUER: &str = "https://idp.example/oauth2/token";

/// Trusts our own issuer, with our keys, from now on.
async fn trust_our_own(estate: &Estate) {
    let keys = estate.cambio.request(get("/oauth2/jwks", "")).await;
    let folder = estate.cambio.folder.path();
    write_private(&folder.join("ours.json"), keys.text());
    let lines = std::fs::read_to_string(folder.join("cambio.yaml")).unwrap();
    let own = format!(
        "trusted_token_issuers:\n  - {{ name: ours, issuer: \"{ISSUER}\", alias: \"{API}\", \
         jwks: {{ file: ours.json }} }}\n"
    );
    reload(estate, folder, &lines.replacen("trusted_token_issuers:\n", &own, 1)).await;
}

async fn reload(estate: &Estate, folder: &Path, lines: &str) {
    // All of it stands there already.
    estate.cambio.running.reload(load(folder, "", lines)).await.unwrap();
}

async fn again(estate: &Estate, token: &str) -> Response {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token", token)
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")
        .finish();
    let fields = basic("portal", &our_secret("portal"));
    estate.cambio.request(post("/oauth2/token", &fields, &body)).await
}

fn granted(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

async fn assert_revoked(estate: &Estate, token: &str, count: u64) {
    let refused = again(estate, token).await;
    assert_ours(&refused, 400);
    assert_eq!(
        refused.json(),
        json!({
            "error": "invalid_request",
            "error_description": "The subject token is not accepted.",
        })
    );
    let series =
        "cambio_exchanges_total{issuer=\"ours\",outcome=\"denied\",reason=\"refresh_revoked\"}";
    assert_eq!(estate.metrics().await[series], count.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_is_not_exchanged_again() {
    let estate = Estate::start().await;
    trust_our_own(&estate).await;
    estate.idp.says(Says::Usual);

    // By itself.
    let (one, other) = (estate.exchange("plain", "").await, estate.exchange("plain", "").await);
    let answer = granted(&again(&estate, &one.access).await);
    assert!(answer["refresh_token"].is_null());
    assert_eq!(estate.revoke("plain", &one.access).await.status, 200);
    assert_revoked(&estate, &one.access, 1).await;
    granted(&again(&estate, &other.access).await);

    // With its family.
    let (one, other) = (estate.exchange("portal", "").await, estate.exchange("portal", "").await);
    granted(&again(&estate, &one.access).await);
    assert_eq!(estate.revoke("portal", one.refresh()).await.status, 200);
    assert_revoked(&estate, &one.access, 2).await;
    let between = granted(&again(&estate, &other.access).await);
    let between = between["access_token"].as_str().unwrap();
    granted(&again(&estate, between).await);

    // By an operator, with all of its subject's.
    let subject = estate.introspect("portal", &other.access).await.json()["sub"].clone();
    let admin = estate.cambio.running.admin_address();
    let answer = revoke(admin, "", &json!({ "subject": subject }).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_revoked(&estate, &other.access, 3).await;
    assert_revoked(&estate, between, 4).await;
}
