//! The token path has no second spelling: however an exchange is written, it is answered here, and
//! the same writing of another grant, or elsewhere, passes.

use std::collections::HashSet;
use std::io::Write as _;

use base64::Engine as _;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::spellings_forms::{FORMS, Fate, Pairs, plain};
use super::spellings_recorder::Recorder;
use super::spellings_ways::other_ways;
use super::tls::{Http2, http_2};
use super::{authority, tls};
use crate::refresh_support::{SECRET, furnish, lines, stand_in, subject_token};
use crate::support::{Cambio, Connection, Response, folder, get};

const URN: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Spellings of `/oauth2/token` that some server takes for it.
const SUSPECTS: &[&[u8]] = include!("suspect_paths.in");
/// Paths that no server takes for a token path.
const ELSEWHERE: [&str; 3] = ["/oauth2/authorize", "/oauth2/token/x", "/x?y=z"];
/// Each of these meets each way to write a body.
const PATHS: [&str; 8] = [
    "/oauth2/token",
    "http://idp.example/oauth2/token",
    "/oauth2/token?x=y",
    "/oauth2/token/",
    "/oauth2//token",
    "/oauth2/%74oken",
    "/oauth2/x/..%2ftoken",
    "/OAUTH2/Token;a=b",
];

/// Grants that are none of ours.
const OTHERS: [Pairs<'static>; 3] = [
    &[("grant_type", "client_credentials"), ("scope", "a b"), ("audience", "https://x/?y=z")],
    &[("grant_type", "refresh_token"), ("refresh_token", "of-somebody-else"), ("scope", "é")],
    &[("grant_type", "authorization_code"), ("code", "SplxlOBeZQQYbYS6WxSbIA"), ("x", "1&2")],
];

/// How a body is framed, and what else is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Length,
    Chunks,
    /// With extensions, zeros, and trailer fields.
    OddChunks,
    Http10,
    Overridden,
    Expecting,
}

const FRAMES: [Frame; 6] = [
    Frame::Length,
    Frame::Chunks,
    Frame::OddChunks,
    Frame::Http10,
    Frame::Overridden,
    Frame::Expecting,
];

