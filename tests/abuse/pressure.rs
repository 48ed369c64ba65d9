//! More work than there is room for: what is beyond the bound is told to come back, and what waits
//! for one thing does not stand in the way of another.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::authority::{Authority, LISTEN};
use super::frames::{END_HEADERS, END_STREAM, Ended, Frames, HEADERS, block, frame, request};
use super::load::{
    ATTACKER, Crowd, HEALTHY, OURS, Server, Tokens, alone, configure, crowd, exchange, seconds,
};
use super::support::{Cambio, Connection, Response, Upstream, folder, get, load, post, response};

/// Lets requests come, and answers none of them before it is told to.
struct Stalling {
    address: std::net::SocketAddr,
    answer: watch::Sender<Option<Arc<[u8]>>>,
}

impl Stalling {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, answers) = watch::channel(None::<Arc<[u8]>>);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut answers = answers.clone();
                tokio::spawn(async move {
                    let mut some = vec![0; 65_536];
                    while let Ok(1..) = stream.read(&mut some).await {
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
        Self { address, answer }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn go_on(&self, answer: &[u8]) {
        self.answer.send(Some(answer.into())).unwrap();
    }
}

/// A configuration with one issuer, whose keys are there or elsewhere, and a token of it.
fn issuer(key: &SigningKey, keys: &str) -> (String, String) {
    let more = format!(
        "trusted_token_issuers:\n  - name: partner\n    issuer: https://partner.example\n    {keys}\n\
         applications:\n  - client_id: phone\n    type: mobile\n    \
         allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n"
    );
    let now = cambio::clock::now().as_secs();
    let claims = json!({
        "iss": "https://partner.example", "sub": "alice", "aud": OURS, "exp": now + 3600,
    });
    (more, exchange(&key.sign("JWT", &claims).unwrap()))
}

fn key() -> SigningKey {
    let pem = generate_pem(Algorithm::ES256).unwrap();
    SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None).unwrap()
}

/// `count` requests at once, each on a connection of its own.
fn ask(cambio: &Cambio, request: &[u8], count: usize) -> JoinSet<Response> {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let (address, request) = (cambio.address(), request.to_vec());
        asking.spawn(async move { Connection::open(address).await.request(request).await });
    }
    asking
}

/// As many answers as come while `held` others don't.
async fn all_but(asking: &mut JoinSet<Response>, held: usize) -> Vec<Response> {
    let mut answers = Vec::new();
    while asking.len() > held {
        answers.push(asking.join_next().await.unwrap().unwrap());
    }
    answers
}

