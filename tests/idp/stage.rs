//! Cambio between oidc-provider and a trusted token issuer.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use cambio::app::{App, Running};
use cambio::clock;
use cambio::config::{self, Config};
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use cambio::telemetry::metrics::Metrics;
use serde_json::Value;
use tempfile::TempDir;

use crate::port::Port;
use crate::provider::Provider;

pub const CLIENT_ID: &str = "portal";
pub const CLIENT_SECRET: &str = "correct horse: battery+staple%";
pub const AUDIENCE: &str = "https://api.example.com";
pub const SCOPE: &str = "read write";

/// Cambio's own keys, the first of which signs.
pub struct SigningKeys(Vec<(Algorithm, zeroize::Zeroizing<String>)>);

impl SigningKeys {
    pub fn generate(algorithms: &[Algorithm]) -> Self {
        let key = |algorithm: &Algorithm| (*algorithm, generate_pem(*algorithm).unwrap());
        Self(algorithms.iter().map(key).collect())
    }

    pub fn move_to_front(&mut self, algorithm: Algorithm) {
        let at = self.0.iter().position(|(own, _)| *own == algorithm).unwrap();
        let key = self.0.remove(at);
        self.0.insert(0, key);
    }

    pub fn kid(&self, algorithm: Algorithm) -> String {
        let (_, pem) = self.0.iter().find(|(own, _)| *own == algorithm).unwrap();
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None).unwrap();
        key.kid().to_owned()
    }
}

/// Everything that an exchange needs, on loopback. Cambio's address is the issuer.
pub struct Stage {
    provider: Provider,
    http: reqwest::Client,
    port: Port,
    issuer: StandInIssuer,
    folder: TempDir,
    cambio: Running,
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_with(&SigningKeys::generate(&[Algorithm::ES256])).await
    }

    pub async fn set_with(keys: &SigningKeys) -> Self {
        // Fails only where another test has done it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let port = Port::reserve();
        let provider = Provider::start(&port.origin());
        let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
        let folder = TempDir::new().unwrap();
        write(&folder, "portal.secret", CLIENT_SECRET);
        let config = configure(&folder, &provider, &issuer, keys, &port);
        let cambio = App::start(config, Arc::new(Metrics::new())).await.unwrap();
        Self { provider, http: reqwest::Client::new(), port, issuer, folder, cambio }
    }

    /// Reloads Cambio, which has these keys then.
    pub async fn reload(&mut self, keys: &SigningKeys) {
        let config = configure(&self.folder, &self.provider, &self.issuer, keys, &self.port);
        self.cambio.reload(config).await.unwrap();
    }

    pub fn issuer(&self) -> String {
        self.port.origin()
    }

    /// The token endpoint.
    pub fn token(&self) -> String {
        format!("{}/token", self.port.origin())
    }

    /// A token of the trusted issuer that is good for an hour.
    pub fn subject_token(&self, subject: &str) -> String {
        let claims = self.issuer.claims(subject, &self.issuer(), clock::now().as_secs());
        self.issuer.mint(Algorithm::ES256, &claims).unwrap()
    }

    /// Exchanges a token of the trusted issuer, and returns the minted one.
    pub async fn exchange(&self, subject: &str) -> String {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("subject_token", &self.subject_token(subject))
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .finish();
        let request = self.http.post(self.token()).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.basic_auth(CLIENT_ID, Some(CLIENT_SECRET)).send().await.unwrap();
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }
}

/// Readable by nobody else, as secrets have to be.
pub fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    let _ = std::fs::remove_file(&path);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn configure(
    folder: &TempDir,
    provider: &Provider,
    issuer: &StandInIssuer,
    keys: &SigningKeys,
    port: &Port,
) -> Config {
    let mut signing_keys = String::new();
    for (algorithm, pem) in &keys.0 {
        write(folder, &format!("{algorithm}.pem"), pem);
        writeln!(signing_keys, "  - algorithm: {algorithm}").unwrap();
        writeln!(signing_keys, "    private_key: {{ file: {algorithm}.pem }}").unwrap();
    }
    let (upstream, partner) = (&provider.facts().origin, issuer.issuer());
    let (address, public) = (port.authority(), port.origin());
    let text = format!(
        "\
listen: [{{ address: {address} }}]
admin: {{ address: 127.0.0.1:0 }}
upstream: {{ url: {upstream} }}
authorization_server:
  issuer: {public}
  overlay: true
  endpoints:
    token: [/token]
    jwks: /jwks
    metadata: [/.well-known/openid-configuration]
signing_keys:
{signing_keys}
trusted_token_issuers:
  - name: partner
    issuer: {partner}
    discovery: true
applications:
  - name: Portal
    client_id: {CLIENT_ID}
    client_secret: {{ file: portal.secret }}
    type: traditional_web
    allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange]
    audiences: [{AUDIENCE}]
    scopes: [{}]
",
        SCOPE.replace(' ', ", ")
    );
    write(folder, "cambio.yaml", &text);
    let (config, warnings) = config::load(&folder.path().join("cambio.yaml")).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}
