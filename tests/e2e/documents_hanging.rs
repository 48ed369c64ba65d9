//! Documents of an upstream that hangs: who waits, for how long, and how many fetches that makes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::advance;

use super::documents_support::{Idp, JWKS, METADATA, ask, json, keys, kids, overlay_of};
use super::leap::{in_no_time, leap, settle, timed, until};
use super::support::{Cambio, Connection, Response, get, response};

const ISSUER: &str = "http://idp.example";
/// Metadata stand there as well, though nobody has said so.
const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
const SECOND: Duration = Duration::from_secs(1);

/// Answers every request with one document, or lets requests come and answers none of them before
/// it has one again.
struct Hanging {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    answer: watch::Sender<Option<Vec<u8>>>,
}

impl Hanging {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, answers) = watch::channel(Some(document("first", "no-cache")));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut answers, asked) = (answers.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let mut some = vec![0; 65_536];
                    while let Ok(1..) = stream.read(&mut some).await {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let answer = answers.wait_for(Option::is_some).await;
                        let Some(answer) = answer.ok().and_then(|answer| answer.clone()) else {
                            return;
                        };
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked, answer }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn answers(&self, answer: Vec<u8>) {
        self.answer.send(Some(answer)).unwrap();
    }

    fn hangs(&self) {
        self.answer.send(None).unwrap();
    }

    /// An overlay over it that would wait for a minute.
    fn settings(&self, more: &str) -> String {
        let timeouts = "{ connect: 5s, read: 1m }";
        let upstream = format!("upstream: {{ url: \"{}\", timeouts: {timeouts} }}\n", self.url());
        format!("{upstream}{}", overlay_of(ISSUER, METADATA, more))
    }

    /// In front of it, with its documents as last good ones.
    async fn cambio(&self, more: &str) -> Cambio {
        let settings = format!("{}{more}", self.settings(""));
        let cambio = Cambio::start(&self.url(), &settings).await;
        // It is asked ahead of everybody. The metadata come last, and whoever asks for them
        // meanwhile waits.
        until(|| self.asked() == 2).await;
        for path in [METADATA, JWKS] {
            assert_eq!(cambio.request(get(path, "")).await.status, 200);
        }
        cambio
    }

    /// A client whose request has made it be asked, and waits.
    async fn held(&self, cambio: &Cambio, request: &str) -> Connection {
        let asked = self.asked();
        let mut client = cambio.connect().await;
        client.send(request).await;
        until(|| self.asked() > asked).await;
        client
    }
}

/// It is both, a key set and metadata.
fn document(kid: &str, cache_control: &str) -> Vec<u8> {
    let fields = [("Content-Type", "application/json"), ("Cache-Control", cache_control)];
    let body = format!(
        "{{\"issuer\":\"{ISSUER}\",\
         \"keys\":[{{\"kty\":\"RSA\",\"kid\":\"{kid}\",\"n\":\"AQ\",\"e\":\"AQAB\"}}]}}"
    );
    response("200 OK", &fields, body.as_bytes())
}

fn get_at(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[track_caller]
fn assert_same(served: &Response, good: &Response) {
    assert_eq!((served.status, &served.body), (200, &good.body), "{}", served.text());
}

#[track_caller]
fn assert_busy(answer: &Response) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.text(), "The server is busy. Try again later.\n");
    assert!(answer.header("cambio-decision").is_some());
}

#[tokio::test]
async fn an_upstream_that_hangs_holds_the_last_good_document_up_for_a_second() {
    let idp = Hanging::start().await;
    let cambio = idp.cambio("").await;
    let good = cambio.request(get(JWKS, "")).await;
    let asked = idp.asked();
    idp.hangs();
    let first = idp.held(&cambio, &get(JWKS, "")).await;
    let mut second = cambio.connect().await;
    second.send(get(JWKS, "")).await;
    settle().await;
    leap(SECOND).await;
    // Whoever the fetch was begun for waits no longer than whoever came to it.
    for mut client in [first, second] {
        let (served, took) = timed(client.receive()).await;
        assert_same(&served.unwrap(), &good);
        assert!(took < 5 * SECOND, "{took:?}");
    }
    // It goes on, and what it brings is there for all who come later.
    assert_eq!(idp.asked(), asked + 1);
    idp.answers(document("second", "max-age=60"));
    for _ in 0..2 {
        let late = ask(&cambio, get(JWKS, "")).await;
        assert_eq!(kids(&late.json())[0], "second");
    }
    assert_eq!(idp.asked(), asked + 1);
}

