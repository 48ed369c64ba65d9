//! Introspection, revocation and refreshing, of identity providers' own tokens and of minted ones, by
//! clients that only the identity provider can authenticate.

use serde_json::json;

use crate::answered::{Answered, Tokens};
use crate::estate::{Estate, Form};
use crate::idp::{Kind, secret};
use crate::layer::Manner;
use crate::stage::AUDIENCE;

#[track_caller]
fn assert_inactive(answer: &Answered) {
    assert_eq!(answer.json(), json!({"active": false}));
}

/// What becomes of minted tokens in front of any identity provider.
async fn minted_tokens_are_shown_refreshed_and_revoked(estate: &Estate) {
    let (application, api) = (estate.facts.application, estate.facts.resource_server);
    let stranger = estate.facts.stranger;
    let tokens = estate.exchange(AUDIENCE).await;
    for client in [application, api] {
        let shown = estate.introspect(client, &tokens.access).await.json();
        assert_eq!((&shown["active"], &shown["sub"]), (&json!(true), &json!("alice")), "{client}");
        assert_eq!((&shown["client_id"], &shown["aud"]), (&json!(application), &json!(AUDIENCE)));
        assert_eq!(shown["iss"], estate.facts.issuer);
    }
    // The identity provider knows this client as well; the token is not for it.
    assert_inactive(&estate.introspect(stranger, &tokens.access).await);
    let for_it = estate.exchange(stranger).await;
    assert_eq!(estate.introspect(stranger, &for_it.access).await.json()["aud"], stranger);
    assert_inactive(&estate.introspect(api, &for_it.access).await);
    for token in [&tokens.access, &tokens.refresh] {
        let path = estate.facts.introspection;
        let form = format!("token={token}");
        let wrong = estate.through().ask(application, "wrong", path, &form).await;
        assert_eq!(wrong.status, 401, "{}", wrong.text);
        let unknown = estate.through().ask("nobody", "x", path, &form).await;
        assert_eq!(unknown.status, 401, "{}", unknown.text);
    }
    // A refresh token is its own client's alone.
    let shown = estate.introspect(application, &tokens.refresh).await.json();
    assert_eq!((&shown["active"], &shown["client_id"]), (&json!(true), &json!(application)));
    assert_inactive(&estate.introspect(api, &tokens.refresh).await);
    // It rotates.
    let second = Tokens::of(&estate.refresh(&tokens.refresh).await);
    assert_ne!(second.refresh, tokens.refresh);
    assert_inactive(&estate.introspect(application, &tokens.refresh).await);
    assert_eq!(estate.introspect(api, &second.access).await.json()["active"], true);
    // Another client ends nothing, and neither does a wrong secret.
    assert_eq!(estate.revoke(stranger, &second.refresh).await.status, 200);
    let path = estate.facts.revocation;
    let form = format!("token={}", second.refresh);
    assert_eq!(estate.through().ask(application, "wrong", path, &form).await.status, 401);
    assert_eq!(estate.introspect(api, &second.access).await.json()["active"], true);
    // An access token ends alone.
    assert_eq!(estate.revoke(application, &tokens.access).await.status, 200);
    assert_inactive(&estate.introspect(api, &tokens.access).await);
    assert_eq!(estate.introspect(api, &second.access).await.json()["active"], true);
    // A refresh token with all that came of it.
    assert_eq!(estate.revoke(application, &second.refresh).await.status, 200);
    assert_inactive(&estate.introspect(api, &second.access).await);
    assert_inactive(&estate.introspect(application, &second.refresh).await);
    let refused = estate.refresh(&second.refresh).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("invalid_grant"), "{}", refused.text);
    assert_eq!(estate.introspect(stranger, &for_it.access).await.json()["active"], true);
}

async fn it_authenticates_who_asks_about_a_jwt(kind: Kind) {
    minted_tokens_are_shown_refreshed_and_revoked(&Estate::with(kind, Form::Jwt).await).await;
}

async fn it_authenticates_who_asks_about_an_opaque_token(kind: Kind) {
    minted_tokens_are_shown_refreshed_and_revoked(&Estate::with(kind, Form::Opaque).await).await;
}

async fn what_it_says_of_its_own_access_tokens_passes_as_it_is(kind: Kind) {
    let estate = Estate::of(kind).await;
    let (client, form) = (estate.facts.application, "grant_type=client_credentials&scope=svc");
    let answer = estate.through().ask(client, &secret(client), estate.facts.token, form).await;
    let token = format!("token={}", Tokens::of(&answer).access);
    for path in [estate.facts.introspection, estate.facts.revocation, estate.facts.introspection] {
        let alone = estate.alone().ask(client, &secret(client), path, &token).await;
        let through = estate.through().ask(client, &secret(client), path, &token).await;
        assert_eq!(through.shape(), alone.shape(), "{path}");
        if kind == Kind::OidcProvider {
            // It looks at no JWT, not even at its own.
            assert_eq!((alone.status, alone.error()), (400, "unsupported_token_type".to_owned()));
        } else {
            assert_eq!(alone.status, 200, "{}", alone.text);
        }
    }
    if kind != Kind::OidcProvider {
        assert_inactive(&estate.introspect(client, &token["token=".len()..]).await);
    }
}

/// By a layer in between a wrong secret is answered with 200, too.
async fn a_200_to_a_wrong_secret_shows_nothing_and_ends_nothing(kind: Kind) {
    let (mut estate, layer) = Estate::behind_a_layer(kind).await;
    let client = estate.facts.application;
    let tokens = estate.exchange(AUDIENCE).await;
    for manner in [Manner::Inactive, Manner::Nothing] {
        layer.behave(manner);
        // What was found before must not help.
        estate.restart().await;
        for token in [&tokens.access, &tokens.refresh] {
            let form = format!("token={token}");
            for path in [estate.facts.introspection, estate.facts.revocation] {
                let answer = estate.through().ask(client, "wrong", path, &form).await;
                let what = format!("{manner:?} {path}: {} {}", answer.status, answer.text);
                assert!(matches!(answer.status, 200 | 503), "{what}");
                assert!(!answer.text.contains("alice"), "{what}");
            }
        }
    }
    layer.behave(Manner::Own);
    estate.restart().await;
    for token in [&tokens.access, &tokens.refresh] {
        assert_eq!(estate.introspect(client, token).await.json()["active"], true);
    }
}

in_front_of_each!(
    it_authenticates_who_asks_about_a_jwt,
    it_authenticates_who_asks_about_an_opaque_token,
    what_it_says_of_its_own_access_tokens_passes_as_it_is,
    a_200_to_a_wrong_secret_shows_nothing_and_ends_nothing,
);
