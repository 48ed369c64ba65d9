//! Requests over sockets: passed through, exchanged, and for comparison straight to the upstream.
//!
//! One client on one kept connection: what is measured is the way there and back, not how much the
//! machine can do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on has failed"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cambio::app::{App, Running};
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::telemetry::metrics::Metrics;
use cambio::{clock, config};
use criterion::{Criterion, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const OURS: &str = "https://idp.example";
const SECRET: &str = "s3cr3t-s3cr3t-s3cr3t-s3cr3t";

/// Answers each request without a body with a kilobyte.
async fn upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024));
    let answer: Arc<[u8]> = answer.into_bytes().into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let mut filled = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
                    filled += read;
                    if buffer[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

async fn cambio(upstream: SocketAddr, issuer: &StandInIssuer) -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pem = cambio::jwt::sign::generate_pem(Algorithm::ES256).unwrap();
    let text = format!(
        r#"
listen: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
upstream: {{ url: "http://{upstream}" }}
authorization_server: {{ issuer: "{OURS}", endpoints: {{ token: [/oauth2/token], jwks: /oauth2/jwks }} }}
signing_keys: [{{ algorithm: ES256, private_key: {{ env: KEY }} }}]
trusted_token_issuers: [{{ name: partner, issuer: "{}", jwks_endpoint: "{}" }}]
applications:
  - client_id: client-one
    client_secret: {{ env: SECRET }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"]
"#,
        issuer.issuer(),
        issuer.jwks_url(),
    );
    let environment = |name: &str| match name {
        "KEY" => Some(pem.to_string()),
        "SECRET" => Some(SECRET.to_owned()),
        _ => None,
    };
    let path = folder.path().join("cambio.yaml");
    let (config, _) = config::load_text(text, &path, &environment).unwrap();
    (App::start(config, Arc::new(Metrics::new())).await.unwrap(), folder)
}

/// Sends `request` and reads the answer to its end.
fn turn(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) {
    stream.write_all(request).unwrap();
    buffer.clear();
    let mut chunk = [0; 8192];
    loop {
        let read = stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "closed");
        buffer.extend_from_slice(&chunk[..read]);
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, length)| length.parse::<usize>().unwrap());
        if buffer.len() >= head + 4 + length.unwrap() {
            return;
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (upstream, running, _folder, issuer) = runtime.block_on(async {
        let upstream = upstream().await;
        let issuer = StandInIssuer::start(&[Algorithm::RS256]).await.unwrap();
        let (running, folder) = cambio(upstream, &issuer).await;
        (upstream, running, folder, issuer)
    });
    let cambio = running.addresses()[0];
    let get = b"GET /a HTTP/1.1\r\nHost: idp.example\r\n\r\n";
    let claims = issuer.claims("alice", OURS, clock::now().as_secs());
    let token = issuer.mint(Algorithm::RS256, &claims).unwrap();
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token", &token)
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .finish();
    let exchange = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: idp.example\r\nAuthorization: Basic {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        STANDARD.encode(format!("client-one:{SECRET}")),
        body.len(),
    );
    let cases: [(&str, SocketAddr, &[u8]); 3] = [
        ("straight to the upstream", upstream, get),
        ("passed through", cambio, get),
        ("exchanged RS256-ES256", cambio, exchange.as_bytes()),
    ];
    for (name, address, request) in cases {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = Vec::with_capacity(8192);
        criterion.bench_function(&format!("sockets/{name}"), |bencher| {
            bencher.iter(|| turn(&mut stream, request, &mut buffer));
        });
    }
    runtime.block_on(running.stop());
}

criterion_group!(benches, bench);
criterion_main!(benches);
