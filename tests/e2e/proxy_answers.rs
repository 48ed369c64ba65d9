//! Answers of the upstream that can't be passed on as they are: those to clients of HTTP/1.0, and
//! those that other readers would take for longer or shorter than they are.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::support::{Cambio, PATIENCE, Upstream, get, response};

/// Everything that comes until Cambio closes.
async fn all(cambio: &Cambio, request: &str) -> String {
    let mut connection = cambio.connect().await;
    connection.send(request).await;
    let mut answer = String::new();
    let read = connection.stream.read_to_string(&mut answer);
    timeout(PATIENCE, read).await.expect("it stays open").unwrap();
    answer
}

/// What follows the header section.
fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks_and_no_interim_answers() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec()
        }
        "/hints" => {
            let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
            [hints, response("200 OK", &[], b"ok")].concat()
        }
        _ => response("200 OK", &[], b"ok"),
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for path in ["/chunked", "/hints"] {
        let answer = all(&cambio, &format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{path}: {answer}");
        assert_eq!(body(&answer), "ok", "{path}: {answer}");
    }
    // RFC 9110 §10.1.1: its expectation is none.
    for path in ["/x", "/oauth2/token"] {
        let request =
            format!("POST {path} HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=b");
        let answer = all(&cambio, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert_eq!(upstream.last().header("expect"), None, "{path}");
    }
    // Kept alive it needs a length.
    let keep = "Connection: keep-alive\r\n";
    let answer = all(&cambio, &format!("GET /chunked HTTP/1.0\r\n{keep}\r\n")).await;
    assert_eq!(body(&answer), "ok", "{answer}");
}

#[tokio::test]
async fn an_answer_without_a_body_names_no_length_of_one() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/chunked" => {
            b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()
        }
        "/long" => b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        _ => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    // RFC 9112 §6.1, RFC 9110 §8.6: whoever believed it would take the next answer for its body.
    for path in ["/chunked", "/long"] {
        let answer = cambio.request(get(path, "")).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("transfer-encoding"), None, "{path}");
        assert_eq!(answer.header("content-length"), None, "{path}");
    }
    // There it is that of the answer to GET.
    assert_eq!(cambio.request(get("/304", "")).await.header("content-length"), Some("5"));
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_bad_gateway() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            .to_vec()
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    for fields in ["", upgrade] {
        assert_eq!(cambio.request(get("/x", fields)).await.status, 502, "{fields}");
    }
}

#[tokio::test]
async fn an_answer_is_of_our_version_whatever_the_upstream_speaks() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/none" => b"HTTP/1.0 204 No Content\r\n\r\n".to_vec(),
        _ => b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    for path in ["/none", "/some"] {
        // RFC 9110 §6.2.
        let answer = cambio.request(get(path, "")).await;
        assert!(answer.head.starts_with("HTTP/1.1 20"), "{}", answer.head);
        assert_eq!(answer.header("via"), Some("1.0 cambio"));
    }
}

/// RFC 9110 §7.6.3: it is the version in which the message came.
#[tokio::test]
async fn via_names_http_1_0_where_a_body_ends_with_the_connection_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        for version in ["1.0", "1.1"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            let answer = format!("HTTP/{version} 200 OK\r\nConnection: close\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let cambio = Cambio::start(&url, "").await;
    for via in ["1.0 cambio", "1.1 cambio"] {
        let answer = cambio.request(get("/x", "")).await;
        assert_eq!((answer.text(), answer.header("via")), ("ok", Some(via)));
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
    }
    serving.await.unwrap();
}

/// An upstream that answers header sections, and takes no bodies. What arrived on each of its
/// connections.
async fn hasty() -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arrived: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let all = Arc::clone(&arrived);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let at = all.lock().unwrap().len();
                all.lock().unwrap().push(Vec::new());
                let (mut some, mut answered) = ([0; 4096], 0);
                while let Ok(count @ 1..) = stream.read(&mut some).await {
                    let heads = {
                        let mut all = all.lock().unwrap();
                        all[at].extend_from_slice(&some[..count]);
                        all[at].windows(4).filter(|window| window == b"\r\n\r\n").count()
                    };
                    for _ in answered..heads {
                        let _ = stream.write_all(&response("401 No", &[], b"no")).await;
                    }
                    answered = heads;
                }
            });
        }
    });
    (url, arrived)
}

#[tokio::test]
async fn a_body_that_the_upstream_did_not_wait_for_is_no_request_of_the_next_client() {
    // The next request on the connection would be what follows `X`.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX: ";
    let length = smuggled.len();
    let heads = [
        format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ),
        format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nExpect: x 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"),
        format!(
            "GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: {length}\r\n\r\n"
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ),
    ];
    for head in heads {
        let (url, arrived) = hasty().await;
        let cambio = Cambio::start(&url, "").await;
        let mut connection = cambio.connect().await;
        assert_eq!(connection.request(&head).await.status, 401, "{head}");
        let end = if head.contains("chunked") { "\r\n0\r\n\r\n" } else { "" };
        let _ = connection.stream.write_all(format!("{smuggled}{end}").as_bytes()).await;
        assert!(connection.is_closed().await);
        for _ in 0..2 {
            assert_eq!(cambio.request(get("/other", "")).await.status, 401);
        }
        // The one that bore the body brings no other request.
        let arrived = arrived.lock().unwrap();
        assert!(arrived.len() > 1, "{head}");
        assert!(!String::from_utf8_lossy(&arrived[0]).contains("/other"), "{head}");
    }
}
