//! An upstream whose keys lie on another host, or on another path.

use serde_json::json;

use super::documents_support::{
    Idp, JWKS, METADATA, THEIR_KEY, ask, findings, json, keys, kids, overlay_of, settled, status,
};
use super::support::{Cambio, Connection, Recorded, get, response};

const ISSUER: &str = "http://idp.example";

fn upstream_jwks(of: &Idp) -> String {
    format!("  upstream_jwks: {}/keys?set=1\n", of.upstream.url())
}

/// An upstream whose metadata lead to keys on another host.
async fn leading_to(jwks_uri: String) -> Idp {
    Idp::start(move |request| match request.target() {
        METADATA => json(format!("{{\"issuer\":\"{ISSUER}\",\"jwks_uri\":\"{jwks_uri}\"}}")),
        _ => response("404 Not Found", &[], b"none here"),
    })
    .await
}

#[tokio::test]
async fn keys_on_another_host_are_served_here_with_ours() {
    let there = Idp::start(|_| {
        let fields = [
            ("Content-Type", "application/jwk-set+json"),
            ("Cache-Control", "no-store"),
            ("Access-Control-Allow-Origin", "*"),
            ("Strict-Transport-Security", "max-age=9; includeSubDomains"),
            ("Alt-Svc", "h3=\":443\""),
            ("Set-Cookie", "there=1"),
            ("Server", "cdn"),
        ];
        response("200 OK", &fields, format!("{{\"keys\":[{THEIR_KEY}]}}").as_bytes())
    })
    .await;
    let idp = leading_to(format!("{}/keys?set=1", there.upstream.url())).await;
    let settings = overlay_of(ISSUER, METADATA, &upstream_jwks(&there));
    let cambio = Cambio::start(&idp.upstream.url(), &settings).await;
    let metadata = cambio.request(get(METADATA, "")).await.json();
    assert_eq!(metadata["jwks_uri"], json!("http://idp.example/oauth2/jwks"));
    let jwks = cambio.request(get(JWKS, "Cookie: a=b\r\nOrigin: https://rp.example\r\n")).await;
    assert_eq!((jwks.status, kids(&jwks.json()).len()), (200, 2));
    assert_eq!(kids(&jwks.json())[0], "theirs");
    // What is of the document is passed on, and nothing that another host says of itself.
    assert_eq!(jwks.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(jwks.header("cache-control"), Some("no-store"));
    assert_eq!(jwks.header("access-control-allow-origin"), Some("*"));
    for field in ["strict-transport-security", "alt-svc", "set-cookie", "server"] {
        assert_eq!(jwks.header(field), None, "{field}");
    }
    // Nor does that host learn anything of those who ask.
    let asked = there.upstream.last();
    assert_eq!((asked.method(), asked.target()), ("GET", "/keys?set=1"));
    assert_eq!(asked.header("host"), Some(&*there.upstream.address.to_string()));
    for field in ["cookie", "origin", "forwarded", "x-forwarded-host", "x-forwarded-for"] {
        assert_eq!(asked.header(field), None, "{field}");
    }
    assert!(idp.upstream.requests().iter().all(|request| request.target() != JWKS));
    // For every host, and whatever is asked along with it, it is one document.
    for request in [
        format!("GET {JWKS}?tenant=x HTTP/1.1\r\nHost: other.example\r\n\r\n"),
        get(JWKS, &format!("If-None-Match: {}\r\n", jwks.header("etag").unwrap())),
    ] {
        let same = cambio.request(request).await;
        assert_eq!(same.header("etag"), jwks.header("etag"));
    }
    assert_eq!(findings(&cambio).await, []);
}

#[tokio::test]
async fn while_that_host_is_down_the_last_good_keys_serve() {
    let there = Idp::start(keys).await;
    let idp = leading_to("https://keys.example/".to_owned()).await;
    let settings = overlay_of(ISSUER, METADATA, &upstream_jwks(&there));
    let cambio = Cambio::start(&idp.upstream.url(), &settings).await;
    settled(&cambio, &idp).await;
    let good = cambio.request(get(JWKS, "")).await;
    assert_eq!(good.status, 200);
    let bad: [fn(&Recorded) -> Vec<u8>; 5] = [
        |_| response("404 Not Found", &[], b""),
        |_| response("302 Found", &[("Location", "/elsewhere")], b""),
        |_| response("503 Service Unavailable", &[], b""),
        |_| response("200 OK", &[], b"<html></html>"),
        |_| Vec::new(),
    ];
    for bad in bad {
        there.answers(bad);
        let served = cambio.request(get(JWKS, "")).await;
        assert_eq!((served.status, &served.body), (200, &good.body));
        // Without one, relying parties are not sent after keys that are not all.
        let never = Cambio::start(&idp.upstream.url(), &settings).await;
        let none = never.request(get(JWKS, "")).await;
        assert_eq!((none.status, none.header("location")), (502, None));
    }
    // A reload keeps them, and another place has not been asked yet.
    cambio.reload(&idp.upstream.url(), &settings).await;
    assert_eq!(cambio.request(get(JWKS, "")).await.body, good.body);
    let other = settings.replace("/keys?set=1", "/keys?set=2");
    cambio.reload(&idp.upstream.url(), &other).await;
    assert_eq!(cambio.request(get(JWKS, "")).await.status, 502);
}

#[tokio::test]
async fn a_bearer_token_is_shown_to_that_host_alone() {
    let there = Idp::start(keys).await;
    let idp = leading_to("https://keys.example/".to_owned()).await;
    let folder = super::support::folder();
    std::fs::write(folder.path().join("token"), "sesame-sesame-sesame\n").unwrap();
    let jwks = format!(
        "  upstream_jwks: {{ url: \"{}/keys\", bearer_token: {{ file: token }} }}\n",
        there.upstream.url()
    );
    let settings = overlay_of(ISSUER, METADATA, &jwks);
    let cambio = Cambio::start_in(folder, &idp.upstream.url(), &settings).await;
    assert_eq!(cambio.request(get(JWKS, "")).await.status, 200);
    assert_eq!(cambio.request(get(METADATA, "")).await.status, 200);
    let asked = there.upstream.last();
    assert_eq!(asked.header("authorization"), Some("Bearer sesame-sesame-sesame"));
    let upstream = idp.upstream.requests();
    assert!(upstream.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn a_kid_of_that_host_that_is_ours_keeps_ours_from_signing() {
    let there = Idp::start(keys).await;
    let idp = leading_to("https://keys.example/".to_owned()).await;
    let settings = overlay_of(ISSUER, METADATA, &upstream_jwks(&there));
    let cambio = Cambio::start(&idp.upstream.url(), &settings).await;
    settled(&cambio, &idp).await;
    let ready = || async {
        let mut admin = Connection::open(cambio.running.admin_address()).await;
        admin.request(get("/readyz", "")).await.status
    };
    let both = cambio.request(get(JWKS, "")).await.json();
    let ours = kids(&both)[1].to_owned();
    assert_eq!(ready().await, 200);
    let clash = format!("{{\"keys\":[{{\"kty\":\"RSA\",\"kid\":\"{ours}\"}}]}}");
    there.answers(move |_| json(&clash));
    assert_eq!(kids(&ask(&cambio, get(JWKS, "")).await.json()), [&*ours]);
    assert_eq!(ready().await, 503);
    let place = format!("{}/keys?set=1", there.upstream.url());
    assert_eq!(findings(&cambio).await, [(place, "kid_clash".to_owned())]);
    there.answers(keys);
    assert_eq!(ask(&cambio, get(JWKS, "")).await.json(), both);
    assert_eq!((ready().await, findings(&cambio).await), (200, vec![]));
}

#[tokio::test]
async fn keys_that_we_do_not_serve_are_told_of_with_what_to_change() {
    for (jwks_uri, finding, mend) in [
        ("http://idp.example/oauth2/jwks", None, ""),
        (
            "https://keys.example/jwks",
            Some("keys_elsewhere"),
            "`authorization_server.upstream_jwks`",
        ),
        ("http://idp.example/other/jwks", Some("keys_on_other_path"), "`endpoints.jwks`"),
    ] {
        let idp = Idp::start(move |request| match request.target() {
            METADATA => json(format!("{{\"issuer\":\"{ISSUER}\",\"jwks_uri\":\"{jwks_uri}\"}}")),
            _ => keys(request),
        })
        .await;
        let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, METADATA, "")).await;
        // A learnt URL is not followed.
        assert_eq!(cambio.request(get(METADATA, "")).await.json()["jwks_uri"], json!(jwks_uri));
        let status = status(&cambio).await;
        let all = status["overlay"]["findings"].as_array().unwrap();
        match finding {
            None => assert!(all.is_empty(), "{all:?}"),
            Some(finding) => {
                let [one] = all.as_slice() else { panic!("{all:?}") };
                assert_eq!((&one["finding"], &one["level"]), (&json!(finding), &json!("error")));
                assert_eq!(one["place"], json!(METADATA));
                assert!(one["text"].as_str().unwrap().contains(mend), "{one}");
            }
        }
    }
    let idp =
        Idp::start(|_| response("302 Found", &[("Location", "https://keys.example/jwks")], b""))
            .await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, METADATA, "")).await;
    assert_eq!(cambio.request(get(JWKS, "")).await.status, 302);
    let redirected = (JWKS.to_owned(), "keys_redirected".to_owned());
    assert!(findings(&cambio).await.contains(&redirected));
}
