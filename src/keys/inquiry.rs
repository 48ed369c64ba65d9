//! Single questions about somebody's documents, as operators' commands ask them: by the very code
//! that serves, but kept nowhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::address::Reach;
use super::error::KeyError;
use super::fetch::{Answer, Get, Http};
use super::issuer::REFRESH_TIMEOUT;
use super::source::{Fetched, Source, metadata};
use crate::config::{Discovery, Endpoint};
use crate::jwt::key_set::SkippedKey;
use crate::time::Timestamp;

const ACCEPT: &str = "application/json, */*;q=0.1";

/// Asks a server, with header fields that each question has.
#[derive(Clone, Debug)]
pub struct Inquirer {
    http: Arc<Http>,
    fields: HeaderMap,
}

/// A document as it was answered.
#[derive(Clone, Debug)]
pub struct Seen {
    pub body: Vec<u8>,
    /// By the clock of who answered.
    pub date: Option<Timestamp>,
    pub took: Duration,
}

impl Inquirer {
    /// `ca` are trusted instead of the system's roots.
    pub fn new(ca: Option<Vec<CertificateDer<'static>>>, fields: HeaderMap) -> Self {
        Self { http: Arc::new(Http::new(ca)), fields }
    }

    /// Whose certificates count is said by `config`.
    pub fn with(config: rustls::ClientConfig, fields: HeaderMap) -> Self {
        Self { http: Arc::new(Http::with(config)), fields }
    }

    /// A metadata document.
    pub async fn metadata(&self, url: &Url) -> Result<Map<String, Value>, KeyError> {
        metadata(url, self.fields.clone(), &self.http).await.map(|(document, _)| document)
    }

    /// Whatever is answered with 200.
    pub async fn document(&self, url: &Url) -> Result<Seen, KeyError> {
        let fields = self.fields.clone();
        let (reach, accept) = (Reach::AsWritten, ACCEPT);
        let get = Get { url, reach, accept, bearer_token: None, etag: None, fields };
        let began = Instant::now();
        match self.http.get(get).await? {
            Answer::Document { body, date, .. } => Ok(Seen { body, date, took: began.elapsed() }),
            Answer::NotModified { .. } => Err(KeyError::Status(304)),
        }
    }
}

/// What an issuer's keys are at this moment.
#[derive(Clone, Debug)]
pub struct IssuerKeysSeen {
    /// How many can be used.
    pub keys: usize,
    pub skipped: Vec<SkippedKey>,
    /// Where they were, which metadata may have said.
    pub url: Url,
    /// For how long they count as fresh.
    pub ttl: Duration,
    /// By the clock of who answered.
    pub date: Option<Timestamp>,
}

/// What lies at an endpoint that is configured, whatever it is.
pub async fn endpoint_document(endpoint: &Endpoint) -> Result<Seen, KeyError> {
    let http = Arc::new(Http::new(endpoint.ca.clone()));
    let (url, bearer_token) = (&endpoint.url, endpoint.bearer_token.as_ref());
    let (reach, fields) = (Reach::AsWritten, HeaderMap::new());
    let get = Get { url, reach, accept: ACCEPT, bearer_token, etag: None, fields };
    let began = Instant::now();
    match http.get(get).await? {
        Answer::Document { body, date, .. } => Ok(Seen { body, date, took: began.elapsed() }),
        Answer::NotModified { .. } => Err(KeyError::Status(304)),
    }
}

/// Fetches keys as serving does.
pub async fn endpoint_keys(endpoint: &Endpoint) -> Result<IssuerKeysSeen, KeyError> {
    keys(&Source::Endpoint(endpoint.clone())).await
}

/// As [`endpoint_keys`], where the issuer's metadata say.
pub async fn discovered_keys(discovery: &Discovery) -> Result<IssuerKeysSeen, KeyError> {
    keys(&Source::Discovery(discovery.clone())).await
}

async fn keys(source: &Source) -> Result<IssuerKeysSeen, KeyError> {
    let http = Arc::new(Http::new(source.ca().cloned()));
    let fetched = timeout(REFRESH_TIMEOUT, source.fetch(&http, None)).await;
    match fetched.unwrap_or(Err(KeyError::Timeout))? {
        Fetched::Document(document, ttl) => Ok(IssuerKeysSeen {
            keys: document.keys.len(),
            skipped: document.skipped,
            // What was fetched came from somewhere.
            url: document.url.ok_or(KeyError::Client)?,
            ttl,
            date: document.date,
        }),
        Fetched::NotModified(_) => Err(KeyError::Status(304)),
    }
}
