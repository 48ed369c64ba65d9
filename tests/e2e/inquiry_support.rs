//! An estate in which tokens are introspected and revoked: an issuer, Cambio, and an identity
//! provider behind it that authenticates its clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cambio::app::App;
use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::telemetry::metrics::Metrics;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Cambio, Connection, Recorded, Response, Upstream, folder, get, install_crypto, load, post,
    response, write_private,
};

pub const API: &str = "https://api.example.com";
pub const INTROSPECT: &str = "/oauth2/introspect";
pub const REVOKE: &str = "/oauth2/revoke";
/// What the identity provider says of tokens that are none of its own, told from what we say by its
/// blanks.
pub const ITS_INACTIVE: &[u8] = b"{ \"active\": false }";
pub const ITS_UNSUPPORTED: &[u8] = b"{ \"error\": \"unsupported_token_type\" }";
pub const ITS_REFUSAL: &[u8] = b"{ \"error\": \"invalid_client\" }";
pub const OUR_INACTIVE: &[u8] = br#"{"active":false}"#;

/// A client's secret at the identity provider.
pub fn its_secret(client_id: &str) -> String {
    format!("{client_id}-secret-at-the-idp")
}

/// Another secret of every client at the identity provider, which can be read in two ways.
pub const CODED_SECRET: &str = "%41+b";

/// A client's secret in our configuration.
pub fn our_secret(client_id: &str) -> String {
    format!("{client_id}-secret-in-our-file")
}

/// How the identity provider behaves.
#[derive(Clone, Debug)]
pub enum Says {
    /// It authenticates its clients, and knows no token of ours.
    Usual,
    /// As usual, but it looks at no JWT.
    NoJwts,
    /// It looks at no JWT, whoever asks. Otherwise as usual.
    NoJwtsToAnybody,
    /// It looks at no JWT, and takes every secret for right.
    Open,
    /// It looks at no JWT, and takes every secret of this client for right.
    OpenTo(&'static str),
    /// It takes every secret for right, and knows no token of ours.
    Welcoming,
    /// As usual, but it takes every secret of this client for right.
    WelcomingTo(&'static str),
    /// There is no such endpoint, with this status. At the path of the other, it is [`Says::NoJwts`].
    Nowhere { status: &'static str, path: &'static str },
    /// This, as it stands, to a request about a token of ours; to another one, as usual.
    Exactly(Vec<u8>),
    /// This to a right secret, and that to a wrong one.
    Secrets { right: Vec<u8>, wrong: Vec<u8> },
    /// This, as it stands, to a request about a token of ours; and that, to another one.
    Both(Vec<u8>, Vec<u8>),
}

/// An identity provider that answers as it is told.
pub struct Idp {
    pub upstream: Upstream,
    says: Arc<Mutex<Says>>,
}

impl Idp {
    pub async fn start() -> Self {
        let says = Arc::new(Mutex::new(Says::Usual));
        let told = Arc::clone(&says);
        let upstream =
            Upstream::answering(move |request| answer(&told.lock().unwrap().clone(), request));
        Self { upstream: upstream.await, says }
    }

    pub fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// What reached one of its paths.
    pub fn asked(&self, path: &str) -> Vec<Recorded> {
        let is_of = |request: &Recorded| request.target().split('?').next() == Some(path);
        self.upstream.requests().into_iter().filter(is_of).collect()
    }

    /// What reached it of clients, without what Cambio asks it about them.
    pub fn passed(&self) -> Vec<Recorded> {
        let is_own = |request: &Recorded| {
            request.header("user-agent").is_some_and(|agent| agent.starts_with("cambio/"))
        };
        self.upstream.requests().into_iter().filter(|request| !is_own(request)).collect()
    }
}

/// The parameters of a form.
pub fn parameters(body: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

/// The credentials of a request.
pub fn credentials(request: &Recorded) -> Option<(String, String)> {
    if let Some(basic) = request.header("authorization") {
        let (scheme, encoded) = basic.split_once(' ')?;
        let decoded = STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let decoded = String::from_utf8(decoded).ok()?;
        return decoded.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()));
    }
    let mut form = parameters(&request.body);
    Some((form.remove("client_id")?, form.remove("client_secret").unwrap_or_default()))
}

pub fn answer(says: &Says, request: &Recorded) -> Vec<u8> {
    const JSON: (&str, &str) = ("Content-Type", "application/json");
    let is_introspection = request.target().starts_with(INTROSPECT);
    let token = parameters(&request.body).remove("token").unwrap_or_default();
    let is_jwt = token.contains('.');
    let is_ours = is_jwt || token.starts_with("cambio_");
    let is_right = credentials(request).is_some_and(|(id, secret)| {
        let is_public = id == "phone" && !is_introspection;
        let is_open = matches!(says, Says::OpenTo(open) | Says::WelcomingTo(open) if *open == id);
        let is_its_own = secret == its_secret(&id) || secret == CODED_SECRET;
        is_its_own || is_public && secret.is_empty() || is_open
    });
    let marked = |status, body| response(status, &[JSON, ("X-IdP", "yes")], body);
    let unsupported = || marked("400 Bad Request", ITS_UNSUPPORTED);
    let welcome = || marked("200 OK", if is_introspection { ITS_INACTIVE } else { b"" });
    let usual = || {
        if is_right {
            return welcome();
        }
        let challenge = ("WWW-Authenticate", "Basic realm=\"idp\"");
        response("401 Unauthorized", &[JSON, ("X-IdP", "yes"), challenge], ITS_REFUSAL)
    };
    match says {
        Says::Nowhere { status, path } if request.target().starts_with(path) => {
            marked(status, b"no such thing")
        }
        Says::NoJwtsToAnybody | Says::Open if is_jwt => unsupported(),
        Says::NoJwts | Says::OpenTo(_) | Says::Nowhere { .. } if is_jwt && is_right => {
            unsupported()
        }
        Says::Open | Says::Welcoming => welcome(),
        Says::Secrets { right, .. } if is_right => right.clone(),
        Says::Secrets { wrong, .. } => wrong.clone(),
        Says::Exactly(answer) | Says::Both(answer, _) if is_ours => answer.clone(),
        Says::Both(_, answer) => answer.clone(),
        Says::Usual
        | Says::NoJwts
        | Says::OpenTo(_)
        | Says::WelcomingTo(_)
        | Says::NoJwtsToAnybody
        | Says::Exactly(_)
        | Says::Nowhere { .. } => usual(),
    }
}

/// What an exchange gave.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
}

