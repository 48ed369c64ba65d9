//! An upstream that is down, slow or broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cambio::dev::loopback::Reservation;
use tokio::net::TcpListener;

use super::leap::settle;
use super::support::{Cambio, Upstream, get, post, response};

const OTHER: &str = "grant_type=client_credentials";

/// An address on which nobody listens, for as long as it is held.
fn nobody() -> (Reservation, String) {
    let held = Reservation::make().unwrap();
    let url = format!("http://{}", held.address());
    (held, url)
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_bad_gateway() {
    let (_held, url) = nobody();
    let cambio = Cambio::start(&url, "").await;
    let response = cambio.request(get("/x", "")).await;
    assert_eq!(response.status, 502);
    assert_eq!(response.header("server"), None);
    assert!(response.header("cambio-decision").is_some());
    for path in ["/oauth2/token", "/oauth2//token"] {
        let response = cambio.request(post(path, "", OTHER)).await;
        assert_eq!(response.status, 502, "{path}");
        assert_eq!(response.json()["error"], "temporarily_unavailable");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(response.header("cambio-decision").is_some());
    }
    // Nobody can say who asks.
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let response = cambio.request(post(path, "", "token=x")).await;
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{path}");
        assert_eq!(response.json()["error"], "temporarily_unavailable");
    }
    let head = cambio.request("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((head.status, head.text()), (502, ""));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream =
        format!("upstream: {{ url: \"{url}\", timeouts: {{ connect: 1s, read: 200ms }} }}\n");
    let cambio = Cambio::start(&url, &upstream).await;
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    assert_eq!(cambio.request(get("/x", "")).await.status, 504);
    let response = cambio.request(post("/oauth2/token", "", OTHER)).await;
    assert_eq!(response.status, 504);
    assert_eq!(response.json()["error"], "temporarily_unavailable");
    silent.abort();
}

#[tokio::test]
async fn an_upstream_that_waits_for_the_rest_of_an_upload_does_not_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream =
        format!("upstream: {{ url: \"{url}\", timeouts: {{ connect: 1s, read: 200ms }} }}\n");
    let cambio = Cambio::start(&url, &upstream).await;
    // Answers an upload once it is whole, and nothing else.
    let waiting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while tokio::io::AsyncReadExt::read_buf(&mut stream, &mut read).await.unwrap() > 0 {
                    let is_end = read.ends_with(b"0\r\n\r\n");
                    let asks = read.windows(10).any(|window| window == b"X-Interim:");
                    if asks && !is_end && read.ends_with(b"\r\n\r\n") {
                        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n";
                        tokio::io::AsyncWriteExt::write_all(&mut stream, interim).await.unwrap();
                    }
                    if is_end {
                        let answer = super::support::response("200 OK", &[], b"all of it");
                        tokio::io::AsyncWriteExt::write_all(&mut stream, &answer).await.unwrap();
                    }
                }
            });
        }
    });
    for interim in ["", "X-Interim: 1\r\n"] {
        let mut upload = cambio.connect().await;
        let chunked = "Transfer-Encoding: chunked\r\n";
        upload.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{interim}{chunked}\r\n")).await;
        if !interim.is_empty() {
            assert_eq!(upload.receive().await.unwrap().status, 103);
        }
        upload.send("3\r\nabc\r\n").await;
        // Two requests that are given up one after the other are the time that passes meanwhile.
        for _ in 0..2 {
            assert_eq!(cambio.request(post("/x", "", OTHER)).await.status, 504);
        }
        upload.send("0\r\n\r\n").await;
        assert_eq!(upload.receive().await.unwrap().text(), "all of it", "{interim}");
    }
    waiting.abort();
}

/// What takes longer is the rest of a request, and what comes after a switch of protocols.
#[tokio::test]
async fn a_request_that_is_whole_is_not_waited_for_any_longer_than_others() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream =
        format!("upstream: {{ url: \"{url}\", timeouts: {{ connect: 1s, read: 200ms }} }}\n");
    let cambio = Cambio::start(&url, &upstream).await;
    // Switches where it is asked to at `/tunnel`, echoes from then on, and answers nothing else.
    let silent = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
                    if read.starts_with(b"GET /tunnel") && read.ends_with(b"\r\n\r\n") {
                        let switch = "HTTP/1.1 101 Switching Protocols\r\n";
                        let switch = format!("{switch}{UPGRADE}\r\n");
                        stream.write_all(switch.as_bytes()).await.unwrap();
                        let (mut from, mut to) = stream.split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                        return;
                    }
                }
            });
        }
    });
    let mut tunnel = cambio.connect().await;
    assert_eq!(tunnel.request(get("/tunnel", UPGRADE)).await.status, 101);
    // They are given up one after the other, which is the time that passes for the tunnel.
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for request in [
        format!("{chunked}3\r\nabc\r\n0\r\n\r\n").into_bytes(),
        post("/x", "", &"a".repeat(65_537)),
        get("/x", UPGRADE).into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&request[..50]).into_owned();
        let response = cambio.request(request).await;
        assert_eq!(response.status, 504, "{shown}");
        assert_eq!(response.text(), "The upstream does not answer in time.\n");
    }
    tunnel.send("still there").await;
    let mut echo = [0; 11];
    tunnel.stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still there");
    silent.abort();
}

