//! What passes through: to the byte there and back, whatever the framing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Cambio, Upstream, get, post, response, sha256};

#[tokio::test]
async fn everything_else_reaches_the_upstream() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let response = cambio.request(get("/hello?a=b", "X-Own: 1\r\n")).await;
    assert_eq!((response.status, response.text()), (200, "ok"));
    let seen = upstream.last();
    assert_eq!((seen.method(), seen.target()), ("GET", "/hello?a=b"));
    assert_eq!(seen.header("x-own"), Some("1"));
}

#[tokio::test]
async fn paths_and_queries_arrive_as_they_were_sent() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for target in [
        "/a//b/./c/../d",
        "/%41%2f%2F?x=%20+&y",
        "/a;b=c",
        "/?",
        "/\\x",
        "/oauth2/token/",
        "/OAUTH2/TOKEN?a=b",
        "/oauth2/%74oken",
        "/a?b=/../c",
    ] {
        assert_eq!(cambio.request(get(target, "")).await.status, 200, "{target}");
        assert_eq!(upstream.last().target(), target);
    }
}

#[tokio::test]
async fn absolute_form_becomes_origin_form_with_its_host() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let request = "GET http://idp.example/a?b HTTP/1.1\r\nHost: idp.example\r\n\r\n";
    assert_eq!(cambio.request(request).await.status, 200);
    assert_eq!(upstream.last().target(), "/a?b");
    assert_eq!(upstream.last().all("host"), ["idp.example"]);
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    for turn in 0..5 {
        assert_eq!(connection.request(get(&format!("/{turn}"), "")).await.status, 200);
        let other = post("/oauth2/token", "", "grant_type=client_credentials");
        assert_eq!(connection.request(other).await.status, 200);
        let exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
        assert_eq!(connection.request(post("/oauth2/token", "", exchange)).await.status, 401);
        assert_eq!(connection.request(get("/oauth2/jwks", "")).await.status, 200);
    }
    assert_eq!(upstream.requests().len(), 10);
    assert_eq!(cambio.running.connections(), 1);
}

/// RFC 9112 §9.6, RFC 9110 §5.3: several fields are one list.
#[tokio::test]
async fn a_client_that_says_close_in_any_of_its_connection_fields_is_closed() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for (fields, closes) in [
        ("Connection: X-Hop\r\nConnection: close\r\n", true),
        ("Connection: keep-alive, X-Hop\r\nConnection: X-Hop, Close\r\n", true),
        ("Connection: close\r\nConnection: keep-alive\r\n", true),
        ("Connection: keep-alive, close\r\n", true),
        ("Connection: X-Hop\r\nConnection: X-Close\r\n", false),
    ] {
        for path in ["/x", "/oauth2/token", "/oauth2/jwks"] {
            let mut connection = cambio.connect().await;
            let response = connection.request(get(path, fields)).await;
            let expected = if closes { "close" } else { "keep-alive" };
            assert_eq!(response.header("connection"), Some(expected), "{path} {fields}");
            if closes {
                assert!(connection.is_closed().await, "{path} {fields}");
            } else {
                assert_eq!(connection.request(get(path, "")).await.status, 200);
            }
        }
    }
}

#[tokio::test]
async fn responses_without_a_body_and_chunked_ones_pass() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\nX-Kept: 1\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec(),
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec(),
        "/early" => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                      HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
            .to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
               3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            .to_vec(),
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    let none = connection.request(get("/204", "")).await;
    assert_eq!((none.status, none.header("x-kept")), (204, Some("1")));
    let same = connection.request(get("/304", "If-None-Match: \"x\"\r\n")).await;
    assert_eq!((same.status, same.header("etag")), (304, Some("\"x\"")));
    let head = connection.request("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("12345")));
    let early = connection.request(get("/early", "")).await;
    assert_eq!((early.status, early.header("link")), (103, Some("</a>")));
    let after = connection.receive().await.unwrap();
    assert_eq!((after.status, after.text()), (200, "x"));
    assert_eq!(connection.request(get("/chunked", "")).await.text(), "abcde");
}

