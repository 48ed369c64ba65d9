//! The upstream that records what passes through, and what both ends know.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::transparency_message::{Case, Speech, case};
use super::transparency_rules::Way;
use super::transparency_wire::{Fields, Framing, Head, Sum, Wire, written};
use crate::random::{Random, setting};

/// So many differences say enough.
const ENOUGH: usize = 20;

/// What reached the upstream.
#[derive(Debug)]
pub struct Arrived {
    pub head: Head,
    pub body: Sum,
}

/// What both ends know and count.
pub struct Record {
    pub seed: u64,
    pub speech: Speech,
    pub scheme: &'static str,
    /// Where the upstream is.
    pub upstream: OnceLock<SocketAddr>,
    pub arrived: Mutex<HashMap<u64, Vec<Arrived>>>,
    pub wrong: Mutex<Vec<String>>,
    pub requests: AtomicUsize,
    pub sent: AtomicUsize,
    pub received: AtomicUsize,
    pub granted: AtomicUsize,
    pub refused: AtomicUsize,
    pub connections: AtomicUsize,
    pub upstream_connections: AtomicUsize,
}

impl Record {
    pub fn way<'a>(&self, case: &'a Case) -> Way<'a> {
        Way { case, scheme: self.scheme, upstream: *self.upstream.get().unwrap() }
    }

    pub fn note(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    pub fn is_enough(&self) -> bool {
        self.wrong.lock().unwrap().len() >= ENOUGH
    }

    /// What arrived of a case, which has to be once.
    pub fn take(&self, id: u64) -> Result<Arrived, String> {
        let mut arrived = self.arrived.lock().unwrap().remove(&id).unwrap_or_default();
        let count = arrived.len();
        arrived.pop().filter(|_| count == 1).ok_or_else(|| format!("it arrived {count} times"))
    }

    /// What a client found: the answer, and what the upstream says of the request.
    pub fn compare(&self, id: u64, way: &Way, answer: &Fields, body: &Sum) -> Vec<String> {
        let case = way.case;
        let mut found = Vec::new();
        let expected = case.answer.body.bytes();
        if Sum::of(&expected) != *body {
            found.push(format!("the answer's body: {:?} became {body:?}", Sum::of(&expected)));
        }
        found.extend(way.compare_answer(answer).into_iter().map(|what| format!("answer: {what}")));
        match self.take(id) {
            Ok(arrived) => {
                let line = way.request_line();
                if arrived.head.start != line {
                    let there = arrived.head.start.escape_ascii();
                    found.push(format!("the request line: {} became {there}", line.escape_ascii()));
                }
                let sent = Sum::of(&case.request.body.bytes());
                if sent != arrived.body {
                    found.push(format!("the request's body: {sent:?} became {:?}", arrived.body));
                }
                found.extend(way.compare_request(&arrived.head));
                self.sent.fetch_add(sent.length, Ordering::Relaxed);
                self.received.fetch_add(body.length, Ordering::Relaxed);
                self.requests.fetch_add(1, Ordering::Relaxed);
            }
            Err(what) => found.push(what),
        }
        found
    }
}

/// The upstream: it records what comes, and answers what the case says.
pub async fn upstream(record: Arc<Record>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    record.upstream.set(address).unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            record.upstream_connections.fetch_add(1, Ordering::Relaxed);
            connections.spawn(async move {
                if let Err(what) = serve(stream, &record).await {
                    record.note(format!("upstream: {what}"));
                }
            });
        }
    });
    (address, serving)
}

async fn serve(stream: TcpStream, record: &Record) -> Result<(), String> {
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::over(stream);
    while let Some(head) = wire.head().await? {
        let id = match head.all("x-case")[..] {
            [id] => std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()),
            _ => None,
        };
        let id: u64 = id.ok_or_else(|| format!("a request of nobody: {head:?}"))?;
        if !head.all("expect").is_empty() && !wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await {
            return Err(format!("case {id}: closed early"));
        }
        let framing = Framing::of(&head).map_err(|what| format!("case {id}: {what}"))?;
        let body = wire.body(framing).await.map_err(|what| format!("case {id}: {what}"))?;
        let answer = case(record.seed, id, record.speech).answer;
        let mut closes = !head.all("connection").is_empty() || answer.is_http_10;
        closes |= answer.fields.iter().any(|f| f.0 == "Connection" && f.1 == b"close");
        let method = head.part(0).to_vec();
        record.arrived.lock().unwrap().entry(id).or_default().push(Arrived { head, body });
        let mut random = Random::of(record.seed, !id);
        let mut whole = Vec::new();
        for hint in &answer.hints {
            let start = b"HTTP/1.1 103 Early Hints";
            whole.extend_from_slice(&written(start, hint, (Framing::None, 1), b"", &mut random).0);
        }
        let version = if answer.is_http_10 { "1.0" } else { "1.1" };
        let start = format!("HTTP/{version} {} {}", answer.status, answer.reason);
        let content = answer.body.bytes();
        let framing =
            if is_without_body(&method, answer.status) { Framing::None } else { answer.framing };
        // Each chunk becomes a frame, and a client may take a heap of very small ones for an attack
        // (CVE-2019-9518).
        let grain = if record.speech == Speech::Http2 { 300 } else { 1 };
        let (fields, framed) =
            written(start.as_bytes(), &answer.fields, (framing, grain), &content, &mut random);
        whole.extend_from_slice(&fields);
        whole.extend_from_slice(&framed);
        if !wire.write_in_pieces(&whole, &mut random).await || closes {
            return Ok(());
        }
    }
    Ok(())
}

pub fn is_without_body(method: &[u8], status: u16) -> bool {
    method == b"HEAD" || status < 200 || status == 204 || status == 304
}

impl Record {
    pub fn count_exchange(&self, status: u16) {
        let counter = if status == 200 { &self.granted } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn new(speech: Speech, scheme: &'static str) -> Arc<Self> {
        Arc::new(Self {
            seed: setting("CAMBIO_SEED", 7),
            speech,
            scheme,
            upstream: OnceLock::new(),
            arrived: Mutex::default(),
            wrong: Mutex::default(),
            requests: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            upstream_connections: AtomicUsize::new(0),
        })
    }

    /// Says what was compared, and fails where anything differs.
    pub fn conclude(&self, what: &str, began: Instant, all: usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let mebibytes = |counter| count(counter) as f64 / 1024.0 / 1024.0;
        let told = format!(
            "transparency, {what}, seed {}: {} requests and their answers compared at both ends in {:.0} s\n  \
             bodies: {:.1} MiB up, {:.1} MiB down; {} connections of clients, {} to the upstream\n  \
             between them {} exchanges and refreshes granted, {} refused",
            self.seed,
            count(&self.requests),
            began.elapsed().as_secs_f64(),
            mebibytes(&self.sent),
            mebibytes(&self.received),
            count(&self.connections),
            count(&self.upstream_connections),
            count(&self.granted),
            count(&self.refused),
        );
        // Past the harness, which keeps what passing tests print to itself.
        writeln!(std::io::stderr(), "{told}").unwrap();
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "seed {}:\n{}", self.seed, wrong.join("\n"));
        assert!(self.arrived.lock().unwrap().is_empty());
        assert_eq!(count(&self.requests), all);
    }
}
