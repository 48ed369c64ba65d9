//! One GET of a document that somebody else serves, held to bounds in size, time and place.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, DATE, ETAG, HeaderValue,
    IF_NONE_MATCH,
};
use http::{HeaderMap, StatusCode};
use reqwest::{Certificate, Client, ClientBuilder, Response};
use rustls_pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::error::KeyError;
use super::freshness;
use crate::jwt::key_set::{KeySetError, MAX_DOCUMENT};
use crate::time::Timestamp;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one answer, from connecting to its last byte.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest entity tag that is kept.
const MAX_ETAG: usize = 256;
const USER_AGENT: &str = concat!("cambio/", env!("CARGO_PKG_VERSION"));

/// What to ask for.
#[derive(Debug)]
pub(super) struct Get<'a> {
    pub(super) url: &'a Url,
    pub(super) accept: &'static str,
    pub(super) bearer_token: Option<&'a SecretString>,
    /// Of what is at hand.
    pub(super) etag: Option<&'a HeaderValue>,
    /// Sent as well.
    pub(super) fields: HeaderMap,
}

/// What came.
#[derive(Debug)]
pub(super) enum Answer {
    Document { body: Vec<u8>, etag: Option<HeaderValue>, ttl: Duration, date: Option<Timestamp> },
    NotModified { ttl: Duration },
}

/// HTTP clients that trust one set of roots. Each is built when it is first needed: roots take
/// time to load, and there may be none.
#[derive(Debug)]
pub(super) struct Http {
    ca: Option<Vec<CertificateDer<'static>>>,
    /// Instead of what follows from `ca`.
    config: Option<rustls::ClientConfig>,
    plain: OnceLock<Option<Client>>,
    tls: OnceLock<Option<Client>>,
}

impl Http {
    pub(super) const fn new(ca: Option<Vec<CertificateDer<'static>>>) -> Self {
        Self { ca, config: None, plain: OnceLock::new(), tls: OnceLock::new() }
    }

    /// Whose certificates count is said by `config`.
    pub(super) const fn with(config: rustls::ClientConfig) -> Self {
        Self { ca: None, config: Some(config), plain: OnceLock::new(), tls: OnceLock::new() }
    }

    pub(super) const fn ca(&self) -> Option<&Vec<CertificateDer<'static>>> {
        self.ca.as_ref()
    }

    /// Asks once. Redirects, proxies and cookies are out of the question.
    pub(super) async fn get(self: &Arc<Self>, get: Get<'_>) -> Result<Answer, KeyError> {
        let client = self.client(get.url.scheme() == "https").await?;
        let mut request = client
            .get(get.url.clone())
            .header(ACCEPT, get.accept)
            .header(ACCEPT_ENCODING, "identity")
            .headers(get.fields);
        if let Some(etag) = get.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(token) = get.bearer_token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                .map_err(|_| KeyError::Client)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|error| classify(&error))?;
        let status = response.status();
        let ttl = freshness::ttl(response.headers());
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if get.etag.is_some() => {
                return Ok(Answer::NotModified { ttl });
            }
            status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                return Err(KeyError::Redirect);
            }
            status => return Err(KeyError::Status(status.as_u16())),
        }
        if is_encoded(response.headers()) {
            return Err(KeyError::Encoded);
        }
        let etag =
            response.headers().get(ETAG).filter(|etag| etag.as_bytes().len() <= MAX_ETAG).cloned();
        let date = date(response.headers());
        Ok(Answer::Document { body: read(response).await?, etag, ttl, date })
    }

    /// Loading roots reads files, so it is done where it may take its time.
    async fn client(self: &Arc<Self>, tls: bool) -> Result<Client, KeyError> {
        if !tls {
            let plain = || builder().tls_certs_only([]).build().ok();
            return self.plain.get_or_init(plain).clone().ok_or(KeyError::Client);
        }
        if let Some(client) = self.tls.get() {
            return client.clone().ok_or(KeyError::Client);
        }
        let http = Arc::clone(self);
        let built = tokio::task::spawn_blocking(move || {
            let client = || match &http.config {
                Some(config) => builder().tls_backend_preconfigured(config.clone()).build().ok(),
                None => tls_client(http.ca.as_deref()),
            };
            http.tls.get_or_init(client).clone()
        });
        built.await.ok().flatten().ok_or(KeyError::Client)
    }
}

/// A client of `https` URLs alone. Roots of its own are the only ones that it trusts.
fn tls_client(ca: Option<&[CertificateDer<'static>]>) -> Option<Client> {
    let mut builder = builder().https_only(true);
    if let Some(ca) = ca {
        let roots: Result<Vec<_>, _> = ca.iter().map(|root| Certificate::from_der(root)).collect();
        builder = builder.tls_certs_only(roots.ok()?);
    }
    builder.build().ok()
}

fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_max_idle_per_host(0)
}

/// Whether the body is anything but the document itself (RFC 9110 §8.4): a small body that grows
/// on decoding would get around the bound on size.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .into_iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// By the clock of who answers (RFC 9110 §6.6.1).
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(date.as_second()).ok().map(Timestamp::from_secs)
}

/// The body, as long as it stays within bounds by what arrives, not by what is announced.
async fn read(mut response: Response) -> Result<Vec<u8>, KeyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
        if body.len() + chunk.len() > MAX_DOCUMENT {
            return Err(KeySetError::TooLarge.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn classify(error: &reqwest::Error) -> KeyError {
    if error.is_timeout() {
        KeyError::Timeout
    } else if error.source().is_some_and(is_tls) {
        KeyError::Tls
    } else if error.is_connect() {
        KeyError::Connect
    } else {
        KeyError::Interrupted
    }
}

/// Whether TLS is at the bottom of it. An I/O error that wraps another one names that one's source
/// as its own, so that it has to be looked into.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|wrapped| is_tls(wrapped))
        || error.source().is_some_and(is_tls)
}
