//! Revocation (RFC 7009) on real sockets: the identity provider says who calls, and what is revoked
//! stays so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::inquiry_support::{
    CALLER_UNPROVEN, Estate, INTROSPECT, ITS_REFUSAL, ITS_UNSUPPORTED, REVOKE, Says, assert_hidden,
    assert_its_own, assert_ours, assert_unavailable, basic, its_secret, our_secret, tampered,
    with_another_bit,
};
use crate::leap::timed;
use crate::support::{Response, get, post, response};

/// The upstream's 200 came through: the token counts no more.
#[track_caller]
fn assert_done(response: &Response) {
    assert_its_own(response, 200, b"");
}

/// Our own 200, which has nothing in it.
#[track_caller]
fn assert_done_by_us(response: &Response) {
    assert_ours(response, 200);
    assert_eq!(response.body, b"");
    assert_eq!(response.all("content-length"), ["0"]);
    assert_eq!(response.header("content-type"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_access_token_is_inactive_and_nothing_else_is() {
    let estate = Estate::start().await;
    for client in ["portal", "vault", "plain"] {
        let tokens = estate.exchange(client, "").await;
        let other = estate.exchange(client, "").await;
        assert!(estate.is_active(client, &tokens.access).await);
        assert_done(&estate.revoke(client, &tokens.access).await);
        assert!(!estate.is_active(client, &tokens.access).await, "{client}");
        assert!(estate.is_active(client, &other.access).await);
        // To whoever may see it.
        estate.idp.says(Says::NoJwts);
        if client != "vault" {
            assert_hidden(&estate.introspect("api-server", &tokens.access).await);
        }
        estate.idp.says(Says::Usual);
        // A second time is as good (RFC 7009 §2.2).
        assert_done(&estate.revoke(client, &tokens.access).await);
        if tokens.refresh.is_some() {
            // What it was had with goes on.
            let next = estate.refresh(client, tokens.refresh()).await;
            assert!(estate.is_active(client, &next.access).await);
            assert!(!estate.is_active(client, &tokens.access).await);
        }
    }
    assert_eq!(estate.answered("revocations").await, (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_refresh_token_takes_its_whole_family_with_it() {
    let estate = Estate::start().await;
    for (client, with_spent) in
        [("portal", false), ("portal", true), ("vault", false), ("phone", false)]
    {
        let first = estate.exchange(client, "").await;
        let second = estate.refresh(client, first.refresh()).await;
        let other = estate.exchange(client, "").await;
        let token = if with_spent { first.refresh() } else { second.refresh() };
        let response = if client == "phone" {
            let named = format!("{token}&client_id=phone");
            estate.ask(REVOKE, "", &named).await
        } else {
            estate.revoke(client, token).await
        };
        assert_done(&response);
        let refused = estate.try_refresh(client, second.refresh()).await;
        assert_eq!(refused.status, 400, "{client}");
        assert_eq!(refused.json()["error"], "invalid_grant");
        // The phone can't introspect for itself; whoever gets its tokens can.
        let reader = if client == "phone" { "api-server" } else { client };
        for token in [&first.access, &second.access] {
            assert!(!estate.is_active(reader, token).await, "{client}");
        }
        assert!(estate.is_active(reader, &other.access).await);
        estate.refresh(client, other.refresh()).await;
    }
    assert_eq!(estate.answered("revocations").await, (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_goes_upstream_as_it_came() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let authorization = basic("portal", &its_secret("portal"));
    let fields = format!(
        "{authorization}Accept: text/html\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n\
         Expect: 100-continue\r\nX-Mine: 1\r\n"
    );
    let body = format!("token={access}&token_type_hint=refresh%5Ftoken&&z=");
    let target = format!("{REVOKE}?a=b");
    let head_and_body = post(&target, &fields, &body);
    let mut connection = estate.cambio.connect().await;
    connection.send(&head_and_body).await;
    assert_eq!(connection.receive().await.unwrap().status, 100);
    assert_done(&connection.receive().await.unwrap());
    // The connection serves on.
    assert_done(&connection.request(post(REVOKE, &authorization, &body)).await);
    let asked = estate.idp.passed();
    assert_eq!(asked.len(), 2);
    let seen = &asked[0];
    assert_eq!((seen.method(), seen.target()), ("POST", target.as_str()));
    assert_eq!(seen.body, body.as_bytes());
    for (name, values) in [
        ("authorization", &[authorization.trim_start_matches("Authorization: ").trim()][..]),
        ("accept", &["text/html"]),
        ("accept-encoding", &["identity"]),
        ("cookie", &["a=b"]),
        ("x-mine", &["1"]),
        ("host", &["idp.example"]),
        ("expect", &[]),
    ] {
        assert_eq!(seen.all(name), values, "{name}");
    }
    assert!(!estate.is_active("portal", &access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_tokens_own_client_revokes_it() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "&audience=svc1").await;
    let of_phone = estate.exchange("phone", "").await;
    // Not even who may introspect it. They are told what everybody is (RFC 7009 §2.2).
    for caller in ["plain", "svc1", "api-server", "stranger"] {
        for token in [&tokens.access, tokens.refresh(), of_phone.refresh()] {
            assert_done(&estate.revoke(caller, token).await);
        }
    }
    let named = format!("{}&client_id=phone", tokens.refresh());
    assert_done(&estate.ask(REVOKE, "", &named).await);
    assert_eq!(estate.answered("revocations").await, (0, 13));
    assert!(estate.is_active("portal", &tokens.access).await);
    estate.refresh("portal", tokens.refresh()).await;
    estate.refresh("phone", of_phone.refresh()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_upstream_does_not_vouch_for_revokes_nothing() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    for token in [&tokens.access, tokens.refresh()] {
        for fields in [
            basic("portal", "wrong"),
            basic("portal", &our_secret("portal")),
            "Authorization: Bearer x\r\n".to_owned(),
            String::new(),
        ] {
            assert_its_own(&estate.ask(REVOKE, &fields, token).await, 401, ITS_REFUSAL);
        }
    }
    // An upstream that lets everybody pass: only we can tell who it was.
    let welcome = response("200 OK", &[("X-IdP", "yes")], b"");
    estate.idp.says(Says::Both(welcome.clone(), welcome));
    let right = basic("portal", "x");
    for (fields, more) in [
        (String::new(), ""),
        // It has a secret, so that its name alone proves nothing.
        (String::new(), "&client_id=portal"),
        (basic("portal", ""), ""),
        ("Authorization: Bearer x\r\n".to_owned(), "&client_id=portal"),
        (right.clone(), "&client_secret=x"),
        (right.clone(), "&client_id=plain"),
        (basic("po%72tal", "x"), ""),
        (right.clone(), "&client%5Fid[]=plain"),
        (right.clone(), "&_method=OPTIONS"),
        (right.clone(), "&access_token=x"),
    ] {
        for token in [&tokens.access, tokens.refresh()] {
            let token = format!("{token}{more}");
            assert_done(&estate.ask(REVOKE, &fields, &token).await);
        }
    }
    for more in ["X-HTTP-Method-Override: OPTIONS\r\n", "X-Rewrite-URL: /\r\n"] {
        assert_done(&estate.ask(REVOKE, &format!("{right}{more}"), &tokens.access).await);
    }
    let body = format!("token={}", tokens.access);
    for method in ["OPTIONS", "PUT", "GET"] {
        let request = String::from_utf8(post(REVOKE, &right, &body)).unwrap();
        let response = estate.cambio.request(request.replacen("POST", method, 1)).await;
        assert_done(&response);
    }
    let in_query = get(&format!("{REVOKE}?{body}"), &right);
    assert_done(&estate.cambio.request(in_query).await);
    // Its other answers mean nothing.
    for status in ["201 Created", "202 Accepted", "302 Found", "400 Bad Request", "403 Forbidden"] {
        let answer = response(status, &[("X-IdP", "yes")], b"{}");
        estate.idp.says(Says::Both(answer.clone(), answer));
        let response = estate.ask(REVOKE, &right, &tokens.access).await;
        assert_its_own(&response, status[..3].parse().unwrap(), b"{}");
    }
    assert_eq!(estate.answered("revocations").await.0, 0);
    assert!(estate.is_active("portal", &tokens.access).await);
    estate.refresh("portal", tokens.refresh()).await;
    assert_done(&estate.revoke("portal", &tokens.access).await);
    assert!(!estate.is_active("portal", &tokens.access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_revokes_nothing() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let opaque = estate.exchange("vault", "").await.access;
    for (client, token) in [
        // It names a family, and was never of it.
        ("portal", with_another_bit(tokens.refresh())),
        ("vault", with_another_bit(&opaque)),
        ("portal", tampered(&tokens.access, |claims| claims["scope"] = "write".into())),
        ("portal", "cambio_rt_x".to_owned()),
        ("vault", "cambio_at_x".to_owned()),
        ("portal", "theirs".to_owned()),
    ] {
        assert_done(&estate.revoke(client, &token).await);
        assert_eq!(estate.idp.upstream.last().body, format!("token={token}").as_bytes());
    }
    assert_eq!(estate.answered("revocations").await, (0, 6));
    assert!(estate.is_active("portal", &tokens.access).await);
    assert!(estate.is_active("vault", &opaque).await);
    estate.refresh("portal", tokens.refresh()).await;
    // An expired one needs no revocation.
    let brief = estate.exchange("brief", "").await.access;
    let began = Instant::now();
    while estate.is_active("brief", &brief).await {
        assert!(began.elapsed() < Duration::from_secs(10), "it never expired");
        tokio::task::yield_now().await;
    }
    assert_done(&estate.revoke("brief", &brief).await);
    assert_eq!(estate.answered("revocations").await, (0, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_upstream_looks_at_no_jwt_the_caller_is_probed() {
    let estate = Estate::start().await;
    for says in [Says::NoJwts, Says::NoJwtsToAnybody] {
        let tokens = estate.exchange("portal", "").await;
        estate.idp.says(says.clone());
        // Another client's is not touched, and it is told what everybody is.
        assert_done_by_us(&estate.revoke("stranger", &tokens.access).await);
        assert!(estate.is_active("portal", &tokens.access).await);
        estate.idp.says(says);
        assert_done_by_us(&estate.revoke("portal", &tokens.access).await);
        assert!(!estate.is_active("portal", &tokens.access).await);
    }
    estate.idp.says(Says::NoJwtsToAnybody);
    let tokens = estate.exchange("portal", "").await;
    let response = estate.ask(REVOKE, &basic("portal", "wrong"), &tokens.access).await;
    assert_ours(&response, 401);
    assert_eq!(response.json()["error"], "invalid_client");
    assert!(response.header("www-authenticate").is_some());
    let named = format!("{}&client_id=portal", tokens.access);
    assert_its_own(&estate.ask(REVOKE, "", &named).await, 400, ITS_UNSUPPORTED);
    assert!(estate.is_active("portal", &tokens.access).await);
    // A public client has no secret that could be tried; our policy knows that it is one.
    estate.idp.says(Says::NoJwts);
    let phone = estate.exchange("phone", "").await;
    let named = format!("{}&client_id=phone", phone.access);
    assert_done_by_us(&estate.ask(REVOKE, "", &named).await);
    assert!(!estate.is_active("api-server", &phone.access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_upstream_has_no_such_endpoint_our_own_applications_may_ask() {
    let estate = Estate::start().await;
    for status in ["404 Not Found", "405 Method Not Allowed", "501 Not Implemented"] {
        estate.idp.says(Says::Nowhere { status, path: REVOKE });
        let tokens = estate.exchange("portal", "").await;
        for fields in [
            basic("portal", &its_secret("portal")),
            basic("svc1", &its_secret("svc1")),
            "Authorization: Bearer x\r\n".to_owned(),
            String::new(),
        ] {
            let response = estate.ask(REVOKE, &fields, tokens.refresh()).await;
            assert_ours(&response, 401);
            assert_eq!(response.json()["error"], "invalid_client");
        }
        let named = format!("{}&client_id=portal", tokens.refresh());
        assert_ours(&estate.ask(REVOKE, "", &named).await, 401);
        // Another application is right, and it is not its token.
        let other = basic("plain", &our_secret("plain"));
        assert_done_by_us(&estate.ask(REVOKE, &other, tokens.refresh()).await);
        assert!(estate.is_active("portal", tokens.refresh()).await);
        estate.idp.says(Says::Nowhere { status, path: REVOKE });
        let own = basic("portal", &our_secret("portal"));
        assert_done_by_us(&estate.ask(REVOKE, &own, tokens.refresh()).await);
        assert!(!estate.is_active("portal", tokens.refresh()).await);
        assert!(!estate.is_active("portal", &tokens.access).await);
        estate.idp.says(Says::Nowhere { status, path: REVOKE });
        // A public client by its name alone.
        let phone = estate.exchange("phone", "").await;
        let named = format!("{}&client_id=phone", phone.refresh());
        assert_done_by_us(&estate.ask(REVOKE, "", &named).await);
        assert_eq!(estate.try_refresh("phone", phone.refresh()).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_say_who_calls_lets_nothing_be_revoked() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    for answer in [
        response("500 Internal Server Error", &[], b"stack trace"),
        response("503 Service Unavailable", &[("Retry-After", "3600")], b""),
        Vec::new(),
        b"nonsense\r\n\r\n".to_vec(),
    ] {
        estate.idp.says(Says::Both(answer.clone(), answer));
        for token in [&tokens.access, tokens.refresh()] {
            assert_unavailable(&estate.revoke("portal", token).await, CALLER_UNPROVEN);
        }
    }
    estate.idp.says(Says::Exactly(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec()));
    let (response, took) = timed(estate.revoke("portal", &tokens.access)).await;
    assert_unavailable(&response, CALLER_UNPROVEN);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(estate.answered("revocations").await, (9, 0));
    assert!(estate.is_active("portal", &tokens.access).await);
    estate.refresh("portal", tokens.refresh()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_stays_so_after_a_restart() {
    let estate = Estate::start().await;
    let (ended, live) = (estate.exchange("portal", "").await, estate.exchange("portal", "").await);
    let (plain, opaque) = (estate.exchange("plain", "").await, estate.exchange("vault", "").await);
    assert_done(&estate.revoke("portal", ended.refresh()).await);
    assert_done(&estate.revoke("plain", &plain.access).await);
    assert_done(&estate.revoke("vault", &opaque.access).await);
    let estate = estate.restart().await;
    for (client, token) in [
        ("portal", ended.refresh()),
        ("portal", &ended.access),
        ("plain", &plain.access),
        ("vault", &opaque.access),
    ] {
        assert!(!estate.is_active(client, token).await, "{client}");
    }
    assert_eq!(estate.try_refresh("portal", ended.refresh()).await.status, 400);
    for (client, token) in
        [("portal", &*live.access), ("portal", live.refresh()), ("vault", opaque.refresh())]
    {
        assert!(estate.is_active(client, token).await, "{client}");
    }
    estate.refresh("portal", live.refresh()).await;
}

/// keycloak #51312.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_revocation_no_refresh_succeeds_that_began_later() {
    let estate = Arc::new(Estate::start().await);
    let mut cut_short = 0;
    for round in 0..24_usize {
        let first = estate.exchange("portal", "").await;
        let is_revoked = Arc::new(AtomicBool::new(false));
        let refreshing = tokio::spawn({
            let (estate, is_revoked) = (Arc::clone(&estate), Arc::clone(&is_revoked));
            let mut last = first.clone();
            async move {
                let mut refreshed = 0;
                loop {
                    let was_revoked = is_revoked.load(Ordering::SeqCst);
                    let response = estate.try_refresh("portal", last.refresh()).await;
                    if response.status != 200 {
                        assert_eq!(response.json()["error"], "invalid_grant");
                        return (refreshed, last);
                    }
                    assert!(!was_revoked, "a refresh that began after the revocation succeeded");
                    refreshed += 1;
                    let answer = response.json();
                    last.access = answer["access_token"].as_str().unwrap().to_owned();
                    last.refresh = answer["refresh_token"].as_str().map(str::to_owned);
                }
            }
        });
        // Now and then it is in the middle of it.
        for _ in 0..round * 50 {
            tokio::task::yield_now().await;
        }
        assert_done(&estate.revoke("portal", first.refresh()).await);
        is_revoked.store(true, Ordering::SeqCst);
        let (refreshed, last) = refreshing.await.unwrap();
        cut_short += usize::from(refreshed > 0);
        for token in [last.refresh(), &last.access, &first.access] {
            assert!(!estate.is_active("portal", token).await, "round {round}");
        }
    }
    assert!(cut_short > 0, "no refresh was ever in the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let fields = basic("portal", &its_secret("portal"));
    let padded = |size: usize| {
        let body = format!("token={access}&x=");
        post(REVOKE, &fields, &format!("{body}{}", "a".repeat(size - body.len())))
    };
    let response = estate.cambio.request(padded(65_537)).await;
    assert_ours(&response, 413);
    assert!(estate.idp.asked(REVOKE).is_empty());
    assert!(estate.is_active("portal", &access).await);
    assert_done(&estate.cambio.request(padded(65_536)).await);
    assert!(!estate.is_active("portal", &access).await);
    assert!(!estate.idp.asked(INTROSPECT).is_empty());
}
