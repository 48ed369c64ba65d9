//! An estate in which tokens are refreshed: an issuer, an upstream, and Cambio between them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::app::App;
use cambio::clock;
use cambio::config::Config;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::inquiry_support::{INTROSPECT, REVOKE, credentials};
use crate::support::{
    Cambio, Connection, Response, Upstream, folder, get, install_crypto, load, post, response,
    write_private,
};

pub const ALIAS: &str = "https://partner.example/our-name";
pub const API: &str = "https://api.example.com";
pub const SECRET: &str = "portal-secret-of-many-bytes";
pub const OTHER_SECRET: &str = "the-secret-of-another-application";
/// What the upstream answers to whatever reaches it, but for inquiries about tokens.
pub const UPSTREAMS: &[u8] = br#"{"access_token":"theirs","refresh_token":"theirs-too"}"#;

/// Issuers and applications. `once` has an issuer whose tokens come once only.
pub fn lines(issuer: &StandInIssuer, once: &StandInIssuer) -> String {
    format!(
        r#"
trusted_token_issuers:
  - name: partner
    issuer: {partner}
    alias: {ALIAS}
    jwks: {{ file: partner.json }}
    subject_prefix: "p:"
    claims: {{ email: email }}
  - name: once
    issuer: {once}
    alias: {ALIAS}
    jwks: {{ file: once.json }}
    subject_prefix: "o:"
    replay: once
applications:
  - name: Portal
    client_id: portal
    client_secret: {{ file: portal.secret }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]
    audiences: [{API}, https://second.example.com]
    scopes: [read, write]
    refresh_token: {{ lifetime: 24h, grace: 0s }}
  - name: Other
    client_id: other
    client_secret: {{ file: other.secret }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]
    audiences: [{API}]
    refresh_token: {{ lifetime: 24h, grace: 10s }}
  - name: Phone
    client_id: phone
    type: mobile
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]
    audiences: [{API}]
  - name: Stateless
    client_id: stateless
    client_secret: {{ file: other.secret }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"]
    audiences: [{API}]
"#,
        partner = issuer.issuer(),
        once = once.issuer(),
    )
}

/// A folder with all that [`lines`] names.
pub fn furnished(issuer: &StandInIssuer, once: &StandInIssuer) -> TempDir {
    let folder = folder();
    furnish(folder.path(), issuer, once);
    folder
}

pub fn furnish(folder: &Path, issuer: &StandInIssuer, once: &StandInIssuer) {
    write_private(&folder.join("portal.secret"), SECRET);
    write_private(&folder.join("other.secret"), OTHER_SECRET);
    write_private(&folder.join("partner.json"), &issuer.jwks().to_string());
    write_private(&folder.join("once.json"), &once.jwks().to_string());
}

pub async fn stand_in() -> StandInIssuer {
    install_crypto();
    StandInIssuer::start(&[Algorithm::EdDSA]).await.unwrap()
}

/// A token of the issuer for `subject`.
pub fn subject_token(issuer: &StandInIssuer, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = issuer.claims("alice", ALIAS, clock::now().as_secs());
    claims["email"] = json!("alice@example.com");
    change(&mut claims);
    issuer.mint(Algorithm::EdDSA, &claims).unwrap()
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Without grace.
    Portal,
    /// With ten seconds of grace.
    Other,
    Phone,
    Stateless,
}

impl Client {
    /// The header field that authenticates.
    fn field(self) -> String {
        let pair = match self {
            Self::Portal => format!("portal:{SECRET}"),
            Self::Other => format!("other:{OTHER_SECRET}"),
            Self::Stateless => format!("stateless:{OTHER_SECRET}"),
            Self::Phone => return String::new(),
        };
        format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
    }

    fn call(self, parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters);
        if self == Self::Phone {
            form.append_pair("client_id", "phone");
        }
        post("/oauth2/token", &self.field(), &form.finish())
    }

    /// The revocation of a token.
    pub fn revoke(self, token: &str) -> Vec<u8> {
        post(REVOKE, &self.field(), &format!("token={token}"))
    }

    /// An exchange of this subject token.
    pub fn exchange(self, token: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let all = [
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token", token),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ],
            more,
        ]
        .concat();
        self.call(&all)
    }

    /// A refresh with this token.
    pub fn refresh(self, token: &str, more: &[(&str, &str)]) -> Vec<u8> {
        self.call(&[&[("grant_type", "refresh_token"), ("refresh_token", token)], more].concat())
    }
}

