//! The JWKS and the metadata documents: our own, or the upstream's with ours merged in.
//!
//! The upstream is asked by a client of our own, so that an answer is whole before anything of it
//! is sent: only then can it be merged, and have a length, a strong `ETag` and a last good one to
//! fall back on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    ORIGIN, VIA,
};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::RequestHeader;

use super::answer::{Answer, DECISION};
use super::forward::{self, Client};
use super::originals::{Original, Originals, Wanted};
use super::route::query_of;
use super::token_endpoint::decision_id;
use crate::config::Config;
use crate::jwt::sign::{SigningKey, SigningKeys};
use crate::overlay::NotMerged;
use crate::overlay::keys::{merge_keys, own_keys};
use crate::overlay::metadata::Advertised;
use crate::secret::sha256;

/// Our own documents change with the configuration only.
const OWN_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Which document is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Jwks,
    Metadata,
}

/// A document as it is served, but for what depends on the request.
#[derive(Debug)]
struct Document {
    headers: Vec<(HeaderName, HeaderValue)>,
    etag: HeaderValue,
    body: Bytes,
}

impl Document {
    fn new(headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Self {
        let digest = sha256(&body);
        let tag = URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default());
        // Base64url is no worse in a header field than anywhere else.
        let etag = HeaderValue::try_from(format!("\"{tag}\""));
        Self { headers, etag: etag.unwrap_or(HeaderValue::from_static("\"\"")), body: body.into() }
    }

    fn own(content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (CACHE_CONTROL, OWN_CACHE_CONTROL),
            // Relying parties in browsers read them, too, and nothing in them is for some only.
            (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        ];
        Self::new(headers, body)
    }

    /// RFC 9110 §13.1.2: 304 where the client has this very document.
    fn answer(&self, conditions: &HeaderMap) -> Answer {
        let mut headers = self.headers.clone();
        headers.push((ETAG, self.etag.clone()));
        headers.extend(HeaderValue::try_from(decision_id()).ok().map(|id| (DECISION, id)));
        let is_known = (conditions.get_all(IF_NONE_MATCH).iter())
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .any(|tag| {
                tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes()
            });
        if is_known {
            headers.retain(|(name, _)| *name != CONTENT_TYPE);
            return Answer { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() };
        }
        Answer { status: StatusCode::OK, headers, body: self.body.clone() }
    }
}

/// The documents of one configuration.
#[derive(Debug)]
pub struct Documents {
    advertised: Advertised,
    /// By which clients know us, from the issuer.
    host: Option<HeaderValue>,
    is_tls: bool,
    signing_keys: Arc<SigningKeys>,
    jwks: Document,
    metadata: Document,
    /// With overlay.
    pub originals: Option<Arc<Originals>>,
    reported: Mutex<Reported>,
}

/// What was said in the log already.
#[derive(Debug, Default)]
struct Reported {
    clashing: Vec<String>,
    signed: bool,
}

impl Documents {
    pub fn new(config: &Config, originals: Option<Arc<Originals>>) -> Self {
        let advertised = Advertised::of(config);
        let keys = own_keys(config.signing_keys.iter().map(SigningKey::jwk));
        let issuer = url::Url::parse(advertised.issuer()).ok();
        Self {
            host: issuer.as_ref().and_then(host),
            is_tls: issuer.is_some_and(|issuer| issuer.scheme() == "https"),
            jwks: Document::own("application/jwk-set+json", keys),
            metadata: Document::own("application/json", advertised.document()),
            advertised,
            signing_keys: Arc::clone(&config.signing_keys),
            originals,
            reported: Mutex::default(),
        }
    }

    /// Answers a GET or HEAD.
    pub async fn answer(&self, kind: Kind, request: &RequestHeader, client: Client) -> Answer {
        let Some(originals) = &self.originals else {
            let own = if kind == Kind::Jwks { &self.jwks } else { &self.metadata };
            return own.answer(&request.headers);
        };
        let wanted = Wanted::of(request, client, self.host.as_ref());
        match originals.get(&wanted, |original| self.is_good(kind, original, &wanted)).await {
            None => Answer::plain(StatusCode::BAD_GATEWAY, "The upstream does not answer."),
            Some(original) => self.answer_with(kind, &original, &wanted, &request.headers),
        }
    }

    /// Asks for the upstream's keys as clients see us, so that there is a last good document, and a
    /// `kid` that both have is known of, before anybody else asks. `true` where there is nothing to
    /// ask for, or it was had.
    pub async fn ask_ahead(&self, jwks: &str) -> bool {
        let Some(originals) = &self.originals else { return true };
        let wanted = self.host.as_ref();
        let wanted = wanted.and_then(|host| Wanted::from_outside(jwks, self.is_tls, host));
        let Some(wanted) = wanted else { return true };
        let is_good = |original: &Original| self.is_good(Kind::Jwks, original, &wanted);
        let original = originals.get(&wanted, is_good).await;
        let original = original.filter(|original| original.status == StatusCode::OK);
        original.is_some_and(|original| self.merged(Kind::Jwks, &original.body, &wanted).is_ok())
    }

    /// Whether what the upstream answered with 200 is a document of this kind.
    fn is_good(&self, kind: Kind, original: &Original, wanted: &Wanted) -> bool {
        let merged = self.merged(kind, &original.body, wanted);
        merged.map_or_else(|why| why == NotMerged::Signed, |_| true)
    }