#[tokio::test]
async fn a_newer_document_that_comes_within_a_second_is_waited_for() {
    let idp = Hanging::start().await;
    let cambio = idp.cambio("").await;
    idp.hangs();
    let newer = in_no_time(async {
        let mut client = idp.held(&cambio, &get(JWKS, "")).await;
        idp.answers(document("second", "no-cache"));
        client.receive().await.unwrap()
    });
    assert_eq!(kids(&newer.await.json())[0], "second");
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_any_more_still_counts_as_failed() {
    let idp = Hanging::start().await;
    let cambio = idp.cambio("").await;
    let good = cambio.request(get(JWKS, "")).await;
    let asked = idp.asked();
    idp.hangs();
    let mut client = idp.held(&cambio, &get(JWKS, "")).await;
    settle().await;
    leap(SECOND).await;
    assert_same(&client.receive().await.unwrap(), &good);
    // However patient the configuration is, it is given up after ten seconds.
    // For a while nobody waits for another one, nor is there one.
    in_no_time(async {
        advance(9 * SECOND).await;
        settle().await;
        for _ in 0..2 {
            assert_same(&cambio.request(get(JWKS, "")).await, &good);
        }
    })
    .await;
    assert_eq!(idp.asked(), asked + 1);
    // A while later it is asked again.
    leap(2 * SECOND).await;
    idp.answers(document("second", "no-cache"));
    let again = ask(&cambio, get(JWKS, "")).await;
    assert_eq!(kids(&again.json())[0], "second");
    assert_eq!(idp.asked(), asked + 2);
}

#[tokio::test]
async fn where_there_is_no_last_good_document_all_wait_for_one_fetch() {
    let idp = Hanging::start().await;
    let cambio = idp.cambio("").await;
    let never_seen = get_at("never-seen.example", JWKS);
    let asked = idp.asked();
    idp.hangs();
    let first = idp.held(&cambio, &never_seen).await;
    let mut second = cambio.connect().await;
    second.send(&never_seen).await;
    settle().await;
    leap(5 * SECOND).await;
    settle().await;
    for client in [&first, &second] {
        let read = client.stream.try_read(&mut [0]);
        assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }
    idp.answers(document("second", "no-cache"));
    for mut client in [first, second] {
        assert_eq!(kids(&client.receive().await.unwrap().json())[0], "second");
    }
    assert_eq!(idp.asked(), asked + 1);
    // There are none of our keys alone, either.
    idp.hangs();
    let mut in_vain = idp.held(&cambio, &get_at("another.example", JWKS)).await;
    settle().await;
    leap(10 * SECOND).await;
    assert_eq!(in_vain.receive().await.unwrap().status, 502);
}

#[tokio::test]
async fn a_fetch_counts_among_what_waits_for_the_upstream() {
    let idp = Hanging::start().await;
    let cambio = idp.cambio("limits: { forwarded_requests: 1 }\n").await;
    let good = cambio.request(get(JWKS, "")).await;
    // None of these has been had before.
    let others = [
        get(&format!("{JWKS}?2"), ""),
        get_at("other.example", JWKS),
        get(&format!("{METADATA}?2"), ""),
        get(WELL_KNOWN, ""),
        get("/x", ""),
    ];
    // A fetch takes a place from others, and others take one from it.
    for held in [get(&format!("{JWKS}?1"), ""), get("/held", "")] {
        idp.hangs();
        let mut holding = idp.held(&cambio, &held).await;
        let asked = idp.asked();
        for other in &others {
            assert_busy(&cambio.request(other).await);
        }
        assert_same(&ask(&cambio, get(JWKS, "")).await, &good);
        assert_eq!(idp.asked(), asked);
        idp.answers(document("first", "no-cache"));
        assert_eq!(holding.receive().await.unwrap().status, 200);
    }
    // Where there is room, each is served.
    for other in &others {
        cambio.is_open_for(other).await;
    }
}

#[tokio::test]
async fn keys_on_another_host_do_not_count_among_what_waits_for_the_upstream() {
    let there = Idp::start(keys).await;
    let idp = Hanging::start().await;
    let more = format!("  upstream_jwks: {}/keys\n", there.upstream.url());
    let settings = format!("{}limits: {{ forwarded_requests: 1 }}\n", idp.settings(&more));
    let cambio = Cambio::start(&idp.url(), &settings).await;
    until(|| idp.asked() == 1).await;
    assert_eq!(cambio.request(get(METADATA, "")).await.status, 200);
    assert_eq!(kids(&cambio.request(get(JWKS, "")).await.json())[0], "theirs");
    idp.hangs();
    let _holding = idp.held(&cambio, &get("/held", "")).await;
    assert_busy(&cambio.request(get_at("other.example", METADATA)).await);
    there.answers(|_| json(r#"{"keys":[]}"#));
    assert_eq!(kids(&ask(&cambio, get(JWKS, "")).await.json()).len(), 1);
}
