//! An upstream whose documents can be changed, and Cambio's settings in front of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::leap::{in_no_time, leap};
use super::support::{Cambio, Connection, PATIENCE, Recorded, Response, Upstream, get, response};

pub const JWKS: &str = "/oauth2/jwks";
pub const METADATA: &str = "/.well-known/openid-configuration";
pub const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const THEIR_KEY: &str = r#"{"kty":"RSA","kid":"theirs","n":"AQ","e":"AQAB","x":1.50}"#;

pub fn overlay() -> &'static str {
    "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  overlay: true\n  endpoints:\n    \
     token: [/oauth2/token]\n    jwks: /oauth2/jwks\n    \
     metadata: [/.well-known/openid-configuration]\n"
}

pub type Answer = Box<dyn Fn(&Recorded) -> Vec<u8> + Send>;

/// An upstream whose documents can be changed.
pub struct Idp {
    pub upstream: Upstream,
    answer: Arc<Mutex<Answer>>,
}

impl Idp {
    pub async fn start(answer: impl Fn(&Recorded) -> Vec<u8> + Send + 'static) -> Self {
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let shared = Arc::clone(&answer);
        let upstream = Upstream::answering(move |request| shared.lock().unwrap()(request)).await;
        Self { upstream, answer }
    }

    pub fn answers(&self, answer: impl Fn(&Recorded) -> Vec<u8> + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// How often a client made it be asked. It is asked once more, ahead of everybody, as it is
    /// known outside: by https.
    pub fn asked(&self) -> usize {
        let requests = self.upstream.requests();
        requests.iter().filter(|one| one.header("x-forwarded-proto") == Some("http")).count()
    }
}

/// One request, for which no time passes. Whoever waits for a newer document is content with the last good
/// one after a second, and a machine that does much else may need longer for either.
pub async fn ask(cambio: &Cambio, request: impl AsRef<[u8]>) -> Response {
    // What has ended by now has ended before.
    leap(Duration::from_millis(1)).await;
    in_no_time(cambio.request(request)).await
}

/// Waits until the documents were asked for ahead of everybody, so that none of that comes between a
/// change of the upstream and the next request.
pub async fn settled(cambio: &Cambio, idp: &Idp) {
    let is_ahead = |request: &Recorded| {
        request.target() == METADATA && request.header("x-forwarded-for").is_none()
    };
    let seen = async {
        while !idp.upstream.requests().iter().any(is_ahead) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("nothing was asked for ahead");
    // The metadata come last, and whoever asks for them meanwhile waits.
    cambio.request(get(METADATA, "")).await;
}

pub fn keys(_: &Recorded) -> Vec<u8> {
    let fields =
        [("Content-Type", "application/jwk-set+json"), ("X-Idp", "1"), ("ETag", "\"old\"")];
    response("200 OK", &fields, format!("{{\"keys\":[{THEIR_KEY}]}}").as_bytes())
}

pub fn kids(document: &Value) -> Vec<&str> {
    document["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

/// As [`overlay`], with another issuer, these paths of metadata, and more settings.
pub fn overlay_of(issuer: &str, metadata: &str, more: &str) -> String {
    format!(
        "authorization_server:\n  issuer: {issuer}\n  overlay: true\n{more}  endpoints:\n    \
         token: [/oauth2/token]\n    jwks: /oauth2/jwks\n    metadata: [{metadata}]\n"
    )
}

pub async fn status(cambio: &Cambio) -> Value {
    Connection::open(cambio.running.admin_address()).await.request(get("/status", "")).await.json()
}

/// The place and the name of each finding.
pub async fn findings(cambio: &Cambio) -> Vec<(String, String)> {
    let status = status(cambio).await;
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let all = status["overlay"]["findings"].as_array().unwrap();
    all.iter().map(|one| (text(one, "place"), text(one, "finding"))).collect()
}

pub fn json(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK", &[("Content-Type", "application/json")], body.as_ref())
}