#[tokio::test]
async fn bodies_of_five_mebibytes_stream_both_ways() {
    let body: Vec<u8> = (0..5 * 1024 * 1024_u32).map(|at| (at * 31 % 251) as u8).collect();
    let back = body.clone();
    let upstream = Upstream::answering(move |_| response("200 OK", &[], &back)).await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let head = format!("PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let response = cambio.request([head.as_bytes(), &body].concat()).await;
    assert_eq!(response.status, 200);
    assert_eq!(sha256(&response.body), sha256(&body));
    assert_eq!(sha256(&upstream.last().body), sha256(&body));
    let chunks: Vec<u8> = (body.chunks(70_000))
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect();
    let head = b"PUT /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = cambio.request([&head[..], &chunks, b"0\r\n\r\n"].concat()).await;
    assert_eq!(response.status, 200);
    assert_eq!(sha256(&upstream.last().body), sha256(&body));
}

#[tokio::test]
async fn a_response_begins_to_arrive_before_it_is_whole() {
    // The upstream writes the rest only when the client has what came before.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        stream.write_all(head).await.unwrap();
        may_go_on.await.unwrap();
        stream.write_all(b"3\r\ndef\r\n0\r\n\r\n").await.unwrap();
    });
    let cambio = Cambio::start(&format!("http://{address}"), "").await;
    let mut connection = cambio.connect().await;
    connection.send(get("/", "")).await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"abc\r\n") {
        assert!(
            connection.stream.read_buf(&mut seen).await.unwrap() > 0,
            "{}",
            seen.escape_ascii()
        );
    }
    go_on.send(()).unwrap();
    while !seen.ends_with(b"def\r\n0\r\n\r\n") {
        assert!(
            connection.stream.read_buf(&mut seen).await.unwrap() > 0,
            "{}",
            seen.escape_ascii()
        );
    }
}

#[tokio::test]
async fn one_hundred_continue_passes() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    let head = "PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(connection.request(head).await.status, 100);
    connection.send("abc").await;
    assert_eq!(connection.receive().await.unwrap().status, 200);
    assert_eq!(upstream.last().body, b"abc");
}

#[tokio::test]
async fn websockets_pass_and_other_upgrades_do_not() {
    let upstream = Upstream::answering(|request| {
        if request.header("upgrade").is_some() {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: x\r\n\r\n"
                .to_vec()
        } else {
            response("200 OK", &[], b"plain")
        }
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let upgrade = |to: &str| {
        get("/ws", &format!("Connection: Upgrade\r\nUpgrade: {to}\r\nSec-WebSocket-Key: x\r\n"))
    };
    let mut connection = cambio.connect().await;
    let switched = connection.request(upgrade("websocket")).await;
    assert_eq!((switched.status, switched.header("upgrade")), (101, Some("websocket")));
    assert_eq!(switched.header("sec-websocket-accept"), Some("x"));
    for frame in [&b"\x81\x03abc"[..], b"\x82\x01\xff"] {
        connection.send(frame).await;
        let mut echo = vec![0; frame.len()];
        connection.stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, frame);
    }
    for other in ["h2c", "foo", "websocket, h2c", "TLS/1.0"] {
        let response = cambio.request(upgrade(other)).await;
        assert_eq!((response.status, response.text()), (200, "plain"), "{other}");
        assert_eq!(upstream.last().header("upgrade"), None);
    }
}

#[tokio::test]
async fn what_follows_a_refused_upgrade_never_gets_through_as_a_tunnel() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    let smuggled = "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 61\r\n\r\n\
                    grant_type=urn:ietf:params:oauth:grant-type:token-exchange&a=";
    let upgrade = get("/x", "Connection: Upgrade\r\nUpgrade: foo\r\n");
    assert_eq!(connection.request(format!("{upgrade}{smuggled}")).await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
    assert!(!String::from_utf8_lossy(&upstream.last().raw).contains("token-exchange"));
}

#[tokio::test]
async fn the_last_hop_answers_options() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let options =
        |hops: &str| format!("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n");
    let last = cambio.request(options("0")).await;
    assert!(last.header("cambio-decision").is_some());
    assert!(upstream.requests().is_empty());
    assert_eq!(cambio.request(options("3")).await.status, 200);
    assert_eq!(upstream.last().header("max-forwards"), Some("2"));
    let star = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(cambio.request(star).await.status, 200);
    assert_eq!(upstream.last().target(), "*");
}
