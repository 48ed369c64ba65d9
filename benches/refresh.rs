//! How many refreshes a second, each durable before it is answered.
//!
//! Cambio on loopback with an embedded store on disk, and 64 kept connections on each of which one
//! client refreshes a family of its own without a pause: all in one process. `CAMBIO_SECONDS` says
//! for how long (10), `CAMBIO_CLIENTS` how many there are (64).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark that cannot go on has failed"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cambio::app::App;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::store::embedded::Embedded;
use cambio::telemetry::metrics::Metrics;
use cambio::{clock, config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OURS: &str = "https://idp.example";
const SECRET: &str = "s3cr3t-s3cr3t-s3cr3t-s3cr3t";
const WARM_UP: Duration = Duration::from_secs(2);

fn configuration(issuer: &StandInIssuer) -> String {
    format!(
        r#"
listen: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
upstream: {{ url: "http://127.0.0.1:9" }}
authorization_server: {{ issuer: "{OURS}", endpoints: {{ token: [/oauth2/token], jwks: /oauth2/jwks }} }}
signing_keys: [{{ algorithm: ES256, private_key: {{ env: KEY }} }}]
trusted_token_issuers: [{{ name: partner, issuer: "{}", jwks_endpoint: "{}" }}]
applications:
  - client_id: client-one
    client_secret: {{ env: SECRET }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]
"#,
        issuer.issuer(),
        issuer.jwks_url(),
    )
}

/// One client on one connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    authorization: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let authorization = STANDARD.encode(format!("client-one:{SECRET}"));
        Self { stream, buffer: Vec::with_capacity(8192), authorization }
    }

    /// The refresh token in the answer to a form.
    async fn ask(&mut self, form: &str) -> String {
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: idp.example\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.authorization,
            form.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "closed");
            let Some(head) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let (_, length) = text.split_once("ontent-Length: ").expect("no length");
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if self.buffer.len() == head + 4 + length {
                break;
            }
        }
        let text = std::str::from_utf8(&self.buffer).unwrap();
        let (_, token) = text.split_once("\"refresh_token\":\"").expect("no refresh token");
        token.split('"').next().unwrap().to_owned()
    }
}

/// Where in the run it is.
#[derive(Default)]
struct Phase {
    is_measured: AtomicBool,
    is_over: AtomicBool,
}

async fn work(address: SocketAddr, exchange: Arc<str>, phase: Arc<Phase>) -> Vec<Duration> {
    let mut client = Client::connect(address).await;
    let mut token = client.ask(&exchange).await;
    let mut took = Vec::new();
    while !phase.is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let is_measured = phase.is_measured.load(Ordering::Relaxed);
        token = client.ask(&format!("grant_type=refresh_token&refresh_token={token}")).await;
        if is_measured && !phase.is_over.load(Ordering::Relaxed) {
            took.push(began.elapsed());
        }
    }
    took
}

async fn go_on_for(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

async fn run(seconds: u64, clients: usize) {
    let issuer = StandInIssuer::start(&[Algorithm::EdDSA]).await.unwrap();
    // On the disk of the working tree: a folder for temporary files may lie in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pem = cambio::jwt::sign::generate_pem(Algorithm::ES256).unwrap();
    let environment = |name: &str| match name {
        "KEY" => Some(pem.to_string()),
        "SECRET" => Some(SECRET.to_owned()),
        _ => None,
    };
    let path = folder.path().join("cambio.yaml");
    let (config, _) = config::load_text(configuration(&issuer), &path, &environment).unwrap();
    let store = Embedded::open(&folder.path().join("state"), Duration::ZERO).await.unwrap();
    let store = Arc::new(store);
    let metrics = Arc::new(Metrics::new());
    let running = App::start_on(config, metrics, Arc::clone(&store) as _).await.unwrap();
    let address = running.addresses()[0];
    let claims = issuer.claims("alice", OURS, clock::now().as_secs());
    let subject_token = issuer.mint(Algorithm::EdDSA, &claims).unwrap();
    let exchange: Arc<str> = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={subject_token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:jwt"
    )
    .into();

    let phase = Arc::new(Phase::default());
    let working: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(work(address, Arc::clone(&exchange), Arc::clone(&phase))))
        .collect();
    go_on_for(WARM_UP).await;
    let (before, began) = (store.counts(), Instant::now());
    phase.is_measured.store(true, Ordering::Relaxed);
    go_on_for(Duration::from_secs(seconds)).await;
    phase.is_over.store(true, Ordering::Relaxed);
    let (after, elapsed) = (store.counts(), began.elapsed());
    let mut took = Vec::new();
    for client in working {
        took.extend(client.await.unwrap());
    }
    took.sort_unstable();
    let share = |of: usize| took[(took.len() * of / 1000).min(took.len() - 1)];
    let (commits, syncs) = (after.commits - before.commits, after.syncs - before.syncs);
    println!(
        "refresh: {:.0}/s ({} in {elapsed:.1?}), {clients} in flight; p50 {:.2?}, p99 {:.2?}, \
         p99.9 {:.2?}; {commits} commits ({:.1} refreshes each), {syncs} syncs",
        took.len() as f64 / elapsed.as_secs_f64(),
        took.len(),
        share(500),
        share(990),
        share(999),
        took.len() as f64 / commits as f64,
    );
    assert!(running.stop().await);
}

fn main() {
    // `cargo test` runs benchmarks too, to see that they run.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let seconds = if is_measured { setting("CAMBIO_SECONDS", 10) } else { 1 };
    let clients = usize::try_from(setting("CAMBIO_CLIENTS", 64)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(seconds, clients));
}
