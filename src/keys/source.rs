//! Where an issuer's keys are fetched: a JWKS endpoint, or the one that its metadata names.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use rustls_pki_types::CertificateDer;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::address::{Reach, Scope};
use super::error::KeyError;
use super::fetch::{Answer, Get, Http};
use crate::config::{Discovery, Endpoint};
use crate::jwt::json;
use crate::jwt::key_set::{KeyRefused, KeySet, KeySetError, SkippedKey, VerificationKey};
use crate::time::Timestamp;

pub(super) const ACCEPT_JWKS: &str = "application/jwk-set+json, application/json";
const ACCEPT_METADATA: &str = "application/json";

/// A place that keys are fetched from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Endpoint(Endpoint),
    Discovery(Discovery),
}

/// A key set as it was fetched.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) keys: Arc<KeySet>,
    pub(super) skipped: Vec<SkippedKey>,
    /// As it came.
    pub(super) body: Arc<[u8]>,
    /// Where it was fetched, if it was.
    pub(super) url: Option<Url>,
    pub(super) etag: Option<HeaderValue>,
    /// By the clock of who answered.
    pub(super) date: Option<Timestamp>,
}

impl Document {
    /// Reads a document, wherever it comes from.
    pub(super) fn parse(
        body: &[u8],
        url: Option<Url>,
        etag: Option<HeaderValue>,
        date: Option<Timestamp>,
    ) -> Result<Self, KeySetError> {
        let (keys, skipped) = KeySet::from_jwks(body)?;
        Ok(Self { keys: Arc::new(keys), skipped, body: body.into(), url, etag, date })
    }
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Fetched {
    Document(Document, Duration),
    /// What is at hand is still what there is.
    NotModified(Duration),
}

impl Source {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "endpoint",
            Self::Discovery(_) => "discovery",
        }
    }

    pub(super) const fn ca(&self) -> Option<&Vec<CertificateDer<'static>>> {
        match self {
            Self::Endpoint(endpoint) => endpoint.ca.as_ref(),
            Self::Discovery(discovery) => discovery.ca.as_ref(),
        }
    }

    /// Whether the other one would bring the same document, so that it may be taken over.
    pub(super) fn brings_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoint(one), Self::Endpoint(two)) => one.url == two.url && one.ca == two.ca,
            (Self::Discovery(one), Self::Discovery(two)) => {
                one.metadata == two.metadata
                    && one.issuer == two.issuer
                    && one.origins == two.origins
                    && one.ca == two.ca
            }
            (Self::Endpoint(_), Self::Discovery(_)) | (Self::Discovery(_), Self::Endpoint(_)) => {
                false
            }
        }
    }

    /// Whether it is also fetched by the same means.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let token = |source: &Self| match source {
            Self::Endpoint(endpoint) => {
                endpoint.bearer_token.as_ref().map(|token| token.expose_secret().to_owned())
            }
            Self::Discovery(_) => None,
        };
        self.brings_the_same(other) && token(self) == token(other)
    }

    /// Fetches the keys. `at_hand` is what an earlier fetch brought.
    pub(super) async fn fetch(
        &self,
        http: &Arc<Http>,
        at_hand: Option<&Document>,
    ) -> Result<Fetched, KeyError> {
        let discovered;
        let (url, reach, bearer_token) = match self {
            Self::Endpoint(endpoint) => {
                (&endpoint.url, Reach::AsWritten, endpoint.bearer_token.as_ref())
            }
            Self::Discovery(discovery) => {
                let (url, reach) = discover(discovery, http).await?;
                discovered = url;
                (&discovered, reach, None)
            }
        };
        let etag = at_hand
            .filter(|at_hand| at_hand.url.as_ref() == Some(url))
            .and_then(|own| own.etag.as_ref());
        let fields = HeaderMap::new();
        match http.get(Get { url, reach, accept: ACCEPT_JWKS, bearer_token, etag, fields }).await? {
            Answer::NotModified { ttl } => Ok(Fetched::NotModified(ttl)),
            Answer::Document { body, etag, ttl, date, scope: _ } => {
                let url = url.clone();
                let document = aside(move || {
                    Document::parse(&body, Some(url), etag, date).map_err(|error| {
                        let private =
                            error == KeySetError::NoUsableKey && gives_private_keys_away(&body);
                        if private { KeyError::PrivateKeys } else { error.into() }
                    })
                });
                Ok(Fetched::Document(document.await?, ttl))
            }
        }
    }
}

/// Reads what came where it holds up no request: half a megabyte can be made to take a while.
async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(KeyError::Client))
}

/// Whether a set without a usable key has private ones.
fn gives_private_keys_away(jwks: &[u8]) -> bool {
    let object = json::parse_object(jwks).unwrap_or_default();
    let Some(Value::Array(members)) = object.get("keys") else { return false };
    members
        .iter()
        .any(|jwk| matches!(VerificationKey::from_jwk(jwk), Err(KeyRefused::PrivateMaterial)))
}

