//! Request smuggling on HTTP/1: generated cases by class, each to an upstream that closes its
//! connections and to one whose connections are kept and shared with another client.
//!
//! Whatever is sent, one well-formed request reaches the upstream or nothing does, no byte beside it,
//! and the other client gets the answers to its own requests. On a token path nothing reaches the
//! upstream before the body is whole.

use std::io::Write as _;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::load::is_exhaustive;
use super::strict::{Read, Recorder, read_strictly};
use super::support::{Cambio, get};

const QUICK: &str = "limits: { header_timeout: 1s, body_timeout: 1s, idle_timeout: 1s }\n";
/// Comes after each case on its connection, and must never be taken for a request of its own.
const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nHost: a\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const LANES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing reaches the upstream.
    Refused,
    /// One request does, and is answered.
    Served,
    /// Either, as long as it is one well-formed request.
    OneOrNothing,
}
use Outcome::{OneOrNothing, Refused, Served};

#[derive(Clone, Debug)]
struct Case {
    class: &'static str,
    bytes: Vec<u8>,
    outcome: Outcome,
}

/// The path stands for `§`.
fn case(class: &'static str, outcome: Outcome, text: impl AsRef<[u8]>) -> Case {
    Case { class, bytes: text.as_ref().to_vec(), outcome }
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A POST with these fields and all that follows them.
fn post(fields: &[u8], rest: &str) -> Vec<u8> {
    let start = format!("POST § HTTP/1.1\r\nHost: a\r\n{FORM}");
    [start.as_bytes(), fields, b"\r\n", rest.as_bytes()].concat()
}

/// Both framings, in every spelling: TE.CL, CL.TE and TE.TE.
fn transfer_codings() -> Vec<Case> {
    let accepted: [&[u8]; 4] = [
        b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding:chunked\r\n",
        b"TRANSFER-ENCODING: CHUNKED\r\n",
        b"Transfer-Encoding:\tchunked \t\r\n",
    ];
    let refused: [&[u8]; 38] = [
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunkedx\r\n",
        b"Transfer-Encoding: x\r\n",
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: chunked,\r\n",
        b"Transfer-Encoding: ,chunked\r\n",
        b"Transfer-Encoding: chunked;q=1\r\n",
        b"Transfer-Encoding: \"chunked\"\r\n",
        b"Transfer-Encoding: 'chunked'\r\n",
        b"Transfer-Encoding: chu nked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: chunked\x0b\r\n",
        b"Transfer-Encoding: chunked\x0c\r\n",
        b"Transfer-Encoding: chunked\0\r\n",
        b"Transfer-Encoding:\0chunked\r\n",
        b"Transfer-Encoding: \xa0chunked\r\n",
        b"Transfer-Encoding: \xef\xbb\xbfchunked\r\n",
        b"Transfer-Encoding: ch\xc5\xbfunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Transfer-Encoding\x0b: chunked\r\n",
        b"Transfer\0-Encoding: chunked\r\n",
        b"Transfer_Encoding: chunked\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
        b"Transfer-Encoding: chunked\n",
        b"X: y\nTransfer-Encoding: chunked\r\n",
        b"X: y\rTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
    ];
    let chunks = "3\r\na=b\r\n0\r\n\r\n";
    let mut cases = Vec::new();
    for line in accepted {
        cases.push(case("TE", Served, post(line, chunks)));
    }
    let lengths = ["", "Content-Length: 3\r\n", "Content-Length: 13\r\n", "Content-Length: 0\r\n"];
    let bodies = [chunks.to_owned(), format!("0\r\n\r\n{SMUGGLED}"), SMUGGLED.to_owned()];
    for (line, is_accepted) in
        accepted.iter().map(|line| (*line, true)).chain(refused.iter().map(|line| (*line, false)))
    {
        for length in lengths {
            if length.is_empty() && is_accepted {
                continue;
            }
            for body in &bodies {
                let before = [length.as_bytes(), line].concat();
                let after = [line, length.as_bytes()].concat();
                cases.push(case("TE+CL", Refused, post(&before, body)));
                cases.push(case("TE+CL", Refused, post(&after, body)));
            }
        }
    }
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let refused: [&[u8]; 32] = [
        b"Content-Length: +3\r\n",
        b"Content-Length: -3\r\n",
        b"Content-Length: 3,3\r\n",
        b"Content-Length: 3, 4\r\n",
        b"Content-Length: 3,\r\n",
        b"Content-Length: 3 3\r\n",
        b"Content-Length: 3;\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length: 3h\r\n",
        b"Content-Length: 3.0\r\n",
        b"Content-Length: 3e0\r\n",
        b"Content-Length: 0b11\r\n",
        b"Content-Length: 3_0\r\n",
        b"Content-Length: \"3\"\r\n",
        b"Content-Length: NaN\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: \xd9\xa3\r\n",
        b"Content-Length: \x0b3\r\n",
        b"Content-Length: 3\0\r\n",
        b"Content-Length: 0000000000000000003\r\n",
        b"Content-Length: 18446744073709551619\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Content-Length : 3\r\n",
        b"Content-Length\t: 3\r\n",
        b"Content_Length: 3\r\n",
        b"Content-Length:\r\n 3\r\n",
        b"X: y\r\n Content-Length: 3\r\n",
        b"X: y\nContent-Length: 3\r\n",
        b"X: y\rContent-Length: 3\r\n",
        b"Content-Length: 3\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\ncontent-length: 4\r\n",
        b"Content-Length: 0\r\nX: y\r\nCONTENT-LENGTH: 3\r\n",
    ];
    for line in refused {
        for body in ["a=b", "", SMUGGLED] {
            cases.push(case("CL", Refused, post(line, body)));
        }
    }
    for line in [
        "Content-Length: 3\r\n",
        "content-length:3\r\n",
        "Content-Length: \t3\t \r\n",
        "Content-Length: 03\r\n",
    ] {
        cases.push(case("CL", Served, post(line.as_bytes(), "a=b")));
        // What is there beyond the body is the next request, or nothing.
        cases.push(case("CL", Served, post(line.as_bytes(), &format!("a=b{SMUGGLED}"))));
    }
    // It never becomes whole.
    cases.push(case("CL", OneOrNothing, post(b"Content-Length: 9000\r\n", SMUGGLED)));
    cases
}

fn chunks() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |outcome, body: &str| {
        cases.push(case("chunks", outcome, post(b"Transfer-Encoding: chunked\r\n", body)));
    };
    for body in [
        "3\r\na=b\r\n0\r\n\r\n",
        "1\r\na\r\n2\r\n=b\r\n0\r\n\r\n",
        "0003\r\na=b\r\n000\r\n\r\n",
        "3;x=y\r\na=b\r\n0;z\r\n\r\n",
        "0\r\n\r\n",
        // Trailers end here.
        "3\r\na=b\r\n0\r\nX: y\r\n\r\n",
    ] {
        add(Served, body);
    }
    let sizes = [
        "-3",
        "+3",
        "0x3",
        "3h",
        "3 3",
        "\x0b3",
        "3\0",
        "\"3\"",
        "",
        "g",
        ":3",
        ";3",
        "3.0",
        "٣",
        "10000000000000003",
        "ffffffffffffffff",
        "fffffffffffffffd",
        "8000000000000003",
        "80000003",
        "100000003",
        "00000000000000000000000000000000003",
        "3\r",
        "3\n",
        "3;\n",
        "3;x=\n",
        "3;x=\r",
        "3;x=\0",
        "3 ",
        " 3",
        "\t3",
    ];
    for size in sizes {
        add(OneOrNothing, &format!("{size}\r\na=b\r\n0\r\n\r\n{SMUGGLED}"));
        add(OneOrNothing, &format!("3\r\na=b\r\n{size}\r\n\r\n{SMUGGLED}"));
    }
    for body in [
        "3\na=b\n0\n\n".to_owned(),
        "3\r\na=bc\r\n0\r\n\r\n".to_owned(),
        "3\r\na=b0\r\n\r\n".to_owned(),
        "3\r\na=b\r0\r\n\r\n".to_owned(),
        "3\r\na=b\n0\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\n".to_owned(),
        "3\r\na=b\r\n0\n\n".to_owned(),
        "3\r\na=b\r\n0\r\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\nContent-Length: 3\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\nHost: b\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\nX: y\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\nX y\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\n: y\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\n\0\r\n\r\n".to_owned(),
        "3\r\na=b\r\n0\r\n X: y\r\n\r\n".to_owned(),
        format!("3;{}\r\na=b\r\n0\r\n\r\n", "x".repeat(20_000)),
        format!("3\r\na=b\r\n0\r\nX: {}\r\n\r\n", "y".repeat(70_000)),
        format!("3\r\na=b\r\n0\r\n{}\r\n", "X: y\r\n".repeat(300)),
    ] {
        add(OneOrNothing, &format!("{body}{SMUGGLED}"));
    }
    cases
}

