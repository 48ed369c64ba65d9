//! The identity provider behind Cambio: what passes, what is merged, and what happens when it is gone.

use serde_json::{Value, json};

use crate::provider::{AUDIENCE, BY_BASIC, BY_POST, ISSUER, KID};
use crate::software::run;
use crate::stage::Stage;

/// The token of an answer of the identity provider's own grant.
async fn own_token(request: reqwest::RequestBuilder) -> String {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

fn kids(jwks: &Value) -> Vec<&str> {
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_grant_passes_and_its_token_verifies() {
    let stage = Stage::set().await;
    let by_basic = stage
        .post("grant_type=client_credentials&scope=svc")
        .basic_auth(BY_BASIC, Some(format!("{BY_BASIC}-secret")));
    let by_post = stage.post(&format!(
        "grant_type=client_credentials&scope=svc&client_id={BY_POST}&client_secret={BY_POST}-secret"
    ));
    for (request, client) in [(by_basic, BY_BASIC), (by_post, BY_POST)] {
        let token = own_token(request).await;
        for library in ["verify_pyjwt.py", "verify_jose.mjs"] {
            let verified = run(library, &[&stage.metadata(), ISSUER, AUDIENCE, &token]);
            assert_eq!(verified[0]["header"]["kid"], KID);
            assert_eq!(verified[0]["claims"]["client_id"], client);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_refusals_pass_as_they_are() {
    let stage = Stage::set().await;
    let wrong = |origin: String| {
        stage
            .http
            .post(format!("{origin}/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .basic_auth(BY_BASIC, Some("wrong"))
            .body("grant_type=client_credentials")
            .send()
    };
    let alone = wrong(stage.provider.origin()).await.unwrap();
    let through = wrong(stage.origin()).await.unwrap();
    assert_eq!(alone.status(), 401);
    assert_eq!(through.status(), alone.status());
    assert_eq!(through.headers().get("www-authenticate"), alone.headers().get("www-authenticate"));
    assert_eq!(through.text().await.unwrap(), alone.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_know_token_exchange_itself() {
    let stage = Stage::set().await;
    let alone = stage
        .http
        .post(format!("{}/token", stage.provider.origin()))
        .header("content-type", "application/x-www-form-urlencoded")
        .basic_auth(BY_BASIC, Some(format!("{BY_BASIC}-secret")))
        .body(stage.exchange_form("alice"));
    let answer = alone.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["error"], "unsupported_grant_type");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_documents_have_our_grant_and_keys_and_are_otherwise_its_own() {
    let stage = Stage::set().await;
    let path = "/.well-known/openid-configuration";
    let mut merged = stage.get(path).await;
    let grants = merged["grant_types_supported"].as_array_mut().unwrap();
    let ours = json!("urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(grants.iter().filter(|grant| **grant == ours).count(), 1);
    grants.retain(|grant| *grant != ours);

    // The provider writes its URLs by the Host that it is called with.
    let alone = stage.http.get(format!("{}{path}", stage.provider.origin()));
    let alone = alone.header("host", stage.origin().trim_start_matches("http://"));
    let alone = alone.send().await.unwrap().text().await.unwrap();
    assert_eq!(merged, serde_json::from_str::<Value>(&alone).unwrap());

    let jwks = stage.get("/jwks").await;
    let kids = kids(&jwks);
    assert_eq!(kids, [KID, stage.kid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_down_exchanges_and_keys_go_on() {
    let mut stage = Stage::set().await;
    let metadata = "/.well-known/openid-configuration";
    let before = (stage.get("/jwks").await, stage.get(metadata).await);
    stage.provider.go_down();

    let own = || {
        stage
            .post("grant_type=client_credentials&scope=svc")
            .basic_auth(BY_BASIC, Some(format!("{BY_BASIC}-secret")))
    };
    assert_eq!(own().send().await.unwrap().status(), 502);
    assert_eq!((stage.get("/jwks").await, stage.get(metadata).await), before);
    let token = stage.exchange("alice").await;
    let metadata = stage.metadata();
    let arguments = [metadata.as_str(), ISSUER, crate::stage::AUDIENCE, &token];
    assert_eq!(run("verify_jose.mjs", &arguments)[0]["claims"]["sub"], "alice");

    stage.provider.come_up();
    let own = stage
        .post("grant_type=client_credentials&scope=svc")
        .basic_auth(BY_BASIC, Some(format!("{BY_BASIC}-secret")));
    own_token(own).await;
    assert_eq!(kids(&stage.get("/jwks").await), kids(&before.0));
}

/// Our keys alone would make resource servers take the identity provider's for withdrawn.
#[tokio::test(flavor = "multi_thread")]
async fn until_it_has_answered_once_no_document_is_served() {
    let mut stage = Stage::set().await;
    stage.provider.go_down();
    for path in ["/jwks", "/.well-known/openid-configuration"] {
        let answer = stage.http.get(format!("{}{path}", stage.origin())).send().await.unwrap();
        assert_eq!(answer.status(), 502, "{path}");
        assert!(!answer.text().await.unwrap().contains(stage.kid()), "{path}");
    }
    stage.provider.come_up();
    assert_eq!(kids(&stage.get("/jwks").await), [KID, stage.kid()]);
}
