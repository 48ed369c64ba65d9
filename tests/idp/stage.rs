//! Cambio between oidc-provider and a trusted token issuer.

use std::fmt::Write as _;

use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use serde_json::Value;
use tempfile::TempDir;

use crate::provider::{ISSUER, Provider};

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

/// Everything that an exchange needs, on loopback.
pub struct Stage {
    pub provider: Provider,
    pub http: reqwest::Client,
    issuer: StandInIssuer,
    folder: TempDir,
    kid: String,
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_with(&SigningKeys::generate(&[Algorithm::ES256])).await
    }

    pub async fn set_with(keys: &SigningKeys) -> Self {
        todo!()
    }

    /// Puts a Cambio with these keys in the place of the present one.
    pub async fn restart_cambio(&mut self, keys: &SigningKeys) {
        todo!()
    }

    fn configuration(&self, keys: &SigningKeys) -> String {
        let mut signing_keys = String::new();
        for (algorithm, pem) in &keys.0 {
            let file = self.folder.path().join(format!("{algorithm}.pem"));
            std::fs::write(&file, pem.as_bytes()).unwrap();
            writeln!(signing_keys, "  - algorithm: {algorithm}").unwrap();
            writeln!(signing_keys, "    private_key: {{ file: {algorithm}.pem }}").unwrap();
        }
        let (upstream, partner) = (self.provider.origin(), self.issuer.issuer());
        format!(
            "\
listen: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
upstream: {{ url: {upstream} }}
authorization_server:
  issuer: {ISSUER}
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
        )
    }

    /// Cambio's key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn origin(&self) -> String {
        todo!()
    }

    /// The token endpoint.
    pub fn token(&self) -> String {
        format!("{}/token", self.origin())
    }

    /// The metadata document.
    pub fn metadata(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.origin())
    }

    /// A token of the trusted issuer that is good for an hour.
    pub fn subject_token(&self, subject: &str) -> String {
        let claims = self.issuer.claims(subject, ISSUER, clock::now().as_secs());
        self.issuer.mint(Algorithm::ES256, &claims).unwrap()
    }

    /// The form of an exchange of such a token.
    pub fn exchange_form(&self, subject: &str) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("subject_token", &self.subject_token(subject))
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .finish()
    }

    /// A form for the token endpoint.
    pub fn post(&self, form: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(self.token()).body(form.to_owned());
        request.header("content-type", "application/x-www-form-urlencoded")
    }

    /// A JSON document.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.origin())).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// Exchanges a token of the trusted issuer, and returns the minted one.
    pub async fn exchange(&self, subject: &str) -> String {
        let request = self.post(&self.exchange_form(subject));
        let answer = request.basic_auth(CLIENT_ID, Some(CLIENT_SECRET)).send().await.unwrap();
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }
}