impl Tokens {
    fn of(response: &Response) -> Self {
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Self { access: text("access_token").unwrap(), refresh: text("refresh_token") }
    }

    pub fn refresh(&self) -> &str {
        self.refresh.as_deref().expect("there is no refresh token")
    }
}

/// An issuer, an identity provider, and Cambio between them.
pub struct Estate {
    issuer: StandInIssuer,
    pub idp: Idp,
    pub cambio: Cambio,
}

/// Which ids `is_public` in our configuration.
const PHONE: &str = "phone";

impl Estate {
    pub async fn start() -> Self {
        install_crypto();
        let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
        let idp = Idp::start().await;
        let folder = furnished(&issuer);
        let cambio = run(folder, &idp, &lines(&issuer)).await;
        Self { issuer, idp, cambio }
    }

    /// The same process again, with nothing but its folder.
    pub async fn restart(self) -> Self {
        let Self { issuer, idp, cambio: Cambio { running, folder } } = self;
        assert!(running.stop().await);
        let cambio = run(folder, &idp, &lines(&issuer)).await;
        Self { issuer, idp, cambio }
    }

    /// A subject token of the trusted issuer.
    pub fn subject_token(&self) -> String {
        let ours = "https://idp.example/oauth2/token";
        let claims = self.issuer.claims("alice", ours, clock::now().as_secs());
        self.issuer.mint(Algorithm::ES256, &claims).unwrap()
    }

    /// What this client gets for it. `more` are further parameters.
    pub async fn exchange(&self, client_id: &str, more: &str) -> Tokens {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("subject_token", &self.subject_token())
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .finish();
        let (fields, body) = at_ours(client_id, &format!("{body}{more}"));
        Tokens::of(&self.cambio.request(post("/oauth2/token", &fields, &body)).await)
    }

    pub async fn try_refresh(&self, client_id: &str, token: &str) -> Response {
        let body = format!("grant_type=refresh_token&refresh_token={token}");
        let (fields, body) = at_ours(client_id, &body);
        self.cambio.request(post("/oauth2/token", &fields, &body)).await
    }

    pub async fn refresh(&self, client_id: &str, token: &str) -> Tokens {
        Tokens::of(&self.try_refresh(client_id, token).await)
    }

    /// With the caller's secret at the identity provider.
    pub async fn introspect(&self, caller: &str, token: &str) -> Response {
        self.ask(INTROSPECT, &basic(caller, &its_secret(caller)), token).await
    }

    /// With the caller's secret at the identity provider.
    pub async fn revoke(&self, caller: &str, token: &str) -> Response {
        self.ask(REVOKE, &basic(caller, &its_secret(caller)), token).await
    }

    /// With these header fields.
    pub async fn ask(&self, path: &str, fields: &str, token: &str) -> Response {
        self.cambio.request(post(path, fields, &format!("token={token}"))).await
    }

    /// Whether the token's own client is told that it is active.
    pub async fn is_active(&self, client_id: &str, token: &str) -> bool {
        self.idp.says(Says::Usual);
        let response = self.introspect(client_id, token).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["active"].as_bool().unwrap()
    }

