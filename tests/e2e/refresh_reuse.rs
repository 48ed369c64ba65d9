//! A refresh token that comes back after it was used, and subject tokens that come once only.

use cambio::dev::issuer::StandInIssuer;
use cambio::telemetry::log::Format;
use serde_json::json;

use crate::refresh_support::{Client, Estate, refresh_token, refused, stand_in, subject_token};
use crate::support::{Connection, Response};
use crate::telemetry::Lines;

const REUSED: &str = "cambio_refresh_reuse_detected_total";

#[tokio::test]
async fn a_token_that_comes_back_ends_its_family_and_is_told_to_those_who_watch() {
    let (lines, _guard) = Lines::capture("info", Format::Json);
    let estate = Estate::start().await;
    let first = estate.family(Client::Portal).await;
    let unharmed = estate.family(Client::Portal).await;
    let second = refresh_token(&estate.refresh(Client::Portal, &first).await);
    let third = refresh_token(&estate.refresh(Client::Portal, &second).await);
    assert_eq!(estate.metrics().await[REUSED], "0");
    let response = estate.refresh(Client::Portal, &first).await;
    refused(&response, "invalid_grant");
    let metrics = estate.metrics().await;
    assert_eq!(metrics[REUSED], "1");
    assert_eq!(estate.refreshes("denied", "refresh_reused").await, 1);
    // The successor is dead too; to try it is no new discovery.
    for token in [&third, &second, &first] {
        refused(&estate.refresh(Client::Portal, token).await, "invalid_grant");
    }
    assert_eq!(estate.metrics().await[REUSED], "1");
    assert_eq!(estate.refreshes("denied", "refresh_revoked").await, 3);
    refresh_token(&estate.refresh(Client::Portal, &unharmed).await);

    let events = lines.events();
    let event = |reason: &str| {
        events.iter().find(|event| event["target"] == "audit" && event["reason"] == reason).unwrap()
    };
    let reused = event("refresh_reused");
    assert_eq!(Some(reused["decision"].as_str().unwrap()), response.header("cambio-decision"));
    for (name, value) in [
        ("level", "WARN"),
        ("message", "refresh"),
        ("outcome", "denied"),
        ("client", "Portal"),
        ("issuer", "partner"),
    ] {
        assert_eq!(reused[name], value, "{name}");
    }
    let began = events.iter().find(|event| event["message"] == "exchange").unwrap();
    assert!(began["family"].is_string());
    assert_eq!((&reused["family"], &reused["sub_hash"]), (&began["family"], &began["sub_hash"]));
    assert_eq!(reused.get("jti"), None);
    assert_eq!(event("refresh_revoked")["level"], "INFO");
    let said = lines.text();
    for token in [&first, &second, &third, &unharmed] {
        assert!(!said.contains(&token[30..60]), "a token in the log");
    }
    assert!(!said.contains("p:alice") && !said.contains("alice@"), "a subject in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again_while_there_is_grace() {
    let estate = Estate::start().await;
    let first = estate.family(Client::Other).await;
    let second = refresh_token(&estate.refresh(Client::Other, &first).await);
    for _ in 0..3 {
        let again = estate.refresh(Client::Other, &first).await;
        assert_eq!(refresh_token(&again), second);
    }
    // Also after a restart, also where its successor was seen in between.
    let estate = estate.restart().await;
    assert_eq!(refresh_token(&estate.refresh(Client::Other, &first).await), second);
    let third = refresh_token(&estate.refresh(Client::Other, &second).await);
    assert_eq!(refresh_token(&estate.refresh(Client::Other, &second).await), third);
    refused(&estate.refresh(Client::Other, &first).await, "invalid_grant");
    refused(&estate.refresh(Client::Other, &third).await, "invalid_grant");
    assert_eq!(estate.refreshes("denied", "refresh_reused").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing() {
    let estate = Estate::start().await;
    let spent = estate.family(Client::Portal).await;
    let newest = refresh_token(&estate.refresh(Client::Portal, &spent).await);
    let dead = estate.family(Client::Portal).await;
    let deads = refresh_token(&estate.refresh(Client::Portal, &dead).await);
    refused(&estate.refresh(Client::Portal, &dead).await, "invalid_grant");
    let living = estate.family(Client::Phone).await;
    let mut estate = estate.restart().await;
    for _ in 0..2 {
        refused(&estate.refresh(Client::Portal, &deads).await, "invalid_grant");
        refused(&estate.refresh(Client::Portal, &dead).await, "invalid_grant");
        estate = estate.restart().await;
    }
    assert_eq!(estate.refreshes("denied", "refresh_reused").await, 0);
    refused(&estate.refresh(Client::Portal, &spent).await, "invalid_grant");
    assert_eq!(estate.refreshes("denied", "refresh_reused").await, 1);
    refused(&estate.refresh(Client::Portal, &newest).await, "invalid_grant");
    let living = refresh_token(&estate.refresh(Client::Phone, &living).await);
    let estate = estate.restart().await;
    refresh_token(&estate.refresh(Client::Phone, &living).await);
}

/// A token of an issuer whose tokens come once only.
fn once(issuer: &StandInIssuer, jwt_id: &str) -> String {
    subject_token(issuer, |claims| claims["jti"] = json!(jwt_id))
}

async fn exchange(estate: &Estate, token: &str, more: &[(&str, &str)]) -> Response {
    estate.cambio.request(Client::Portal.exchange(token, more)).await
}

async fn exchanges(estate: &Estate, issuer: &str, outcome: &str, reason: &str) -> u64 {
    let name = format!(
        r#"cambio_exchanges_total{{issuer="{issuer}",outcome="{outcome}",reason="{reason}"}}"#
    );
    estate.metrics().await.get(&name).map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_token_that_comes_once_is_accepted_once() {
    let estate = Estate::start().await;
    let token = once(&estate.once, "j-1");
    refresh_token(&exchange(&estate, &token, &[]).await);
    refused(&exchange(&estate, &token, &[]).await, "invalid_request");
    // Nor by another client, and under another signature it is the same.
    let other = estate.cambio.request(Client::Stateless.exchange(&token, &[])).await;
    refused(&other, "invalid_request");
    refused(&exchange(&estate, &once(&estate.once, "j-1"), &[]).await, "invalid_request");
    assert_eq!(exchanges(&estate, "once", "denied", "replayed").await, 3);
    refresh_token(&exchange(&estate, &once(&estate.once, "j-2"), &[]).await);
    // It has to have a name.
    let nameless = subject_token(&estate.once, |claims| {
        claims.as_object_mut().unwrap().remove("jti").unwrap();
    });
    refused(&exchange(&estate, &nameless, &[]).await, "invalid_request");
    assert_eq!(exchanges(&estate, "once", "denied", "jti_missing").await, 1);
    // The same name given by another issuer is another token's, and that one comes at will.
    for _ in 0..2 {
        refresh_token(&exchange(&estate, &once(&estate.issuer, "j-1"), &[]).await);
    }
    // A stateless client's exchange counts as well.
    let token = once(&estate.once, "j-3");
    let stateless = estate.cambio.request(Client::Stateless.exchange(&token, &[])).await;
    assert_eq!(stateless.status, 200);
    refused(&exchange(&estate, &token, &[]).await, "invalid_request");
    let estate = estate.restart().await;
    for name in ["j-1", "j-2", "j-3"] {
        refused(&exchange(&estate, &once(&estate.once, name), &[]).await, "invalid_request");
    }
    assert_eq!(exchanges(&estate, "once", "denied", "replayed").await, 3);
    refresh_token(&exchange(&estate, &once(&estate.once, "j-4"), &[]).await);
    // From the next request on.
    estate.reload(|lines| lines.replace("replay: once", "replay: allow")).await;
    refresh_token(&exchange(&estate, &once(&estate.once, "j-1"), &[]).await);
    estate.reload(str::to_owned).await;
    refused(&exchange(&estate, &once(&estate.once, "j-1"), &[]).await, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_issuers_may_give_one_name() {
    let estate = Estate::with(|lines| {
        lines.replacen(
            "    subject_prefix: \"p:\"",
            "    subject_prefix: \"p:\"\n    replay: once",
            1,
        )
    })
    .await;
    for issuer in [&estate.issuer, &estate.once] {
        refresh_token(&exchange(&estate, &once(issuer, "j-1"), &[]).await);
        refused(&exchange(&estate, &once(issuer, "j-1"), &[]).await, "invalid_request");
    }
    assert_eq!(exchanges(&estate, "partner", "denied", "replayed").await, 1);
    assert_eq!(exchanges(&estate, "once", "denied", "replayed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_at_once_one_is_accepted() {
    let estate = Estate::start().await;
    let mut connections = Vec::new();
    for _ in 0..50 {
        connections.push(estate.connect().await);
    }
    for round in 0..10 {
        let request = Client::Portal.exchange(&once(&estate.once, &format!("r-{round}")), &[]);
        let responses = at_once(&mut connections, &request).await;
        let granted = responses.iter().filter(|response| response.status == 200).count();
        assert_eq!(granted, 1);
        for response in responses.iter().filter(|response| response.status != 200) {
            refused(response, "invalid_request");
        }
    }
    assert_eq!(exchanges(&estate, "once", "granted", "none").await, 10);
    assert_eq!(exchanges(&estate, "once", "denied", "replayed").await, 490);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_spends_no_token() {
    let estate = Estate::start().await;
    let victim = once(&estate.once, "victim");
    // Somebody who has seen the name but not the key, and one who says to be the issuer.
    let forger = stand_in().await;
    let other = subject_token(&forger, |claims| {
        claims["iss"] = json!(estate.once.issuer());
        claims["jti"] = json!("victim");
    });
    refused(&exchange(&estate, &other, &[]).await, "invalid_request");
    assert_eq!(exchanges(&estate, "once", "denied", "key_unknown").await, 1);
    let (body, _) = victim.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let spoilt = format!("{body}.{signature}");
    refused(&exchange(&estate, &spoilt, &[]).await, "invalid_request");
    assert_eq!(exchanges(&estate, "once", "denied", "signature_invalid").await, 1);
    // Neither do requests that get nothing for other reasons.
    for (name, value, error) in [
        ("audience", "https://foreign.example", "invalid_target"),
        ("scope", "admin", "invalid_scope"),
        ("actor_token", "x", "invalid_request"),
    ] {
        refused(&exchange(&estate, &victim, &[(name, value)]).await, error);
    }
    let unproven = Client::Phone.exchange(&victim, &[("client_secret", "wrong")]);
    assert_eq!(estate.cambio.request(unproven).await.status, 401);
    estate.reload(|lines| lines.replace("replay: once", "replay: once\n    enabled: false")).await;
    refused(&exchange(&estate, &victim, &[]).await, "invalid_request");
    estate.reload(str::to_owned).await;
    for change in [
        |claims: &mut serde_json::Value| claims["aud"] = json!("somebody"),
        |claims: &mut serde_json::Value| claims["exp"] = json!(1),
        |claims: &mut serde_json::Value| claims["sub"] = json!(""),
    ] {
        let bad = subject_token(&estate.once, |claims| {
            claims["jti"] = json!("victim");
            change(claims);
        });
        refused(&exchange(&estate, &bad, &[]).await, "invalid_request");
    }
    refresh_token(&exchange(&estate, &victim, &[]).await);
    refused(&exchange(&estate, &victim, &[]).await, "invalid_request");
    assert_eq!(exchanges(&estate, "once", "denied", "replayed").await, 1);
}

/// Sends one request on every connection, the last octet of each as close together as can be.
pub async fn at_once(connections: &mut [Connection], request: &[u8]) -> Vec<Response> {
    let (most, last) = request.split_at(request.len() - 1);
    for connection in connections.iter_mut() {
        connection.send(most).await;
    }
    for connection in connections.iter_mut() {
        connection.send(last).await;
    }
    let mut responses = Vec::with_capacity(connections.len());
    for connection in connections {
        responses.push(connection.receive().await.expect("closed without a response"));
    }
    responses
}
