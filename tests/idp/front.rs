//! Cambio in front of an identity provider whose own clients are our applications, with every endpoint
//! that they share.

use std::sync::Arc;

use cambio::app::{App, Running};
use cambio::clock;
use cambio::config;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::generate_pem;
use cambio::telemetry::metrics::Metrics;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tempfile::TempDir;

use crate::stage::{AUDIENCE, write};

/// Where an identity provider has what, and three of its clients, whose secrets are their names with
/// `-secret`.
#[derive(Clone, Debug)]
pub struct Facts {
    pub origin: String,
    pub issuer: &'static str,
    pub token: &'static str,
    pub jwks: &'static str,
    pub metadata: &'static str,
    pub introspection: &'static str,
    pub revocation: &'static str,
    /// It exchanges tokens here.
    pub application: &'static str,
    /// It is told about tokens that are for [`AUDIENCE`].
    pub resource_server: &'static str,
    /// It is told about tokens that are for itself.
    pub stranger: &'static str,
}

/// The form of minted access tokens.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Jwt,
    Opaque,
}

/// An answer, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    pub content_type: Option<String>,
    pub text: String,
}

impl Answered {
    pub async fn to(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let content_type = answer.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        Self { status, content_type, text: answer.text().await.unwrap() }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

/// What a grant gave.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    #[track_caller]
    pub fn of(answer: &Answered) -> Self {
        let answer = answer.json();
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

/// Cambio in front of an identity provider, and a trusted token issuer.
pub struct Front {
    pub facts: Facts,
    http: reqwest::Client,
    issuer: StandInIssuer,
    cambio: Running,
    _folder: TempDir,
}

impl Front {
    pub async fn of(facts: Facts, form: Form) -> Self {
        // Fails only where another test has done it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
        let folder = TempDir::new().unwrap();
        write(&folder, "signing.pem", &generate_pem(Algorithm::ES256).unwrap());
        write(&folder, "secret", &secret(facts.application));
        write(&folder, "cambio.yaml", &configuration(&facts, &issuer, form));
        let (config, warnings) = config::load(&folder.path().join("cambio.yaml")).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let cambio = App::start(config, Arc::new(Metrics::new())).await.unwrap();
        Self { facts, http: reqwest::Client::new(), issuer, cambio, _folder: folder }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.cambio.addresses()[0])
    }

    fn post(&self, origin: &str, path: &str, form: &str) -> RequestBuilder {
        let request = self.http.post(format!("{origin}{path}")).body(form.to_owned());
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
    }

    /// What the identity provider answers itself, and what it answers through Cambio.
    pub async fn both(&self, client: &str, path: &str, form: &str) -> [Answered; 2] {
        let [alone, through] = [self.facts.origin.clone(), self.origin()]
            .map(|origin| self.post(&origin, path, form).basic_auth(client, Some(secret(client))));
        [Answered::to(alone).await, Answered::to(through).await]
    }

    /// A request through Cambio in the name of a client.
    pub async fn ask(&self, client: &str, path: &str, form: &str) -> Answered {
        self.ask_with(client, &secret(client), path, form).await
    }

    pub async fn ask_with(&self, client: &str, secret: &str, path: &str, form: &str) -> Answered {
        let request = self.post(&self.origin(), path, form).basic_auth(client, Some(secret));
        Answered::to(request).await
    }

    pub async fn introspect(&self, client: &str, token: &str) -> Answered {
        self.ask(client, self.facts.introspection, &format!("token={token}")).await
    }

    pub async fn revoke(&self, client: &str, token: &str) -> Answered {
        self.ask(client, self.facts.revocation, &format!("token={token}")).await
    }

    /// What the application gets for a token of the trusted issuer, for this audience.
    pub async fn exchange(&self, audience: &str) -> Tokens {
        let now = clock::now().as_secs();
        let claims = self.issuer.claims("alice", self.facts.issuer, now);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("subject_token", &self.issuer.mint(Algorithm::ES256, &claims).unwrap())
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .append_pair("audience", audience)
            .finish();
        Tokens::of(&self.ask(self.facts.application, self.facts.token, &form).await)
    }

    pub async fn refresh(&self, token: &str) -> Answered {
        let form = format!("grant_type=refresh_token&refresh_token={token}");
        self.ask(self.facts.application, self.facts.token, &form).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.origin()));
        Answered::to(request).await.json()
    }
}

/// Of one of the identity provider's clients.
pub fn secret(client: &str) -> String {
    format!("{client}-secret")
}

fn configuration(facts: &Facts, issuer: &StandInIssuer, form: Form) -> String {
    let partner = issuer.issuer();
    let format = match form {
        Form::Jwt => "jwt",
        Form::Opaque => "opaque",
    };
    let Facts {
        origin,
        issuer,
        token,
        jwks,
        metadata,
        introspection,
        revocation,
        application,
        resource_server,
        stranger,
    } = facts;
    format!(
        "\
listen: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
upstream: {{ url: {origin} }}
authorization_server:
  issuer: {issuer}
  overlay: true
  endpoints:
    token: [{token}]
    jwks: {jwks}
    metadata: [{metadata}]
    introspection: {introspection}
    revocation: {revocation}
signing_keys:
  - {{ algorithm: ES256, private_key: {{ file: signing.pem }} }}
trusted_token_issuers:
  - {{ name: partner, issuer: {partner}, discovery: true }}
applications:
  - client_id: {application}
    client_secret: {{ file: secret }}
    type: traditional_web
    allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange, refresh_token]
    audiences: [{AUDIENCE}, {stranger}]
    access_token: {{ format: {format} }}
resource_servers:
  - {{ client_id: {resource_server}, audiences: [{AUDIENCE}] }}
"
    )
}