    fn answer_with(
        &self,
        kind: Kind,
        original: &Original,
        wanted: &Wanted,
        conditions: &HeaderMap,
    ) -> Answer {
        let mut headers = original.headers.clone();
        headers.push((VIA, forward::via(Version::HTTP_11)));
        let age = original.fetched_at.elapsed().as_secs();
        if age > 0 {
            headers.push((AGE, age.into()));
        }
        if original.status != StatusCode::OK {
            headers.extend(HeaderValue::try_from(decision_id()).ok().map(|id| (DECISION, id)));
            return Answer { status: original.status, headers, body: original.body.clone() };
        }
        let body = match self.merged(kind, &original.body, wanted) {
            Ok(body) => body,
            Err(NotMerged::Signed | NotMerged::Unlike) => original.body.to_vec(),
        };
        Document::new(headers, body).answer(conditions)
    }

    fn merged(&self, kind: Kind, original: &[u8], wanted: &Wanted) -> Result<Vec<u8>, NotMerged> {
        match kind {
            Kind::Metadata => {
                let merged = self.advertised.merge(original);
                let is_signed = merged == Err(NotMerged::Signed);
                let mut reported = self.reported.lock();
                if is_signed && !reported.signed {
                    tracing::error!(
                        "the upstream's metadata is signed (signed_metadata): it is passed on without \
                         our grant, since what we added would be missing in the signed form"
                    );
                }
                reported.signed |= is_signed;
                merged
            }
            Kind::Jwks => {
                let own = self.signing_keys.iter().map(SigningKey::jwk);
                let merged = merge_keys(original, own)?;
                // What other hosts or queries lead to may be another tenant's, whose names for keys
                // are no reason to stop signing, nor one to go on.
                if wanted.is_canonical {
                    self.withhold(merged.clashing);
                }
                Ok(merged.body)
            }
        }
    }

    /// A token signed with a key whose `kid` leads relying parties to another key would verify
    /// nowhere.
    fn withhold(&self, clashing: Vec<String>) {
        let mut reported = self.reported.lock();
        if reported.clashing == clashing {
            return;
        }
        self.signing_keys.withhold(|kid| clashing.iter().any(|clash| clash == kid));
        for kid in &clashing {
            tracing::error!(
                kid,
                "the upstream publishes another key under this kid: ours is neither published nor used"
            );
        }
        reported.clashing = clashing;
    }
}

/// How long a document may be taken for fresh without asking the upstream again.
pub fn freshness(headers: &HeaderMap) -> Duration {
    const LONGEST: Duration = Duration::from_mins(1);
    let mut fresh = Duration::ZERO;
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(directive.as_str(), "no-store" | "no-cache" | "private") {
            return Duration::ZERO;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            fresh = seconds.trim_matches('"').parse().map_or(Duration::ZERO, Duration::from_secs);
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok());
    fresh.saturating_sub(age.map_or(Duration::ZERO, Duration::from_secs)).min(LONGEST)
}

/// As clients put it into `Host`.
pub fn host(issuer: &url::Url) -> Option<HeaderValue> {
    let host = issuer.host_str()?;
    let host = issuer.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::try_from(host).ok()
}

impl Wanted {
    /// `own_host` is the one that clients know us by.
    fn of(request: &RequestHeader, client: Client, own_host: Option<&HeaderValue>) -> Self {
        let target = request.raw_path();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let query = query_of(target).map(text);
        let origin = request.headers.get(ORIGIN).cloned();
        let host = forward::host_of(request);
        Self {
            path: text(super::route::path_of(target)),
            is_canonical: query.is_none()
                && origin.is_none()
                && host.is_some()
                && host.as_ref() == own_host,
            query,
            origin,
            host,
            is_tls: client.is_tls,
            forwarding: forward::forwarding_fields(request, client),
        }
    }

    /// As a client asks that knows us by our issuer.
    fn from_outside(path: &str, is_tls: bool, host: &HeaderValue) -> Option<Self> {
        let mut request = RequestHeader::build("GET", path.as_bytes(), None).ok()?;
        request.insert_header(http::header::HOST, host).ok()?;
        let client = Client { address: None, is_tls };
        Some(Self::of(&request, client, Some(host)))
    }
}

/// When a document that could not be had is asked for again.
pub fn retry_at() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_upstream_says_up_to_a_minute() {
        let cases: [(&[(&str, &str)], u64); 9] = [
            (&[], 0),
            (&[("cache-control", "public, max-age=30")], 30),
            (&[("cache-control", "Max-Age=3600")], 60),
            (&[("cache-control", "max-age=30"), ("age", "10")], 20),
            (&[("cache-control", "max-age=30"), ("age", "40")], 0),
            (&[("cache-control", "max-age=30, no-cache")], 0),
            (&[("cache-control", "no-store")], 0),
            (&[("cache-control", "max-age=30"), ("cache-control", "private")], 0),
            (&[("cache-control", "max-age=-1")], 0),
        ];
        for (fields, seconds) in cases {
            let headers: HeaderMap = (fields.iter())
                .map(|(name, value)| {
                    (HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value))
                })
                .fold(HeaderMap::new(), |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                });
            assert_eq!(freshness(&headers), Duration::from_secs(seconds), "{fields:?}");
        }
    }

    #[test]
    fn a_client_that_has_the_document_is_told_so() {
        let document = Document::own("application/json", b"{}".to_vec());
        let etag = document.etag.to_str().unwrap().to_owned();
        let status = |condition: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(condition).unwrap());
            document.answer(&headers).status.as_u16()
        };
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            assert_eq!(status(&known), 304, "{known}");
        }
        for unknown in ["\"x\"", "", "**"] {
            assert_eq!(status(unknown), 200, "{unknown}");
        }
        assert_eq!(document.answer(&HeaderMap::new()).body, "{}");
    }
}
