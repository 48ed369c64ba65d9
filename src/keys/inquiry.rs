//! Single questions about somebody's documents, as operators' commands ask them: by the very code
//! that serves, but kept nowhere.

use std::sync::Arc;

use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};
use url::Url;

use super::error::KeyError;
use super::fetch::{Answer, Get, Http};
use super::source::{ACCEPT_JWKS, metadata};
use crate::jwt::key_set::{KeySet, SkippedKey};

/// Asks a server, with header fields that each question has.
#[derive(Clone, Debug)]
pub struct Inquirer {
    http: Arc<Http>,
    fields: HeaderMap,
}

impl Inquirer {
    /// `ca` are trusted instead of the system's roots.
    pub fn new(ca: Option<Vec<CertificateDer<'static>>>, fields: HeaderMap) -> Self {
        Self { http: Arc::new(Http::new(ca)), fields }
    }

    /// A metadata document.
    pub async fn metadata(&self, url: &Url) -> Result<Map<String, Value>, KeyError> {
        metadata(url, self.fields.clone(), &self.http).await
    }

    /// A key set, and the keys in it that are passed over.
    pub async fn keys(&self, url: &Url) -> Result<(KeySet, Vec<SkippedKey>), KeyError> {
        let fields = self.fields.clone();
        let get = Get { url, accept: ACCEPT_JWKS, bearer_token: None, etag: None, fields };
        match self.http.get(get).await? {
            Answer::Document { body, .. } => Ok(KeySet::from_jwks(&body)?),
            Answer::NotModified { .. } => Err(KeyError::Status(304)),
        }
    }
}
