//! Raw clients, an upstream that records what reaches it, and Cambio between them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use cambio::app::{App, Running};
use cambio::config::{self, Config};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::generate_pem;
use cambio::telemetry::log::{Format, dispatch, forward_libraries};
use cambio::telemetry::metrics::Metrics;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::scan::SAID;

/// Nothing here takes so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Tests that use TLS, or any server at all, need one.
pub fn install_crypto() {
    speak_up();
    // One test is the first; the others find it done.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What libraries say is taken over once in a process.
pub fn hear_libraries() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // In a process that logs as `cambio serve` does they are heard already.
        let _ = forward_libraries();
    });
}

/// Has all that is logged in this process said aloud, where it is to be searched.
fn speak_up() {
    static ONCE: Once = Once::new();
    if std::env::var_os(SAID).is_some() {
        ONCE.call_once(|| {
            let all = dispatch("trace", Format::Json, std::io::stderr).unwrap();
            let _ = tracing::dispatcher::set_global_default(all);
            hear_libraries();
        });
    }
}

/// Says what operators were shown, where it is to be searched.
pub fn overhear(shown: &[u8]) {
    if std::env::var_os(SAID).is_some() {
        let mut err = std::io::stderr().lock();
        std::io::Write::write_all(&mut err, &[b"\n", shown, b"\n"].concat()).unwrap();
    }
}

/// A request as it reached the upstream.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Request line and header fields.
    pub head: String,
    /// Without chunk framing.
    pub body: Vec<u8>,
    /// Everything that was read for this request, to the byte.
    pub raw: Vec<u8>,
}

impl Recorded {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        fields(&self.head).filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|f| f.1).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

fn fields(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(n, v)| (n, v.trim()))
}

type Handler = dyn Fn(&Recorded) -> Vec<u8> + Send + Sync;

/// An upstream that answers as it is told, and remembers every request.
pub struct Upstream {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A response with a body and `Content-Length`.
pub fn response(status: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in fields {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    [head.into_bytes(), body.to_vec()].concat()
}

impl Upstream {
    /// Answers 200 `ok`.
    pub async fn start() -> Self {
        Self::answering(|_| response("200 OK", &[("Content-Type", "text/plain")], b"ok")).await
    }

    /// What `handler` returns is written as it is. An empty answer closes the connection.
    pub async fn answering(handler: impl Fn(&Recorded) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let recorded = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(record(stream, Arc::clone(&recorded), Arc::clone(&handler)));
            }
        });
        Self { address, requests, task }
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("nothing reached the upstream")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn record(mut stream: TcpStream, requests: Arc<Mutex<Vec<Recorded>>>, handler: Arc<Handler>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        requests.lock().unwrap().push(request.clone());
        let answer = handler(&request);
        if answer.is_empty() || stream.write_all(&answer).await.is_err() {
            return;
        }
        if answer.starts_with(b"HTTP/1.1 101") {
            // From here on it echoes.
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Recorded> {
    let end = read_head(stream, buffer).await?;
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let field = |name: &str| fields(&head).find(|f| f.0.eq_ignore_ascii_case(name)).map(|f| f.1);
    if field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let (body, used) = if field("transfer-encoding").is_some() {
        read_chunks(stream, buffer, end).await?
    } else {
        let length: usize = field("content-length").map_or(0, |length| length.parse().unwrap());
        fill(stream, buffer, end + length).await?;
        (buffer[end..end + length].to_vec(), end + length)
    };
    let raw = buffer.drain(..used).collect();
    Some(Recorded { head, body, raw })
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Some(at + 4);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    length: usize,
) -> Option<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    mut at: usize,
) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(end) = buffer[at..].windows(2).position(|window| window == b"\r\n") {
                break at + end;
            }
            fill(stream, buffer, buffer.len() + 1).await?;
        };
        let size = std::str::from_utf8(&buffer[at..line]).unwrap().split(';').next().unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        at = line + 2;
        fill(stream, buffer, at + size + 2).await?;
        body.extend_from_slice(&buffer[at..at + size]);
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// A response as a client reads it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn all(&self, name: &str) -> Vec<&str> {
        fields(&self.head).filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|f| f.1).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One connection to Cambio.
