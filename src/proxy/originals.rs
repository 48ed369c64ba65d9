//! The upstream's own documents: fetched whole, one fetch at a time for each, and kept for when the
//! upstream is down.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_RANGES, AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, ETAG, HOST,
    HeaderName, LAST_MODIFIED, ORIGIN, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moka::future::Cache;
use tokio::sync::Mutex;
use url::Url;

use super::asking::{self, why};
use super::documents::{freshness, retry_at};
use crate::config::Upstream;
use crate::telemetry::metrics::Metrics;

/// Larger documents are none.
const MAX_SIZE: usize = 1024 * 1024;
/// Documents that are kept. They differ by what upstreams derive from the request: host and scheme.
const CAPACITY: u64 = 256;
/// A document is small: an upstream that needs longer is as good as down.
const LONGEST: Duration = Duration::from_secs(10);

/// Fields that speak of one message or of the original's bytes, or are meant for one client only.
const NOT_KEPT: [HeaderName; 19] = [
    ACCEPT_RANGES,
    AGE,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    DATE,
    ETAG,
    LAST_MODIFIED,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("repr-digest"),
];

/// A document as somebody asks for it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub path: String,
    pub query: Option<String>,
    pub host: Option<HeaderValue>,
    pub is_tls: bool,
    /// Some upstreams answer other origins with other fields.
    pub origin: Option<HeaderValue>,
    pub forwarding: Vec<(HeaderName, HeaderValue)>,
    /// Nothing in it is of the client's choice: the host is the one that we are known by.
    pub is_canonical: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    path: String,
    query: Option<String>,
    host: Option<HeaderValue>,
    is_tls: bool,
    origin: Option<HeaderValue>,
}

/// What the upstream answered.
#[derive(Clone, Debug)]
pub struct Original {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    pub fetched_at: Instant,
    fresh_for: Duration,
}

#[derive(Debug, Default)]
struct Slot {
    last_good: ArcSwapOption<Original>,
    fetching: Mutex<Fetching>,
}

#[derive(Debug, Default)]
struct Fetching {
    /// When the last fetch ended, and what came of it.
    last: Option<(Instant, Option<Arc<Original>>)>,
    retry_at: Option<Instant>,
}

/// The documents of one upstream. They outlive a configuration that leaves the upstream as it is.
#[derive(Debug)]
pub struct Originals {
    upstream: Upstream,
    client: reqwest::Client,
    slots: Cache<Key, Arc<Slot>>,
    /// Those of canonical documents: as many as there are paths. Whoever asks for thousands of
    /// others pushes none of these out.
    canonical: parking_lot::Mutex<HashMap<Key, Arc<Slot>>>,
    metrics: Arc<Metrics>,
}

impl Originals {
    /// `None` where no client can be built: without certificate authorities of the system.
    pub fn new(upstream: &Upstream, metrics: &Arc<Metrics>) -> Option<Self> {
        let longest = upstream.connect_timeout.saturating_add(upstream.read_timeout).min(LONGEST);
        let client = asking::client(upstream)?
            .user_agent(concat!("cambio/", env!("CARGO_PKG_VERSION")))
            .timeout(longest);
        Some(Self {
            upstream: upstream.clone(),
            client: client.build().ok()?,
            slots: Cache::new(CAPACITY),
            canonical: parking_lot::Mutex::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Whether these are the documents of that upstream.
    pub fn are_of(&self, upstream: &Upstream) -> bool {
        let own = &self.upstream;
        own.url == upstream.url
            && own.ca == upstream.ca
            && own.connect_timeout == upstream.connect_timeout
            && own.read_timeout == upstream.read_timeout
    }

    /// The upstream's answer: a document, a redirect, or a refusal as to any other request; else the
    /// last good document. `is_good` judges what came with 200.
    pub async fn get(
        &self,
        wanted: &Wanted,
        is_good: impl Fn(&Original) -> bool,
    ) -> Option<Arc<Original>> {
        let Wanted { path, query, host, is_tls, origin, .. } = wanted.clone();
        let key = Key { path, query, host, is_tls, origin };
        let slot = if wanted.is_canonical {
            Arc::clone(self.canonical.lock().entry(key).or_default())
        } else {
            self.slots.get_with(key, async { Arc::default() }).await
        };
        let is_fresh =
            |original: &Arc<Original>| original.fetched_at.elapsed() < original.fresh_for;
        if let Some(fresh) = slot.last_good.load_full().filter(is_fresh) {
            return Some(fresh);
        }
        let asked_at = Instant::now();
        let mut fetching = slot.fetching.lock().await;
        // Whoever waited here while another one asked takes what that one got.
        if let Some((ended_at, result)) = &fetching.last
            && *ended_at >= asked_at
        {
            return result.clone().or_else(|| slot.last_good.load_full());
        }
        if fetching.retry_at.is_some_and(|at| Instant::now() < at)
            && let Some(last_good) = slot.last_good.load_full()
        {
            return Some(last_good);
        }
        let fetched = self.fetch(wanted).await.and_then(|original| judged(original, is_good));
        fetching.retry_at = None;
        match &fetched {
            Ok(good) if good.status == StatusCode::OK => {
                slot.last_good.store(Some(Arc::clone(good)));
            }
            Ok(_) => {}
            Err(why) => {
                fetching.retry_at = Some(retry_at());
                tracing::warn!(path = wanted.path, why, "the upstream's document cannot be had");
            }
        }
        let fetched = fetched.ok();
        fetching.last = Some((Instant::now(), fetched.clone()));
        fetched.or_else(|| slot.last_good.load_full())
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Original, &'static str> {
        let began = Instant::now();
        let response = self.client.get(self.url(wanted)).headers(headers(wanted)).send().await;
        let status = response.as_ref().ok().map(|response| response.status().as_u16());
        self.metrics.upstream(&Method::GET, status, began.elapsed());
        let mut response = response.map_err(|error| why(&error))?;
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err("it has a coding that was not asked for");
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
            if body.len() + chunk.len() > MAX_SIZE {
                return Err("it is too large");
            }
            body.extend_from_slice(&chunk);
        }
        let kept = response.headers().iter().filter(|(name, _)| !NOT_KEPT.contains(name));
        Ok(Original {
            status: response.status(),
            headers: kept.map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: body.freeze(),
            fetched_at: Instant::now(),
            fresh_for: freshness(response.headers()),
        })
    }

    fn url(&self, wanted: &Wanted) -> Url {
        let mut url = self.upstream.url.clone();
        url.set_path(&wanted.path);
        url.set_query(wanted.query.as_deref());
        url
    }
}

/// Whether an answer says that the upstream is as good as down.
fn judged(
    original: Original,
    is_good: impl Fn(&Original) -> bool,
) -> Result<Arc<Original>, &'static str> {
    let is_ok = original.status == StatusCode::OK;
    let is_down = original.status.is_server_error()
        || original.status.is_informational()
        || matches!(original.status.as_u16(), 408 | 429)
        || (original.status.is_success() && !is_ok);
    match original {
        _ if is_down => Err("the status is one of a server that can't answer"),
        original if is_ok && !is_good(&original) => Err("what came with 200 is no such document"),
        original => Ok(Arc::new(original)),
    }
}

fn headers(wanted: &Wanted) -> HeaderMap {
    let mut headers: HeaderMap = wanted.forwarding.iter().cloned().collect();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
    let named = [(HOST, &wanted.host), (ORIGIN, &wanted.origin)];
    headers.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    headers
}
