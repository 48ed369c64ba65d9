//! What passes through is compared at both ends: ten thousand requests and answers that know nothing
//! of each other, in every legal form, with exchanges between them on the same connections.
//!
//! `CAMBIO_REQUESTS` says how many (10000), `CAMBIO_SEED` with which random numbers; the seed is printed.
//! `CAMBIO_CASE` runs one of them alone.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::transparency_message::{Speech, case};
use super::transparency_record::{Record, is_without_body, upstream};
use super::transparency_wire::{Fields, Framing, Sum, Wire, written};
use crate::random::{Random, setting};
use crate::refresh_support::{Client, furnish, lines, stand_in, subject_token};
use crate::support::{Cambio, folder};
use crate::tls::{Authority, LISTEN, connect};

/// Connections of clients at a time.
const CLIENTS: u64 = 8;
/// Whatever one case takes, on a machine that does much else.
const LONG: Duration = Duration::from_secs(120);
/// A client on HTTP/1, with what it knows from one request to the next.
struct Caller<'a> {
    record: &'a Record,
    subject: &'a str,
    random: Random,
    refresh_token: Option<String>,
}

impl Caller<'_> {
    /// One case; whether the connection may be used on.
    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        id: u64,
    ) -> Result<bool, String> {
        let case = case(self.record.seed, id, Speech::Http1);
        let way = self.record.way(&case);
        let request = &case.request;
        let version = if request.is_http_10 { "1.0" } else { "1.1" };
        let method = request.method.as_bytes();
        let start = [method, b" ", &request.target, b" HTTP/", version.as_bytes()].concat();
        let content = request.body.bytes();
        let random = &mut self.random;
        let framing = (request.framing, 1);
        let (head, framed) = written(&start, &request.fields, framing, &content, random);
        if request.expects() {
            if !wire.write(&head).await {
                return Err("closed early".to_owned());
            }
            match wire.head().await? {
                Some(head) if head.status() == 100 => {}
                other => return Err(format!("instead of 100: {other:?}")),
            }
            wire.write(&framed).await;
        } else {
            wire.write_in_pieces(&[head, framed].concat(), random).await;
        }
        let mut found = Vec::new();
        let mut hints = 0;
        let head = loop {
            let head = wire.head().await?.ok_or("closed without an answer")?;
            if head.status() != 103 {
                break head;
            }
            if hints == case.answer.hints.len() {
                return Err("a hint too many".to_owned());
            }
            found.extend(way.compare_hint(hints, &head.fields));
            hints += 1;
        };
        if hints < case.answer.hints.len() {
            found.push("a hint too few".to_owned());
        }
        let start = format!("HTTP/1.1 {} {}", case.answer.status, case.answer.reason);
        if head.start != start.as_bytes() {
            found.push(format!("the status line: {start} became {}", head.start.escape_ascii()));
        }
        let framing = match Framing::of(&head)? {
            _ if is_without_body(method, head.status()) => Framing::None,
            Framing::None => Framing::Close,
            framing => framing,
        };
        let body = wire.body(framing).await?;
        found.extend(self.record.compare(id, &way, &head.fields, &body));
        if !way.keeps() && !wire.is_closed().await {
            found.push("it stays open".to_owned());
        }
        if found.is_empty() { Ok(way.keeps()) } else { Err(found.join("\n    ")) }
    }

    /// An exchange, or the refresh of what one has granted; or one that is refused.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
    ) -> Result<(), String> {
        let client = Client::Portal;
        let known = self.refresh_token.take();
        let (request, status) = match (self.random.below(4), &known) {
            (0, _) => (client.exchange("e30.e30.e30", &[]), 400),
            (1, _) => (client.refresh("cambio_rt_made-up", &[]), 400),
            (2, Some(token)) => (client.refresh(token, &[]), 200),
            _ => (client.exchange(self.subject, &[]), 200),
        };
        wire.write_in_pieces(&request, &mut self.random).await;
        let head = wire.head().await?.ok_or("an exchange without an answer")?;
        let content = wire.content(Framing::of(&head)?).await?;
        let content = String::from_utf8_lossy(&content).into_owned();
        let is_ours = head.all("cambio-decision").len() == 1;
        if head.status() != status || !is_ours || head.all("connection") != [b"keep-alive"] {
            return Err(format!("an exchange: {head:?} {content}"));
        }
        if status == 200 {
            let granted: serde_json::Value = serde_json::from_str(&content).unwrap();
            self.refresh_token = granted["refresh_token"].as_str().map(str::to_owned);
        } else {
            self.refresh_token = known;
        }
        self.record.count_exchange(status);
        Ok(())
    }
}

