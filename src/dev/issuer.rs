//! The stand-in third party: signs tokens and publishes its keys.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::StandInError;
use super::loopback::{self, Answers, Loopback, Reply};
use crate::jwt::algorithm::Algorithm;
use crate::jwt::sign::{SigningKey, generate_pem};

const JWKS_PATH: &str = "/oauth2/jwks";
const METADATA_PATH: &str = "/.well-known/openid-configuration";

/// A trusted token issuer on loopback, with one key per algorithm.
#[derive(Debug)]
pub struct StandInIssuer {
    public: Arc<Public>,
    server: Loopback,
}

/// What the issuer's requests see.
#[derive(Debug)]
struct Public {
    keys: ArcSwap<Vec<SigningKey>>,
    /// Instead of the JWKS, whatever the test wants served.
    instead: ArcSwapOption<String>,
    /// Requests for the JWKS since the start.
    jwks_requests: AtomicUsize,
    /// Whether answers are held back.
    held: watch::Sender<bool>,
}

impl StandInIssuer {
    /// With a fresh key for each of `algorithms`.
    pub async fn start(algorithms: &[Algorithm]) -> Result<Self, StandInError> {
        let public = Arc::new(Public {
            keys: ArcSwap::from_pointee(generate(algorithms)?),
            instead: ArcSwapOption::empty(),
            jwks_requests: AtomicUsize::new(0),
            held: watch::Sender::new(false),
        });
        let server = Loopback::start(Arc::clone(&public)).await?;
        Ok(Self { public, server })
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> String {
        self.server.origin()
    }

    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS_PATH}", self.server.origin())
    }

    /// How often its JWKS was asked for.
    pub fn jwks_requests(&self) -> usize {
        self.public.jwks_requests.load(Ordering::SeqCst)
    }

    /// The JWK Set that it publishes.
    pub fn jwks(&self) -> Value {
        self.public.jwks()
    }

    /// Claims of a token for `audience` as this issuer writes them, to be changed at will.
    pub fn claims(&self, subject: &str, audience: &str, now: u64) -> Value {
        json!({
            "iss": self.issuer(),
            "sub": subject,
            "aud": audience,
            "iat": now,
            "exp": now + 3600,
            "jti": format!("stand-in-{now}-{subject}"),
        })
    }

    /// Signs `claims` with the key of an algorithm.
    pub fn mint(&self, algorithm: Algorithm, claims: &Value) -> Result<String, StandInError> {
        self.mint_typed(algorithm, "JWT", claims)
    }

    /// Signs `claims` under a header with this `typ`.
    pub fn mint_typed(
        &self,
        algorithm: Algorithm,
        typ: &str,
        claims: &Value,
    ) -> Result<String, StandInError> {
        let keys = self.public.keys.load();
        let key = keys.iter().find(|key| key.algorithm() == algorithm);
        Ok(key.ok_or(StandInError::NoKey)?.sign(typ, claims)?)
    }

    /// Replaces every key. The old ones are published no more.
    pub fn rotate(&self) -> Result<(), StandInError> {
        let algorithms: Vec<_> =
            self.public.keys.load().iter().map(SigningKey::algorithm).collect();
        self.public.keys.store(Arc::new(generate(&algorithms)?));
        Ok(())
    }

    /// Serves `body` in place of the JWKS; `None` ends that.
    pub fn serve_instead(&self, body: Option<String>) {
        self.public.instead.store(body.map(Arc::new));
    }

    /// Holds every answer back until [`Self::release`].
    pub fn hold(&self) {
        self.public.held.send_replace(true);
    }

    pub fn release(&self) {
        self.public.held.send_replace(false);
    }

    pub async fn go_down(&self) -> io::Result<()> {
        self.server.go_down().await
    }

    pub async fn come_up(&self) -> io::Result<()> {
        self.server.come_up().await
    }
}

fn generate(algorithms: &[Algorithm]) -> Result<Vec<SigningKey>, StandInError> {
    // RSA keys take a while to make, so the RSA algorithms share one. Its `kid` tells them apart.
    let mut pems = BTreeMap::new();
    algorithms
        .iter()
        .map(|algorithm| {
            let family = match algorithm {
                Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => algorithm.as_str(),
                Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512 => "RSA",
            };
            let pem = match pems.entry(family) {
                std::collections::btree_map::Entry::Occupied(made) => made.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(generate_pem(*algorithm)?)
                }
            };
            let plain = SigningKey::from_pkcs8_pem(pem.as_bytes(), *algorithm, None, None)?;
            let kid = format!("{}-{}", algorithm.as_str(), plain.kid());
            Ok(SigningKey::from_pkcs8_pem(pem.as_bytes(), *algorithm, Some(kid), None)?)
        })
        .collect()
}

impl Public {
    fn jwks(&self) -> Value {
        let keys: Vec<_> = self.keys.load().iter().map(|key| json!(key.jwk())).collect();
        json!({ "keys": keys })
    }
}

impl Answers for Public {
    async fn answer(&self, request: Request<Bytes>) -> Reply {
        let asks_for_keys = request.uri().path() == JWKS_PATH;
        if asks_for_keys {
            self.jwks_requests.fetch_add(1, Ordering::SeqCst);
        }
        // Fails only when the sender is gone, and `self` has it.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return loopback::empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        if asks_for_keys {
            let instead = self.instead.load();
            let body = instead.as_deref().cloned().unwrap_or_else(|| self.jwks().to_string());
            return loopback::document(&request, "application/jwk-set+json", body);
        }
        if request.uri().path() == METADATA_PATH {
            let host = request.headers().get(http::header::HOST);
            let Some(host) = host.and_then(|host| host.to_str().ok()) else {
                return loopback::empty(StatusCode::BAD_REQUEST);
            };
            let origin = format!("http://{host}");
            let body = json!({ "issuer": origin, "jwks_uri": format!("{origin}{JWKS_PATH}") });
            return loopback::document(&request, "application/json", body.to_string());
        }
        loopback::empty(StatusCode::NOT_FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::key_set::KeySet;

    #[tokio::test]
    async fn it_goes_down_and_comes_up_on_the_same_port_with_new_keys() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let issuer = StandInIssuer::start(&[Algorithm::ES256, Algorithm::RS256]).await.unwrap();
        let fetch = || async { reqwest::get(issuer.jwks_url()).await };
        let before = fetch().await.unwrap().text().await.unwrap();
        let (keys, skipped) = KeySet::from_jwks(before.as_bytes()).unwrap();
        assert_eq!((keys.len(), skipped), (2, vec![]));

        issuer.go_down().await.unwrap();
        assert!(fetch().await.unwrap_err().is_connect());
        issuer.rotate().unwrap();
        issuer.come_up().await.unwrap();
        let after = fetch().await.unwrap().text().await.unwrap();
        assert_ne!(before, after);
        assert_eq!(issuer.jwks_requests(), 2);
    }

    #[tokio::test]
    async fn it_answers_304_to_those_who_know() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
        let tag = reqwest::get(issuer.jwks_url()).await.unwrap().headers()["etag"].clone();
        let again = reqwest::Client::new().get(issuer.jwks_url()).header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status(), 304);
    }
}