/// The `jwks_uri` of the first metadata document that can be used (`OpenID` Connect Discovery §4.3,
/// RFC 8414 §3.3).
async fn discover(discovery: &Discovery, http: &Arc<Http>) -> Result<(Url, Reach), KeyError> {
    let mut why = KeyError::Metadata;
    for (tried, url) in discovery.metadata.iter().enumerate() {
        match jwks_uri(discovery, url, http).await {
            Ok(found) => return Ok(found),
            // What is simply not there says less than what is there and wrong.
            Err(KeyError::Status(404)) if tried > 0 => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn jwks_uri(
    discovery: &Discovery,
    url: &Url,
    http: &Arc<Http>,
) -> Result<(Url, Reach), KeyError> {
    let (metadata, scope) = metadata(url, HeaderMap::new(), http).await?;
    // To the byte, or one issuer could speak for another.
    if metadata.get("issuer").and_then(Value::as_str) != Some(&discovery.issuer) {
        return Err(KeyError::MetadataIssuer);
    }
    let jwks_uri = metadata.get("jwks_uri").and_then(Value::as_str).ok_or(KeyError::Metadata)?;
    permitted(discovery, jwks_uri, scope).ok_or(KeyError::JwksUri)
}

/// A metadata document, whosesoever it is, from a URL that stands in the configuration; and from
/// what kind of address it came. `fields` are sent with the request.
pub(super) async fn metadata(
    url: &Url,
    fields: HeaderMap,
    http: &Arc<Http>,
) -> Result<(Map<String, Value>, Scope), KeyError> {
    let (reach, accept) = (Reach::AsWritten, ACCEPT_METADATA);
    let get = Get { url, reach, accept, bearer_token: None, etag: None, fields };
    let (body, scope) = match http.get(get).await {
        Ok(Answer::Document { body, scope, .. }) => (body, scope),
        Ok(Answer::NotModified { .. }) | Err(KeyError::Set(_)) => return Err(KeyError::Metadata),
        Err(error) => return Err(error),
    };
    let parsed = aside(move || json::parse_object(&body).map_err(|_| KeyError::Metadata));
    Ok((parsed.await?, scope))
}

/// A URL that was learnt is followed only where the configuration could have meant it, so that
/// whoever writes the metadata can't make us ask hosts of their choice. On the issuer's own origin
/// it leads only to where the metadata came from or to the public; on one of `origins`, wherever
/// that is.
fn permitted(discovery: &Discovery, jwks_uri: &str, metadata: Scope) -> Option<(Url, Reach)> {
    let url = Url::parse(jwks_uri).ok()?;
    let issuer = Url::parse(&discovery.issuer).ok()?;
    let secure = url.scheme() == "https"
        || url.scheme() == "http"
            && issuer.scheme() == "http"
            && is_loopback(&url)
            && is_loopback(&issuer);
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if !secure || !plain {
        return None;
    }
    if discovery.origins.iter().any(|origin| url.origin() == origin.origin()) {
        return Some((url, Reach::AsWritten));
    }
    (url.origin() == issuer.origin()).then_some((url, Reach::LearntFrom(metadata)))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(issuer: &str) -> Discovery {
        Discovery {
            metadata: Vec::new(),
            issuer: issuer.to_owned(),
            origins: vec![Url::parse("https://keys.example:8443/ignored").unwrap()],
            ca: None,
        }
    }

    #[test]
    fn a_learnt_url_is_https_on_a_known_origin() {
        let secure = discovery("https://issuer.example/realm");
        for good in [
            "https://issuer.example/jwks",
            "https://issuer.example:443/jwks?x=1",
            "https://keys.example:8443/jwks",
        ] {
            assert!(permitted(&secure, good, Scope::Public).is_some(), "{good}");
        }
        for bad in [
            "",
            "/jwks",
            "http://issuer.example/jwks",
            "https://issuer.example:8443/jwks",
            "https://keys.example/jwks",
            "https://issuer.example.evil.example/jwks",
            "https://evil.example/jwks",
            "https://issuer.example@evil.example/jwks",
            "https://user@issuer.example/jwks",
            "https://issuer.example/jwks#x",
            "http://127.0.0.1/jwks",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "data:application/json,{}",
        ] {
            assert!(permitted(&secure, bad, Scope::Public).is_none(), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_learnt_only_from_loopback_for_loopback() {
        let loopback = discovery("http://127.0.0.1:9000");
        let from_loopback = |jwks_uri| permitted(&loopback, jwks_uri, Scope::Loopback);
        assert!(from_loopback("http://127.0.0.1:9000/jwks").is_some());
        assert!(from_loopback("http://127.0.0.1:9001/jwks").is_none());
        assert!(from_loopback("http://192.0.2.1:9000/jwks").is_none());
        let elsewhere = discovery("http://issuer.example");
        assert!(permitted(&elsewhere, "http://issuer.example/jwks", Scope::Public).is_none());
    }

    #[test]
    fn a_learnt_url_reaches_as_far_as_its_origin_is_written() {
        let discovery = discovery("https://issuer.example");
        let reach = |url: &str, scope| permitted(&discovery, url, scope).unwrap().1;
        for scope in [Scope::Public, Scope::Private] {
            let own = reach("https://issuer.example/jwks", scope);
            assert_eq!(own, Reach::LearntFrom(scope));
            assert_eq!(reach("https://keys.example:8443/jwks", scope), Reach::AsWritten);
        }
    }

    #[test]
    fn a_token_that_changed_brings_the_same_by_other_means() {
        let source = |url: &str, token: Option<&str>| {
            Source::Endpoint(Endpoint {
                url: Url::parse(url).unwrap(),
                ca: None,
                bearer_token: token.map(Into::into),
            })
        };
        let one = source("https://a.example/jwks", Some("1"));
        assert!(one.equals(&source("https://a.example/jwks", Some("1"))));
        assert!(!one.equals(&source("https://a.example/jwks", Some("2"))));
        assert!(one.brings_the_same(&source("https://a.example/jwks", None)));
        assert!(!one.brings_the_same(&source("https://a.example/other", Some("1"))));
        assert!(!one.brings_the_same(&Source::Discovery(discovery("https://a.example"))));
    }
}