/// Which cases are run.
fn ids(default: u64) -> std::ops::Range<u64> {
    match setting("CAMBIO_CASE", 0) {
        0 => 1..1 + setting("CAMBIO_REQUESTS", default),
        one => one..one + 1,
    }
}

/// What is between the ends.
struct Between {
    cambio: Cambio,
    authority: Authority,
    subject: String,
    _upstream: JoinSet<()>,
}

impl Between {
    async fn start(record: &Arc<Record>) -> Self {
        let (issuer, once) = (stand_in().await, stand_in().await);
        let (address, upstream) = upstream(Arc::clone(record)).await;
        let folder: TempDir = folder();
        furnish(folder.path(), &issuer, &once);
        let authority = Authority::new();
        authority.write_leaf(folder.path());
        let listen = if record.scheme == "https" { LISTEN } else { "" };
        let url = format!(
            "upstream: {{ url: \"http://{address}\", timeouts: {{ connect: 30s, read: 60s }} }}\n"
        );
        let more = format!("{listen}{url}{}", lines(&issuer, &once));
        let cambio = Cambio::start_in(folder, "", &more).await;
        let subject = subject_token(&issuer, |_| {});
        Self { cambio, authority, subject, _upstream: upstream }
    }
}

/// Runs cases over connections of HTTP/1.1, each of which has many.
async fn run_http_1<S: AsyncRead + AsyncWrite + Unpin>(
    record: Arc<Record>,
    between: Arc<Between>,
    nth: u64,
    all: u64,
    open: impl Fn(Arc<Between>) -> Pin<Box<dyn Future<Output = S> + Send>>,
) {
    let random = Random::of(record.seed, u64::MAX / 2 + nth);
    let mut caller =
        Caller { record: &record, subject: &between.subject, random, refresh_token: None };
    let mut wire = None;
    for id in ids(all).filter(|id| id % CLIENTS == nth) {
        if record.is_enough() {
            return;
        }
        if caller.random.chance(3) {
            wire = None;
        }
        let mut used = match wire.take() {
            Some(wire) => wire,
            None => {
                record.connections.fetch_add(1, Ordering::Relaxed);
                Wire::over(open(Arc::clone(&between)).await)
            }
        };
        if caller.random.chance(5)
            && let Err(what) = caller.exchange(&mut used).await
        {
            record.note(format!("before case {id}: {what}"));
            continue;
        }
        let asked = timeout(LONG, caller.ask(&mut used, id)).await;
        match asked.unwrap_or_else(|_| Err("no end".to_owned())) {
            Ok(true) => wire = Some(used),
            Ok(false) => {}
            Err(what) => record.note(format!("case {id}: {what}")),
        }
    }
}

