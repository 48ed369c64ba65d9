//! Introspection (RFC 7662) on real sockets: the identity provider says who calls, we say what holds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::inquiry_support::{
    API, CALLER_UNPROVEN, CODED_SECRET, Estate, INTROSPECT, ITS_INACTIVE, ITS_REFUSAL,
    ITS_UNSUPPORTED, REVOKE, Says, assert_hidden, assert_its_own, assert_ours, assert_unavailable,
    basic, claims, its_secret, our_secret, tampered, with_another_bit,
};
use crate::leap::timed;
use crate::support::{Response, get, post, response};

/// The token is shown, and these are all of its claims.
#[track_caller]
fn assert_shown(response: &Response, expected: &Value) {
    assert_ours(response, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("pragma"), Some("no-cache"));
    assert_eq!(response.json(), *expected);
}

/// What is told of a JWT: what it says itself, and that it is active.
fn shown(token: &str) -> Value {
    let mut claims = claims(token);
    claims["active"] = json!(true);
    claims["token_type"] = json!("Bearer");
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_token_is_shown_to_those_whose_business_it_is() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "&scope=read").await.access;
    let to_several = format!("&audience={API}&audience=svc1");
    let for_two = estate.exchange("portal", &to_several).await.access;
    // Its own client; the resource server of its audience; a client that is its audience.
    assert_shown(&estate.introspect("portal", &access).await, &shown(&access));
    assert_shown(&estate.introspect("api-server", &access).await, &shown(&access));
    assert_shown(&estate.introspect("svc1", &for_two).await, &shown(&for_two));
    let answer = estate.introspect("portal", &access).await.json();
    for (name, value) in [
        ("active", json!(true)),
        ("token_type", json!("Bearer")),
        ("client_id", json!("portal")),
        ("sub", json!("alice")),
        ("aud", json!(API)),
        ("scope", json!("read")),
        ("iss", json!("https://idp.example/oauth2/token")),
    ] {
        assert_eq!(answer[name], value, "{name}");
    }
    // The upstream knows these callers just as well, and it is none of their business.
    for (caller, token) in [("svc1", &access), ("stranger", &access), ("plain", &for_two)] {
        assert_its_own(&estate.introspect(caller, token).await, 200, ITS_INACTIVE);
    }
    assert_eq!(estate.answered("introspections").await, (4, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_may_come_in_either_way_and_blanks_around_the_token() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let by_post = format!("&client_id=portal&client_secret={}", its_secret("portal"));
    let fields = basic("portal", &its_secret("portal"));
    for (fields, token) in [
        ("", format!("{access}{by_post}")),
        (&fields, format!("{access}%0D%0A")),
        (&fields, format!("%20{access}+")),
        (&fields, format!("{access}&client_id=portal")),
        (&fields, format!("{access}&token_type_hint=refresh_token")),
        (&fields, format!("{access}&token_type_hint=no_such_thing")),
        (&fields.replace("Basic", "bAsIc"), access.clone()),
        (&fields.replace('=', ""), access.clone()),
    ] {
        let response = estate.ask(INTROSPECT, fields, &token).await;
        assert_shown(&response, &shown(&access));
    }
    let chunked = format!(
        "POST {INTROSPECT} HTTP/1.1\r\nHost: idp.example\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n{fields}\r\n\
         6\r\ntoken=\r\n{:x}\r\n{access}\r\n0\r\n\r\n",
        access.len()
    );
    assert_shown(&estate.cambio.request(chunked).await, &shown(&access));
    let seen = estate.idp.passed().pop().unwrap();
    assert_eq!(seen.body, format!("token={access}").as_bytes());
    assert_eq!(seen.header("transfer-encoding"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_goes_upstream_as_it_came() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let target = format!("{INTROSPECT}?tenant=a%20b&x");
    let authorization = basic("portal", &its_secret("portal"));
    let fields = format!(
        "{authorization}Cookie: a=b; c=d\r\nX-Twice: 1\r\nX-Twice: 2\r\nAccept: text/html\r\n\
         Accept-Encoding: gzip, br\r\nUser-Agent: someone/1.0\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nVia: 1.1 other\r\n"
    );
    let body = format!("token_type_hint=%61ccess_token&&token={access}&x=%7E");
    let response = estate.cambio.request(post(&target, &fields, &body)).await;
    assert_shown(&response, &shown(&access));
    let asked = estate.idp.passed();
    assert_eq!(asked.len(), 1);
    let seen = &asked[0];
    assert_eq!((seen.method(), seen.target()), ("POST", target.as_str()));
    assert_eq!(seen.body, body.as_bytes());
    let expected: [(&str, &[&str]); 12] = [
        ("authorization", &[authorization.trim_start_matches("Authorization: ").trim()]),
        ("host", &["idp.example"]),
        ("cookie", &["a=b; c=d"]),
        ("x-twice", &["1", "2"]),
        ("user-agent", &["someone/1.0"]),
        ("content-type", &["application/x-www-form-urlencoded"]),
        ("content-length", &[&body.len().to_string()]),
        // The answer is to be read.
        ("accept", &["application/json"]),
        ("accept-encoding", &["identity"]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-hop", &[]),
        ("via", &["1.1 other", "1.1 cambio"]),
    ];
    for (name, values) in expected {
        assert_eq!(seen.all(name), values, "{name}");
    }
    assert_eq!(seen.header("x-forwarded-host"), Some("idp.example"));
    // Absolute-form is as good (RFC 9112 §3.2.2).
    let absolute = format!("http://idp.example{INTROSPECT}");
    let response = estate.cambio.request(post(&absolute, &fields, &body)).await;
    assert_shown(&response, &shown(&access));
    let again = estate.idp.passed().pop().unwrap();
    assert_eq!((again.target(), again.all("host")), (INTROSPECT, vec!["idp.example"]));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert!(seen.header("forwarded").unwrap().contains("proto=http"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_upstream_refuses_learns_nothing() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    for token in [&tokens.access, tokens.refresh()] {
        for fields in [basic("portal", "wrong"), basic("nobody", "x"), String::new()] {
            let response = estate.ask(INTROSPECT, &fields, token).await;
            assert_its_own(&response, 401, ITS_REFUSAL);
            assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"idp\""));
        }
        // Our secret is not the identity provider's, which is the one that is asked.
        let ours = basic("portal", &our_secret("portal"));
        assert_its_own(&estate.ask(INTROSPECT, &ours, token).await, 401, ITS_REFUSAL);
    }
    let (status, body) = ("403 Forbidden", b"<p>no</p>");
    estate.idp.says(Says::Exactly(response(status, &[("X-IdP", "yes")], body)));
    assert_its_own(&estate.introspect("portal", &tokens.access).await, 403, body);
    assert_eq!(estate.answered("introspections").await, (0, 9));
    estate.idp.says(Says::Usual);
    assert_shown(&estate.introspect("portal", &tokens.access).await, &shown(&tokens.access));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_could_be_another_one_learns_nothing() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    // An upstream that lets everybody pass, so that only we can tell.
    let welcome = response("200 OK", &[("X-IdP", "yes")], ITS_INACTIVE);
    estate.idp.says(Says::Exactly(welcome));
    let right = basic("portal", "x");
    let unclear = [
        (String::new(), ""),
        // Its name alone proves nothing here.
        (String::new(), "&client_id=portal"),
        (String::new(), "&client_id=portal&client_secret="),
        (basic("portal", ""), ""),
        ("Authorization: Bearer portal\r\n".to_owned(), ""),
        ("Authorization: Bearer portal\r\n".to_owned(), "&client_id=portal&client_secret=x"),
        // Two ways at once.
        (format!("{right}{right}"), ""),
        (right.clone(), "&client_secret=x"),
        (right.clone(), "&client_assertion=x"),
        (right.clone(), "&client_id=plain"),
        (String::new(), "&client_id=portal&client_assertion=x&client_assertion_type=y"),
        // Percent-decoded it is another client's than raw.
        (basic("po%72tal", "x"), ""),
    ];
    for (fields, more) in &unclear {
        let response = estate.ask(INTROSPECT, fields, &format!("{access}{more}")).await;
        assert_its_own(&response, 200, ITS_INACTIVE);
    }
    // Only the secret can be read in two ways.
    for secret in [CODED_SECRET, &its_secret("portal")] {
        let response = estate.ask(INTROSPECT, &basic("portal", secret), &access).await;
        assert_shown(&response, &shown(&access));
    }
    assert_eq!(estate.answered("introspections").await, (2, unclear.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_may_read_differently_is_the_upstreams_alone() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let welcome = response("200 OK", &[("X-IdP", "yes")], ITS_INACTIVE);
    estate.idp.says(Says::Both(welcome.clone(), welcome));
    let right = basic("portal", &its_secret("portal"));
    let token = format!("token={access}");
    let encoding = "Accept-Encoding: gzip\r\nAccept: text/html\r\n";
    let fields = |more: &str| format!("{right}{encoding}{more}");
    let typed = |content_type: &str| {
        String::from_utf8(post(INTROSPECT, &fields(""), &token))
            .unwrap()
            .replace("application/x-www-form-urlencoded", content_type)
            .into_bytes()
    };
    let body = |body: &str| post(INTROSPECT, &fields(""), body);
    let at = |target: &str| post(target, &fields(""), &token);
    let others = [
        body(&format!("{token}&token=x")),
        body(&format!("{token}&token[]=x")),
        body(&format!("{token}&client.id=portal")),
        body(&format!("{token}&+client_id=portal")),
        body(&format!("{token}&Client_Secret=x")),
        body(&format!("{token}&_method=options")),
        body(&format!("{token}&access_token=x")),
        body(&format!("{token}&x=%zz")),
        body(&format!("{token};x=1")),
        body(&token.replace("token=", "Token=")),
        body("token="),
        body(""),
        body(&format!("{}&{token}", "a=b&".repeat(64))),
        at(&format!("{INTROSPECT}?token=x")),
        at(&format!("{INTROSPECT}?client_id=portal")),
        at(&format!("{INTROSPECT}?Client_Id[0]=portal")),
        at(&format!("{INTROSPECT}?a='b'")),
        at(&format!("{INTROSPECT}?%zz")),
        typed("application/json"),
        typed("application/x-www-form-urlencoded; charset=utf-16"),
        typed("multipart/form-data; boundary=x"),
        post(INTROSPECT, &fields("Content-Type: text/plain\r\n"), &token),
        post(INTROSPECT, &fields("Content-Encoding: gzip\r\n"), &token),
        post(INTROSPECT, &fields("X-HTTP-Method-Override: OPTIONS\r\n"), &token),
        post(INTROSPECT, &fields("X_Http_Method: GET\r\n"), &token),
        post(INTROSPECT, &fields("X-Original-URL: /elsewhere\r\n"), &token),
        // Tokens that have nothing to do with us.
        body("token=theirs"),
        body("token=eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.c2ln"),
    ];
    for request in &others {
        let response = estate.cambio.request(request).await;
        assert_its_own(&response, 200, ITS_INACTIVE);
        let seen = estate.idp.upstream.last();
        let sent = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        assert_eq!(seen.body, &request[sent + 4..], "{}", request.escape_ascii());
        // It went by as it was.
        assert_eq!(seen.all("accept-encoding"), ["gzip"], "{}", request.escape_ascii());
        assert_eq!(seen.all("accept"), ["text/html"]);
    }
    let put = String::from_utf8(body(&token)).unwrap().replacen("POST", "PUT", 1);
    let options = String::from_utf8(body(&token)).unwrap().replacen("POST", "OPTIONS", 1);
    let unlike = [put, options, get(&format!("{INTROSPECT}?token={access}"), &right)];
    for request in &unlike {
        assert_its_own(&estate.cambio.request(request).await, 200, ITS_INACTIVE);
    }
    let all = (others.len() + unlike.len()) as u64;
    assert_eq!(estate.answered("introspections").await, (0, all));
    estate.idp.says(Says::Usual);
    assert_shown(&estate.cambio.request(body(&token)).await, &shown(&access));
    assert_shown(&estate.cambio.request(at("/oauth2/introspect?a=b")).await, &shown(&access));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_tampered_with_is_not_shown() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let refresh = estate.exchange("portal", "").await.refresh.unwrap();
    let opaque = estate.exchange("vault", "").await.access;
    let hour_later = tampered(&access, |claims| {
        claims["exp"] = json!(claims["exp"].as_u64().unwrap() + 3600);
    });
    let (start, signature) = access.rsplit_once('.').unwrap();
    let flipped = format!(
        "{start}.{}{}",
        if signature.starts_with('A') { "B" } else { "A" },
        &signature[1..]
    );
    let unsigned = format!("{start}.");
    let forged = [
        ("portal", hour_later),
        ("portal", tampered(&access, |claims| claims["scope"] = json!("write"))),
        ("portal", flipped),
        ("portal", with_another_bit(&refresh)),
        ("vault", with_another_bit(&opaque)),
        ("portal", refresh[..refresh.len() - 4].to_owned()),
        ("vault", opaque[..opaque.len() - 4].to_owned()),
        ("portal", format!("cambio_rt_{}", "A".repeat(86))),
        ("vault", format!("cambio_at_{}", "A".repeat(64))),
    ];
    for (caller, token) in &forged {
        assert_its_own(&estate.introspect(caller, token).await, 200, ITS_INACTIVE);
    }
    assert_its_own(&estate.introspect("portal", &unsigned).await, 200, ITS_INACTIVE);
    // Where the upstream looks at no JWT, we say it.
    estate.idp.says(Says::NoJwts);
    for (caller, token) in forged.iter().filter(|(_, token)| token.contains('.')) {
        assert_hidden(&estate.introspect(caller, token).await);
    }
    // Where it has no such endpoint, we say it of all.
    estate.idp.says(Says::Nowhere { status: "404 Not Found", path: INTROSPECT });
    for (caller, token) in &forged {
        let fields = basic(caller, &our_secret(caller));
        assert_hidden(&estate.ask(INTROSPECT, &fields, token).await);
    }
    for (caller, token) in [("portal", &access), ("portal", &refresh), ("vault", &opaque)] {
        let fields = basic(caller, &our_secret(caller));
        let response = estate.ask(INTROSPECT, &fields, token).await;
        assert_eq!(response.json()["active"], true, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opaque_and_refresh_tokens_are_shown_too() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("vault", "&scope=read+write").await;
    let claims = estate.introspect("vault", &tokens.access).await;
    assert_ours(&claims, 200);
    let claims = claims.json();
    let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    let expected = "active aud client_id exp iat iss jti scope sub token_type";
    assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    assert_eq!((&claims["active"], &claims["sub"]), (&json!(true), &json!("alice")));
    assert_eq!((&claims["client_id"], &claims["aud"]), (&json!("vault"), &json!(API)));
    assert_eq!((&claims["scope"], &claims["token_type"]), (&json!("read write"), &json!("Bearer")));
    assert_eq!(estate.introspect("api-server", &tokens.access).await.json(), claims);
    assert_its_own(&estate.introspect("portal", &tokens.access).await, 200, ITS_INACTIVE);
    let refresh = estate.introspect("vault", tokens.refresh()).await.json();
    let names: Vec<&String> = refresh.as_object().unwrap().keys().collect();
    assert_eq!(names, ["active", "aud", "client_id", "exp", "iat", "iss", "scope", "sub"]);
    assert_eq!((&refresh["active"], &refresh["client_id"]), (&json!(true), &json!("vault")));
    let lifetime = refresh["exp"].as_u64().unwrap() - refresh["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 24 * 3600);
    // Not even who may see its access tokens.
    for caller in ["api-server", "portal", "svc1"] {
        assert_its_own(&estate.introspect(caller, tokens.refresh()).await, 200, ITS_INACTIVE);
    }
    // A spent one is none, and its successor is one.
    let next = estate.refresh("vault", tokens.refresh()).await;
    assert!(!estate.is_active("vault", tokens.refresh()).await);
    assert!(estate.is_active("vault", next.refresh()).await);
    // To look at a spent one is no theft: nothing ended.
    assert!(estate.is_active("vault", &next.access).await);
    assert!(estate.is_active("vault", &tokens.access).await);
    estate.refresh("vault", next.refresh()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_ended_takes_its_access_tokens_with_it() {
    let estate = Estate::start().await;
    for client in ["portal", "vault"] {
        let first = estate.exchange(client, "").await;
        let second = estate.refresh(client, first.refresh()).await;
        let other = estate.exchange(client, "").await;
        for token in [&first.access, &second.access, second.refresh()] {
            assert!(estate.is_active(client, token).await);
        }
        // Somebody has a spent one.
        assert_eq!(estate.try_refresh(client, first.refresh()).await.status, 400);
        for token in [&first.access, &second.access, first.refresh(), second.refresh()] {
            assert!(!estate.is_active(client, token).await, "{client}");
        }
        assert!(estate.is_active(client, &other.access).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_not_active() {
    let estate = Estate::start().await;
    let brief = estate.exchange("brief", "").await.access;
    let began = std::time::Instant::now();
    while estate.is_active("brief", &brief).await {
        assert!(began.elapsed() < Duration::from_secs(10), "it never expired");
        tokio::task::yield_now().await;
    }
    assert!(claims(&brief)["exp"].as_u64().unwrap() <= cambio::clock::now().as_secs());
    // Nor where the upstream says otherwise.
    let active = response("200 OK", &[("X-IdP", "yes")], br#"{"active":true,"sub":"alice"}"#);
    estate.idp.says(Says::Exactly(active));
    assert_hidden(&estate.introspect("brief", &brief).await);
    estate.idp.says(Says::NoJwts);
    assert_hidden(&estate.introspect("brief", &brief).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_says_of_an_active_token_stands_unless_it_was_revoked() {
    let estate = Estate::start().await;
    let (live, revoked) =
        (estate.exchange("portal", "").await, estate.exchange("portal", "").await);
    assert_eq!(estate.revoke("portal", &revoked.access).await.status, 200);
    let body = br#"{ "active": true, "sub": "alice" }"#;
    let active = response("200 OK", &[("X-IdP", "yes")], body);
    estate.idp.says(Says::Both(active.clone(), active));
    assert_its_own(&estate.introspect("stranger", &live.access).await, 200, body);
    assert_its_own(&estate.introspect("portal", live.refresh()).await, 200, body);
    // Whoever asks, in whatever way.
    assert_hidden(&estate.introspect("stranger", &revoked.access).await);
    assert_hidden(&estate.ask(INTROSPECT, "Authorization: Bearer x\r\n", &revoked.access).await);
    // One that we did not sign may be the upstream's own.
    let forged = tampered(&revoked.access, |claims| claims["sub"] = json!("bob"));
    assert_its_own(&estate.introspect("portal", &forged).await, 200, body);
    estate.idp.says(Says::Usual);
    assert_eq!(estate.revoke("portal", live.refresh()).await.status, 200);
    let active = response("200 OK", &[("X-IdP", "yes")], body);
    estate.idp.says(Says::Both(active.clone(), active));
    assert_hidden(&estate.introspect("portal", live.refresh()).await);
    assert_hidden(&estate.introspect("portal", &live.access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_answer_is_never_asked_for() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let accept = "Accept: application/token-introspection+jwt\r\n";
    for (caller, is_shown) in [("portal", true), ("stranger", false)] {
        let fields = format!("{}{accept}", basic(caller, &its_secret(caller)));
        let response = estate.ask(INTROSPECT, &fields, &access).await;
        let seen = estate.idp.passed().pop().unwrap();
        assert_eq!(seen.all("accept"), ["application/json"]);
        if is_shown {
            assert_shown(&response, &shown(&access));
        } else {
            assert_its_own(&response, 200, ITS_INACTIVE);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_says_neither_is_passed_on() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let bodies: [&[u8]; 9] = [
        b"",
        b"{}",
        b"[]",
        b"ok",
        br#"{"active":"false"}"#,
        br#"{"active":null}"#,
        br#"{"active":false,"active":true}"#,
        br#"[{"active":false}]"#,
        br#"{"active":false} x"#,
    ];
    for body in bodies {
        estate.idp.says(Says::Exactly(response("200 OK", &[("X-IdP", "yes")], body)));
        assert_its_own(&estate.introspect("portal", &access).await, 200, body);
    }
    for (status, code) in [
        ("201 Created", 201),
        ("302 Found", 302),
        ("400 Bad Request", 400),
        ("403 Forbidden", 403),
        ("429 Too Many Requests", 429),
    ] {
        let fields = [("X-IdP", "yes"), ("Location", "/login"), ("Retry-After", "7")];
        estate.idp.says(Says::Exactly(response(status, &fields, ITS_INACTIVE)));
        let response = estate.introspect("portal", &access).await;
        assert_its_own(&response, code, ITS_INACTIVE);
        assert_eq!(response.header("retry-after"), Some("7"));
    }
    // Nor is anything inside a coding looked at.
    let fields = [("X-IdP", "yes"), ("Content-Encoding", "gzip")];
    estate.idp.says(Says::Exactly(response("200 OK", &fields, b"\x1f\x8b")));
    let response = estate.introspect("portal", &access).await;
    assert_its_own(&response, 200, b"\x1f\x8b");
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    estate.idp.says(Says::Usual);
    assert_shown(&estate.introspect("portal", &access).await, &shown(&access));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_upstream_looks_at_no_jwt_the_caller_is_probed() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    for says in [Says::NoJwts, Says::NoJwtsToAnybody] {
        estate.idp.says(says);
        for caller in ["portal", "api-server"] {
            assert_shown(&estate.introspect(caller, &access).await, &shown(&access));
        }
        assert_hidden(&estate.introspect("stranger", &access).await);
    }
    // Here it is asked before it says who calls.
    let response = estate.ask(INTROSPECT, &basic("portal", "wrong"), &access).await;
    assert_ours(&response, 401);
    assert_eq!(response.json()["error"], "invalid_client");
    assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"token\""));
    // Nothing to probe, so that its answer stands.
    for fields in ["", "Authorization: Bearer x\r\n"] {
        let response = estate.ask(INTROSPECT, fields, &access).await;
        assert_its_own(&response, 400, ITS_UNSUPPORTED);
    }
    let named = format!("{access}&client_id=portal");
    assert_its_own(&estate.ask(INTROSPECT, "", &named).await, 400, ITS_UNSUPPORTED);
    // Another 400 is between the caller and the upstream.
    let other = response_400(br#"{"error":"invalid_request"}"#);
    estate.idp.says(Says::Exactly(other));
    let body = br#"{"error":"invalid_request"}"#;
    assert_its_own(&estate.introspect("portal", &access).await, 400, body);
}

fn response_400(body: &[u8]) -> Vec<u8> {
    response("400 Bad Request", &[("X-IdP", "yes")], body)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_upstream_has_no_such_endpoint_our_own_applications_may_ask() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "&audience=svc1").await.access;
    for status in ["404 Not Found", "405 Method Not Allowed", "501 Not Implemented"] {
        estate.idp.says(Says::Nowhere { status, path: INTROSPECT });
        let ask = async |id: &str, secret: &str| {
            estate.ask(INTROSPECT, &basic(id, secret), &access).await
        };
        assert_shown(&ask("portal", &our_secret("portal")).await, &shown(&access));
        let posted = format!("{access}&client_id=portal&client_secret={}", our_secret("portal"));
        assert_shown(&estate.ask(INTROSPECT, "", &posted).await, &shown(&access));
        assert_hidden(&ask("plain", &our_secret("plain")).await);
        let wrong = [
            basic("portal", &its_secret("portal")),
            basic("portal", ""),
            basic("svc1", &its_secret("svc1")),
            basic("phone", "x"),
            basic("nobody", "x"),
            "Authorization: Bearer x\r\n".to_owned(),
            String::new(),
        ];
        for fields in &wrong {
            let response = estate.ask(INTROSPECT, fields, &access).await;
            assert_ours(&response, 401);
            assert_eq!(response.json()["error"], "invalid_client", "{fields}");
            assert!(response.header("www-authenticate").is_some());
        }
        // A public client has nothing to prove, and nothing to see.
        let named = format!("{access}&client_id=phone");
        assert_ours(&estate.ask(INTROSPECT, "", &named).await, 401);
        let twice = format!("{access}&client_secret=x");
        let response = estate.ask(INTROSPECT, &basic("portal", "x"), &twice).await;
        assert_ours(&response, 400);
    }
    // What is not ours is answered as if we were not there.
    let response = estate.introspect("portal", "theirs").await;
    assert_its_own(&response, 501, b"no such thing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_say_who_calls_leaves_nothing_to_be_said() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let too_large = [br#"{"active":false}"#, " ".repeat(1024 * 1024).as_bytes()].concat();
    let broken: [Vec<u8>; 6] = [
        response("500 Internal Server Error", &[], b"stack trace"),
        response("503 Service Unavailable", &[("Retry-After", "3600")], b"maintenance"),
        response("504 Gateway Timeout", &[], ITS_INACTIVE),
        response("200 OK", &[], &too_large),
        // It closes without an answer, or in the middle of one.
        Vec::new(),
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_vec(),
    ];
    for answer in broken {
        estate.idp.says(Says::Both(answer.clone(), answer));
        for token in [&tokens.access, tokens.refresh()] {
            let response = estate.introspect("portal", token).await;
            assert_unavailable(&response, CALLER_UNPROVEN);
        }
    }
    // Nor does it wait for one that hangs, with the header or with the body.
    for hanging in [&b"HTTP/1.1 200"[..], b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        estate.idp.says(Says::Exactly(hanging.to_vec()));
        let (response, took) = timed(estate.introspect("portal", &tokens.access)).await;
        assert_unavailable(&response, CALLER_UNPROVEN);
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(10));
        assert!(took > least && took < most, "{took:?}");
    }
    estate.idp.says(Says::Usual);
    assert_shown(&estate.introspect("portal", &tokens.access).await, &shown(&tokens.access));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_gone_leaves_nothing_to_be_said() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let fields = basic("portal", &its_secret("portal"));
    let Estate { cambio, idp, .. } = estate;
    drop(idp);
    // One that is not ours is told so, too.
    for token in [&access, "theirs"] {
        let request = post(INTROSPECT, &fields, &format!("token={token}"));
        assert_unavailable(&cambio.request(request).await, CALLER_UNPROVEN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let fields = basic("portal", &its_secret("portal"));
    let padded = |size: usize| {
        let body = format!("token={access}&x=");
        post(INTROSPECT, &fields, &format!("{body}{}", "a".repeat(size - body.len())))
    };
    assert_shown(&estate.cambio.request(padded(65_536)).await, &shown(&access));
    let response = estate.cambio.request(padded(65_537)).await;
    assert_ours(&response, 413);
    assert_eq!(response.json()["error"], "invalid_request");
    assert_eq!(estate.idp.passed().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_can_be_read_in_two_ways_is_nobodys() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    // This upstream decodes nothing, so that it vouches for `%70ortal`. The parameter says whom we
    // should take it for.
    let fields = basic("%70ortal", &its_secret("%70ortal"));
    for (path, body) in [(INTROSPECT, ITS_INACTIVE), (REVOKE, &b""[..])] {
        for more in ["", "&client_id=portal", "&client_id=%2570ortal"] {
            let response = estate.ask(path, &fields, &format!("{access}{more}")).await;
            assert_its_own(&response, 200, body);
        }
    }
    assert!(estate.is_active("portal", &access).await);
    let named = estate.ask(INTROSPECT, &basic("portal", &its_secret("portal")), &access).await;
    assert_eq!(named.json()["active"], true);
}
