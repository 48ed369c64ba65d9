//! An identity provider, a trusted token issuer, and Cambio as a process between them, each knowing the
//! others by their real addresses.

use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use reqwest::header::{CONTENT_TYPE, HOST};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::answered::{Answered, Tokens};
use crate::idp::{Facts, Idp, Kind, secret};
use crate::layer::Layer;
use crate::port::Port;
use crate::process::{Serving, cambio, outcome};
use crate::stage::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, write};

/// The form of minted access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Jwt,
    Opaque,
}

/// Cambio in front of an identity provider whose own clients are its applications.
pub struct Estate {
    pub facts: Facts,
    pub idp: Idp,
    pub http: reqwest::Client,
    pub serving: Serving,
    issuer: StandInIssuer,
    port: Port,
    /// For operators.
    admin: Port,
    folder: TempDir,
}

/// Somebody who calls the identity provider: as ever, or through Cambio.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    origin: String,
    host: String,
}

impl Caller {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.origin)).header(HOST, &self.host)
    }

    pub fn post(&self, path: &str, form: &str) -> RequestBuilder {
        self.request(Method::POST, path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.to_owned())
    }

    pub async fn get(&self, path: &str) -> Answered {
        Answered::to(self.request(Method::GET, path)).await
    }

    /// A form by a client that authenticates by Basic.
    pub async fn ask(&self, client: &str, secret: &str, path: &str, form: &str) -> Answered {
        Answered::to(self.post(path, form).basic_auth(client, Some(secret))).await
    }
}

impl Estate {
    pub async fn of(kind: Kind) -> Self {
        Self::with(kind, Form::Jwt).await
    }

    pub async fn with(kind: Kind, form: Form) -> Self {
        let port = Port::reserve();
        let idp = Idp::start(kind, &port.origin()).await;
        let upstream = idp.facts().origin.clone();
        Self::set(idp, &upstream, port, form).await
    }

    /// With a layer between Cambio and the identity provider.
    pub async fn behind_a_layer(kind: Kind) -> (Self, Layer) {
        let port = Port::reserve();
        let idp = Idp::start(kind, &port.origin()).await;
        let layer = Layer::before(&idp.facts().origin).await;
        (Self::set(idp, &layer.origin, port, Form::Jwt).await, layer)
    }

    async fn set(idp: Idp, upstream: &str, port: Port, form: Form) -> Self {
        // Fails only where another test has done it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
        let folder = TempDir::new().unwrap();
        let facts = idp.facts().clone();
        let admin = Port::reserve();
        init(&folder, &facts, upstream, [&port, &admin]).await;
        write(&folder, "portal.secret", CLIENT_SECRET);
        append(&folder, &entries(&facts, &issuer.issuer(), form));
        cambio(folder.path(), &["check", "--config", "cambio.yaml"]).await;
        let serving = Serving::start(folder.path()).await;
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .build()
            .unwrap();
        Self { facts, idp, http, serving, issuer, port, admin, folder }
    }

    /// Where Cambio listens, and how all know the identity provider.
    pub fn origin(&self) -> String {
        self.port.origin()
    }

    /// Ends Cambio and starts it again, which then knows what is on disk alone.
    pub async fn restart(&mut self) {
        self.serving.end().await;
        self.serving = Serving::start(self.folder.path()).await;
    }

    /// A command of the program about this configuration.
    pub async fn command(&self, arguments: &[&str]) -> (bool, String) {
        let arguments = [arguments, &["--config", "cambio.yaml"]].concat();
        outcome(self.folder.path(), &arguments).await
    }

    /// Past Cambio, with the name that the identity provider is known by.
    pub fn alone(&self) -> Caller {
        let (http, origin) = (self.http.clone(), self.facts.origin.clone());
        Caller { http, origin, host: self.port.authority() }
    }

    pub fn through(&self) -> Caller {
        let (http, origin) = (self.http.clone(), self.port.origin());
        Caller { http, origin, host: self.port.authority() }
    }