fn hosts_and_targets() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |outcome, head: &str| {
        cases.push(case("host", outcome, format!("{head}\r\n\r\n")));
    };
    add(Served, "GET § HTTP/1.1\r\nHost: a");
    add(Served, "GET http://a§ HTTP/1.1\r\nHost: a");
    for head in [
        "GET § HTTP/1.1",
        "GET § HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET § HTTP/1.1\r\nHost: a\r\nhost: b",
        "GET § HTTP/1.1\r\nHost: a, b",
        "GET § HTTP/1.1\r\nHost: a b",
        "GET § HTTP/1.1\r\nHost: u@a",
        "GET § HTTP/1.1\r\nHost: a/b",
        "GET § HTTP/1.1\r\nHost: a\\b",
        "GET § HTTP/1.1\r\nHost: a?b",
        "GET § HTTP/1.1\r\nHost: a#b",
        "GET § HTTP/1.1\r\nHost : a",
        "GET § HTTP/1.1\r\n Host: a",
        "GET § HTTP/1.1\r\nHost:\r\n a",
        "GET § HTTP/1.1\r\nHost: a\r\n b",
        "GET § HTTP/1.1\r\nHost: a\0b",
        "GET § HTTP/1.1\r\nHost: a\rHost: b",
        "GET § HTTP/1.1\r\nHost: a\nHost: b",
        "GET http://b§ HTTP/1.1\r\nHost: a",
        "GET http://u@a§ HTTP/1.1\r\nHost: a",
        "GET http://a:80§ HTTP/1.1\r\nHost: a",
        "GET http://a HTTP/1.1",
        "GET http:§ HTTP/1.1\r\nHost: a",
        "GET ftp://a§ HTTP/1.1\r\nHost: a",
        "GET a§ HTTP/1.1\r\nHost: a",
        "GET  § HTTP/1.1\r\nHost: a",
        "GET § x HTTP/1.1\r\nHost: a",
        "GET §\t HTTP/1.1\r\nHost: a",
        "GET\t§ HTTP/1.1\r\nHost: a",
        "GET § HTTP/1.1 \r\nHost: a",
        " GET § HTTP/1.1\r\nHost: a",
        "GET § http/1.1\r\nHost: a",
        "GET § HTTP/1.10\r\nHost: a",
        "GET § HTTP/01.1\r\nHost: a",
        "GET § HTTP/1,1\r\nHost: a",
        "GET § HTTP/2.0\r\nHost: a",
        "GET § HTTP/3\r\nHost: a",
        "GET § HTTP/0.9\r\nHost: a",
        "GET §",
        "GET §\r\nHost: a",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443",
        "TRACE § HTTP/1.1\r\nHost: a",
        "G:ET § HTTP/1.1\r\nHost: a",
        "G\0ET § HTTP/1.1\r\nHost: a",
    ] {
        add(Refused, head);
    }
    cases
}