/// A POST.
fn request(target: &[u8], fields: &str, body: &[u8], frame: Frame) -> Vec<u8> {
    let secret = base64::engine::general_purpose::STANDARD.encode(format!("portal:{SECRET}"));
    let (version, more) = match frame {
        Frame::Length | Frame::Chunks | Frame::OddChunks => ("1.1", ""),
        Frame::Http10 => ("1.0", ""),
        Frame::Overridden => (
            "1.1",
            "X-HTTP-Method-Override: GET\r\nX-Method-Override: PUT\r\nX-Original-URL: /y\r\n\
             X-Rewrite-URL: /z\r\n",
        ),
        Frame::Expecting => ("1.1", "Expect: 100-continue\r\n"),
    };
    let is_chunked = matches!(frame, Frame::Chunks | Frame::OddChunks);
    let framing = if is_chunked {
        "Transfer-Encoding: chunked\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let framed = match frame {
        Frame::Chunks => body.chunks(7).fold(Vec::new(), |all, chunk| {
            [&all, format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()
        }),
        Frame::OddChunks => body.chunks(61).fold(Vec::new(), |all, chunk| {
            let size = format!("00{:X};a=\"b\"\r\n", chunk.len());
            [&all, size.as_bytes(), chunk, b"\r\n"].concat()
        }),
        _ => body.to_vec(),
    };
    let end = match frame {
        Frame::Chunks => &b"0\r\n\r\n"[..],
        Frame::OddChunks => b"000\r\ngrant_type: x\r\nsubject_token: y\r\n\r\n",
        _ => b"",
    };
    let line = [b"POST ", target, b" HTTP/", version.as_bytes(), b"\r\n"].concat();
    let fields = format!(
        "Host: idp.example\r\nAuthorization: Basic {secret}\r\n{fields}{more}{framing}\r\n"
    );
    [&line, fields.as_bytes(), &framed, end].concat()
}

/// Cambio, who would grant, and an upstream that would notice.
struct Estate {
    cambio: Cambio,
    upstream: Recorder,
    token: String,
    sent: HashSet<Vec<u8>>,
    wrong: Vec<String>,
}

impl Estate {
    async fn start() -> Self {
        Self::start_in(folder(), "").await
    }

    /// By TLS, and a client that speaks HTTP/2.
    async fn over_http_2() -> (Self, Http2) {
        let (folder, authority) = (folder(), authority::Authority::new());
        authority.write_leaf(folder.path());
        let estate = Self::start_in(folder, authority::LISTEN).await;
        let client = http_2(&estate.cambio, &authority).await;
        (estate, client)
    }

    async fn start_in(folder: TempDir, listen: &str) -> Self {
        let (issuer, once) = (stand_in().await, stand_in().await);
        let upstream = Recorder::start().await;
        furnish(folder.path(), &issuer, &once);
        let url = format!(
            "upstream: {{ url: \"http://{}\", timeouts: {{ connect: 30s, read: 60s }} }}\n",
            upstream.address
        );
        let more = format!("{listen}{url}{}", lines(&issuer, &once));
        let cambio = Cambio::start_in(folder, "", &more).await;
        let token = subject_token(&issuer, |_| {});
        Self { cambio, upstream, token, sent: HashSet::new(), wrong: Vec::new() }
    }

    /// The exchange that would be granted.
    fn pairs(&self) -> [(&str, &str); 3] {
        [("grant_type", URN), ("subject_token", &self.token), ("subject_token_type", JWT)]
    }

    async fn ask(&self, request: &[u8]) -> Response {
        let mut connection = self.cambio.connect().await;
        // A refusal may come before all is sent.
        let _ = connection.stream.write_all(request).await;
        let method = if request.starts_with(b"HEAD ") { "HEAD" } else { "POST" };
        loop {
            let response = connection.receive_to(method).await.expect("no answer");
            if response.status != 100 {
                return response;
            }
        }
    }

    /// Asks in a way that is to end here, with a refusal or a grant that is well-formed.
    async fn ask_here(&mut self, name: &str, request: Vec<u8>, is_granted: bool) {
        let before = self.upstream.all().len();
        let response = self.ask(&request).await;
        self.judge(name, &response, request.starts_with(b"HEAD "), is_granted);
        if self.upstream.all().len() != before {
            self.wrong.push(format!("{name}: it reached the upstream"));
        }
        self.sent.insert(request);
    }

    /// Whether it is an answer of ours, and which.
    fn judge(&mut self, name: &str, response: &Response, is_head: bool, is_granted: bool) {
        let header = |name: &str| response.header(name).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let is_oauth = header("content-type") == "application/json";
        let is_text = header("content-type") == "text/plain; charset=utf-8";
        let is_right = match (is_granted, is_oauth) {
            (true, _) => response.status == 200 && json["access_token"].is_string(),
            (false, true) => {
                let says = json["error"].is_string() && json["error_description"].is_string();
                matches!(response.status, 400..=499) && (says || is_head)
            }
            (false, false) => matches!(response.status, 400..=499 | 501) && is_text,
        };
        if !is_right
            || header("cambio-decision").len() < 16
            || header("cache-control") != "no-store"
        {
            self.wrong.push(format!("{name}: {} {}", response.head, json));
        }
    }

    /// Asks in a way that is to reach the upstream, to the byte.
    async fn ask_upstream(&mut self, name: &str, request: &[u8], body: &[u8]) {
        let before = self.upstream.requests();
        let response = self.ask(request).await;
        let is_theirs = response.status == 200 && response.body == b"ok";
        let is_once = self.upstream.requests() == before + 1;
        if !is_theirs || !is_once || self.upstream.last_body() != body {
            let text = String::from_utf8_lossy(&response.body);
            self.wrong.push(format!("{name}: {} {text}", response.head));
        }
    }

    #[track_caller]
    fn assert_nothing_wrong(&self) {
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }

    /// Nothing of an exchange is in what reached the upstream, however it is read.
    fn assert_nothing_upstream(&self) {
        let mut text = self.upstream.all();
        let parts: Vec<&[u8]> = self.token.split('.').map(str::as_bytes).collect();
        for _ in 0..4 {
            let lower = text.to_ascii_lowercase();
            for mark in [&b"token-exchange"[..], b"subject_token", b"subject[token"] {
                assert!(memchr::memmem::find(&lower, mark).is_none(), "{}", mark.escape_ascii());
            }
            for part in &parts[1..] {
                assert!(memchr::memmem::find(&text, part).is_none(), "a part of the token");
            }
            text = unescaped(&text);
        }
    }
}

/// One layer of escapes less, and no NULs.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = |from: usize, to: usize| {
            let digits = std::str::from_utf8(text.get(at + from..at + to)?).ok()?;
            u32::from_str_radix(digits, 16).ok().and_then(|code| u8::try_from(code).ok())
        };
        let (byte, used) = match text[at] {
            b'%' | b'\\' if text.get(at + 1) == Some(&b'u') => (digits(2, 6), 6),
            b'%' => (digits(1, 3), 3),
            _ => (None, 1),
        };
        out.extend(Some(byte.unwrap_or(text[at])).filter(|byte| *byte != 0));
        at += if byte.is_some() { used } else { 1 };
    }
    out
}