    pub async fn introspect(&self, client: &str, token: &str) -> Answered {
        let form = format!("token={token}");
        self.through().ask(client, &secret(client), self.facts.introspection, &form).await
    }

    pub async fn revoke(&self, client: &str, token: &str) -> Answered {
        let form = format!("token={token}");
        self.through().ask(client, &secret(client), self.facts.revocation, &form).await
    }

    /// A token of the trusted issuer, for the identity provider.
    pub fn subject_token(&self) -> String {
        let now = clock::now().as_secs();
        let claims = self.issuer.claims("alice", &self.facts.issuer, now);
        self.issuer.mint(Algorithm::ES256, &claims).unwrap()
    }

    /// Cambio's own, in PEM.
    pub fn signing_key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("signing.pem")).unwrap()
    }

    /// A form that asks for an exchange of a token of the trusted issuer, for this audience.
    pub fn exchange_form(&self, audience: &str) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("subject_token", &self.subject_token())
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .append_pair("audience", audience)
            .finish()
    }

    /// What the application gets for this audience.
    pub async fn exchange(&self, audience: &str) -> Tokens {
        let client = self.facts.application;
        Tokens::of(&self.exchange_as(client, &secret(client), audience).await)
    }

    /// What whoever has these credentials gets for it.
    pub async fn exchange_as(&self, client: &str, secret: &str, audience: &str) -> Answered {
        let form = self.exchange_form(audience);
        self.through().ask(client, secret, self.facts.token, &form).await
    }

    /// How many exchanges were granted since Cambio was started.
    pub async fn granted(&self) -> u64 {
        let url = format!("{}/metrics", self.admin.origin());
        let metrics = Answered::to(self.http.get(url)).await.text;
        let granted =
            "cambio_exchanges_total{issuer=\"partner\",outcome=\"granted\",reason=\"none\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(granted));
        line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
    }

    pub async fn refresh(&self, token: &str) -> Answered {
        let client = self.facts.application;
        let form = format!("grant_type=refresh_token&refresh_token={token}");
        self.through().ask(client, &secret(client), self.facts.token, &form).await
    }

    pub async fn document(&self, path: &str) -> Value {
        self.through().get(path).await.json()
    }
}

/// Has `cambio init` find out what there is to know.
async fn init(folder: &TempDir, facts: &Facts, upstream: &str, [port, admin]: [&Port; 2]) {
    let path = facts.issuer.strip_prefix(&port.origin()).unwrap();
    let upstream = format!("{upstream}{path}");
    let (listen, admin, public) = (port.authority(), admin.authority(), port.origin());
    let arguments = ["init", "--upstream", &upstream, "--listen", &listen, "--admin", &admin];
    cambio(folder.path(), &[&arguments[..], &["--public-url", &public]].concat()).await;
}

/// To the configuration that `cambio init` wrote.
fn append(folder: &TempDir, entries: &str) {
    let path = folder.path().join("cambio.yaml");
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(!written.contains("ATTENTION"), "{written}");
    std::fs::write(path, written + entries).unwrap();
}

fn entries(facts: &Facts, partner: &str, form: Form) -> String {
    let format = match form {
        Form::Jwt => "jwt",
        Form::Opaque => "opaque",
    };
    let Facts { application, by_post, resource_server, stranger, .. } = facts;
    let another = format!(
        "  - {{ client_id: {by_post}, authentication: upstream, audiences: [{AUDIENCE}] }}"
    );
    let another = if by_post == application { "" } else { &another };
    format!(
        "
trusted_token_issuers:
  - {{ name: partner, issuer: {partner}, discovery: true }}
applications:
  - client_id: {application}
    authentication: upstream
    allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange, refresh_token]
    audiences: [{AUDIENCE}, {stranger}]
    access_token: {{ format: {format} }}
  - client_id: {CLIENT_ID}
    client_secret: {{ file: portal.secret }}
    type: traditional_web
    allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange, refresh_token]
    audiences: [{AUDIENCE}]
{another}
resource_servers:
  - {{ client_id: {resource_server}, audiences: [{AUDIENCE}] }}
"
    )
}
