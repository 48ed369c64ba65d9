//! Documents that depend on `Host` and `X-Forwarded-Proto`: each client gets its own, and nobody
//! another's.

use std::sync::Arc;

use cambio::app::App;
use cambio::telemetry::metrics::Metrics;

use super::documents_support::{
    GRANT, Idp, JWKS, METADATA, ask, json, kids, overlay, overlay_of, settled,
};
use super::support::{Cambio, Connection, Recorded, get};
use super::tls;

/// Says of itself what it is called by, as real ones do, and lets that be kept for long.
fn metadata(request: &Recorded) -> Vec<u8> {
    let (proto, host) =
        (request.header("x-forwarded-proto").unwrap(), request.header("host").unwrap());
    assert_eq!(request.all("x-forwarded-host"), [host]);
    let body = format!(
        "{{\"issuer\":\"{proto}://{host}\",\"token_endpoint\":\"{proto}://{host}/oauth2/token\"}}"
    );
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn get_at(host: &str, target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

#[tokio::test]
async fn over_tls_and_without_each_gets_its_own_urls() {
    let idp = Idp::start(metadata).await;
    let (secure, authority) = tls::start(&idp.upstream.url(), overlay()).await;
    for protocol in [&b"http/1.1"[..], b""] {
        let alpn: &[&[u8]] = if protocol.is_empty() { &[] } else { &[protocol] };
        let stream = tls::connect(&secure, &authority, alpn).await.unwrap();
        let answer = Connection::over(stream).request(get_at("localhost", METADATA, "")).await;
        assert_eq!(answer.json()["issuer"], "https://localhost");
        assert_eq!(answer.json()["token_endpoint"], "https://localhost/oauth2/token");
        assert!(answer.text().contains(GRANT));
    }
    // One process, both schemes, one host, and both are kept.
    let folder = super::support::folder();
    authority.write_leaf(folder.path());
    let listen = "listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: { certificate: \
                  { file: tls.crt }, private_key: { file: tls.key } } }]\n";
    let more = format!("{listen}{}", overlay());
    let config = super::support::load(folder.path(), &idp.upstream.url(), &more);
    let running = App::start(config, Arc::new(Metrics::new())).await.unwrap();
    for _ in 0..2 {
        let mut plain = Connection::open(running.addresses()[0]).await;
        let answer = plain.request(get_at("localhost", METADATA, "")).await;
        assert_eq!(answer.json()["issuer"], "http://localhost");
        let stream = tls::connect_to(running.addresses()[1], &authority, &[]).await.unwrap();
        let answer = Connection::over(stream).request(get_at("localhost", METADATA, "")).await;
        assert_eq!(answer.json()["issuer"], "https://localhost");
    }
}

#[tokio::test]
async fn no_host_of_a_clients_choice_changes_what_others_get() {
    let idp = Idp::start(metadata).await;
    let settings = overlay_of("http://idp.example", METADATA, "");
    let cambio = Cambio::start(&idp.upstream.url(), &settings).await;
    let canonical = cambio.request(get_at("idp.example", METADATA, "")).await;
    assert_eq!(canonical.json()["issuer"], "http://idp.example");
    for (host, fields) in [
        ("evil.example", ""),
        ("IDP.example", ""),
        ("idp.example:80", ""),
        ("idp.example", "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\n"),
        ("idp.example", "Forwarded: host=evil.example;proto=https\r\n"),
        ("idp.example", "X_Forwarded_Host: evil.example\r\nX-Original-Host: evil.example\r\n"),
    ] {
        let own = cambio.request(get_at(host, METADATA, fields)).await;
        assert_eq!(own.json()["issuer"], format!("http://{host}"), "{host} {fields}");
        // In a target in absolute form the host stands there (RFC 9112 §3.2.2).
        let absolute = format!("http://{host}{METADATA}");
        let own = cambio.request(get_at(host, &absolute, fields)).await;
        assert_eq!(own.json()["issuer"], format!("http://{host}"), "{absolute}");
    }
    let again = cambio.request(get_at("idp.example", METADATA, "")).await;
    assert_eq!(again.body, canonical.body);
}

#[tokio::test]
async fn a_kid_that_clashes_comes_and_goes_without_a_reload() {
    // It is both, a key set and metadata.
    const NONE: &str = r#"{"issuer":"http://idp.example","keys":[]}"#;
    let idp = Idp::start(|_| json(NONE)).await;
    let settings = overlay_of("http://idp.example", METADATA, "");
    let cambio = Cambio::start(&idp.upstream.url(), &settings).await;
    settled(&cambio, &idp).await;
    let ready = || async {
        let mut admin = Connection::open(cambio.running.admin_address()).await;
        admin.request(get("/readyz", "")).await.status
    };
    let ours = cambio.request(get(JWKS, "")).await.json();
    let ours = kids(&ours)[0].to_owned();
    for is_last in [false, false, true] {
        assert_eq!(ready().await, 200);
        let clash = format!("{{\"keys\":[{{\"kty\":\"RSA\",\"kid\":\"{ours}\"}}]}}");
        let theirs = clash.clone();
        idp.answers(move |_| json(&theirs));
        assert_eq!(ask(&cambio, get(JWKS, "")).await.text(), clash);
        assert_eq!(ready().await, 503);
        if !is_last {
            idp.answers(|_| json(NONE));
            assert_eq!(kids(&ask(&cambio, get(JWKS, "")).await.json()), [&*ours]);
        }
    }
    // Neither an outage nor a reload changes anything in that.
    idp.answers(|_| Vec::new());
    assert_eq!(cambio.request(get(JWKS, "")).await.status, 200);
    assert_eq!(ready().await, 503);
    cambio.reload(&idp.upstream.url(), &settings).await;
    assert_eq!(ready().await, 503);
}
