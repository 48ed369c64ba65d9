//! Clients that take their time, many at once (two thousand in a run for figures): each is cut off, and
//! others are served meanwhile.

use std::io::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use super::authority::{Authority, LISTEN};
use super::load::{
    ATTACKER, Figures, HEALTHY, Peak, Server, Times, Tokens, alone, configure, seconds, times,
};
use super::support::{Cambio, Connection, PATIENCE, Upstream, get};

/// How many there are, and how long they may take.
fn size() -> (usize, &'static str) {
    match seconds() {
        Some(_) => (2000, "limits: { header_timeout: 10s, body_timeout: 10s }\n"),
        None => (200, "limits: { header_timeout: 2s, body_timeout: 2s }\n"),
    }
}

/// What each may take up.
const BOUND: u64 = 64 * 1024;

/// Sends a byte now and then until the other side has answered and closed.
async fn drip(mut stream: TcpStream, drop: Option<u8>) -> Vec<u8> {
    let mut tick = interval(Duration::from_millis(500));
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            read = stream.read_buf(&mut answer) => match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return answer,
            },
            _ = tick.tick(), if drop.is_some() => {
                let byte = drop.unwrap_or_default();
                if stream.write_all(&[byte]).await.is_err() {
                    // Its answer may have come before it closed.
                    while let Ok(1..) = stream.read_buf(&mut answer).await {}
                    return answer;
                }
            }
        }
    }
}

/// `start` is what each sends at once, `drop` what comes after it, and `is_end` what its end is.
async fn withstands(name: &str, listen: &str, start: &[u8], drop: Option<u8>, end: &[u8]) {
    let _alone = alone().await;
    super::support::install_crypto();
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write_leaf(folder.path());
    let tokens = Tokens::new(folder.path());
    let (count, limits) = size();
    let config = configure(folder.path(), &upstream.url(), listen, limits);
    let server = Server::start(folder, &config);
    let is_tls = listen == LISTEN;
    let healthy = async || {
        let stream = server.connect(HEALTHY).await;
        if is_tls {
            let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
            let mut stream = authority.connector(&[]).connect(name, stream).await.unwrap();
            times(&mut stream, &tokens).await
        } else {
            let mut stream = stream;
            times(&mut stream, &tokens).await
        }
    };
    healthy().await;
    let idle = server.memory();
    let peak = Peak::of(&server);
    let (mut usual, mut during) = (Times::default(), Times::default());
    // By turns, as a machine is not equally busy all the time.
    let rounds = if seconds().is_some() { 3 } else { 1 };
    for _ in 0..rounds {
        usual.add(healthy().await);
        let mut slow = tokio::task::JoinSet::new();
        for _ in 0..count {
            let mut stream = server.connect(ATTACKER).await;
            stream.write_all(start).await.unwrap();
            slow.spawn(drip(stream, drop));
        }
        during.add(healthy().await);
        assert!(seconds().is_none() || slow.len() == count && slow.try_join_next().is_none());
        let answers = timeout(PATIENCE * 2, slow.join_all()).await.expect("some are never cut off");
        assert_eq!(answers.len(), count);
        for answer in answers {
            assert!(answer.starts_with(end), "{}", answer.escape_ascii());
            assert_eq!(answer.is_empty(), end.is_empty(), "{}", answer.escape_ascii());
        }
    }
    usual.add(healthy().await);
    let figures = Figures { usual, during, idle, peak: peak.end() };
    let told = format!("{count} {name}: {figures}");
    writeln!(std::io::stderr(), "{told}").unwrap();
    assert!(upstream.requests().is_empty());
    // Few are less than what a process takes up by itself.
    figures.hold((BOUND * count as u64).max(32 * 1024 * 1024), &told);
}

const PLAIN: &str = "listen: [{ address: 127.0.0.1:0 }]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_headers() {
    let start = b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nX: ";
    withstands("slow headers", PLAIN, start, Some(b'x'), b"HTTP/1.1 408 ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let start = b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\
                  Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=";
    withstands("slow bodies", PLAIN, start, Some(b'x'), b"HTTP/1.1 408 ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_not_gone_on_with() {
    // The header of a TLS record (RFC 8446 §5.1).
    let start = [22, 3, 1, 2, 0, 1];
    withstands("unfinished TLS handshakes", LISTEN, &start, None, b"").await;
}

async fn from(cambio: &Cambio, address: std::net::IpAddr) -> Connection {
    Connection::over(super::load::connect(cambio.address(), address).await.unwrap())
}

#[tokio::test]
async fn one_address_does_not_take_the_places_of_all_others() {
    let upstream = Upstream::start().await;
    let limits = "limits: { connections: 6, connections_per_address: 4 }\n";
    let cambio = Cambio::start(&upstream.url(), limits).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = from(&cambio, ATTACKER).await;
        assert_eq!(connection.request(get("/x", "")).await.status, 200);
        held.push(connection);
    }
    for _ in 0..20 {
        assert!(from(&cambio, ATTACKER).await.is_closed().await);
    }
    let mut healthy = from(&cambio, HEALTHY).await;
    assert_eq!(healthy.request(get("/x", "")).await.status, 200);
    // A place that is given up can be taken again.
    drop(held.pop());
    while cambio.running.connections() > 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(from(&cambio, ATTACKER).await.request(get("/x", "")).await.status, 200);
}

/// Everybody comes from one address where a load balancer stands in front.
#[tokio::test]
async fn unless_it_is_bounded_one_address_may_have_them_all_and_a_reload_changes_it() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "limits: { connections: 6 }\n").await;
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut connection = from(&cambio, ATTACKER).await;
        assert_eq!(connection.request(get("/x", "")).await.status, 200);
        held.push(connection);
    }
    assert!(from(&cambio, HEALTHY).await.is_closed().await);
    held.clear();
    while cambio.running.connections() > 0 {
        tokio::task::yield_now().await;
    }
    cambio
        .reload(&upstream.url(), "limits: { connections: 6, connections_per_address: 1 }\n")
        .await;
    let mut one = from(&cambio, ATTACKER).await;
    assert_eq!(one.request(get("/x", "")).await.status, 200);
    assert!(from(&cambio, ATTACKER).await.is_closed().await);
    assert_eq!(from(&cambio, HEALTHY).await.request(get("/x", "")).await.status, 200);
}