/// Answers before the body, interim answers, upgrades, and old versions.
fn ends_of_requests() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |class, outcome, text: String| cases.push(case(class, outcome, text));
    let post =
        |fields: &str, rest: &str| format!("POST § HTTP/1.1\r\nHost: a\r\n{fields}\r\n{rest}");
    // Answered early: what comes after it is the rest of a body, and no request.
    add("early", OneOrNothing, post("Content-Length: 70000\r\n", SMUGGLED));
    add(
        "early",
        OneOrNothing,
        post("Content-Length: 400\r\nContent-Type: image/png\r\n", SMUGGLED),
    );
    let urn = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
    let exchange = format!("{FORM}Content-Length: {}\r\n", urn.len());
    add("early", OneOrNothing, post(&exchange, &format!("{urn}{SMUGGLED}")));
    add(
        "early",
        OneOrNothing,
        post(&format!("{FORM}Content-Length: 300\r\n"), &format!("{urn}{SMUGGLED}")),
    );
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH"] {
        let length = SMUGGLED.len();
        for fields in [format!("Content-Length: {length}\r\n"), "Content-Length: 0\r\n".to_owned()]
        {
            let request = format!("{method} § HTTP/1.1\r\nHost: a\r\n{fields}\r\n{SMUGGLED}");
            add("body of a method that has none", OneOrNothing, request);
        }
        let chunked = format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
        let request = format!(
            "{method} § HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"
        );
        add("body of a method that has none", OneOrNothing, request);
    }
    for expect in
        ["100-continue", "100-CONTINUE", "100-continue, x", "x", "", "100", "\t100-continue"]
    {
        for fields in [
            format!("{FORM}Content-Length: 3\r\n"),
            "Content-Length: 0\r\n".to_owned(),
            format!("{FORM}Transfer-Encoding: chunked\r\n"),
        ] {
            let fields = format!("{fields}Expect: {expect}\r\n");
            add("Expect", OneOrNothing, post(&fields, &format!("a=b{SMUGGLED}")));
            add("Expect", OneOrNothing, post(&fields, "3\r\na=b\r\n0\r\n\r\n"));
            let get = format!("GET § HTTP/1.1\r\nHost: a\r\n{fields}\r\na=b{SMUGGLED}");
            add("Expect", OneOrNothing, get);
        }
    }
    for upgrade in ["websocket", "WebSocket", "h2c", "foo", "websocket, h2c", "h2", "TLS/1.0", ""] {
        for more in [
            "",
            "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
            "Content-Length: 0\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            let fields =
                format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n{more}");
            add(
                "Upgrade",
                OneOrNothing,
                format!("GET § HTTP/1.1\r\nHost: a\r\n{fields}\r\n{SMUGGLED}"),
            );
            add("Upgrade", OneOrNothing, post(&fields, SMUGGLED));
        }
    }
    for (outcome, fields, rest) in [
        (Refused, "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        (Refused, "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "a=b"),
        (Refused, "Transfer-Encoding: identity\r\n", "a=b"),
        (Refused, "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        (OneOrNothing, "", SMUGGLED),
        (OneOrNothing, "Connection: keep-alive\r\n", SMUGGLED),
        (Served, "Content-Length: 3\r\n", "a=b"),
        (Served, "Connection: keep-alive\r\nContent-Length: 3\r\n", "a=b"),
        (
            OneOrNothing,
            "Connection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 3\r\n",
            "a=b",
        ),
    ] {
        let fields = format!("{FORM}{fields}");
        add("HTTP/1.0", outcome, format!("POST § HTTP/1.0\r\nHost: a\r\n{fields}\r\n{rest}"));
    }
    let many = |count: usize| "X: y\r\n".repeat(count);
    for (outcome, fields) in [
        (Served, many(250)),
        (Refused, many(256)),
        (Refused, many(5000)),
        (Served, format!("X: {}\r\n", "y".repeat(32_000))),
        (Refused, format!("X: {}\r\n", "y".repeat(33_000))),
        (Refused, format!("{}: y\r\n", "x".repeat(33_000))),
        (Refused, format!("X: {}\r\nTransfer-Encoding: chunked\r\n", "y".repeat(40_000))),
    ] {
        add("size", outcome, format!("GET § HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    }
    add("size", Refused, format!("GET §?{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(33_000)));
    for name in [
        "Host",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Via",
        "Cookie",
        "X-Forwarded-For",
    ] {
        let fields = format!("Connection: close, {name}\r\n{FORM}Content-Length: 3\r\n");
        add("Connection", OneOrNothing, post(&fields, &format!("a=b{SMUGGLED}")));
    }
    cases
}

/// A sound request with one byte more in its head, or one other.
fn mutations() -> Vec<Case> {
    let sound = format!("POST § HTTP/1.1\r\nHost: a\r\n{FORM}X: y\r\nContent-Length: 3\r\n\r\na=b");
    let sound = sound.as_bytes();
    let head = sound.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut cases = Vec::new();
    for byte in [0, b'\r', b'\n', b'\t', b' ', b':', b',', 0x0b, 0x7f, 0x80, b'0'] {
        for at in 0..head {
            // Not within the sign that stands for the path, which is of two bytes.
            if !std::str::from_utf8(&sound[..at]).is_ok_and(|start| start.is_char_boundary(at)) {
                continue;
            }
            let more = [&sound[..at], &[byte], &sound[at..], SMUGGLED.as_bytes()].concat();
            cases.push(case("mutation", OneOrNothing, more));
            if sound[at] < 0x80 {
                let other = [&sound[..at], &[byte], &sound[at + 1..], SMUGGLED.as_bytes()].concat();
                cases.push(case("mutation", OneOrNothing, other));
            }
        }
    }
    cases
}

fn with_path(bytes: &[u8], path: &str) -> Vec<u8> {
    let sign = "§".as_bytes();
    match bytes.windows(2).position(|window| window == sign) {
        Some(at) => [&bytes[..at], path.as_bytes(), &bytes[at + 2..]].concat(),
        None => bytes.to_vec(),
    }
}

/// Of a body that goes on, the rest is waited for: whoever does not send it goes away after this.
const LEAVES: std::time::Duration = std::time::Duration::from_secs(4);

/// Sends a case and what comes after it, and reads until Cambio closes.
async fn send(cambio: &Cambio, bytes: &[u8]) -> Vec<u8> {
    let mut stream = cambio.connect().await.stream;
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        // It may be closed before all is written.
        let _ = to.write_all(bytes).await;
    };
    let both = async { tokio::join!(sending, from.read_to_end(&mut answer)) };
    let _ = timeout(LEAVES, both).await;
    answer
}

/// The statuses of all answers but interim ones.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let starts = answer.windows(12).filter(|window| window.starts_with(b"HTTP/1.1 "));
    let statuses = starts.map(|start| String::from_utf8_lossy(&start[9..]).parse().unwrap());
    statuses.filter(|status| *status >= 200).collect()
}

struct Lane {
    cambio: Cambio,
    recorder: Recorder,
    path: &'static str,
}

impl Lane {
    async fn new(path: &'static str, is_pooled: bool) -> Self {
        let recorder = Recorder::start(is_pooled).await;
        let upstream = format!("http://{}", recorder.address);
        let quick = format!(
            "{QUICK}upstream: {{ url: \"{upstream}\", timeouts: {{ connect: 1s, read: 2s }} }}\n"
        );
        let cambio = Cambio::start(&upstream, &quick).await;
        Self { cambio, recorder, path }
    }

    /// Whether the upstream got it.
    async fn run(&self, case: &Case, nth: usize) -> bool {
        let bytes = with_path(&case.bytes, self.path);
        let name = format!("{} {}", case.class, bytes.escape_ascii());
        self.victim(&format!("/before-{nth}"), &name).await;
        let answer = send(&self.cambio, &[&bytes[..], MARKER].concat()).await;
        let arrived = self.recorder.take();
        assert!(arrived.len() <= 1, "{name}: {arrived:#?}");
        let statuses = statuses(&answer);
        // Of several answers the client would not know whose they are.
        assert!(statuses.len() <= 1, "{name}: {}", answer.escape_ascii());
        for request in &arrived {
            assert!(!["/marker", "/smuggled"].contains(&&*request.target), "{name}");
            if let Read::Whole(sent, _) = read_strictly(&bytes) {
                assert_eq!((&request.method, &request.body), (&sent.method, &sent.body), "{name}");
            }
        }
        assert_eq!(self.recorder.faults(), Vec::<String>::new(), "{name}");
        if self.path == "/oauth2/token" {
            // Nothing before the body is whole.
            assert_eq!(self.recorder.rests(), Vec::<String>::new(), "{name}");
        }
        match case.outcome {
            Refused => {
                assert!(arrived.is_empty(), "{name}: {arrived:#?}");
                assert!(statuses.iter().all(|status| *status >= 400), "{name}: {statuses:?}");
            }
            Served => assert_eq!((arrived.len(), &statuses[..]), (1, &[200][..]), "{name}"),
            OneOrNothing => {}
        }
        self.victim(&format!("/after-{nth}"), &name).await;
        !arrived.is_empty()
    }

    /// Another client, whose requests go over the connections that the attacker's went over.
    async fn victim(&self, target: &str, name: &str) {
        let answer = self.cambio.request(get(target, "Connection: close\r\n")).await;
        assert_eq!((answer.status, answer.text()), (200, target), "{name}");
        let mine = self.recorder.take();
        assert_eq!(mine.len(), 1, "{name}: {mine:#?}");
        assert_eq!(mine[0].target, target, "{name}");
    }
}

/// Which of four ways a case goes: `make abuse` sends all of them all ways.
fn goes(case: &Case, nth: usize, way: usize) -> bool {
    let is_one_of_many = case.class == "mutation" && !nth.is_multiple_of(29);
    is_exhaustive() || (nth % 4 == way && !is_one_of_many)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_the_upstream_is_one_well_formed_request_or_nothing() {
    let _alone = super::load::alone().await;
    let cases: Vec<Case> = [
        transfer_codings(),
        lengths(),
        chunks(),
        hosts_and_targets(),
        ends_of_requests(),
        mutations(),
    ]
    .concat();
    let cases = Arc::new(cases);
    let mut lanes = tokio::task::JoinSet::new();
    let ways = [("/x", true), ("/x", false), ("/oauth2/token", true), ("/oauth2/token", false)];
    for (way, (path, is_pooled)) in ways.into_iter().enumerate() {
        for lane in 0..LANES {
            let cases = Arc::clone(&cases);
            lanes.spawn(async move {
                let own = Lane::new(path, is_pooled).await;
                let (mut reached, mut sent) = (0, 0);
                let chosen = cases.iter().enumerate().filter(|(nth, case)| goes(case, *nth, way));
                for (nth, case) in chosen.skip(lane).step_by(LANES) {
                    reached += usize::from(own.run(case, nth).await);
                    sent += 1;
                }
                let asked = sent * 2;
                let is_shared = own.recorder.connections() < asked;
                assert_eq!(is_shared, is_pooled, "{} of {asked}", own.recorder.connections());
                (reached, sent)
            });
        }
    }
    let lanes = lanes.join_all().await;
    let reached: usize = lanes.iter().map(|(reached, _)| reached).sum();
    let all: usize = lanes.iter().map(|(_, sent)| sent).sum();
    let told = format!(
        "smuggling: {} cases, to 2 paths over fresh and over shared connections: {all} sent, \
         {reached} reached the upstream as one well-formed request, {} as nothing, 0 otherwise",
        cases.len(),
        all - reached
    );
    writeln!(std::io::stderr(), "{told}").unwrap();
    assert!(cases.len() > 2000 && all > 1000 && reached > 100, "{told}");
}
