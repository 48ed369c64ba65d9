//! Token paths: exchanges are answered here in whatever spelling, all else is replayed to the byte.

use std::fmt::Write as _;

use super::support::{Cambio, Connection, Upstream, get, post, sha256};

const EXCHANGE: &str =
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=e30.e30.";
const OTHER: &str = "grant_type=client_credentials&scope=a%20b";

#[tokio::test]
async fn another_grant_is_replayed_to_the_byte_and_an_exchange_never_gets_there() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let response =
        cambio.request(post("/oauth2/token", "Authorization: Basic eDp5\r\n", OTHER)).await;
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(upstream.last().body, OTHER.as_bytes());
    assert_eq!(upstream.last().header("authorization"), Some("Basic eDp5"));
    let response = cambio.request(post("/oauth2/token", "", EXCHANGE)).await;
    assert_eq!(response.status, 401, "{response:?}");
    assert!(response.header("cambio-decision").is_some());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("server"), None);
    assert_eq!(upstream.requests().len(), 1);
}

/// Spellings of `/oauth2/token` that some server takes for it.
const SUSPECTS: &[&[u8]] = include!("suspect_paths.in");

#[tokio::test]
async fn no_spelling_of_the_path_leads_an_exchange_to_the_upstream() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for target in SUSPECTS {
        let before = upstream.requests().len();
        let mut connection = cambio.connect().await;
        let exchange = connection.request(post(target, "", EXCHANGE)).await;
        let name = target.escape_ascii();
        assert!((400..500).contains(&exchange.status), "{name}: {exchange:?}");
        assert_eq!(upstream.requests().len(), before, "{name}");
        // Its harmless twin passes, or is no request that anybody serves.
        let other = cambio.request(post(target, "", OTHER)).await;
        let is_served = target.starts_with(b"/") || target.starts_with(b"http");
        let is_clean = !target.contains(&b'\\') && target.is_ascii();
        if is_served && is_clean {
            assert_eq!(other.status, 200, "{name}: {other:?}");
            assert_eq!(upstream.last().body, OTHER.as_bytes(), "{name}");
        } else {
            assert!(matches!(other.status, 200 | 400), "{name}: {other:?}");
        }
    }
    for request in upstream.requests() {
        assert!(!String::from_utf8_lossy(&request.raw).contains("subject_token"));
    }
}

#[tokio::test]
async fn headers_that_name_another_path_lead_nowhere() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for name in ["X-Original-URL", "X-Rewrite-URL", "x-original-url"] {
        let field = format!("{name}: /oauth2/token\r\n");
        assert_eq!(cambio.request(post("/x", &field, EXCHANGE)).await.status, 401, "{name}");
        assert!(upstream.requests().is_empty());
    }
    // CGI and its heirs read `_` as `-`.
    for name in ["X_Original_URL", "x-rewrite_url"] {
        let field = format!("{name}: /oauth2/token\r\n");
        assert_eq!(cambio.request(post("/x", &field, EXCHANGE)).await.status, 401, "{name}");
    }
    // Its query is one that the upstream might read.
    let field = format!("X-Original-URL: /oauth2/token?{EXCHANGE}\r\n");
    for target in ["/x", "/x?a=b"] {
        assert_eq!(cambio.request(post(target, &field, "")).await.status, 400, "{target}");
        assert_eq!(cambio.request(get(target, &field)).await.status, 405, "{target}");
    }
    assert!(upstream.requests().is_empty());
    let elsewhere = cambio.request(post("/x", "X-Original-URL: /y\r\n", EXCHANGE)).await;
    assert_eq!(elsewhere.status, 200);
}

/// Nobody knows which of them counts, and each would have to be read in every way.
#[tokio::test]
async fn headers_that_name_several_paths_name_a_token_path_among_them() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for fields in [
        "X-Original-URL: /y\r\nX-Original-URL: /z\r\n",
        "X-Rewrite-URL: /y\r\nX-Original-URL: /y\r\n",
        "X_Original_URL: /y\r\nX-Original-URL: /y\r\n",
    ] {
        assert_eq!(cambio.request(post("/x", fields, EXCHANGE)).await.status, 401, "{fields}");
        assert!(upstream.requests().is_empty());
    }
    let fields = "X-Original-URL: /y\r\nX-Rewrite-URL: /z\r\n";
    assert_eq!(cambio.request(post("/x", fields, OTHER)).await.status, 200);
    assert_eq!(upstream.last().body, OTHER.as_bytes());
}

