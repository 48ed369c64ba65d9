//! A running Cambio between a good issuer and others that misbehave, and what exchanges take there.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::clock;
use cambio::jwt::sign::SigningKey;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::chaos_issuer::ChaosIssuer;
use crate::chaos_kinds::Kind;
use crate::issuer::{Issuer, whole};
use crate::process::Process;
use crate::setting::{jwks, key};
use crate::support::{Connection, Response, Upstream, folder, get, post, write};

const OURS: &str = "https://idp.example/oauth2/token";
pub const GOOD: &str = "https://good.example";

/// A token of this issuer for us.
pub fn token(iss: &str, key: &SigningKey) -> String {
    let now = clock::now().as_secs();
    let claims =
        json!({ "iss": iss, "sub": "alice", "aud": OURS, "iat": now - 1, "exp": now + 600 });
    key.sign("JWT", &claims).unwrap()
}

/// One that names a key which nobody has.
pub fn unknown(iss: &str, nth: usize) -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = encode(json!({ "alg": "ES256", "typ": "JWT", "kid": format!("unknown-{nth}") }));
    let claims = encode(json!({ "iss": iss, "sub": "alice", "aud": OURS }));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64]))
}

pub fn request(token: &str) -> Vec<u8> {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", "phone")
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("subject_token", token)
        .finish();
    post("/oauth2/token", "", &form)
}

/// A Cambio between one good issuer and many others.
pub struct Estate {
    pub good: Issuer,
    pub good_key: SigningKey,
    pub others: Vec<ChaosIssuer>,
    child: Child,
    pub address: SocketAddr,
    admin: SocketAddr,
    _upstream: Upstream,
    _folder: TempDir,
}

impl Estate {
    pub async fn start(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let folder = folder();
        let upstream = Upstream::start().await;
        let good_key = key("good");
        let set = jwks(&[&good_key]);
        let served = set.clone();
        let good = Issuer::start(move |_| whole(served.clone())).await;
        let mut others = Vec::new();
        for kind in kinds {
            let nth = others.iter().filter(|other: &&ChaosIssuer| other.kind == kind).count();
            others.push(ChaosIssuer::start(kind, nth, &set).await);
        }
        let mut lines = format!(
            "applications:\n  - client_id: phone\n    type: mobile\n    allowed_grant_types: \
             [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n    \
             access_token: {{ lifetime: 1h }}\nauthorization_server:\n  issuer: {OURS}\n  \
             endpoints: {{ token: [/oauth2/token], jwks: /oauth2/jwks }}\n\
             trusted_token_issuers:\n  - {{ name: good, issuer: \"{GOOD}\", \
             jwks_endpoint: \"{}\", subject_prefix: \"good:\" }}\n",
            good.url("/jwks")
        );
        for other in &others {
            lines += &other.lines(folder.path());
        }
        let config = write(folder.path(), &upstream.url(), &lines);
        let (child, address, admin) = Process::start(folder.path(), &config).await.unheard();
        let estate = Self {
            good,
            good_key,
            others,
            child,
            address,
            admin,
            _upstream: upstream,
            _folder: folder,
        };
        estate.until(|issuers| issuers.iter().all(|one| one["state"] == "fresh")).await;
        estate
    }

    /// How the issuers' keys are, in the order of the configuration.
    pub async fn issuers(&self) -> Vec<Value> {
        let status = Connection::open(self.admin).await.request(get("/status", "")).await.json();
        status["trusted_token_issuers"].as_array().unwrap().clone()
    }

    async fn until(&self, holds: impl Fn(&[Value]) -> bool) {
        let began = Instant::now();
        loop {
            let issuers = self.issuers().await;
            if holds(&issuers) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{issuers:#?}");
        }
    }

    pub async fn exchange(&self, token: &str) -> Response {
        Connection::open(self.address).await.request(request(token)).await
    }

    /// Memory that the process has, and the most that it ever had, in KiB.
    pub fn memory(&self) -> (u64, u64) {
        let status = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(status).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// A token for each of these issuers that makes it be asked, where none has for a cool-down; ends
    /// when all are answered.
    pub fn provoke(&self, others: &[ChaosIssuer]) -> JoinSet<u16> {
        let mut provoked = JoinSet::new();
        for other in others {
            let (address, request) = (self.address, request(&unknown(&other.iss(), 0)));
            provoked.spawn(
                async move { Connection::open(address).await.request(request).await.status },
            );
        }
        provoked
    }
}

/// Exchanges of the good issuer's token, one after another.
pub struct Measured {
    connection: Connection,
    request: Vec<u8>,
    took: Vec<Duration>,
}

impl Measured {
    pub async fn of(estate: &Estate) -> Self {
        let connection = Connection::open(estate.address).await;
        let request = request(&token(GOOD, &estate.good_key));
        Self { connection, request, took: Vec::new() }
    }

    /// Not one of them may fail.
    pub async fn exchange(&mut self) {
        let began = Instant::now();
        let answer = self.connection.request(&self.request).await;
        self.took.push(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What was measured since the last time: how often, the median and the 99th percentile.
    pub fn take(&mut self) -> (usize, Duration, Duration) {
        let mut took = std::mem::take(&mut self.took);
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        (took.len(), at(50), at(99))
    }
}