/// The refresh token of a granted answer.
#[track_caller]
pub fn refresh_token(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["refresh_token"].as_str().expect("no refresh token").to_owned()
}

/// The claims of a JWT access token of a granted answer.
#[track_caller]
pub fn claims(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    let claims = answer["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[track_caller]
pub fn refused(response: &Response, error: &str) {
    assert_eq!((response.status, &response.json()["error"]), (400, &json!(error)));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(response.header("cambio-decision").is_some());
}

/// An upstream that has our secrets, too, and knows no token of ours.
pub async fn upstream() -> Upstream {
    const JSON: (&str, &str) = ("Content-Type", "application/json");
    Upstream::answering(|request| {
        if ![INTROSPECT, REVOKE].contains(&request.target()) {
            return response("200 OK", &[JSON], UPSTREAMS);
        }
        let is_right = credentials(request).is_some_and(|(id, secret)| match id.as_str() {
            "portal" => secret == SECRET,
            "other" | "stateless" => secret == OTHER_SECRET,
            _ => false,
        });
        if is_right {
            response("200 OK", &[JSON], br#"{"active":false}"#)
        } else {
            response("401 Unauthorized", &[JSON], br#"{"error":"invalid_client"}"#)
        }
    })
    .await
}

/// Issuers, an upstream, and Cambio between them.
pub struct Estate {
    pub issuer: StandInIssuer,
    pub once: StandInIssuer,
    pub upstream: Upstream,
    pub cambio: Cambio,
    /// As it was written first.
    pub lines: String,
}

impl Estate {
    pub async fn start() -> Self {
        Self::with(|lines| lines).await
    }

    /// With a configuration that is changed.
    pub async fn with(change: impl FnOnce(String) -> String) -> Self {
        let (issuer, once) = (stand_in().await, stand_in().await);
        let upstream = upstream().await;
        let lines = change(lines(&issuer, &once));
        let folder = furnished(&issuer, &once);
        let config = load(folder.path(), &upstream.url(), &lines);
        let cambio = Cambio { running: run(config).await, folder };
        Self { issuer, once, upstream, cambio, lines }
    }

    /// Stops and starts, on the same files.
    pub async fn restart(self) -> Self {
        let Self { issuer, once, upstream, cambio: Cambio { running, folder }, lines } = self;
        assert!(running.stop().await);
        let config = load(folder.path(), &upstream.url(), &lines);
        let running = run(config).await;
        Self { issuer, once, upstream, cambio: Cambio { running, folder }, lines }
    }

    /// Reloads what was written first, changed.
    pub async fn reload(&self, change: impl FnOnce(&str) -> String) {
        let lines = change(&self.lines);
        self.cambio.reload(&self.upstream.url(), &lines).await;
    }

    pub async fn connect(&self) -> Connection {
        self.cambio.connect().await
    }

    pub fn token(&self) -> String {
        subject_token(&self.issuer, |_| {})
    }

    pub async fn exchange(&self, client: Client) -> Response {
        self.cambio.request(client.exchange(&self.token(), &[("scope", "")])).await
    }

    /// The first token of a new family.
    pub async fn family(&self, client: Client) -> String {
        refresh_token(&self.exchange(client).await)
    }

    pub async fn refresh(&self, client: Client, token: &str) -> Response {
        self.cambio.request(client.refresh(token, &[])).await
    }

    /// The value of every series of `/metrics`.
    pub async fn metrics(&self) -> HashMap<String, String> {
        let mut admin = Connection::open(self.cambio.running.admin_address()).await;
        let response = admin.request(get("/metrics", "")).await;
        let series = response.text().lines().filter(|line| !line.starts_with('#'));
        series
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// How many refreshes were counted with this outcome and reason.
    pub async fn refreshes(&self, outcome: &str, reason: &str) -> u64 {
        let name = format!(r#"cambio_refreshes_total{{outcome="{outcome}",reason="{reason}"}}"#);
        self.metrics().await.get(&name).map_or(0, |value| value.parse().unwrap())
    }

    /// Asserts that nothing of ours reached the upstream.
    #[track_caller]
    pub fn assert_nothing_of_ours_upstream(&self) {
        for request in self.upstream.requests() {
            let raw = String::from_utf8_lossy(&request.raw).into_owned();
            assert!(!raw.contains("cambio_rt") && !raw.contains("token-exchange"), "{raw}");
        }
    }
}

async fn run(config: Config) -> cambio::app::Running {
    App::start(config, Arc::new(Metrics::new())).await.unwrap()
}
