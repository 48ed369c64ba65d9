//! The JWKS and the metadata documents: our own, or merged into the upstream's.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::documents_support::{GRANT, Idp, JWKS, METADATA, THEIR_KEY, ask, keys, kids, overlay};
use super::support::{Cambio, Connection, Recorded, Upstream, get, response};

#[tokio::test]
async fn without_overlay_the_documents_are_ours_alone() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let jwks = cambio.request(get(JWKS, "")).await;
    assert_eq!(jwks.status, 200);
    assert_eq!(jwks.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(jwks.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(jwks.header("access-control-allow-origin"), Some("*"));
    let key = &jwks.json()["keys"][0];
    assert_eq!(
        (&key["kty"], &key["use"], &key["alg"]),
        (&json!("EC"), &json!("sig"), &json!("ES256"))
    );
    assert!(key.get("d").is_none());
    let metadata = cambio.request(get(METADATA, "")).await;
    assert_eq!(metadata.header("content-type"), Some("application/json"));
    assert_eq!(
        metadata.json(),
        json!({
            "issuer": "https://idp.example/oauth2/token",
            "token_endpoint": "https://idp.example/oauth2/token",
            "jwks_uri": "https://idp.example/oauth2/jwks",
            "introspection_endpoint": "https://idp.example/oauth2/introspect",
            "revocation_endpoint": "https://idp.example/oauth2/revoke",
            "response_types_supported": [],
            "grant_types_supported": [GRANT],
            "token_endpoint_auth_methods_supported":
                ["client_secret_basic", "client_secret_post", "none"],
        })
    );
    assert!(upstream.requests().is_empty());
    // Other methods are not for documents.
    assert_eq!(
        cambio.request(format!("OPTIONS {JWKS} HTTP/1.1\r\nHost: a\r\n\r\n")).await.text(),
        "ok"
    );
}

/// Applications with these grants, each a list.
fn applications(grants: &[&str]) -> String {
    let mut text = String::from("applications:\n");
    for (at, grants) in grants.iter().enumerate() {
        writeln!(
            text,
            "  - {{ client_id: app-{at}, type: mobile, allowed_grant_types: [{grants}] }}"
        )
        .unwrap();
    }
    text
}

#[tokio::test]
async fn the_refresh_grant_is_named_while_somebody_gets_refresh_tokens() {
    let exchange = format!("\"{GRANT}\"");
    let both = format!("{exchange}, refresh_token");
    let without = [applications(&[&exchange, "refresh_token"]), String::new()];
    let with = [applications(&[&both]), applications(&[&exchange, "password", &both])];
    let answer = |_: &Recorded| {
        let body = br#"{"issuer":"https://x","grant_types_supported":["password"]}"#;
        response("200 OK", &[("Content-Type", "application/json")], body)
    };
    let upstream = Upstream::start().await;
    let idp = Idp::start(answer).await;
    let alone = Cambio::start(&upstream.url(), "").await;
    let merged = Cambio::start(&idp.upstream.url(), overlay()).await;
    let grants = |document: Value| document["grant_types_supported"].clone();
    // A reload is enough for either.
    for (more, ours) in [
        (&without[0], json!([GRANT])),
        (&with[0], json!([GRANT, "refresh_token"])),
        (&without[1], json!([GRANT])),
        (&with[1], json!([GRANT, "refresh_token"])),
    ] {
        alone.reload(&upstream.url(), more).await;
        assert_eq!(grants(alone.request(get(METADATA, "")).await.json()), ours, "{more}");
        merged.reload(&idp.upstream.url(), &format!("{}{more}", overlay())).await;
        let mut all = vec![json!("password")];
        all.extend(ours.as_array().unwrap().iter().cloned());
        assert_eq!(grants(merged.request(get(METADATA, "")).await.json()), json!(all), "{more}");
    }
}

#[tokio::test]
async fn documents_answer_conditions_and_head() {
    let upstream = Upstream::start().await;
    let idp = Idp::start(keys).await;
    let alone = Cambio::start(&upstream.url(), "").await;
    let merged = Cambio::start(&idp.upstream.url(), overlay()).await;
    for cambio in [alone, merged] {
        let mut connection = cambio.connect().await;
        let whole = connection.request(get(JWKS, "")).await;
        let etag = whole.header("etag").unwrap().to_owned();
        assert!(etag.starts_with('"') && etag != "\"old\"");
        let length = whole.body.len().to_string();
        assert_eq!(whole.header("content-length"), Some(&*length));
        let head =
            connection.request(format!("HEAD {JWKS} HTTP/1.1\r\nHost: idp.example\r\n\r\n")).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some(&*length)));
        assert_eq!(head.header("etag"), Some(&*etag));
        for known in [etag.clone(), format!("W/{etag}"), format!("\"a\", {etag}"), "*".to_owned()] {
            let same = connection.request(get(JWKS, &format!("If-None-Match: {known}\r\n"))).await;
            assert_eq!((same.status, same.header("etag")), (304, Some(&*etag)), "{known}");
        }
        // The upstream's own tag is that of another document.
        let other = connection.request(get(JWKS, "If-None-Match: \"old\"\r\n")).await;
        assert_eq!((other.status, &other.body), (200, &whole.body));
    }
}