fn tell(what: &str) {
    // Past the harness, which keeps what passing tests print to itself.
    writeln!(std::io::stderr(), "{what}").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_to_write_an_exchange_leads_it_to_the_upstream() {
    let mut estate = Estate::start().await;
    let mut granted = 0;
    // Each form, on each path, in each frame.
    for form in FORMS {
        let body = (form.body)(&estate.pairs());
        for (nth, path) in PATHS.iter().enumerate() {
            for frame in FRAMES {
                // All frames on the path itself, some elsewhere.
                if nth > 0 && !matches!(frame, Frame::Length | Frame::Chunks) {
                    continue;
                }
                let name = format!("{} on {path} by {frame:?}", form.name);
                let request = request(path.as_bytes(), form.fields, &body, frame);
                let is_legal = form.fate == Fate::Legal;
                granted += usize::from(is_legal);
                estate.ask_here(&name, request, is_legal).await;
            }
        }
    }
    // Each path, with a plain form and with JSON.
    for path in SUSPECTS {
        for form in FORMS.iter().filter(|form| matches!(form.name, "arrays" | "JSON" | "gzip")) {
            let body = (form.body)(&estate.pairs());
            let name = format!("{} on {}", form.name, path.escape_ascii());
            estate.ask_here(&name, request(path, form.fields, &body, Frame::Length), false).await;
        }
    }
    let forms = estate.sent.len();
    for (name, request) in other_ways(&estate.pairs()) {
        estate.ask_here(&name, request, false).await;
    }
    estate.assert_nothing_wrong();
    assert_eq!(estate.upstream.all().len(), 0);
    assert!(estate.sent.len() >= 500 && granted > 0, "{}", estate.sent.len());
    tell(&format!(
        "spellings: {} distinct requests for an exchange, {} of them other than by body and path; \
         none reached the upstream, {granted} were legal and granted",
        estate.sent.len(),
        estate.sent.len() - forms,
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_grants_in_the_same_writings_pass_and_so_do_exchanges_elsewhere() {
    let mut estate = Estate::start().await;
    let (mut passed, mut opaque) = (0, 0);
    for (nth, form) in FORMS.iter().enumerate() {
        for path in PATHS {
            let body = (form.body)(OTHERS[nth % OTHERS.len()]);
            let name = format!("{} of another grant on {path}", form.name);
            let frame = FRAMES[nth % FRAMES.len()];
            let request = request(path.as_bytes(), form.fields, &body, frame);
            if form.fate == Fate::Opaque {
                estate.ask_here(&name, request, false).await;
                opaque += 1;
            } else {
                estate.ask_upstream(&name, &request, &body).await;
                passed += 1;
            }
        }
    }
    estate.assert_nothing_wrong();
    estate.assert_nothing_upstream();
    // What is written in the oddest way is nobody's business where no token path is.
    let mut elsewhere = Estate::start().await;
    let mut odd = 0;
    for form in FORMS {
        let body = (form.body)(&elsewhere.pairs());
        for path in ELSEWHERE {
            let name = format!("{} on {path}", form.name);
            let request = request(path.as_bytes(), form.fields, &body, Frame::Length);
            elsewhere.ask_upstream(&name, &request, &body).await;
            odd += 1;
        }
    }
    elsewhere.assert_nothing_wrong();
    tell(&format!(
        "spellings: {passed} requests for other grants passed to the byte in the same writings, {opaque} \
         that nobody can look into did not; {odd} exchanges passed on paths that are none of ours"
    ));
}

/// The same request by HTTP/2, where it can be written so; and what it is answered.
async fn ask_by_http_2(
    client: &mut Http2,
    path: &str,
    fields: &str,
    body: &[u8],
) -> Option<Response> {
    let secret = base64::engine::general_purpose::STANDARD.encode(format!("portal:{SECRET}"));
    let mut request = http::Request::post(format!("https://idp.example{path}"))
        .header("authorization", format!("Basic {secret}"));
    for line in fields.lines() {
        let (name, value) = line.split_once(':').unwrap();
        request = request.header(name, value.trim());
    }
    let request = request.body(()).ok()?;
    let (parts, body) = tls::ask(client, request, body).await.expect("no answer");
    let fields = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
    let head = format!("HTTP/2 {}\r\n{}\r\n", parts.status.as_u16(), fields.collect::<String>());
    Some(Response { status: parts.status.as_u16(), head, body })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_http_2_it_is_the_same() {
    let (mut estate, mut client) = Estate::over_http_2().await;
    let (mut here, mut granted, mut passed) = (0, 0, 0);
    let token = estate.token.clone();
    let exchange = [("grant_type", URN), ("subject_token", &*token), ("subject_token_type", JWT)];
    // A path that names its host is for HTTP/1.1.
    let paths = || PATHS.into_iter().filter(|path| path.starts_with('/'));
    for form in FORMS {
        for path in paths() {
            let name = format!("{} on {path} by HTTP/2", form.name);
            let body = (form.body)(&exchange);
            let answer = ask_by_http_2(&mut client, path, form.fields, &body).await.unwrap();
            estate.judge(&name, &answer, false, form.fate == Fate::Legal);
            here += 1;
            granted += usize::from(form.fate == Fate::Legal);
        }
    }
    for path in SUSPECTS {
        let path = std::str::from_utf8(path).ok().filter(|path| path.starts_with('/'));
        let Some(path) = path else { continue };
        for form in FORMS.iter().filter(|form| matches!(form.name, "arrays" | "JSON" | "gzip")) {
            let body = (form.body)(&exchange);
            let name = format!("{} on {path} by HTTP/2", form.name);
            if let Some(answer) = ask_by_http_2(&mut client, path, form.fields, &body).await {
                estate.judge(&name, &answer, false, false);
                here += 1;
            }
        }
    }
    estate.assert_nothing_wrong();
    assert_eq!(estate.upstream.all().len(), 0);
    // Another grant passes.
    for (nth, form) in FORMS.iter().enumerate().filter(|(_, form)| form.fate != Fate::Opaque) {
        for path in paths() {
            let body = (form.body)(OTHERS[nth % OTHERS.len()]);
            let answer = ask_by_http_2(&mut client, path, form.fields, &body).await.unwrap();
            let is_theirs = answer.status == 200 && answer.body == b"ok";
            passed += 1;
            if !is_theirs
                || estate.upstream.requests() != passed
                || estate.upstream.last_body() != body
            {
                estate.wrong.push(format!("{} on {path}: {}", form.name, answer.head));
            }
        }
    }
    estate.assert_nothing_wrong();
    estate.assert_nothing_upstream();
    assert!(here >= 500 && granted > 0 && passed > 0, "{here} {granted} {passed}");
    tell(&format!(
        "spellings by HTTP/2: {here} requests for an exchange, none reached the upstream, {granted} were \
         legal and granted; {passed} requests for other grants passed to the byte"
    ));
}

/// What comes after the last chunk is no part of the body, and no request.
#[tokio::test]
async fn what_follows_an_empty_body_goes_nowhere() {
    let estate = Estate::start().await;
    let form = plain(&estate.pairs());
    for (nth, path) in PATHS.iter().enumerate() {
        let head = "Host: idp.example\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        let empty =
            format!("POST {path} HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        let chunk = format!("{:x}\r\n", form.len());
        let mut connection = estate.cambio.connect().await;
        let rest = [chunk.as_bytes(), &form, b"\r\n0\r\n\r\n"].concat();
        connection.send([empty.as_bytes(), &rest].concat()).await;
        assert_eq!(connection.receive().await.unwrap().text(), "ok", "{path}");
        while let Some(response) = connection.receive().await {
            assert_eq!(response.status, 400, "{path}");
        }
        assert_eq!(estate.upstream.requests(), nth + 1, "{path}");
        assert_eq!(estate.upstream.last_body(), b"", "{path}");
    }
    estate.assert_nothing_upstream();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_token_request_reaches_the_upstream_before_it_is_whole() {
    let estate = Estate::start().await;
    let mut known = 0;
    for frame in FRAMES {
        for path in PATHS {
            let name = format!("{path} by {frame:?}");
            let body = plain(OTHERS[0]);
            let fields = "Content-Type: application/x-www-form-urlencoded\r\n";
            let request = request(path.as_bytes(), fields, &body, frame);
            let mut connection = estate.cambio.connect().await;
            let cut = request.len() - 1;
            connection.send(&request[..cut]).await;
            // Others get through in the meantime.
            for _ in 0..3 {
                let before = estate.upstream.all();
                assert_eq!(estate.cambio.request(get("/other", "")).await.text(), "ok");
                let now = estate.upstream.all();
                assert!(now.len() > before.len());
                assert!(memchr::memmem::find_iter(&now, b"POST ").count() == known, "{name}");
            }
            connection.send(&request[cut..]).await;
            let response = answer(&mut connection).await;
            assert_eq!((response.status, response.text()), (200, "ok"), "{name}");
            known += 1;
            let now = estate.upstream.all();
            assert_eq!(memchr::memmem::find_iter(&now, b"POST ").count(), known, "{name}");
            assert_eq!(estate.upstream.last_body(), body, "{name}");
        }
    }
}

async fn answer(connection: &mut Connection) -> Response {
    loop {
        let response = connection.receive().await.unwrap();
        if response.status != 100 {
            return response;
        }
    }
}
