//! The JWKS and the metadata documents: our own, or the upstream's with ours merged in.
//!
//! The upstream is asked by a client of our own, so that an answer is whole before anything of it
//! is sent: only then can it be merged, and have a length, a strong `ETag` and a last good one to
//! fall back on.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, LOCATION, ORIGIN, VIA};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::time::Instant;
use url::Url;

use super::answer::{Answer, DECISION};
use super::document::Document;
use super::forward::{self, Client};
use super::generation::Shared;
use super::noted::Noted;
use super::originals::{Original, Originals, Wanted, Worth};
use super::route::query_of;
use super::token_endpoint::decision_id;
use crate::config::{Config, Endpoints, Limits};
use crate::count::Full;
use crate::jwt::sign::{SigningKey, SigningKeys};
use crate::overlay::NotMerged;
use crate::overlay::finding::{self, Finding, keys_findings, metadata_findings};
use crate::overlay::keys::{merge_keys, own_keys};
use crate::overlay::metadata::Advertised;

/// Which document is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Jwks,
    Metadata,
    /// Metadata where nobody has said that they stand there.
    WellKnown,
}

/// The documents of one configuration.
#[derive(Debug)]
pub struct Documents {
    advertised: Advertised,
    endpoints: Endpoints,
    /// By which clients know us, from the issuer.
    host: Option<HeaderValue>,
    is_tls: bool,
    signing_keys: Arc<SigningKeys>,
    jwks: Document,
    metadata: Document,
    /// With overlay.
    pub originals: Option<Arc<Originals>>,
    /// Where the upstream's keys are fetched from, if not from the upstream.
    elsewhere: Option<Url>,
    clashing: Mutex<Vec<String>>,
    noted: Noted,
    limits: Limits,
    shared: Arc<Shared>,
}

impl Documents {
    pub fn new(config: &Config, originals: Option<Arc<Originals>>, shared: &Arc<Shared>) -> Self {
        let advertised = Advertised::of(config);
        let keys = own_keys(config.signing_keys.iter().map(SigningKey::jwk));
        let issuer = Url::parse(advertised.issuer()).ok();
        Self {
            host: issuer.as_ref().and_then(host),
            is_tls: issuer.is_some_and(|issuer| issuer.scheme() == "https"),
            jwks: Document::own("application/jwk-set+json", keys),
            metadata: Document::own("application/json", advertised.document()),
            advertised,
            endpoints: config.endpoints.clone(),
            signing_keys: Arc::clone(&config.signing_keys),
            originals,
            elsewhere: config.upstream_jwks.as_ref().map(|endpoint| endpoint.url.clone()),
            clashing: Mutex::default(),
            noted: Noted::default(),
            limits: config.limits,
            shared: Arc::clone(shared),
        }
    }

    /// Answers a GET or HEAD. `None` where the upstream is to answer itself, and an error where it
    /// would have to be asked, and too many wait for it already.
    pub async fn answer(
        self: &Arc<Self>,
        kind: Kind,
        request: &RequestHeader,
        client: Client,
    ) -> Result<Option<Answer>, Full> {
        let Some(originals) = &self.originals else {
            return Ok(match kind {
                Kind::Jwks => Some(self.jwks.answer(&request.headers)),
                Kind::Metadata => Some(self.metadata.answer(&request.headers)),
                Kind::WellKnown => None,
            });
        };
        let wanted = match &self.elsewhere {
            Some(url) if kind == Kind::Jwks => Wanted::elsewhere(url),
            Some(_) | None => Wanted::of(request, client, self.host.as_ref()),
        };
        let Some(original) = self.original(originals, kind, &wanted).await? else {
            let down = || Answer::plain(StatusCode::BAD_GATEWAY, "The upstream does not answer.");
            return Ok((kind != Kind::WellKnown).then(down));
        };
        Ok(self.answer_with(kind, &original, &wanted, &request.headers))
    }

    /// The upstream's answer, or the last good one.
    async fn original(
        self: &Arc<Self>,
        originals: &Arc<Originals>,
        kind: Kind,
        wanted: &Wanted,
    ) -> Result<Option<Arc<Original>>, Full> {
        let enter = || self.shared.wait_for_upstream(&self.limits);
        let documents = Arc::clone(self);
        let worth =
            move |original: &Original, wanted: &Wanted| documents.worth(kind, original, wanted);
        originals.get(wanted, enter, worth).await
    }

    /// Asks for the upstream's documents as clients see us, so that there is a last good one, and
    /// what is wrong with them is known, before anybody else asks. `true` where all were had.
    pub async fn ask_ahead(self: &Arc<Self>) -> bool {
        let mut are_there = true;
        if let Some(jwks) = &self.endpoints.jwks {
            are_there &= self.ask_for(Kind::Jwks, jwks).await;
        }
        for path in &self.endpoints.metadata {
            are_there &= self.ask_for(Kind::Metadata, path).await;
        }
        are_there
    }

    async fn ask_for(self: &Arc<Self>, kind: Kind, path: &str) -> bool {
        let Some(originals) = &self.originals else { return true };
        let wanted = match &self.elsewhere {
            Some(url) if kind == Kind::Jwks => Some(Wanted::elsewhere(url)),
            Some(_) | None => {
                (self.host.as_ref()).and_then(|host| Wanted::from_outside(path, self.is_tls, host))
            }
        };
        let Some(wanted) = wanted else { return true };
        let Ok(Some(original)) = self.original(originals, kind, &wanted).await else {
            return false;
        };
        // It may have been fetched under the configuration before this one.
        self.note(kind, &original, &wanted);
        let is_ok = original.status == StatusCode::OK;
        is_ok && self.merged(kind, &original.body, &wanted) != Err(NotMerged::Unlike)
    }

