//! Streams that go both ways at once, and what the library lets nobody pass on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::transparency_wire::{Framing, PATIENCE, Sum, Wire};
use crate::random::{Random, setting};
use crate::support::{Cambio, get};

/// Frames of RFC 6455 §5.2 with random content: those of a client are masked.
fn frames(random: &mut Random, is_client: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..random.between(1, 60) {
        let length = match random.below(10) {
            0 => random.between(65_536, 200_000),
            1..4 => random.between(126, 65_535),
            _ => random.below(126),
        };
        let is_control = length < 126 && random.chance(20);
        let opcode = if is_control { *random.pick(&[9, 10]) } else { random.below(3) };
        out.push(u8::try_from(opcode).unwrap() | if random.chance(70) { 0x80 } else { 0 });
        let mask = if is_client { 0x80 } else { 0 };
        match length {
            0..126 => out.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                out.push(mask | 0x7e);
                out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                out.push(mask | 0x7f);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&random.bytes(length + if is_client { 4 } else { 0 }));
    }
    out
}

/// Writes one stream in pieces of all sizes while it reads another of a known length.
async fn converse(stream: &mut TcpStream, out: &[u8], expected: usize, random: &mut Random) -> Sum {
    let (mut from, mut to) = stream.split();
    let write = async {
        let mut rest = out;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(random.between(1, 100_000).min(rest.len()));
            to.write_all(piece).await.unwrap();
            rest = tail;
        }
    };
    let read = async {
        let mut whole = vec![0; expected];
        from.read_exact(&mut whole).await.unwrap();
        Sum::of(&whole)
    };
    timeout(PATIENCE, async { tokio::join!(write, read).1 }).await.expect("it stalls")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_frames_pass_both_ways_to_the_byte() {
    let seed = setting("CAMBIO_SEED", 7);
    for round in 0..8 {
        let mut random = Random::of(seed, round);
        let (up, down) = (frames(&mut random, true), frames(&mut random, false));
        let (up_length, back) = (up.len(), down.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client_ends = round % 2 == 0;
        let upstream = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut wire = Wire::over(stream);
            let head = wire.head().await.unwrap().unwrap();
            assert_eq!(head.all("upgrade"), [b"websocket"]);
            assert_eq!(head.all("connection").len(), 1);
            assert_eq!(head.all("sec-websocket-extensions"), [b"permessage-deflate; x=\"y\""]);
            // The first frame may come in one piece with the switch.
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                           Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
            let first = random.below(back.len() + 1).min(5_000);
            wire.write(&[&switch[..], &back[..first]].concat()).await;
            let mut stream = wire.stream;
            let got = converse(&mut stream, &back[first..], up_length, &mut random).await;
            if !client_ends {
                stream.shutdown().await.unwrap();
            }
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            got
        });
        let cambio = Cambio::start(&url, "").await;
        let mut wire = Wire::over(TcpStream::connect(cambio.address()).await.unwrap());
        let fields = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\
                      Sec-WebSocket-Extensions: permessage-deflate; x=\"y\"\r\n";
        wire.write(get("/ws?a=b", fields).as_bytes()).await;
        let head = wire.head().await.unwrap().unwrap();
        assert_eq!(head.status(), 101);
        assert_eq!(head.all("sec-websocket-accept"), [b"x"]);
        assert_eq!(head.all("upgrade"), [b"websocket"]);
        let (early, mut stream) = wire.into_parts();
        let mut random = Random::of(seed, !round);
        let rest = down.len() - early.len();
        let got = converse(&mut stream, &up, rest, &mut random).await;
        assert_eq!(early, down[..early.len()], "round {round}");
        assert_eq!(got, Sum::of(&down[early.len()..]), "round {round}");
        if client_ends {
            stream.shutdown().await.unwrap();
        }
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "round {round}");
        drop(stream);
        assert_eq!(
            timeout(PATIENCE, upstream).await.unwrap().unwrap(),
            Sum::of(&up),
            "round {round}"
        );
    }
}

/// What an upstream does that has answered before a body was whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    ReadsOn,
    Closes,
    Stalls,
}