#[tokio::test]
async fn an_exchange_in_the_query_is_answered_here() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for target in ["/oauth2/token?", "/oauth2//token?"] {
        let response = cambio.request(post(format!("{target}{EXCHANGE}"), "", "")).await;
        assert_eq!(response.status, 400, "{target}");
        let get = format!("GET {target}{EXCHANGE} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!((400..500).contains(&cambio.request(get).await.status));
    }
    assert!(upstream.requests().is_empty());
    let other = cambio.request("GET /oauth2/token?a=b HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn bodies_are_replayed_up_to_the_limit_whatever_their_framing() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        for size in [0, 1, 4096, 65_535, 65_536] {
            let body: Vec<u8> = (0..size).map(|at| b"abc="[at % 4]).collect();
            let body = String::from_utf8(body).unwrap();
            let mut connection = cambio.connect().await;
            let response = connection.request(post(path, "", &body)).await;
            assert_eq!(response.status, 200, "{path} {size}");
            assert_eq!(sha256(&upstream.last().body), sha256(body.as_bytes()));
            assert_eq!(upstream.last().header("content-length"), Some(&*size.to_string()));
            // On the same connection, in odd chunks.
            let response = connection.request(chunked(path, body.as_bytes(), 1021)).await;
            assert_eq!(response.status, 200, "{path} {size}");
            assert_eq!(sha256(&upstream.last().body), sha256(body.as_bytes()));
            let framing = ["transfer-encoding", "content-length"];
            let framing = framing.map(|name| upstream.last().header(name).map(str::to_owned));
            let is_empty = size == 0;
            assert_eq!(framing[0].as_deref(), (!is_empty).then_some("chunked"));
            assert_eq!(framing[1].as_deref(), is_empty.then_some("0"));
        }
        let before = upstream.requests().len();
        let body = "a".repeat(65_537);
        let announced = cambio.request(post(path, "", &body)).await;
        assert_eq!(announced.status, 413, "{path}");
        assert_eq!(announced.json()["error"], "invalid_request");
        let counted = cambio.request(chunked(path, body.as_bytes(), 8191)).await;
        assert_eq!(counted.status, 413, "{path}");
        assert_eq!(upstream.requests().len(), before);
    }
}

fn chunked(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n");
    write!(head, "Content-Type: application/x-www-form-urlencoded\r\n").unwrap();
    write!(head, "Transfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunks = body
        .chunks(size)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    head.into_bytes().into_iter().chain(chunks).chain(*b"0\r\n\r\n").collect()
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_not_waited_for() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n";
    assert_eq!(connection.request(head).await.status, 413);
    assert!(connection.is_closed().await);
    // What comes after it is never taken for another request (CVE-2025-4366).
    let mut connection = cambio.connect().await;
    let smuggled = format!("{head}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.request(smuggled).await.status, 413);
    assert!(connection.is_closed().await);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_and_the_upstream_does_not_hear_of_it() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let head = |length: usize| {
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut connection = cambio.connect().await;
    for (body, status) in [(OTHER, 200), (EXCHANGE, 401), (OTHER, 200)] {
        assert_eq!(connection.request(head(body.len())).await.status, 100);
        connection.send(body).await;
        assert_eq!(connection.receive().await.unwrap().status, status);
    }
    assert_eq!(upstream.last().header("expect"), None);
    assert_eq!(connection.request(head(65_537)).await.status, 413);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_timed_out() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "limits: { body_timeout: 200ms }\n").await;
    let mut connection = cambio.connect().await;
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    let response = connection.request(head).await;
    assert_eq!(response.status, 408);
    assert_eq!(response.json()["error"], "invalid_request");
    assert!(connection.is_closed().await);
    // One that drips is no faster.
    let mut connection = cambio.connect().await;
    connection.send(head).await;
    let (mut from, mut to) = tokio::io::split(connection.stream);
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(90));
        for _ in 0..6 {
            tick.tick().await;
            let _ = to.write_all(b"d").await;
        }
    });
    let mut seen = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut from, &mut seen).await.unwrap();
    assert!(seen.starts_with(b"HTTP/1.1 408"), "{}", seen.escape_ascii());
    drip.await.unwrap();
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing_behind() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection: Connection = cambio.connect().await;
    connection
        .send("POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    drop(connection);
    while cambio.running.connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(cambio.request(post("/oauth2/token", "", OTHER)).await.status, 200);
}

#[tokio::test]
async fn an_upgrade_on_a_token_path_is_no_way_through() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    assert_eq!(cambio.request(post("/oauth2/token", upgrade, EXCHANGE)).await.status, 401);
    let get = format!("GET /oauth2/token HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n");
    assert_eq!(cambio.request(get).await.status, 200);
    assert_eq!(upstream.last().header("upgrade"), None);
}
