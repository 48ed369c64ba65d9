//! What clients may take up: connections, and time for headers and between requests.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::leap::{in_no_time, leap, settle, until};
use super::support::{Cambio, Connection, PATIENCE, Upstream, get, response};

/// As long as a header section may take, unless it is configured.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_header_that_does_not_arrive_ends_its_connection() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    // Not a byte.
    let mut silent = cambio.connect().await;
    until(|| cambio.running.connections() == 1).await;
    leap(HEADER_TIMEOUT).await;
    assert!(silent.is_closed().await);
    // Half of it.
    let mut half = cambio.connect().await;
    half.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    settle().await;
    leap(HEADER_TIMEOUT).await;
    assert_eq!(half.receive().await.unwrap().status, 408);
    assert!(half.is_closed().await);
    // One that drips takes no longer.
    let mut drip = cambio.connect().await;
    for byte in *b"GET / HTTP/" {
        drip.send([byte]).await;
        settle().await;
        leap(HEADER_TIMEOUT / 10).await;
    }
    assert_eq!(in_no_time(drip.receive()).await.unwrap().status, 408);
    // One that is slow, but not too slow, is served; so is whoever comes beside.
    let mut slow = cambio.connect().await;
    slow.send("GET / HTTP/1.1\r\n").await;
    settle().await;
    leap(HEADER_TIMEOUT / 2).await;
    assert_eq!(cambio.request(get("/beside", "")).await.status, 200);
    slow.send("Host: a\r\n\r\n").await;
    assert_eq!(slow.receive().await.unwrap().status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn the_second_header_on_a_connection_is_timed_like_the_first() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    assert_eq!(connection.request(get("/", "")).await.status, 200);
    connection.send("GET / HTTP/1.1\r\n").await;
    settle().await;
    leap(HEADER_TIMEOUT).await;
    assert_eq!(in_no_time(connection.receive()).await.unwrap().status, 408);
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "limits: { idle_timeout: 200ms }\n").await;
    let mut connection = cambio.connect().await;
    assert_eq!(connection.request(get("/", "")).await.status, 200);
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_places_become_free() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "limits: { connections: 3 }\n").await;
    let mut held: Vec<Connection> = Vec::new();
    for _ in 0..3 {
        let mut connection = cambio.connect().await;
        assert_eq!(connection.request(get("/", "")).await.status, 200);
        held.push(connection);
    }
    assert_eq!(cambio.running.connections(), 3);
    for _ in 0..5 {
        assert!(cambio.connect().await.is_closed().await);
    }
    for connection in &mut held {
        assert_eq!(connection.request(get("/", "")).await.status, 200);
    }
    drop(held.pop());
    while cambio.running.connections() == 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cambio.request(get("/", "")).await.status, 200);
}

/// A client that still sends when the connection is closed may lose the answer (RFC 9112 §9.6).
#[tokio::test]
async fn a_refusal_reaches_a_client_that_still_sends() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "limits: { forwarded_requests: 1 }\n").await;
    // Has the one place of those whose body is still to come.
    let mut held = cambio.connect().await;
    held.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n3\r\nabc\r\n")).await;
    settle().await;
    for (path, framing, status) in [
        ("/oauth2/token", "Content-Length: 300000\r\n", 413),
        ("/oauth2/token", CHUNKED, 413),
        ("/oauth2/introspect", "Content-Length: 300000\r\n", 413),
        ("/x", "Content-Length: 300000\r\n", 503),
        ("/x", CHUNKED, 503),
        ("/x", "Content-Length: 300000\r\nContent-Length: 300000\r\n", 400),
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        let mut client = Connection::over(socket.connect(cambio.address()).await.unwrap());
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n")).await;
        let body = match framing {
            CHUNKED => format!("3e8\r\n{}\r\n", "a".repeat(1000)).repeat(300),
            _ => "a".repeat(300_000),
        };
        client.stream.write_all(body.as_bytes()).await.expect(path);
        let refusal = client.receive().await.expect(path);
        assert_eq!(refusal.status, status, "{path} {framing}");
        assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap(), 0, "{path} {framing}");
    }
    held.send("0\r\n\r\n").await;
    assert_eq!(held.receive().await.unwrap().status, 200);
    // Who goes on for ever is not listened to for as long.
    let mut endless = cambio.connect().await;
    endless
        .send("POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        .await;
    let (mut from, mut to) = endless.stream.split();
    let sending = async { while to.write_all(&[b'a'; 16_384]).await.is_ok() {} };
    let reading = async {
        let mut seen = Vec::new();
        let _ = from.read_to_end(&mut seen).await;
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.unwrap();
    assert_eq!(upstream.requests().len(), 1);
}

/// A head is written at once, and nothing of a body bounds how long that takes.
#[tokio::test]
async fn a_client_that_reads_no_answer_is_given_up() {
    let large = "x".repeat(30_000);
    let upstream =
        Upstream::answering(move |_| response("200 OK", &[("X-Large", &large)], b"")).await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = Connection::over(socket.connect(cambio.address()).await.unwrap());
    let mut asked = 0;
    while upstream.requests().len() == asked {
        deaf.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        asked += 1;
        // The last one is not even read: the answer before it is still on its way.
        for _ in 0..5 {
            settle().await;
        }
    }
    assert!((2..1000).contains(&asked), "{asked}");
    // The clock goes on while the machine is busy: not so far that a minute could be over.
    leap(Duration::from_secs(40)).await;
    settle().await;
    assert_eq!(cambio.running.connections(), 1);
    leap(Duration::from_secs(21)).await;
    until(|| cambio.running.connections() == 0).await;
    // Who reads is answered as often.
    let mut reads = cambio.connect().await;
    for _ in 0..asked {
        let answer = reads.request("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer.header("x-large").unwrap().len(), 30_000);
    }
}