#[tokio::test]
async fn with_overlay_our_key_comes_after_theirs() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let jwks = cambio.request(get(JWKS, "")).await;
    assert_eq!(jwks.status, 200);
    assert!(jwks.text().starts_with(&format!("{{\"keys\":[{THEIR_KEY},{{")), "{}", jwks.text());
    assert_eq!(jwks.json()["keys"].as_array().unwrap().len(), 2);
    assert_eq!(jwks.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(jwks.header("x-idp"), Some("1"));
    assert_eq!(jwks.all("via"), ["1.1 cambio"]);
    assert!(jwks.header("cambio-decision").is_some());
    let seen = idp.upstream.requests();
    let seen = seen.iter().find(|one| one.header("x-forwarded-proto") == Some("http")).unwrap();
    assert_eq!((seen.method(), seen.target()), ("GET", JWKS));
    assert_eq!(seen.all("host"), ["idp.example"]);
    assert_eq!(seen.header("x-forwarded-host"), Some("idp.example"));
    assert_eq!(seen.header("if-none-match"), None);
    // HEAD makes us ask for the whole document.
    cambio.request(format!("HEAD {JWKS} HTTP/1.1\r\nHost: other.example\r\n\r\n")).await;
    assert_eq!(idp.upstream.last().method(), "GET");
}

