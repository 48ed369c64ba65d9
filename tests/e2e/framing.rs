//! Malformed and odd messages of a public corpus, through the whole proxy: what reaches the
//! upstream is one well-formed request or nothing.
//!
//! The corpus is a JSON file of cases, `llhttp_cases.json`, in the folder that
//! `CAMBIO_HTTP_VECTORS` names: each with its `id`, its `type` and its bytes in Base64 (`b64`).

use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::strict::{Read, Recorder, read_strictly};
use super::support::{Cambio, Connection, PATIENCE, Upstream, get};

const QUICK: &str = "limits: { header_timeout: 200ms, body_timeout: 200ms, idle_timeout: 200ms }\n";
/// Comes after each case on its connection, and must never be taken for a request of its own.
const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nHost: a\r\n\r\n";

struct Case {
    id: String,
    bytes: Vec<u8>,
}

/// Past the harness, which keeps what passing tests print to itself.
#[expect(clippy::explicit_write, reason = "the harness keeps to itself what `eprintln` writes")]
fn tell(what: &str) {
    writeln!(std::io::stderr(), "{what}").unwrap();
}

/// The cases whose type begins with this; `None` where nobody says where they are.
fn cases(kind: &str) -> Option<Vec<Case>> {
    let Some(folder) = std::env::var_os("CAMBIO_HTTP_VECTORS") else {
        tell("SKIPPED: CAMBIO_HTTP_VECTORS names no folder with llhttp_cases.json");
        return None;
    };
    let path = std::path::Path::new(&folder).join("llhttp_cases.json");
    let corpus: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases: Vec<Case> = (corpus["cases"].as_array().unwrap().iter())
        .filter(|case| case["type"].as_str().unwrap().starts_with(kind))
        .map(|case| Case {
            id: case["id"].as_str().unwrap().to_owned(),
            bytes: STANDARD.decode(case["b64"].as_str().unwrap()).unwrap(),
        })
        .collect();
    assert!(cases.len() > 50, "{kind}: {}", cases.len());
    Some(cases)
}

/// A case as it stands, and with what it lacks to get further: a host, and its last line ending.
fn variants(case: &[u8]) -> Vec<Vec<u8>> {
    let line_end = case.windows(2).position(|window| window == b"\r\n").map_or(0, |at| at + 2);
    let (line, fields) = case.split_at(line_end);
    let has_host = case.to_ascii_lowercase().windows(5).any(|window| window == b"host:");
    let host: &[u8] = if has_host { b"" } else { b"Host: a\r\n" };
    let with_host = [line, host, fields].concat();
    vec![case.to_vec(), [&with_host[..], b"\r\n"].concat(), with_host]
}

/// Cambio in front of an upstream that notices everything.
struct Lane {
    recorder: Recorder,
    cambio: Cambio,
}

impl Lane {
    async fn start() -> Self {
        let recorder = Recorder::start(true).await;
        let upstream = format!("http://{}", recorder.address);
        let quick = format!(
            "{QUICK}upstream: {{ url: \"{upstream}\", timeouts: {{ connect: 1s, read: 300ms }} }}\n"
        );
        let cambio = Cambio::start(&upstream, &quick).await;
        Self { recorder, cambio }
    }
}

