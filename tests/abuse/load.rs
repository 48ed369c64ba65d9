//! The real binary in a process of its own, so that its memory is its own; subject tokens by the
//! thousand, clients that time their answers, and what is made of the times.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

pub const OURS: &str = "https://idp.example/oauth2/token";
const THEIRS: &str = "https://partner.example";
/// Where abuse comes from: the healthy have an address of their own.
pub const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub const HEALTHY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A folder with a configuration whose issuer's key is at hand, and as many tokens as one likes.
pub struct Tokens {
    key: SigningKey,
    made: AtomicU64,
}

impl Tokens {
    /// Writes the issuer's keys beside the configuration.
    pub fn new(folder: &Path) -> Self {
        let pem = generate_pem(Algorithm::EdDSA).unwrap();
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::EdDSA, None, None).unwrap();
        let jwks = json!({ "keys": [key.jwk()] }).to_string();
        std::fs::write(folder.join("partner.json"), jwks).unwrap();
        Self { key, made: AtomicU64::new(0) }
    }

    /// No two are the same.
    pub fn good(&self) -> String {
        let one = self.made.fetch_add(1, Ordering::Relaxed);
        let now = cambio::clock::now().as_secs();
        let claims = json!({
            "iss": THEIRS, "sub": format!("subject-{one}"), "aud": OURS, "jti": format!("t-{one}"),
            "iat": now, "exp": now + 3600,
        });
        self.key.sign("JWT", &claims).unwrap()
    }

    /// As good, but for one letter of its signature; of another issuer; or no token at all.
    pub fn garbage(&self) -> String {
        let mut token = self.good();
        match self.made.load(Ordering::Relaxed) % 4 {
            0 => {
                let at = token.rfind('.').unwrap() + 5;
                let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
                token.replace_range(at..=at, other);
            }
            1 => token = token.replacen("eyJ", "eyK", 1),
            2 => token.truncate(token.len() / 2),
            _ => token = format!("{}.{token}", self.made.load(Ordering::Relaxed)),
        }
        token
    }
}

/// The body of an exchange by the public client `phone`.
pub fn exchange(token: &str) -> String {
    format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&client_id=phone&\
         subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&subject_token={token}"
    )
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: idp.example\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Writes a configuration with one issuer and one public client. `listen` and `more` are lines of it.
pub fn configure(folder: &Path, upstream: &str, listen: &str, more: &str) -> PathBuf {
    let pem = generate_pem(Algorithm::ES256).unwrap();
    let signing = folder.join("signing.pem");
    std::fs::write(&signing, pem.as_bytes()).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&signing, private).unwrap();
    let text = format!(
        "{listen}\nadmin: {{ address: 127.0.0.1:0 }}\n\
         upstream: {{ url: \"{upstream}\", timeouts: {{ connect: 1s, read: 10s }} }}\n\
         authorization_server:\n  issuer: {OURS}\n  endpoints:\n    token: [/oauth2/token]\n    \
         jwks: /oauth2/jwks\n    introspection: /oauth2/introspect\n\
         signing_keys: [{{ algorithm: ES256, private_key: {{ file: signing.pem }} }}]\n\
         trusted_token_issuers:\n  - name: partner\n    issuer: {THEIRS}\n    \
         jwks: {{ file: partner.json }}\n\
         applications:\n  - client_id: phone\n    type: mobile\n    \
         allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n{more}"
    );
    let path = folder.join("cambio.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A process that serves.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `CAMBIO_BINARY` names another build than the one that is tested with.
    pub fn start(folder: TempDir, config: &Path) -> Self {
        let binary = std::env::var_os("CAMBIO_BINARY")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_cambio")), PathBuf::from);
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(config).env("XDG_RUNTIME_DIR", folder.path());
        command.env("CAMBIO_LOG", "info").env_remove("CAMBIO_LOG_FORMAT");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let from = seen.len();
            assert_ne!(said.read_line(&mut seen).unwrap(), 0, "it ended: {seen}");
            let line: serde_json::Value = serde_json::from_str(&seen[from..]).unwrap_or_default();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // A pipe that nobody reads would stop it.
        std::thread::spawn(move || {
            let mut some = vec![0; 65536];
            while said.read(&mut some).is_ok_and(|read| read > 0) {}
        });
        Self { child, address, _folder: folder }
    }

    /// Bytes of memory at this moment.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub async fn connect(&self, from: IpAddr) -> TcpStream {
        connect(self.address, from).await.unwrap()
    }
}

pub async fn connect(to: SocketAddr, from: IpAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on a connection that is kept, and the status of its answer. `None` where it was closed.
pub async fn turn<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<u16> {
    stream.write_all(request).await.ok()?;
    stream.flush().await.ok()?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        let length = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.trim().parse::<usize>().unwrap());
        if buffer.len() >= head + 4 + length {
            return Some(text[9..12].parse().unwrap());
        }
    }
}

/// How long each measurement lasts in a run for figures, whose bounds hold on a quiet machine. In all
/// others a few exchanges have to do.
pub fn seconds() -> Option<Duration> {
    let seconds = std::env::var("CAMBIO_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("CAMBIO_SECONDS is a number")))
}

/// Whether a test with cases by the thousand sends each of them in each of its ways: `CAMBIO_CASES` is
/// `all`. Else each case goes one of the ways.
pub fn is_exhaustive() -> bool {
    std::env::var_os("CAMBIO_CASES").is_some_and(|cases| cases == "all")
}

/// How long exchanges take, one after the other.
pub async fn times<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, tokens: &Tokens) -> Times {
    let deadline = Instant::now() + seconds().unwrap_or_default();
    let mut taken = Vec::new();
    let mut buffer = Vec::new();
    while taken.len() < 50 || Instant::now() < deadline {
        let request = post("/oauth2/token", &exchange(&tokens.good()));
        let began = Instant::now();
        let status = turn(stream, &request, &mut buffer).await;
        taken.push(began.elapsed());
        assert_eq!(status, Some(200), "{}", buffer.escape_ascii());
    }
    taken.sort_unstable();
    Times(taken)
}

