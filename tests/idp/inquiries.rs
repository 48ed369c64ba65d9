//! Introspection, revocation and refreshing, of identity providers' own tokens and of minted ones, by
//! clients that only the identity provider can authenticate.

use serde_json::{Value, json};

use crate::front::{Answered, Form, Front, Tokens};
use crate::glewlwyd::Glewlwyd;
use crate::provider::Provider;
use crate::stage::AUDIENCE;

const INACTIVE: &str = r#"{"active":false}"#;

#[track_caller]
fn assert_inactive(answer: &Answered) {
    assert_eq!(answer.json(), json!({"active": false}));
}

/// What becomes of minted tokens in front of any identity provider.
async fn minted_tokens_are_shown_refreshed_and_revoked(front: &Front) {
    let (application, api) = (front.facts.application, front.facts.resource_server);
    let stranger = front.facts.stranger;
    let tokens = front.exchange(AUDIENCE).await;
    for client in [application, api] {
        let shown = front.introspect(client, &tokens.access).await.json();
        assert_eq!((&shown["active"], &shown["sub"]), (&json!(true), &json!("alice")), "{client}");
        assert_eq!((&shown["client_id"], &shown["aud"]), (&json!(application), &json!(AUDIENCE)));
        assert_eq!(shown["iss"], front.facts.issuer);
    }
    // The identity provider knows this client as well; the token is not for it.
    assert_inactive(&front.introspect(stranger, &tokens.access).await);
    let for_it = front.exchange(stranger).await;
    assert_eq!(front.introspect(stranger, &for_it.access).await.json()["aud"], stranger);
    assert_inactive(&front.introspect(api, &for_it.access).await);
    for token in [&tokens.access, &tokens.refresh] {
        let path = front.facts.introspection;
        let form = format!("token={token}");
        let wrong = front.ask_with(application, "wrong", path, &form).await;
        assert_eq!(wrong.status, 401, "{}", wrong.text);
        let unknown = front.ask_with("nobody", "x", path, &form).await;
        assert_eq!(unknown.status, 401, "{}", unknown.text);
    }
    // A refresh token is its own client's alone.
    let shown = front.introspect(application, &tokens.refresh).await.json();
    assert_eq!((&shown["active"], &shown["client_id"]), (&json!(true), &json!(application)));
    assert_inactive(&front.introspect(api, &tokens.refresh).await);
    // It rotates.
    let second = Tokens::of(&front.refresh(&tokens.refresh).await);
    assert_ne!(second.refresh, tokens.refresh);
    assert_inactive(&front.introspect(application, &tokens.refresh).await);
    assert_eq!(front.introspect(api, &second.access).await.json()["active"], true);
    // Another client ends nothing, and neither does a wrong secret.
    assert_eq!(front.revoke(stranger, &second.refresh).await.status, 200);
    let path = front.facts.revocation;
    let form = format!("token={}", second.refresh);
    assert_eq!(front.ask_with(application, "wrong", path, &form).await.status, 401);
    assert_eq!(front.introspect(api, &second.access).await.json()["active"], true);
    // An access token ends alone.
    assert_eq!(front.revoke(application, &tokens.access).await.status, 200);
    assert_inactive(&front.introspect(api, &tokens.access).await);
    assert_eq!(front.introspect(api, &second.access).await.json()["active"], true);
    // A refresh token with all that came of it.
    assert_eq!(front.revoke(application, &second.refresh).await.status, 200);
    assert_inactive(&front.introspect(api, &second.access).await);
    assert_inactive(&front.introspect(application, &second.refresh).await);
    let refused = front.refresh(&second.refresh).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("invalid_grant"), "{}", refused.text);
    assert_eq!(front.introspect(stranger, &for_it.access).await.json()["active"], true);
}