/// Sends a case and what comes after it, and reads until Cambio closes.
async fn send(cambio: &Cambio, bytes: &[u8]) -> Vec<u8> {
    let mut stream = cambio.connect().await.stream;
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let exchange = async {
        // It may be closed before all is written.
        let _ = to.write_all(bytes).await;
        let _ = from.read_to_end(&mut answer).await;
    };
    let ended = timeout(PATIENCE, exchange).await;
    assert!(ended.is_ok(), "it stays open: {}", bytes.escape_ascii());
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_the_upstream_is_one_well_formed_request_or_nothing() {
    let Some(cases) = cases("request") else { return };
    let mut lanes = tokio::task::JoinSet::new();
    let cases = Arc::new(cases);
    for lane in 0..16 {
        let cases = Arc::clone(&cases);
        lanes.spawn(async move {
            // What comes late of another path is not taken for something of the token path.
            let (elsewhere, on_token_path) = (Lane::start().await, Lane::start().await);
            // Requests that were sent, and how many of them arrived: elsewhere, on the token path.
            let (mut sent, mut reached) = ([0; 2], [0; 2]);
            for case in cases.iter().skip(lane).step_by(16) {
                for bytes in variants(&case.bytes) {
                    for path in [None, Some("/oauth2/token")] {
                        let mut bytes = bytes.clone();
                        if let Some(path) = path {
                            bytes = with_path(&bytes, path);
                        }
                        let name = format!("{} {}", case.id, bytes.escape_ascii());
                        let Lane { recorder, cambio } =
                            if path.is_some() { &on_token_path } else { &elsewhere };
                        let answer = send(cambio, &[&bytes[..], MARKER].concat()).await;
                        let arrived = recorder.take();
                        assert!(arrived.len() <= 1, "{name}: {arrived:#?}");
                        // Of several answers the client would not know whose they are.
                        let finals = answer.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
                        let interim = answer.windows(13).filter(|w| w == b"HTTP/1.1 100 ").count();
                        assert!(finals - interim <= 1, "{name}: {}", answer.escape_ascii());
                        for request in &arrived {
                            assert_ne!(request.target, "/marker", "{name}");
                            if let Read::Whole(meant, _) = read_strictly(&bytes) {
                                assert_eq!(request.method, meant.method, "{name}");
                                assert_eq!(request.body, meant.body, "{name}");
                            }
                        }
                        sent[usize::from(path.is_some())] += 1;
                        reached[usize::from(path.is_some())] += arrived.len();
                        assert_eq!(recorder.faults(), Vec::<String>::new(), "{name}");
                        // On the token path nothing begins before its body is whole.
                        let begun = if path.is_some() { recorder.rests() } else { Vec::new() };
                        assert_eq!(begun, Vec::<String>::new(), "{name}");
                    }
                }
            }
            [sent, reached]
        });
    }
    let lanes = lanes.join_all().await;
    let of = |what: usize, path: usize| lanes.iter().map(|lane| lane[what][path]).sum::<usize>();
    tell(&format!(
        "{} cases, {} ways to write them: {} reached the upstream as one well-formed request; on the \
         token path {} ways: {} reached it so, nothing of the others did",
        cases.len(),
        of(0, 0),
        of(1, 0),
        of(0, 1),
        of(1, 1)
    ));
    assert!(of(1, 0) > 50 && of(1, 1) > 20, "{lanes:?}");
}

/// The same request to another path.
fn with_path(case: &[u8], path: &str) -> Vec<u8> {
    let Some(from) = case.iter().position(|b| *b == b' ') else { return case.to_vec() };
    let Some(length) = case[from + 1..].iter().position(|b| *b == b' ') else {
        return case.to_vec();
    };
    [&case[..=from], path.as_bytes(), &case[from + 1 + length..]].concat()
}

#[tokio::test]
async fn whatever_the_upstream_answers_no_other_client_gets_any_of_it() {
    let Some(cases) = cases("response") else { return };
    let answers: Vec<Vec<u8>> = (cases.iter())
        .flat_map(|case| [case.bytes.clone(), [&case.bytes[..], b"\r\n"].concat()])
        .collect();
    let count = answers.len();
    let upstream = Upstream::answering(move |request| {
        let case = request.target().strip_prefix("/case/").and_then(|at| at.parse::<usize>().ok());
        match case {
            Some(case) => answers[case].clone(),
            None => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain".to_vec(),
        }
    })
    .await;
    let quick = format!(
        "{QUICK}upstream: {{ url: \"{}\", timeouts: {{ connect: 1s, read: 50ms }} }}\n",
        upstream.url()
    );
    let cambio = Cambio::start(&upstream.url(), &quick).await;
    for case in 0..count {
        let mut connection: Connection = cambio.connect().await;
        connection.send(get(&format!("/case/{case}"), "Connection: close\r\n")).await;
        let mut answer = Vec::new();
        let read = connection.stream.read_to_end(&mut answer);
        let _ = timeout(PATIENCE, read).await.expect("the connection stays open");
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 "),
            "{case}: {}",
            answer.escape_ascii()
        );
        // Whatever was left over on the connection to the upstream would come here.
        for _ in 0..2 {
            let mut other = cambio.request(get("/plain", "")).await;
            // On a busy machine it is late now and then.
            while other.status == 504 {
                other = cambio.request(get("/plain", "")).await;
            }
            assert_eq!((other.status, other.text()), (200, "plain"), "{case}");
        }
    }
}
