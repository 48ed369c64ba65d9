//! Metadata where nobody has said that they stand: at the other well-known places of the issuer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;

use super::documents_support::{GRANT, Idp, ask, findings, json, overlay_of};
use super::support::{Cambio, Recorded, get, response};

const ISSUER: &str = "http://idp.example/realms/r";
const NAMED: &str = "/realms/r/.well-known/openid-configuration";
const OTHERS: [&str; 5] = [
    "/.well-known/oauth-authorization-server/realms/r",
    "/.well-known/openid-configuration/realms/r",
    "/realms/r/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
];

fn metadata(issuer: &str) -> Vec<u8> {
    json(format!("{{\"issuer\":\"{issuer}\",\"grant_types_supported\":[\"password\"]}}"))
}

#[tokio::test]
async fn every_well_known_place_of_the_issuer_has_our_grant() {
    let idp = Idp::start(|_| metadata(ISSUER)).await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, NAMED, "")).await;
    let named = cambio.request(get(NAMED, "")).await;
    assert_eq!(named.json()["grant_types_supported"], json!(["password", GRANT]));
    for place in OTHERS {
        let other = cambio.request(get(place, "")).await;
        assert_eq!((other.status, &other.body), (200, &named.body), "{place}");
        let etag = other.header("etag").unwrap();
        assert_eq!(Some(etag), named.header("etag"));
        let known = cambio.request(get(place, &format!("If-None-Match: {etag}\r\n"))).await;
        assert_eq!(known.status, 304);
        let head = format!("HEAD {place} HTTP/1.1\r\nHost: idp.example\r\n\r\n");
        let head = cambio.request(head).await;
        assert_eq!(head.header("content-length"), Some(&*other.body.len().to_string()));
    }
    // Other methods, and other paths, are not for documents.
    for target in [OTHERS[0], "/realms/r/.well-known/other"] {
        let post = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert!(!cambio.request(post).await.text().contains(GRANT), "{target}");
    }
}

#[tokio::test]
async fn what_is_not_this_issuers_metadata_passes_as_it_came() {
    const BODIES: [(&str, &str); 8] = [
        ("404 Not Found", "none here"),
        ("200 OK", r#"{ "issuer": "http://idp.example/realms/other" }"#),
        ("200 OK", r#"{ "issuer": "http://idp.example/realms/r/" }"#),
        (
            "200 OK",
            r#"{ "issuer": "http://idp.example/realms/r", "issuer": "http://idp.example" }"#,
        ),
        ("200 OK", r#"{"issuer":"http://idp.example/realms/r","signed_metadata":"a.b.c"}"#),
        ("200 OK", "<html>an application for everything</html>"),
        ("401 Unauthorized", ""),
        ("302 Found", ""),
    ];
    let chosen = Arc::new(AtomicU8::new(0));
    let which = Arc::clone(&chosen);
    let idp = Idp::start(move |_| {
        let (status, body) = BODIES[usize::from(which.load(Ordering::Relaxed))];
        let fields = [("ETag", "\"theirs\""), ("Set-Cookie", "a=b"), ("Location", "/elsewhere")];
        response(status, &fields, body.as_bytes())
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, NAMED, "")).await;
    for (at, (status, body)) in (0..).zip(BODIES) {
        chosen.store(at, Ordering::Relaxed);
        for place in OTHERS {
            let before = idp.upstream.requests().len();
            let passed = cambio.request(get(place, "Cookie: c=d\r\n")).await;
            assert_eq!(passed.status.to_string(), status[..3], "{place}");
            assert_eq!(passed.text(), body);
            // These are of one message, and of one client.
            assert_eq!(passed.header("etag"), Some("\"theirs\""));
            assert_eq!(passed.header("set-cookie"), Some("a=b"));
            assert_eq!(passed.header("location"), Some("/elsewhere"));
            // Not by the last one: the named place is asked for ahead, at any time.
            let asked = idp.upstream.requests();
            let own = |one: &Recorded| one.target() == place && one.header("cookie") == Some("c=d");
            assert!(asked[before..].iter().any(own), "{place}");
        }
    }
    // Said of the issuer's own only.
    chosen.store(4, Ordering::Relaxed);
    cambio.request(get(OTHERS[0], "")).await;
    let signed = (OTHERS[0].to_owned(), "signed_metadata".to_owned());
    assert!(findings(&cambio).await.contains(&signed));
    chosen.store(1, Ordering::Relaxed);
    cambio.request(get(OTHERS[0], "")).await;
    assert!(findings(&cambio).await.iter().all(|(place, _)| place != OTHERS[0]));
}

#[tokio::test]
async fn a_place_that_was_merged_outlives_an_outage_and_no_withdrawal() {
    let down = |_: &Recorded| response("503 Service Unavailable", &[], b"down");
    let gone = |_: &Recorded| response("404 Not Found", &[], b"none here");
    let idp = Idp::start(down).await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, NAMED, "")).await;
    let served = || ask(&cambio, get(OTHERS[0], ""));
    // Nothing is known of it yet, so that the upstream speaks for itself.
    assert_eq!((served().await.status, served().await.text()), (503, "down"));
    idp.answers(|_| metadata(ISSUER));
    let merged = served().await;
    assert!(merged.text().contains(GRANT));
    idp.answers(down);
    assert_eq!((served().await.status, served().await.body), (200, merged.body));
    // From here on there is none; an outage does not bring it back.
    let fresh = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, NAMED, "")).await;
    let served = || ask(&fresh, get(OTHERS[0], ""));
    idp.answers(|_| metadata(ISSUER));
    assert!(served().await.text().contains(GRANT));
    idp.answers(gone);
    assert_eq!((served().await.status, served().await.text()), (404, "none here"));
    idp.answers(down);
    assert_eq!((served().await.status, served().await.text()), (503, "down"));
}

#[tokio::test]
async fn other_tenants_documents_are_not_touched() {
    let idp = Idp::start(|request| {
        let (_, tenant) = request.target().split_once("/realms/").unwrap_or_default();
        let tenant = tenant.split('/').next().unwrap();
        metadata(&format!("http://idp.example/realms/{tenant}"))
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, NAMED, "")).await;
    for tenant in ["r", "other"] {
        for place in [
            format!("/realms/{tenant}/.well-known/openid-configuration"),
            format!("/.well-known/oauth-authorization-server/realms/{tenant}"),
        ] {
            let document = cambio.request(get(&place, "")).await;
            assert_eq!(document.status, 200);
            assert_eq!(document.text().contains(GRANT), tenant == "r", "{place}");
        }
    }
}

#[tokio::test]
async fn without_overlay_the_upstreams_places_are_its_own() {
    let idp = Idp::start(|_| metadata(ISSUER)).await;
    let text = overlay_of(ISSUER, NAMED, "").replace("overlay: true", "overlay: false");
    let cambio = Cambio::start(&idp.upstream.url(), &text).await;
    assert!(cambio.request(get(NAMED, "")).await.text().contains(GRANT));
    for place in OTHERS {
        let document = cambio.request(get(place, "")).await;
        assert!(!document.text().contains(GRANT) && document.text().contains("password"));
    }
}