    /// What is wrong with the upstream's documents as clients see us, by their place.
    pub fn findings(&self) -> Vec<(String, Finding)> {
        self.noted.all()
    }

    /// What the upstream's answer is worth.
    fn worth(&self, kind: Kind, original: &Original, wanted: &Wanted) -> Worth {
        self.note(kind, original, wanted);
        let is_ok = original.status == StatusCode::OK;
        let merged = is_ok.then(|| self.merged(kind, &original.body, wanted));
        match (merged, kind) {
            (Some(Ok(_)), _) | (Some(Err(NotMerged::Signed)), Kind::Metadata) => Worth::Kept,
            (_, Kind::WellKnown) => Worth::Final,
            (Some(Err(_)), _) => Worth::Down("what came with 200 is no such document"),
            // Relying parties can't be sent there: our keys are not.
            (None, _) if wanted.is_elsewhere => Worth::Down("the status is not 200"),
            (None, _) => Worth::Passed,
        }
    }

    fn answer_with(
        &self,
        kind: Kind,
        original: &Original,
        wanted: &Wanted,
        conditions: &HeaderMap,
    ) -> Option<Answer> {
        let is_ok = original.status == StatusCode::OK;
        let merged = is_ok.then(|| self.merged(kind, &original.body, wanted));
        if kind == Kind::WellKnown && !matches!(merged, Some(Ok(_))) {
            return None;
        }
        let mut headers = original.headers.clone();
        headers.push((VIA, forward::via(Version::HTTP_11)));
        let age = original.age().as_secs();
        if age > 0 {
            headers.push((AGE, age.into()));
        }
        let body = match merged {
            Some(Ok(body)) => body,
            Some(Err(NotMerged::Signed | NotMerged::Unlike)) => original.body.to_vec(),
            None => {
                headers.extend(HeaderValue::try_from(decision_id()).ok().map(|id| (DECISION, id)));
                let body = original.body.clone();
                return Some(Answer { status: original.status, headers, body });
            }
        };
        Some(Document::new(headers, body).answer(conditions))
    }

    fn merged(&self, kind: Kind, original: &[u8], wanted: &Wanted) -> Result<Vec<u8>, NotMerged> {
        match kind {
            Kind::Metadata => self.advertised.merge(original),
            Kind::WellKnown => self.advertised.merge_own(original),
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
        let mut known = self.clashing.lock();
        if *known != clashing {
            self.signing_keys.withhold(|kid| clashing.iter().any(|clash| clash == kid));
            *known = clashing;
        }
    }

    /// Remembers what is wrong with a document as clients get it that know us by our issuer, and
    /// tells what is new.
    fn note(&self, kind: Kind, original: &Original, wanted: &Wanted) {
        if !wanted.is_canonical || !wanted.is_elsewhere && wanted.is_tls != self.is_tls {
            return;
        }
        self.noted.note(&wanted.path, self.findings_of(kind, original));
    }

    fn findings_of(&self, kind: Kind, original: &Original) -> Vec<Finding> {
        let body = &original.body;
        let is_ok = original.status == StatusCode::OK;
        let location = original.headers.iter().find(|(name, _)| *name == LOCATION);
        let location = location.filter(|_| original.status.is_redirection());
        match kind {
            // There is nothing to say of a place that nobody has named, unless it is the issuer's.
            Kind::WellKnown if is_ok => match self.advertised.merge_own(body) {
                Ok(_) | Err(NotMerged::Signed) => {
                    metadata_findings(body, &self.advertised, &self.endpoints)
                }
                Err(NotMerged::Unlike) => Vec::new(),
            },
            Kind::WellKnown => Vec::new(),
            Kind::Metadata if is_ok => metadata_findings(body, &self.advertised, &self.endpoints),
            Kind::Jwks if is_ok => {
                keys_findings(body, self.signing_keys.iter().map(SigningKey::jwk))
            }
            Kind::Jwks | Kind::Metadata => vec![match location {
                Some((_, location)) if kind == Kind::Jwks => {
                    finding::redirected(&String::from_utf8_lossy(location.as_bytes()))
                }
                Some(_) | None => Finding::NotServed { status: original.status.as_u16() },
            }],
        }
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
    fresh.saturating_sub(age(headers)).min(LONGEST)
}

/// How old the document was when it came (RFC 9111 §5.1).
pub fn age(headers: &HeaderMap) -> Duration {
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok());
    age.map_or(Duration::ZERO, Duration::from_secs)
}

/// As clients put it into `Host`.
pub fn host(issuer: &Url) -> Option<HeaderValue> {
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
            is_elsewhere: false,
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

    /// The upstream's keys where the configuration says that they are: the same for all.
    fn elsewhere(url: &Url) -> Self {
        Self {
            is_elsewhere: true,
            path: url.to_string(),
            query: None,
            host: None,
            is_tls: false,
            origin: None,
            forwarding: Vec::new(),
            is_canonical: true,
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
    use http::header::HeaderName;

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
}