    /// Every series of `/metrics`.
    pub async fn metrics(&self) -> HashMap<String, String> {
        let mut admin = Connection::open(self.cambio.running.admin_address()).await;
        let response = admin.request(get("/metrics", "")).await;
        let series = response.text().lines().filter(|line| !line.starts_with('#'));
        series
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// How often each of us answered: Cambio, and the upstream.
    pub async fn answered(&self, metric: &str) -> (u64, u64) {
        let metrics = self.metrics().await;
        let by = |who: &str| {
            metrics[&format!("cambio_{metric}_total{{answered_by=\"{who}\"}}")].parse().unwrap()
        };
        (by("cambio"), by("upstream"))
    }

    /// How many probes ended so.
    pub async fn probes(&self, outcome: &str) -> u64 {
        let name = format!("cambio_client_probes_total{{outcome=\"{outcome}\"}}");
        self.metrics().await[&name].parse().unwrap()
    }
}

async fn run(folder: TempDir, idp: &Idp, lines: &str) -> Cambio {
    let config = load(folder.path(), &idp.upstream.url(), lines);
    let running = App::start(config, Arc::new(Metrics::new())).await.unwrap();
    Cambio { running, folder }
}

/// A folder with all that [`lines`] names.
fn furnished(issuer: &StandInIssuer) -> TempDir {
    let folder = folder();
    for client_id in ["portal", "plain", "brief", "vault"] {
        write_private(&folder.path().join(client_id), &our_secret(client_id));
    }
    write_private(&folder.path().join("partner.json"), &issuer.jwks().to_string());
    folder
}

/// The lines of a configuration with one issuer, applications of every kind, and a resource server.
pub fn lines(issuer: &StandInIssuer) -> String {
    let grants = "urn:ietf:params:oauth:grant-type:token-exchange";
    let mut lines = format!(
        "trusted_token_issuers:
  - {{ name: partner, issuer: \"{}\", jwks: {{ file: partner.json }} }}
resource_servers:
  - {{ client_id: api-server, audiences: [{API}] }}
applications:
",
        issuer.issuer()
    );
    for (client_id, more, settings) in [
        ("portal", ", refresh_token", ""),
        ("plain", "", ""),
        ("brief", "", "access_token: { lifetime: 1s }"),
        ("vault", ", refresh_token", "access_token: { format: opaque }"),
        (PHONE, ", refresh_token", ""),
    ] {
        let kind = if client_id == PHONE {
            "type: mobile".to_owned()
        } else {
            format!("type: traditional_web\n    client_secret: {{ file: {client_id} }}")
        };
        let name = format!("{}{}", client_id[..1].to_uppercase(), &client_id[1..]);
        lines += &format!(
            "  - name: {name}
    client_id: {client_id}
    {kind}
    allowed_grant_types: [\"{grants}\"{more}]
    audiences: [{API}, svc1]
    scopes: [read, write]
    {settings}
"
        );
    }
    lines
}

/// `Authorization: Basic` as most clients send it.
pub fn basic(id: &str, secret: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{secret}")))
}

/// Header fields and body of a request to the token endpoint by one of our applications.
fn at_ours(client_id: &str, body: &str) -> (String, String) {
    if client_id == PHONE {
        return (String::new(), format!("{body}&client_id={client_id}"));
    }
    (basic(client_id, &our_secret(client_id)), body.to_owned())
}

/// The claims of a JWT.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("no JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The token with other claims under the same signature.
pub fn tampered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut claims = claims(token);
    change(&mut claims);
    parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
    parts.join(".")
}

/// An opaque token of ours with another bit in its last octet.
pub fn with_another_bit(token: &str) -> String {
    let (start, encoded) = token.split_at("cambio_xx_".len());
    let mut octets = URL_SAFE_NO_PAD.decode(encoded).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    format!("{start}{}", URL_SAFE_NO_PAD.encode(octets))
}

/// What the identity provider said has come through as it was.
#[track_caller]
pub fn assert_its_own(response: &Response, status: u16, body: &[u8]) {
    assert_eq!((response.status, &response.body[..]), (status, body), "{}", response.text());
    assert_eq!(response.header("x-idp"), Some("yes"));
    assert_eq!(response.header("cambio-decision"), None);
    let length = body.len().to_string();
    assert_eq!(response.all("content-length"), [length.as_str()]);
}

/// The answer is one of ours.
#[track_caller]
pub fn assert_ours(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("x-idp"), None);
    assert!(response.header("cambio-decision").is_some_and(|id| id.len() >= 16));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

/// We say that the token is not active, and nothing else (RFC 7662 §2.2).
#[track_caller]
pub fn assert_hidden(response: &Response) {
    assert_ours(response, 200);
    assert_eq!(response.body, OUR_INACTIVE);
    assert_eq!(response.header("content-type"), Some("application/json"));
}

/// Nothing is told, and nothing done: the client may try again.
#[track_caller]
pub fn assert_unavailable(response: &Response, description: &str) {
    assert_ours(response, 503);
    assert_eq!(response.json()["error"], "temporarily_unavailable");
    assert_eq!(response.json()["error_description"], description);
    assert_eq!(response.header("retry-after"), Some("1"));
}

pub const CALLER_UNPROVEN: &str = "The client cannot be authenticated at the moment.";