/// What its metadata says of our endpoints, which are its own.
async fn metadata_names_its_own_endpoints(front: &Front) {
    let metadata = front.get(front.facts.metadata).await;
    for (name, path) in [
        ("introspection_endpoint", front.facts.introspection),
        ("revocation_endpoint", front.facts.revocation),
    ] {
        let named = metadata[name].as_str().unwrap();
        assert!(named.ends_with(path), "{name}: {named}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyd_authenticates_who_asks_about_a_jwt() {
    let glewlwyd = Glewlwyd::start().await;
    let front = Front::of(glewlwyd.facts(), Form::Jwt).await;
    metadata_names_its_own_endpoints(&front).await;
    minted_tokens_are_shown_refreshed_and_revoked(&front).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyd_authenticates_who_asks_about_an_opaque_token() {
    let glewlwyd = Glewlwyd::start().await;
    let front = Front::of(glewlwyd.facts(), Form::Opaque).await;
    minted_tokens_are_shown_refreshed_and_revoked(&front).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyds_own_refresh_tokens_rotate_through_cambio() {
    let glewlwyd = Glewlwyd::start().await;
    let front = Front::of(glewlwyd.facts(), Form::Jwt).await;
    let (client, path) = (front.facts.application, front.facts.token);
    let form = "grant_type=password&username=alice&password=alicepassword&scope=svc";
    let first = Tokens::of(&front.ask(client, path, form).await);
    assert!(!first.refresh.is_empty());
    let second = Tokens::of(&front.refresh(&first.refresh).await);
    assert!(!second.refresh.is_empty() && second.refresh != first.refresh);
    let third = Tokens::of(&front.refresh(&second.refresh).await);
    // What it says of its own tokens comes through to the byte.
    for token in [&third.access, &third.refresh] {
        for (caller, inquiry) in
            [(client, front.facts.introspection), ("wrong", front.facts.introspection)]
        {
            let [alone, through] = front.both(caller, inquiry, &format!("token={token}")).await;
            assert_eq!(through, alone);
            assert_eq!(alone.status, if caller == client { 200 } else { 401 });
        }
        assert_eq!(front.introspect(client, token).await.json()["active"], true);
    }
    // It revokes its own.
    assert_eq!(front.revoke(client, &third.access).await.status, 200);
    assert_inactive(&front.introspect(client, &third.access).await);
    // One that was used comes back: it ends all of them, and says so in its own words.
    let spent = format!("grant_type=refresh_token&refresh_token={}", first.refresh);
    let [alone, through] = front.both(client, path, &spent).await;
    assert_eq!(through, alone);
    assert!(alone.status >= 400, "{alone:?}");
    assert_inactive(&front.introspect(client, &third.refresh).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_authenticates_who_asks_about_a_jwt_that_it_does_not_look_at() {
    let provider = Provider::start_with_opaque_tokens();
    let front = Front::of(provider.facts(), Form::Jwt).await;
    metadata_names_its_own_endpoints(&front).await;
    minted_tokens_are_shown_refreshed_and_revoked(&front).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_authenticates_who_asks_about_an_opaque_token() {
    let provider = Provider::start();
    let front = Front::of(provider.facts(), Form::Opaque).await;
    minted_tokens_are_shown_refreshed_and_revoked(&front).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_oidc_provider_says_of_its_own_tokens_passes_as_it_is() {
    let form = "grant_type=client_credentials&scope=svc";
    for (provider, is_opaque) in
        [(Provider::start(), false), (Provider::start_with_opaque_tokens(), true)]
    {
        let front = Front::of(provider.facts(), Form::Jwt).await;
        let client = front.facts.application;
        let token = Tokens::of(&front.ask(client, front.facts.token, form).await).access;
        assert_eq!(token.contains('.'), !is_opaque);
        let inquiry = format!("token={token}");
        for path in [front.facts.introspection, front.facts.revocation] {
            let [alone, through] = front.both(client, path, &inquiry).await;
            assert_eq!(through, alone, "{path}");
            if is_opaque {
                assert_eq!(alone.status, 200);
            } else {
                // It looks at no JWT, not even at its own.
                assert_eq!(alone.status, 400);
                let body: Value = serde_json::from_str(&alone.text).unwrap();
                assert_eq!(body["error"], "unsupported_token_type");
            }
        }
        if is_opaque {
            let answer = front.introspect(client, &token).await;
            assert_eq!(answer.text, INACTIVE);
        }
    }
}