/// Eight connections of clients at a time.
async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    what: &str,
    scheme: &'static str,
    all: u64,
    open: impl Fn(Arc<Between>) -> Pin<Box<dyn Future<Output = S> + Send>> + Copy + Send + 'static,
) {
    let record = Record::new(Speech::Http1, scheme);
    let between = Arc::new(Between::start(&record).await);
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for nth in 0..CLIENTS {
        clients.spawn(run_http_1(Arc::clone(&record), Arc::clone(&between), nth, all, open));
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    record.conclude(what, began, ids(all).count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_through_is_the_same_at_both_ends() {
    run("HTTP/1.1", "http", 10_000, |between| {
        Box::pin(async move {
            let stream = TcpStream::connect(between.cambio.address()).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_through_tls_is_the_same_at_both_ends() {
    run("HTTP/1.1 over TLS", "https", 1_000, |between| {
        Box::pin(async move {
            connect(&between.cambio, &between.authority, &[b"http/1.1"]).await.unwrap()
        })
    })
    .await;
}

/// One case over HTTP/2.
async fn ask_http_2(
    client: &mut SendRequest<Bytes>,
    record: &Record,
    id: u64,
) -> Result<(), String> {
    let case = case(record.seed, id, Speech::Http2);
    let way = record.way(&case);
    let fault = |error: h2::Error| format!("{error}");
    let mut request = http::Request::new(());
    *request.method_mut() = case.request.method.parse().unwrap();
    let target = std::str::from_utf8(&case.request.target).unwrap();
    let host = case.request.host.as_ref().unwrap();
    *request.uri_mut() = format!("https://{host}{target}").parse().unwrap();
    for (name, value) in &case.request.fields {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let content = Bytes::from(case.request.body.bytes());
    let is_empty = content.is_empty();
    let mut random = Random::of(record.seed, !id);
    *client = client.clone().ready().await.map_err(fault)?;
    let (response, mut stream) = client.send_request(request, is_empty).map_err(fault)?;
    let mut rest = content;
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len().min(random.between(1, 60_000)));
        let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let room = room.ok_or("reset")?.map_err(fault)?;
        let piece = rest.split_to(room.min(rest.len()));
        stream.send_data(piece, rest.is_empty()).map_err(fault)?;
    }
    let (head, mut stream) = response.await.map_err(fault)?.into_parts();
    let mut content = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(fault)?;
        stream.flow_control().release_capacity(piece.len()).map_err(fault)?;
        content.extend_from_slice(&piece);
    }
    let mut found = Vec::new();
    if head.status.as_u16() != case.answer.status {
        found.push(format!("the status: {} became {}", case.answer.status, head.status));
    }
    let fields: Fields = (head.headers.iter())
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    found.extend(record.compare(id, &way, &fields, &Sum::of(&content)));
    if found.is_empty() { Ok(()) } else { Err(found.join("\n    ")) }
}

/// An exchange that is refused, on the same connection.
async fn exchange_http_2(client: &mut SendRequest<Bytes>, record: &Record) -> Result<(), String> {
    let fault = |error: h2::Error| format!("an exchange: {error}");
    let request = http::Request::post("https://idp.example/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded");
    *client = client.clone().ready().await.map_err(fault)?;
    let (response, mut stream) =
        client.send_request(request.body(()).unwrap(), false).map_err(fault)?;
    let form = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x";
    stream.send_data(Bytes::from_static(form.as_bytes()), true).map_err(fault)?;
    let head = response.await.map_err(fault)?;
    if head.status() != 401 || !head.headers().contains_key("cambio-decision") {
        return Err(format!("an exchange: {head:?}"));
    }
    record.count_exchange(401);
    Ok(())
}

/// Several streams of each of two connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_from_http_2_is_the_same_at_both_ends() {
    let record = Record::new(Speech::Http2, "https");
    let between = Arc::new(Between::start(&record).await);
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for pair in 0..2 {
        let stream = connect(&between.cambio, &between.authority, &[b"h2"]).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        record.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection);
        for nth in 0..CLIENTS / 2 {
            let (record, mut client) = (Arc::clone(&record), client.clone());
            clients.spawn(async move {
                for id in ids(1_500).filter(|id| id % CLIENTS == nth * 2 + pair) {
                    if record.is_enough() {
                        return;
                    }
                    if id % 20 == 0
                        && let Err(what) = exchange_http_2(&mut client, &record).await
                    {
                        record.note(format!("before case {id}: {what}"));
                    }
                    let asked = timeout(LONG, ask_http_2(&mut client, &record, id)).await;
                    match asked.unwrap_or_else(|_| Err("no end".to_owned())) {
                        Ok(()) => {}
                        Err(what) => record.note(format!("case {id}: {what}")),
                    }
                }
            });
        }
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    record.conclude("HTTP/2 to HTTP/1.1", began, ids(1_500).count());
}
