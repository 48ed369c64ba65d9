//! HTTP/2, to the frame: clients that withhold what an answer needs, and requests that come late.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::frames::{
    END_HEADERS, END_STREAM, Ended, Frames, GOAWAY, HEADERS, block, frame, request, status,
};
use super::leap::{leap, settle};
use super::support::{Cambio, Connection, Upstream, get, response};
use super::tls::{Authority, connect, start};

async fn frames(
    cambio: &Cambio,
    authority: &Authority,
    window: u32,
) -> Frames<TlsStream<TcpStream>> {
    let stream = connect(cambio, authority, &[b"h2"]).await.unwrap();
    Frames::open(stream, window).await.unwrap()
}

fn ask(stream: u32, path: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&request(b"GET", path, &[])))
}

/// What the upstream has answered is no request that waits for it.
#[tokio::test]
async fn an_answer_that_its_client_does_not_take_keeps_no_place() {
    let upstream = Upstream::answering(|request| match request.target() {
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec()
        }
        _ => response("200 OK", &[], b"ok"),
    })
    .await;
    for path in [&b"/x"[..], b"/chunked"] {
        let (cambio, authority) =
            start(&upstream.url(), "limits: { forwarded_requests: 2 }\n").await;
        let mut deaf = frames(&cambio, &authority, 0).await;
        deaf.send([ask(1, path), ask(3, path)].concat()).await.unwrap();
        let mut answered = Vec::new();
        while answered.len() < 2 {
            let frame = deaf.next().await.unwrap();
            if frame.kind == HEADERS {
                assert_eq!(status(&frame.payload), 200);
                answered.push(frame.stream);
            }
        }
        let other = connect(&cambio, &authority, &[b"http/1.1"]).await.unwrap();
        let mut other = Connection::over(other);
        settle().await;
        assert_eq!(other.request(get("/y", "")).await.status, 200, "{}", path.escape_ascii());
    }
}

/// A client learns late that the server stops. What it asked for until then is answered.
#[tokio::test]
async fn a_stream_that_is_opened_while_the_server_stops_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (go_on, told) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut told = told.clone();
            tokio::spawn(async move {
                let mut some = [0; 4096];
                while stream.read(&mut some).await.is_ok_and(|read| read > 0) {
                    told.wait_for(|told| *told).await.unwrap();
                    stream.write_all(&response("200 OK", &[], b"ok")).await.unwrap();
                }
            });
        }
    });
    let (cambio, authority) = start(&url, "").await;
    let mut client = frames(&cambio, &authority, 65_535).await;
    client.send(ask(1, b"/x")).await.unwrap();
    settle().await;
    let Cambio { running, folder: _folder } = cambio;
    let stopping = tokio::spawn(running.stop());
    while client.next().await.unwrap().kind != GOAWAY {}
    // The ping after it is not answered, so that more may come. Until the server waits for the end of
    // what is in flight, some time passes.
    settle().await;
    leap(Duration::from_secs(1)).await;
    settle().await;
    client.send(ask(3, b"/x")).await.unwrap();
    settle().await;
    go_on.send(true).unwrap();
    let ended = client.ended(&[1, 3]).await;
    assert_eq!((ended[&1], ended[&3]), (Ended::Answered(200), Ended::Answered(200)));
    drop(client);
    assert!(stopping.await.unwrap());
}