/// Answers a header section and some of the body, and counts what arrives on each connection.
async fn hasty(afterwards: Afterwards, answer: Vec<u8>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, answer) = (Arc::clone(&seen), answer.clone());
            tokio::spawn(async move {
                let mut wire = Wire::over(stream);
                while let Ok(Some(head)) = wire.head().await {
                    seen.lock().unwrap().push(String::from_utf8_lossy(&head.start).into_owned());
                    let framing = Framing::of(&head).unwrap();
                    if framing == Framing::None {
                        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                        continue;
                    }
                    wire.write(&answer).await;
                    match afterwards {
                        Afterwards::ReadsOn => {
                            if wire.body(framing).await.is_err() {
                                return;
                            }
                        }
                        Afterwards::Closes => return,
                        Afterwards::Stalls => std::future::pending().await,
                    }
                }
            });
        }
    });
    (address, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_reaches_a_client_that_sends_five_mebibytes() {
    let body = Random(setting("CAMBIO_SEED", 7)).bytes(5 * 1024 * 1024);
    let reply = Random(1).bytes(100_000);
    let head = format!("HTTP/1.1 413 Enough\r\nContent-Length: {}\r\n\r\n", reply.len());
    let answer = [head.as_bytes(), &reply].concat();
    for afterwards in [Afterwards::ReadsOn, Afterwards::Closes, Afterwards::Stalls] {
        for is_chunked in [false, true] {
            let name = format!("{afterwards:?} {is_chunked}");
            let (address, lines) = hasty(afterwards, answer.clone()).await;
            let cambio = Cambio::start(&format!("http://{address}"), "").await;
            let stream = TcpStream::connect(cambio.address()).await.unwrap();
            let (from, mut to) = tokio::io::split(stream);
            let framing = if is_chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {}", body.len())
            };
            let head = format!("PUT /up HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let sent = body.clone();
            let write = tokio::spawn(async move {
                if to.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                for piece in sent.chunks(50_000) {
                    let size = format!("{:x}\r\n", piece.len());
                    let framed = [size.as_bytes(), piece, b"\r\n"].concat();
                    if to.write_all(if is_chunked { &framed } else { piece }).await.is_err() {
                        // Whoever has answered need not read on (RFC 9112 §9.6).
                        return;
                    }
                }
                if is_chunked {
                    let _ = to.write_all(b"0\r\n\r\n").await;
                }
            });
            let mut wire = Wire::over(tokio::io::join(from, tokio::io::sink()));
            let head = wire.head().await.unwrap().expect("closed without an answer");
            assert_eq!(head.start, b"HTTP/1.1 413 Enough", "{name}");
            let got = wire.body(Framing::of(&head).unwrap()).await;
            assert_eq!(got, Ok(Sum::of(&reply)), "{name}");
            assert!(wire.is_closed().await, "{name}");
            timeout(PATIENCE, write).await.expect("it stalls").unwrap();
            // What was left of the body is no request, and meets nobody else's.
            for _ in 0..3 {
                assert_eq!(cambio.request(get("/other", "")).await.text(), "ok", "{name}");
            }
            let lines = lines.lock().unwrap().clone();
            let expected = ["PUT /up HTTP/1.1", "GET /other HTTP/1.1"];
            assert_eq!(lines, [expected[0], expected[1], expected[1], expected[1]], "{name}");
        }
    }
}

/// RFC 9110 §6.5.1: an intermediary may leave them out. The library does.
#[tokio::test]
async fn trailer_fields_end_here_and_the_body_before_them_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = tokio::spawn(async move {
        let mut wire = Wire::over(listener.accept().await.unwrap().0);
        for _ in 0..2 {
            let head = wire.head().await.unwrap().unwrap();
            assert_eq!(wire.content(Framing::of(&head).unwrap()).await, Ok(b"up".to_vec()));
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                           4\r\ndown\r\n0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n";
            wire.write(answer).await;
        }
    });
    let cambio = Cambio::start(&url, "").await;
    let mut wire = Wire::over(TcpStream::connect(cambio.address()).await.unwrap());
    for path in ["/x", "/oauth2/token"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nup\r\n0\r\nX-Sum: 1\r\nsubject_token: 2\r\n\r\n"
        );
        wire.write(request.as_bytes()).await;
        let head = wire.head().await.unwrap().unwrap();
        assert_eq!(head.status(), 200, "{path}");
        assert_eq!(wire.content(Framing::of(&head).unwrap()).await, Ok(b"down".to_vec()), "{path}");
    }
    upstream.await.unwrap();
}
