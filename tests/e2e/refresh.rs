//! Refreshing on real sockets: the whole flow, what passes to the upstream, what ends it.

use serde_json::json;

use crate::refresh_support::{
    API, Client, Estate, OTHER_SECRET, SECRET, UPSTREAMS, claims, refresh_token, refused,
    subject_token,
};
use crate::support::{get, post};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exchanged_is_refreshed_again_and_again() {
    let estate = Estate::start().await;
    let request = Client::Portal.exchange(&estate.token(), &[("scope", "read write")]);
    let exchanged = estate.cambio.request(request).await;
    let first = claims(&exchanged);
    let mut token = refresh_token(&exchanged);
    let mut seen = vec![token.clone()];
    let mut connection = estate.connect().await;
    for _ in 0..5 {
        let response = connection.request(Client::Portal.refresh(&token, &[])).await;
        let next = claims(&response);
        for name in ["iss", "sub", "aud", "client_id", "scope", "email"] {
            assert_eq!(next[name], first[name], "{name}");
        }
        assert_eq!((&next["sub"], &next["aud"]), (&json!("p:alice"), &json!(API)));
        assert_ne!(next["jti"], first["jti"]);
        token = refresh_token(&response);
        assert!(!seen.contains(&token));
        seen.push(token.clone());
    }
    assert_eq!(estate.refreshes("granted", "none").await, 5);
    estate.assert_nothing_of_ours_upstream();
    assert!(estate.upstream.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_that_of_rfc_6749() {
    let estate = Estate::start().await;
    let request = Client::Portal.exchange(&estate.token(), &[("scope", "write")]);
    let exchanged = estate.cambio.request(request).await;
    assert!(exchanged.json()["issued_token_type"].is_string());
    let response = estate.refresh(Client::Portal, &refresh_token(&exchanged)).await;
    assert_eq!(response.status, 200);
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    assert!(response.header("cambio-decision").is_some_and(|id| id.len() >= 16));
    let answer = response.json();
    let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "expires_in", "refresh_token", "scope", "token_type"]);
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"], &answer["scope"]),
        (&json!("Bearer"), &json!(3600), &json!("write"))
    );
    let refusal = estate.refresh(Client::Portal, "cambio_rt_x").await;
    refused(&refusal, "invalid_grant");
    assert_eq!(refusal.header("pragma"), Some("no-cache"));
    let answer = refusal.json();
    let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["error", "error_description"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_authenticating_refreshes_and_no_other_does() {
    let estate = Estate::start().await;
    let mut token =
        refresh_token(&estate.refresh(Client::Phone, &estate.family(Client::Phone).await).await);
    for _ in 0..2 {
        token = refresh_token(&estate.refresh(Client::Phone, &token).await);
    }
    let mut token = estate.family(Client::Portal).await;
    let with = |token: &str, more: &str| {
        post("/oauth2/token", "", &format!("grant_type=refresh_token&refresh_token={token}{more}"))
    };
    let posted = format!("&client_id=portal&client_secret={SECRET}");
    token = refresh_token(&estate.cambio.request(with(&token, &posted)).await);
    token = refresh_token(&estate.refresh(Client::Portal, &token).await);
    let unproven = [
        String::new(),
        "&client_id=portal".to_owned(),
        "&client_id=portal&client_secret=wrong".to_owned(),
        format!("&client_id=other&client_secret={SECRET}"),
        "&client_id=nobody&client_secret=x".to_owned(),
    ];
    for more in unproven {
        let response = estate.cambio.request(with(&token, &more)).await;
        assert_eq!((response.status, &response.json()["error"]), (401, &json!("invalid_client")));
        assert!(response.header("www-authenticate").is_some());
    }
    // Another client's attempts cost the rightful one nothing.
    for client in [Client::Other, Client::Phone] {
        refused(&estate.refresh(client, &token).await, "invalid_grant");
    }
    refused(&estate.refresh(Client::Stateless, &token).await, "unauthorized_client");
    token = refresh_token(&estate.refresh(Client::Portal, &token).await);
    assert_eq!(estate.refreshes("denied", "refresh_other_client").await, 2);
    assert_eq!(estate.refreshes("denied", "grant_not_allowed").await, 1);
    assert_eq!(estate.refreshes("denied", "client_secret_wrong").await, 2);
    refresh_token(&estate.refresh(Client::Portal, &token).await);
    assert!(estate.exchange(Client::Stateless).await.json().get("refresh_token").is_none());
    estate.assert_nothing_of_ours_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_own_refresh_tokens_pass_to_the_byte() {
    let estate = Estate::start().await;
    for token in ["theirs", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "cambio-rt-x", "1%2F%2F0g"] {
        let body =
            format!("refresh_token={token}&client_id=portal&x=%7e&&grant_type=refresh_token");
        let response = estate
            .cambio
            .request(post("/oauth2/token", "Authorization: Basic eDp5\r\n", &body))
            .await;
        assert_eq!((response.status, &response.body[..]), (200, UPSTREAMS));
        assert_eq!(response.header("cambio-decision"), None);
        let seen = estate.upstream.last();
        assert_eq!(seen.body, body.as_bytes());
        assert_eq!(seen.header("authorization"), Some("Basic eDp5"));
    }
    let json = r#"{"grant_type":"refresh_token","refresh_token":"theirs"}"#;
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{json}",
        json.len()
    );
    assert_eq!(estate.cambio.request(request).await.body, UPSTREAMS);
    assert_eq!(estate.upstream.last().body, json.as_bytes());
    assert_eq!(estate.upstream.requests().len(), 5);
}

/// Spellings of `/oauth2/token` that some server takes for it.
const SUSPECTS: &[&[u8]] = include!("suspect_paths.in");

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_leads_a_token_of_ours_to_the_upstream() {
    let estate = Estate::start().await;
    let token = estate.family(Client::Portal).await;
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    for target in SUSPECTS {
        let name = target.escape_ascii();
        let response = estate.cambio.request(post(target, "", &body)).await;
        // Nobody authenticated, so that it stays unspent.
        assert!(matches!(response.status, 400 | 401), "{name}: {response:?}");
        assert!(response.status == 400 || response.header("cambio-decision").is_some(), "{name}");
    }
    let typed = |content_type: &str, body: &str| {
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let json = json!({"grant_type": "refresh_token", "refresh_token": token}).to_string();
    let spellings = [
        typed("application/json", &json),
        typed("application/json", &json.replace("cambio_rt_", "cambio\\u005frt_")),
        typed("text/plain", &body),
        typed("application/x-www-form-urlencoded", &format!("{body}&refresh_token=theirs")),
        typed("application/x-www-form-urlencoded", &format!("refresh_token=theirs&{body}")),
        typed("application/x-www-form-urlencoded", &body.replace("cambio_rt_", "%2563ambio_rt_")),
        typed("application/x-www-form-urlencoded", &body.replace("grant_type=refresh_token&", "")),
        typed("application/x-www-form-urlencoded", &body.replace("=refresh_token", "=password")),
    ];
    for request in &spellings {
        refused(&estate.cambio.request(request).await, "invalid_request");
    }
    let in_query = post(format!("/oauth2/token?{body}"), "", "grant_type=refresh_token");
    refused(&estate.cambio.request(in_query).await, "invalid_request");
    let asked = estate.cambio.request(get(&format!("/oauth2/token?{body}"), "")).await;
    assert_eq!(asked.status, 405);
    assert!(estate.upstream.requests().is_empty());
    refresh_token(&estate.refresh(Client::Portal, &token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_withdraws_ends_refreshing_from_the_next_request_on() {
    let estate = Estate::start().await;
    let mut token = estate.family(Client::Portal).await;
    let grants = r#"["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]"#;
    let portal_alone = |lines: &str, from: &str, to: &str| {
        assert!(lines.contains(from), "{from}");
        lines.replacen(from, to, 1)
    };
    let changes: [(&str, &str, &str, &str); 8] = [
        // The issuer: gone, disabled, not for this application, under another name for subjects.
        (&estate.issuer.issuer(), "https://somebody.example", "invalid_grant", "policy_withdrawn"),
        ("    alias:", "    enabled: false\n    alias:", "invalid_grant", "policy_withdrawn"),
        (
            "    client_id: portal\n",
            "    client_id: portal\n    trusted_token_issuers: [once]\n",
            "invalid_grant",
            "policy_withdrawn",
        ),
        ("\"p:\"", "\"q:\"", "invalid_grant", "policy_withdrawn"),
        // What it was for.
        ("[https://api.example.com, ", "[", "invalid_grant", "policy_withdrawn"),
        // Either grant.
        (
            grants,
            r#"["urn:ietf:params:oauth:grant-type:token-exchange"]"#,
            "unauthorized_client",
            "grant_not_allowed",
        ),
        (grants, "[refresh_token]", "unauthorized_client", "grant_not_allowed"),
        ("lifetime: 24h", "lifetime: 1m", "", ""),
    ];
    let mut connection = estate.connect().await;
    for (from, to, error, reason) in changes {
        estate.reload(|lines| portal_alone(lines, from, to)).await;
        let response = connection.request(Client::Portal.refresh(&token, &[])).await;
        if error.is_empty() {
            // It began less than a minute ago.
            assert!(response.json()["expires_in"].as_u64().unwrap() <= 60);
            token = refresh_token(&response);
        } else {
            let before = estate.refreshes("denied", reason).await;
            refused(&response, error);
            refused(&connection.request(Client::Portal.refresh(&token, &[])).await, error);
            assert_eq!(estate.refreshes("denied", reason).await, before + 1, "{to}");
        }
        // Nothing was lost by trying.
        estate.reload(str::to_owned).await;
        token = refresh_token(&connection.request(Client::Portal.refresh(&token, &[])).await);
    }
    // The application itself.
    estate.reload(|lines| portal_alone(lines, "client_id: portal", "client_id: renamed")).await;
    let response = connection.request(Client::Portal.refresh(&token, &[])).await;
    assert_eq!((response.status, &response.json()["error"]), (401, &json!("invalid_client")));
    // Another one that takes its name over may use what was granted to that name: it is the same.
    estate.reload(|lines| portal_alone(lines, "name: Portal", "name: Successor")).await;
    token = refresh_token(&connection.request(Client::Portal.refresh(&token, &[])).await);
    // A scope and a claim that are gone are missing, and the rest goes on.
    estate.reload(|lines| portal_alone(lines, "    claims: { email: email }\n", "")).await;
    let response = connection.request(Client::Portal.refresh(&token, &[])).await;
    assert_eq!(claims(&response).get("email"), None);
    estate.reload(str::to_owned).await;
    let response = connection.request(Client::Portal.refresh(&refresh_token(&response), &[])).await;
    assert_eq!(claims(&response)["email"], "alice@example.com");
    // A client that becomes one that can't keep anything to itself.
    let token = estate.family(Client::Phone).await;
    estate
        .reload(|lines| {
            let (head, phone) = lines.split_once("  - name: Phone").unwrap();
            let phone = phone.replacen(grants, "[authorization_code]", 1);
            format!("{head}  - name: Phone{}", phone.replacen("mobile", "single_page", 1))
        })
        .await;
    refused(&estate.refresh(Client::Phone, &token).await, "unauthorized_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_and_audience_are_narrowed_for_one_answer() {
    let estate = Estate::start().await;
    let both =
        [("audience", API), ("audience", "https://second.example.com"), ("scope", "read write")];
    let request = Client::Portal.exchange(&estate.token(), &both);
    let mut token = refresh_token(&estate.cambio.request(request).await);
    let narrow = [("scope", "write"), ("resource", API)];
    let request = Client::Portal.refresh(&token, &narrow);
    let response = estate.cambio.request(request).await;
    let narrowed = claims(&response);
    assert_eq!((&narrowed["scope"], &narrowed["aud"]), (&json!("write"), &json!(API)));
    token = refresh_token(&response);
    for (name, value, error) in [
        ("scope", "admin", "invalid_scope"),
        ("scope", "read admin", "invalid_scope"),
        ("audience", "https://foreign.example", "invalid_target"),
        ("resource", "https://foreign.example", "invalid_target"),
        ("resource", "not a uri", "invalid_target"),
    ] {
        refused(
            &estate.cambio.request(Client::Portal.refresh(&token, &[(name, value)])).await,
            error,
        );
    }
    let response = estate.refresh(Client::Portal, &token).await;
    let whole = claims(&response);
    assert_eq!(whole["scope"], "read write");
    assert_eq!(whole["aud"], json!([API, "https://second.example.com"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_access_token_is_one_after_a_refresh_too() {
    let estate = Estate::with(|lines| {
        lines.replacen("    scopes:", "    access_token: { format: opaque }\n    scopes:", 1)
    })
    .await;
    let exchanged = estate.exchange(Client::Portal).await;
    let first = exchanged.json()["access_token"].as_str().unwrap().to_owned();
    let response = estate.refresh(Client::Portal, &refresh_token(&exchanged)).await;
    let second = response.json()["access_token"].as_str().unwrap().to_owned();
    assert!(first.starts_with("cambio_at_") && second.starts_with("cambio_at_"));
    assert_ne!(first, second);
    assert_eq!(response.json()["expires_in"], 3600);
    // Back to a JWT with the configuration.
    estate.reload(|lines| lines.replacen("format: opaque", "format: jwt", 1)).await;
    let response = estate.refresh(Client::Portal, &refresh_token(&response)).await;
    assert_eq!(claims(&response)["sub"], "p:alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_client_is_of_no_use() {
    let estate = Estate::start().await;
    let token = estate.family(Client::Portal).await;
    let more = format!("&client_id=portal&client_secret={OTHER_SECRET}");
    let body = format!("grant_type=refresh_token&refresh_token={token}{more}");
    assert_eq!(estate.cambio.request(post("/oauth2/token", "", &body)).await.status, 401);
    // A subject token of an issuer that is not there any more does not matter to what it gave.
    let other = subject_token(&estate.issuer, |claims| claims["sub"] = json!("bob"));
    let response = estate.cambio.request(Client::Portal.exchange(&other, &[])).await;
    assert_eq!(
        claims(&estate.refresh(Client::Portal, &refresh_token(&response)).await)["sub"],
        "p:bob"
    );
    assert_eq!(claims(&estate.refresh(Client::Portal, &token).await)["sub"], "p:alice");
}