fn assert_busy(answer: &Response) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.header("cambio-decision").is_some());
    if answer.header("content-type") == Some("application/json") {
        assert_eq!(answer.json()["error"], "temporarily_unavailable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_beyond_the_bound_are_told_to_come_back() {
    let keys = Stalling::start().await;
    let upstream = Upstream::start().await;
    let key = key();
    let (issuer, body) = issuer(&key, &format!("jwks_endpoint: \"{}/jwks\"", keys.url()));
    let cambio =
        Cambio::start(&upstream.url(), &format!("{issuer}limits: {{ requests: 3 }}\n")).await;
    let exchange = post("/oauth2/token", "", &body);
    let mut asking = ask(&cambio, &exchange, 20);
    let busy = all_but(&mut asking, 3).await;
    assert_eq!(busy.len(), 17);
    for answer in &busy {
        assert_busy(answer);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // The upstream's requests have nothing to do with it.
    assert_eq!(cambio.request(get("/x", "")).await.status, 200);
    let other = post("/oauth2/token", "", "grant_type=client_credentials");
    assert_eq!(cambio.request(other).await.status, 200);
    let metrics = Connection::open(cambio.running.admin_address()).await;
    let metrics = { metrics }.request(get("/metrics", "")).await;
    let counted = "outcome=\"failed\",reason=\"overloaded\"} 17";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    // Those that were in time are served, and so is who comes then.
    let jwks = json!({ "keys": [key.jwk()] }).to_string();
    keys.go_on(&response("200 OK", &[("Content-Type", "application/json")], jwks.as_bytes()));
    for answer in all_but(&mut asking, 0).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    cambio.is_open_for(exchange).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_hangs_does_not_stop_exchanges() {
    let upstream = Stalling::start().await;
    let folder = folder();
    let key = key();
    let jwks = json!({ "keys": [key.jwk()] }).to_string();
    std::fs::write(folder.path().join("partner.json"), jwks).unwrap();
    let (issuer, body) = issuer(&key, "jwks: { file: partner.json }");
    let limits = "limits: { forwarded_requests: 3, requests: 3 }\n";
    let patient = format!(
        "upstream: {{ url: \"{}\", timeouts: {{ connect: 5s, read: 1m }} }}\n",
        upstream.url()
    );
    let more = format!("{patient}{issuer}{limits}");
    let cambio = Cambio::start_in(folder, &upstream.url(), &more).await;
    let mut asking = ask(&cambio, get("/x", "").as_bytes(), 20);
    let busy = all_but(&mut asking, 3).await;
    assert_eq!(busy.len(), 17);
    busy.iter().for_each(assert_busy);
    // So is everything else that would wait for it.
    for (path, body) in [
        ("/oauth2/token", "grant_type=client_credentials"),
        ("/oauth2/introspect", "token=cambio_at_x"),
        ("/oauth2/introspect", "token=theirs"),
        ("/oauth2/revoke", "token=cambio_at_x"),
    ] {
        let answer = cambio.request(post(path, "", body)).await;
        assert_busy(&answer);
        assert_eq!(answer.json()["error"], "temporarily_unavailable", "{path} {body}");
    }
    // A connection is kept for whoever comes back.
    let mut kept = cambio.connect().await;
    for _ in 0..2 {
        assert_busy(&kept.request(get("/x", "")).await);
    }
    // Exchanges, and our own documents, are.
    cambio.is_open_for(post("/oauth2/token", "", &body)).await;
    assert_eq!(cambio.request(get("/oauth2/jwks", "")).await.status, 200);
    upstream.go_on(&response("200 OK", &[], b"late"));
    for answer in all_but(&mut asking, 0).await {
        assert_eq!(answer.text(), "late");
    }
    // A place is free a moment after its answer was written.
    cambio.is_open_for(get("/x", "")).await;
    assert_eq!(kept.request(get("/x", "")).await.text(), "late");
}

/// What the upstream has read of one connection once `end` is there.
async fn heard(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "{}", seen.escape_ascii());
    }
    String::from_utf8(seen).unwrap()
}

/// Whoever sends a request slowly, or never to its end, is in the way of their like alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_is_still_to_come_does_not_wait_for_the_upstream() {
    const UPLOAD: &str = "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let cambio = Cambio::start(&url, "limits: { forwarded_requests: 1 }\n").await;
    let ok = response("200 OK", &[], b"ok");

    let mut slow = cambio.connect().await;
    slow.send(UPLOAD).await;
    slow.send("1\r\na\r\n").await;
    let (mut at_upstream, _) = upstream.accept().await.unwrap();
    assert!(heard(&mut at_upstream, "1\r\na\r\n").await.starts_with("POST /upload"));
    // Another one has no place, and is told so before its body comes.
    let mut other = cambio.connect().await;
    other.send(UPLOAD).await;
    assert_busy(&other.receive().await.unwrap());
    // One that is whole has.
    let mut whole = cambio.connect().await;
    whole.send(get("/x", "")).await;
    let (mut beside, _) = upstream.accept().await.unwrap();
    assert!(heard(&mut beside, "\r\n\r\n").await.starts_with("GET /x"));
    beside.write_all(&ok).await.unwrap();
    assert_eq!(whole.receive().await.unwrap().text(), "ok");
    // Once the upload is whole it waits for the upstream as others do.
    slow.send("0\r\n\r\n").await;
    heard(&mut at_upstream, "0\r\n\r\n").await;
    assert_busy(&whole.request(get("/x", "")).await);
    assert_busy(&cambio.request(UPLOAD).await);
    at_upstream.write_all(&ok).await.unwrap();
    assert_eq!(slow.receive().await.unwrap().text(), "ok");
    // And its place is free again.
    slow.send(UPLOAD).await;
    slow.send("0\r\n\r\n").await;
    tokio::select! {
        _ = heard(&mut at_upstream, "0\r\n\r\n") => at_upstream.write_all(&ok).await.unwrap(),
        _ = heard(&mut beside, "0\r\n\r\n") => beside.write_all(&ok).await.unwrap(),
    }
    assert_eq!(slow.receive().await.unwrap().text(), "ok");
}