/// Sorted.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
        self.0.sort_unstable();
    }

    pub fn p99(&self) -> Duration {
        self.at(99)
    }

    pub fn median(&self) -> Duration {
        self.at(50)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

/// What the healthy saw of an attack, and what the process took up.
pub struct Figures {
    pub usual: Times,
    pub during: Times,
    pub idle: u64,
    pub peak: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p99 {:.1?} usually, {:.1?} meanwhile; median {:.1?}, {:.1?}; \
             memory {:.0} MiB idle, {:.0} MiB at its peak",
            self.usual.p99(),
            self.during.p99(),
            self.usual.median(),
            self.during.median(),
            mebibytes(self.idle),
            mebibytes(self.peak),
        )
    }
}

impl Figures {
    /// A machine that is busy with other tests has its own p99: twice the usual one holds in a run for
    /// figures.
    pub fn hold(&self, growth: u64, told: &str) {
        assert!(self.peak < self.idle + growth, "{told}");
        let slowest = match seconds() {
            Some(_) => self.usual.p99() * 2,
            None => Duration::from_secs(20),
        };
        assert!(self.during.p99() < slowest, "{told}");
    }
}

/// The greatest amount of memory since this was made.
pub struct Peak {
    peak: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Peak {
    pub fn of(server: &Server) -> Self {
        let path = format!("/proc/{}/statm", server.child.id());
        let peak = Arc::new(AtomicU64::new(server.memory()));
        let seen = Arc::clone(&peak);
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while let Ok(text) = std::fs::read_to_string(&path) {
                let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
                seen.fetch_max(pages * 4096, Ordering::Relaxed);
                tick.tick().await;
            }
        });
        Self { peak, task }
    }

    pub fn end(self) -> u64 {
        self.task.abort();
        self.peak.load(Ordering::Relaxed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// Held by a test that loads the machine, or suffers where another one does.
pub async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// Clients that do nothing but exchange tokens.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub address: SocketAddr,
    pub clients: usize,
    pub lasts: Duration,
    /// How long whoever was told to come back stays away.
    pub comes_back: Duration,
}

/// What they got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub granted: u64,
    pub busy: u64,
    pub other: u64,
    pub took: Duration,
}

impl Tally {
    /// Granted in a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds are small")]
    pub fn rate(&self) -> f64 {
        self.granted as f64 / self.took.as_secs_f64()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s granted ({} busy, {} other)", self.rate(), self.busy, self.other)
    }
}

impl Tokens {
    /// Ready-made exchanges, so that making them costs nothing while others are timed.
    pub fn requests(&self, count: usize) -> Arc<[Vec<u8>]> {
        (0..count).map(|_| post("/oauth2/token", &exchange(&self.good()))).collect()
    }
}

pub async fn crowd(crowd: Crowd, requests: &Arc<[Vec<u8>]>) -> Tally {
    // They have all connected before the time begins that is counted.
    let mut streams = Vec::new();
    for _ in 0..crowd.clients {
        streams.push(connect(crowd.address, HEALTHY).await.unwrap());
    }
    let began = Instant::now();
    let deadline = tokio::time::Instant::now() + crowd.lasts;
    let mut clients = tokio::task::JoinSet::new();
    for (client, stream) in streams.into_iter().enumerate() {
        let requests = Arc::clone(requests);
        clients.spawn(async move {
            let mut tally = Tally::default();
            let mut buffer = Vec::new();
            let mut kept = Some(stream);
            for request in requests.iter().cycle().skip(client) {
                if tokio::time::Instant::now() >= deadline {
                    break;
                }
                let stream = match &mut kept {
                    Some(stream) => stream,
                    none => none.insert(connect(crowd.address, HEALTHY).await.unwrap()),
                };
                match turn(stream, request, &mut buffer).await {
                    Some(200) => tally.granted += 1,
                    Some(503) => {
                        tally.busy += 1;
                        let back = tokio::time::Instant::now() + crowd.comes_back;
                        tokio::time::sleep_until(back.min(deadline)).await;
                    }
                    Some(_) => tally.other += 1,
                    None => {
                        tally.other += 1;
                        kept = None;
                    }
                }
            }
            tally
        });
    }
    let all = clients.join_all().await;
    let sum = |of: fn(&Tally) -> u64| all.iter().map(of).sum();
    Tally {
        granted: sum(|tally| tally.granted),
        busy: sum(|tally| tally.busy),
        other: sum(|tally| tally.other),
        took: began.elapsed(),
    }
}

/// Exchanges `count` tokens, each of them once, over `clients` connections; how many were granted.
pub async fn each_once(
    server: &Server,
    tokens: &Arc<Tokens>,
    count: usize,
    clients: usize,
    make: fn(&Tokens) -> String,
) -> usize {
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..clients {
        let (tokens, address) = (Arc::clone(tokens), server.address);
        let own = count / clients + usize::from(lane < count % clients);
        lanes.spawn(async move {
            let mut stream = connect(address, HEALTHY).await.unwrap();
            let (mut granted, mut buffer) = (0, Vec::new());
            for _ in 0..own {
                let request = post("/oauth2/token", &exchange(&make(&tokens)));
                match turn(&mut stream, &request, &mut buffer).await {
                    Some(200) => granted += 1,
                    Some(400) => {}
                    other => panic!("{other:?} {}", buffer.escape_ascii()),
                }
            }
            granted
        });
    }
    lanes.join_all().await.into_iter().sum()
}