#[tokio::test]
async fn metadata_are_the_upstreams_for_whoever_asks_with_our_grant() {
    let idp = Idp::start(|request| {
        let host = request.header("host").unwrap();
        let proto = request.header("x-forwarded-proto").unwrap();
        let body = format!(
            "{{\"issuer\": \"{proto}://{host}\",\"n\":1.0,\"grant_types_supported\":[\"password\"],\
             \"token_endpoint\":\"{proto}://{host}/oauth2/token\"}}"
        );
        let query = request.target().split_once('?').map_or("", |(_, query)| query);
        let fields = [
            ("Content-Type", "application/json"),
            ("X-Query", query),
            ("Cache-Control", "max-age=60"),
        ];
        response("200 OK", &fields, body.as_bytes())
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    for host in ["a.example", "b.example:8443"] {
        let request = format!("GET {METADATA}?x=%20 HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let response = cambio.request(&request).await;
        assert_eq!(
            response.text(),
            format!(
                "{{\"issuer\": \"http://{host}\",\"n\":1.0,\"grant_types_supported\":[\"password\",\"{GRANT}\"],\
                 \"token_endpoint\":\"http://{host}/oauth2/token\",\
                 \"jwks_uri\":\"https://idp.example/oauth2/jwks\"}}"
            )
        );
        assert_eq!(response.header("x-query"), Some("x=%20"));
        assert_eq!(response.header("cache-control"), Some("max-age=60"));
    }
    let asked = idp.asked();
    // Fresh ones are not asked for again, and no host gets another's.
    let again =
        cambio.request(format!("GET {METADATA}?x=%20 HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
    assert!(again.text().contains("http://a.example"));
    assert_eq!(idp.asked(), asked);
}

#[tokio::test]
async fn the_last_good_document_serves_while_the_upstream_is_down() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let good = cambio.request(get(JWKS, "")).await;
    assert_eq!(good.status, 200);
    let bad: [fn(&Recorded) -> Vec<u8>; 8] = [
        |_| response("503 Service Unavailable", &[], b"down"),
        |_| response("500 Oops", &[], b"{\"keys\":[]}"),
        |_| response("429 Slow Down", &[], b""),
        |_| response("200 OK", &[("Content-Type", "text/html")], b"<html>maintenance</html>"),
        |_| response("200 OK", &[], b"{\"error\":\"x\"}"),
        |_| response("200 OK", &[], b"{\"keys\":[],\"keys\":[]}"),
        |_| response("200 OK", &[], &vec![b' '; 1024 * 1024 + 1]),
        |_| Vec::new(),
    ];
    for bad in bad {
        idp.answers(bad);
        let served = cambio.request(get(JWKS, "")).await;
        assert_eq!((served.status, &served.body), (200, &good.body));
        assert_eq!(served.header("etag"), good.header("etag"));
        // Where there is no last good one, our keys alone would be a lie.
        let never_seen =
            cambio.request(format!("GET {JWKS} HTTP/1.1\r\nHost: never-seen\r\n\r\n")).await;
        assert_eq!(never_seen.status, 502);
    }
    // It also survives a reload, and the end of the upstream.
    cambio.reload(&idp.upstream.url(), overlay()).await;
    drop(idp);
    assert_eq!(cambio.request(get(JWKS, "")).await.body, good.body);
}

#[tokio::test]
async fn an_empty_key_set_is_merged_and_a_refusal_is_passed_on() {
    let idp = Idp::start(|_| response("200 OK", &[], b"{\"keys\":[]}")).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    assert_eq!(cambio.request(get(JWKS, "")).await.json()["keys"].as_array().unwrap().len(), 1);
    idp.answers(|_| response("404 Not Found", &[("X-Idp", "1")], b"none here"));
    let none = ask(&cambio, get(JWKS, "")).await;
    assert_eq!((none.status, none.text(), none.header("x-idp")), (404, "none here", Some("1")));
    idp.answers(|_| response("302 Found", &[("Location", "/elsewhere")], b""));
    let moved = ask(&cambio, get(JWKS, "")).await;
    assert_eq!((moved.status, moved.header("location")), (302, Some("/elsewhere")));
}

#[tokio::test]
async fn nothing_that_is_meant_for_one_client_is_kept_for_all() {
    let idp = Idp::start(|request| {
        let fields = [
            ("Set-Cookie", "session=1"),
            ("Cache-Control", "max-age=60"),
            ("Access-Control-Allow-Origin", request.header("origin").unwrap_or("none")),
        ];
        response("200 OK", &fields, b"{\"keys\":[]}")
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    for origin in ["https://a.example", "https://b.example"] {
        let fields = format!("Origin: {origin}\r\nCookie: secret=1\r\nAuthorization: Basic x\r\n");
        let jwks = cambio.request(get(JWKS, &fields)).await;
        assert_eq!(jwks.header("set-cookie"), None);
        assert_eq!(jwks.header("access-control-allow-origin"), Some(origin));
        assert_eq!(idp.upstream.last().header("cookie"), None);
        assert_eq!(idp.upstream.last().header("authorization"), None);
    }
}

#[tokio::test]
async fn clients_that_ask_at_the_same_time_make_the_upstream_be_asked_once() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let mut clients: Vec<Connection> = Vec::new();
    for _ in 0..50 {
        clients.push(cambio.connect().await);
    }
    for client in &mut clients {
        client.send(get(JWKS, "")).await;
    }
    for client in &mut clients {
        assert_eq!(client.receive().await.unwrap().status, 200);
    }
    // One for those that came first, and one for those that came while it was under way: in a
    // handful of rounds.
    assert!(idp.asked() <= 10, "{}", idp.asked());
}

#[tokio::test]
async fn a_kid_that_both_have_is_neither_published_nor_used_to_sign() {
    let key = r#"{"kty":"EC","crv":"P-256","kid":"shared","x":"AQ","y":"AQ"}"#;
    let idp =
        Idp::start(move |_| response("200 OK", &[], format!("{{\"keys\":[{key}]}}").as_bytes()))
            .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let ready = || async {
        let mut admin = Connection::open(cambio.running.admin_address()).await;
        admin.request(get("/readyz", "")).await.status
    };
    assert_eq!(kids(&cambio.request(get(JWKS, "")).await.json()).len(), 2);
    assert_eq!(ready().await, 200);
    // From here on ours has the same name.
    let config = super::support::write(cambio.folder.path(), &idp.upstream.url(), overlay());
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("algorithm: ES256,", "algorithm: ES256, kid: shared,");
    std::fs::write(&config, text).unwrap();
    cambio.running.reload(cambio::config::load(&config).unwrap().0).await.unwrap();
    let jwks = cambio.request(get(JWKS, "")).await;
    assert_eq!(jwks.text(), format!("{{\"keys\":[{key}]}}"));
    assert_eq!(ready().await, 503);
    // The upstream gives way.
    idp.answers(keys);
    assert_eq!(kids(&ask(&cambio, get(JWKS, "")).await.json()), ["theirs", "shared"]);
    assert_eq!(ready().await, 200);
}

#[tokio::test]
async fn a_key_set_of_a_clients_choice_does_not_decide_what_signs() {
    // An upstream with tenants: who the keys are of depends on host and query.
    let idp = Idp::start(|request| {
        let host = request.header("host").unwrap();
        let tenant = request.target().split_once("tenant=").map(|(_, tenant)| tenant);
        match tenant.or(host.strip_suffix(".tenants.example")) {
            None => keys(request),
            Some(kid) => {
                let key =
                    format!("{{\"kty\":\"RSA\",\"kid\":\"{kid}\",\"n\":\"AQ\",\"e\":\"AQAB\"}}");
                response("200 OK", &[], format!("{{\"keys\":[{key}]}}").as_bytes())
            }
        }
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let ready = || async {
        let mut admin = Connection::open(cambio.running.admin_address()).await;
        admin.request(get("/readyz", "")).await.status
    };
    let ours = cambio.request(get(JWKS, "")).await.json();
    let ours = kids(&ours)[1].to_owned();
    let by_query = get(&format!("{JWKS}?tenant={ours}"), "");
    let by_host = format!("GET {JWKS} HTTP/1.1\r\nHost: {ours}.tenants.example\r\n\r\n");
    for request in [by_query, by_host] {
        // Two keys of one name are never published side by side.
        assert_eq!(kids(&cambio.request(&request).await.json()), [&*ours]);
        assert_eq!(ready().await, 200, "{request}");
    }
    assert_eq!(kids(&cambio.request(get(JWKS, "")).await.json()), ["theirs", &*ours]);
}

#[tokio::test]
async fn the_last_good_document_survives_a_flood_of_hosts() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    assert_eq!(cambio.request(get(JWKS, "")).await.status, 200);
    let mut connection = cambio.connect().await;
    for _ in 0..3 {
        for host in 0..600 {
            let request = format!("GET {JWKS} HTTP/1.1\r\nHost: h{host}.example\r\n\r\n");
            assert_eq!(connection.request(request).await.status, 200);
        }
    }
    idp.answers(|_| Vec::new());
    assert_eq!(cambio.request(get(JWKS, "")).await.status, 200);
}