#[tokio::test]
async fn a_broken_answer_is_a_bad_gateway_and_a_cut_one_is_cut() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/garbage" => b"what?\r\n\r\n".to_vec(),
        "/lengths" => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()
        }
        "/cut" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".to_vec(),
        _ => Vec::new(),
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for path in ["/garbage", "/lengths", "/closed"] {
        assert_eq!(cambio.request(get(path, "")).await.status, 502, "{path}");
    }
    // What was sent can't be taken back: the client must see that it is not whole.
    let mut connection = cambio.connect().await;
    connection.send(get("/cut", "")).await;
    assert!(connection.receive().await.is_none());
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    // It closes kept connections as a request arrives on them.
    let upstream = Upstream::answering(move |_| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            response("200 OK", &[], b"ok")
        } else {
            Vec::new()
        }
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    assert_eq!(cambio.request(post("/x", "", OTHER)).await.status, 200);
    assert_eq!(cambio.request(post("/x", "", OTHER)).await.status, 502);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert_eq!(cambio.request(post("/oauth2/token", "", OTHER)).await.status, 502);
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_name_is_resolved_and_every_address_of_it_tried() {
    let upstream = Upstream::start().await;
    // It has an IPv6 address, too, where nobody listens.
    let url = format!("http://localhost:{}", upstream.address.port());
    let cambio = Cambio::start(&url, "").await;
    for _ in 0..3 {
        assert_eq!(cambio.request(get("/x", "")).await.status, 200);
    }
    let nowhere = Cambio::start("http://cambio.invalid:1", "").await;
    assert_eq!(nowhere.request(get("/x", "")).await.status, 502);
}

#[tokio::test]
async fn an_early_refusal_of_the_upstream_reaches_a_client_that_still_sends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 4096];
        assert!(stream.read(&mut some).await.unwrap() > 0);
        let refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        stream.write_all(refusal).await.unwrap();
        while stream.read(&mut some).await.is_ok_and(|read| read > 0) {}
    });
    let cambio = Cambio::start(&url, "").await;
    let mut connection = cambio.connect().await;
    connection.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\nabc").await;
    let response = connection.receive().await.unwrap();
    assert_eq!((response.status, response.text()), (413, "no"));
}

/// Some clients send an empty line after a body, and some the next request before its turn.
#[tokio::test]
async fn what_comes_after_a_whole_request_costs_it_nothing_and_goes_nowhere() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let more = "a".repeat(20_000);
    for (request, after) in [
        (post("/x", "", "abc"), "\r\n"),
        (post("/x", "", "abc"), next),
        (get("/x", "").into_bytes(), next),
        (post("/oauth2/token", "", OTHER), next),
        (get("/x", "").into_bytes(), &more),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cambio = Cambio::start(&url, "").await;
        let mut connection = cambio.connect().await;
        connection.send(&request).await;
        let (mut upstream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        let end = &request[request.len() - 3..];
        while !(seen.windows(4).any(|window| window == b"\r\n\r\n") && seen.ends_with(end)) {
            assert!(upstream.read_buf(&mut seen).await.unwrap() > 0);
        }
        connection.send(after).await;
        settle().await;
        upstream.write_all(&response("200 OK", &[], b"done")).await.unwrap();
        let answer = connection.receive().await.expect("no answer");
        assert_eq!((answer.status, answer.text()), (200, "done"), "{after}");
        // To its end, and without a reset.
        assert_eq!(connection.stream.read(&mut [0; 1]).await.unwrap(), 0, "{after}");
        // Nothing else has come, on this connection or another.
        settle().await;
        let mut rest = [0; 1];
        let pending = || std::io::ErrorKind::WouldBlock;
        assert_eq!(upstream.try_read(&mut rest).map_err(|error| error.kind()), Err(pending()));
        assert!(listener.into_std().unwrap().accept().is_err_and(|e| e.kind() == pending()));
    }
}