pub struct Connection<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub const fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next response, interim ones included; `None` where the connection is closed.
    pub async fn receive(&mut self) -> Option<Response> {
        self.receive_to("GET").await
    }

    /// The response to a request of this method.
    pub async fn receive_to(&mut self, method: &str) -> Option<Response> {
        timeout(PATIENCE, self.read(method)).await.expect("no response in time")
    }

    async fn read(&mut self, method: &str) -> Option<Response> {
        let buffer = &mut self.buffer;
        let end = read_head(&mut self.stream, buffer).await?;
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let field =
            |name: &str| fields(&head).find(|f| f.0.eq_ignore_ascii_case(name)).map(|f| f.1);
        let is_bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let (body, used) = if is_bodiless {
            (Vec::new(), end)
        } else if field("transfer-encoding").is_some() {
            read_chunks(&mut self.stream, buffer, end).await?
        } else if let Some(length) = field("content-length") {
            let length: usize = length.parse().unwrap();
            fill(&mut self.stream, buffer, end + length).await?;
            (buffer[end..end + length].to_vec(), end + length)
        } else {
            while self.stream.read_buf(buffer).await.unwrap_or(0) > 0 {}
            (buffer[end..].to_vec(), buffer.len())
        };
        buffer.drain(..used);
        Some(Response { status, head, body })
    }

    pub async fn request(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        let method = String::from_utf8_lossy(bytes.as_ref()).split(' ').next().unwrap().to_owned();
        let is_operators = ["GET /metrics", "GET /status", "GET /readyz"]
            .iter()
            .any(|request| bytes.as_ref().starts_with(request.as_bytes()));
        self.send(bytes).await;
        let response = self.receive_to(&method).await.expect("closed without a response");
        if is_operators {
            overhear(&response.body);
        }
        response
    }

    /// Waits until the other side has closed. `false` where there was something to read instead.
    pub async fn is_closed(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("still open"), Ok(0) | Err(_))
    }
}

/// A POST of a form.
pub fn post(target: impl AsRef<[u8]>, fields: &str, body: &str) -> Vec<u8> {
    let rest = format!(
        " HTTP/1.1\r\nHost: idp.example\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         {fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    [b"POST ", target.as_ref(), rest.as_bytes()].concat()
}

pub fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: idp.example\r\n{fields}\r\n")
}

/// A running Cambio with the files of its configuration.
pub struct Cambio {
    pub running: Running,
    pub folder: TempDir,
}

impl Cambio {
    /// In front of `upstream`, as `more` lines of configuration have it.
    pub async fn start(upstream: &str, more: &str) -> Self {
        Self::start_in(folder(), upstream, more).await
    }

    /// With what a folder already holds.
    pub async fn start_in(folder: TempDir, upstream: &str, more: &str) -> Self {
        let config = load(folder.path(), upstream, more);
        let metrics = Arc::new(Metrics::new());
        let running = App::start(config, metrics).await.unwrap();
        Self { running, folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address()).await
    }

    /// One request on a connection of its own.
    pub async fn request(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().await.request(bytes).await
    }

    /// Asks until it is answered with 200 twenty times in a row: whatever else is under way has
    /// come by then to where it waits, and takes up nobody's place there.
    pub async fn is_open_for(&self, bytes: impl AsRef<[u8]>) {
        let mut in_a_row = 0;
        for _ in 0..1_000 {
            let response = self.request(&bytes).await;
            in_a_row = if response.status == 200 { in_a_row + 1 } else { 0 };
            if in_a_row == 20 {
                return;
            }
            assert!(matches!(response.status, 200 | 503), "{}", response.text());
        }
        panic!("its place was never free");
    }

    pub async fn reload(&self, upstream: &str, more: &str) {
        self.running.reload(load(self.folder.path(), upstream, more)).await.unwrap();
    }
}

/// A folder with a signing key.
pub fn folder() -> TempDir {
    install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let pem = generate_pem(Algorithm::ES256).unwrap();
    write_private(&folder.path().join("signing.pem"), &pem);
    folder
}

pub fn write_private(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
}

/// Writes the configuration and returns its path.
pub fn write(folder: &Path, upstream: &str, more: &str) -> PathBuf {
    let has = |key: &str| more.lines().any(|line| line.starts_with(key));
    let mut text = String::new();
    if !has("listen:") {
        text += "listen: [{ address: 127.0.0.1:0 }]\n";
    }
    if !has("upstream:") {
        writeln!(
            text,
            "upstream: {{ url: \"{upstream}\", timeouts: {{ connect: 1s, read: 2s }} }}"
        )
        .unwrap();
    }
    if !has("authorization_server:") {
        text += "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  endpoints:\n    \
                 token: [/oauth2/token]\n    jwks: /oauth2/jwks\n    \
                 metadata: [/.well-known/openid-configuration]\n    \
                 introspection: /oauth2/introspect\n    revocation: /oauth2/revoke\n";
    }
    if !has("admin:") {
        text += "admin: { address: 127.0.0.1:0 }\n";
    }
    if !has("signing_keys:") {
        text += "signing_keys: [{ algorithm: ES256, private_key: { file: signing.pem } }]\n";
    }
    text += more;
    let path = folder.join("cambio.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

pub fn load(folder: &Path, upstream: &str, more: &str) -> Config {
    match config::load(&write(folder, upstream, more)) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{faults:#?}"),
    }
}

/// Large bodies are compared by it.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}