#[tokio::test]
async fn an_upgraded_connection_is_no_request_that_waits() {
    let upstream = Upstream::answering(|request| match request.header("upgrade") {
        Some(_) => {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                .to_vec()
        }
        None => response("200 OK", &[], b"ok"),
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "limits: { forwarded_requests: 1 }\n").await;
    let mut open = cambio.connect().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    assert_eq!(open.request(get("/x", upgrade)).await.status, 101);
    assert_eq!(cambio.request(get("/x", "")).await.text(), "ok");
}

/// Else one connection would be as good as a hundred.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beside_one_another_on_http_2_count_as_connections() {
    let upstream = Stalling::start().await;
    let folder = folder();
    let authority = Authority::new();
    authority.write_leaf(folder.path());
    let limits = "limits: { connections: 8, connections_per_address: 4 }\n";
    let config = load(folder.path(), &upstream.url(), &format!("{LISTEN}{limits}"));
    let metrics = Arc::new(cambio::telemetry::metrics::Metrics::new());
    let running = cambio::app::App::start(config, metrics).await.unwrap();
    let cambio = Cambio { running, folder };
    let connect = async |from| {
        let stream = super::load::connect(cambio.address(), from).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = authority.connector(&[b"h2"]).connect(name, stream).await.unwrap();
        Frames::open(stream, 65_535).await.unwrap()
    };
    let get = block(&request(b"GET", b"/x", &[]));
    let get = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
    let mut greedy = connect(ATTACKER).await;
    greedy.send([1, 3, 5, 7, 9, 11].map(get).concat()).await.unwrap();
    let refused = greedy.ended(&[9, 11]).await;
    assert!(refused.values().all(|ended| *ended == Ended::Answered(503)), "{refused:?}");
    assert_eq!(cambio.running.connections(), 4);
    let mut modest = connect(HEALTHY).await;
    modest.send([1, 3].map(get).concat()).await.unwrap();
    while cambio.running.connections() < 6 {
        tokio::task::yield_now().await;
    }
    upstream.go_on(&response("200 OK", &[], b"ok"));
    for (client, streams) in [(&mut greedy, &[1, 3, 5, 7][..]), (&mut modest, &[1, 3])] {
        let ended = client.ended(streams).await;
        assert!(ended.values().all(|ended| *ended == Ended::Answered(200)), "{ended:?}");
    }
    while cambio.running.connections() > 2 {
        tokio::task::yield_now().await;
    }
}

/// A small one: `make pressure` prints the true figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_as_many_clients_get_about_as_much_done() {
    let _alone = alone().await;
    super::support::install_crypto();
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::new(folder.path());
    let listen = "listen: [{ address: 127.0.0.1:0 }]";
    let limits = "limits: { requests: 1 }\n";
    let config = configure(folder.path(), &upstream.url(), listen, limits);
    let server = Server::start(folder, &config);
    let requests = tokens.requests(200);
    let second = Duration::from_secs(1);
    let of =
        |clients, comes_back| Crowd { address: server.address, clients, lasts: second, comes_back };
    crowd(of(16, second), &requests).await;
    // What else the machine does takes from the one or from the other: one fair round of three shows it,
    // on a machine whose figures count.
    let mut share = 0.0;
    for _ in 0..3 {
        let peak = crowd(of(16, second), &requests).await;
        let pressed = crowd(of(160, second), &requests).await;
        let told = format!("goodput: {peak} with 16 clients, {pressed} with 160");
        writeln!(std::io::stderr(), "{told}").unwrap();
        assert_eq!((peak.other, pressed.other), (0, 0), "{told}");
        assert!(peak.granted > 0 && pressed.granted > 0, "nothing gets done: {told}");
        assert!(pressed.busy > 0, "the bound was never reached: {told}");
        share = f64::max(share, pressed.rate() / peak.rate());
        if seconds().is_none() || share > 0.4 {
            return;
        }
    }
    panic!("at best {share:.2} of the peak");
}

/// It is not served before its client shows what it wants, and closed all the same.
#[tokio::test]
async fn a_connection_that_was_turned_away_leaves_nothing_behind() {
    let upstream = Upstream::start().await;
    let limits = "limits: { connections: 2, connections_per_address: 1 }\n";
    let cambio = Cambio::start(&upstream.url(), limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let stream: TcpStream = super::load::connect(cambio.address(), HEALTHY).await.unwrap();
        let mut connection = Connection::over(stream);
        // One address may have one of two.
        if held.is_empty() {
            assert_eq!(connection.request(get("/x", "")).await.status, 200);
        } else {
            assert!(connection.is_closed().await);
        }
        held.push(connection);
    }
    assert_eq!(cambio.running.connections(), 1);
}
