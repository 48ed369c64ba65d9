//! The upstream's own documents: fetched whole, one fetch at a time for each, and kept for when the
//! upstream is down, or slow.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, AGE, AUTHORIZATION, CACHE_CONTROL,
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, EXPIRES, HOST,
    HeaderName, LAST_MODIFIED, ORIGIN, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moka::future::Cache;
use secrecy::ExposeSecret as _;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};
use url::Url;

use super::asking::{self, why};
use super::documents::{age, freshness, retry_at};
use crate::config::{Endpoint, Upstream};
use crate::count::{Counted, Full};
use crate::telemetry::metrics::Metrics;

/// Larger documents are none.
const MAX_SIZE: usize = 1024 * 1024;
/// Documents that are kept. They differ by what upstreams derive from the request: host and scheme.
const CAPACITY: u64 = 256;
/// A document is small: an upstream that needs longer is as good as down.
const LONGEST: Duration = Duration::from_secs(10);
/// Whoever can have the last good document waits no longer for a newer one.
const PATIENCE: Duration = Duration::from_secs(1);

const ACCEPTED: &str = "application/json, application/jwk-set+json, */*;q=0.1";

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

/// Of what another host says along with a document, what is of the document. The rest, such as
/// `Strict-Transport-Security`, would be taken for ours.
const OF_THE_DOCUMENT: [HeaderName; 3] = [CONTENT_TYPE, CACHE_CONTROL, EXPIRES];

/// What an answer is worth to those who ask for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is the document, and served again while the upstream is down.
    Kept,
    /// It is an answer, and says nothing against the last document.
    Passed,
    /// It is an answer, after which there is no such document any more.
    Final,
    /// It is no answer: the upstream is as good as down.
    Down(&'static str),
}

/// A document as somebody asks for it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// It does not come from the upstream itself, but from where the configuration says.
    pub is_elsewhere: bool,
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
    is_elsewhere: bool,
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
    fetched_at: Instant,
    age_then: Duration,
    fresh_for: Duration,
}

impl Original {
    /// RFC 9111 §4.2.3.
    pub fn age(&self) -> Duration {
        self.age_then.saturating_add(self.fetched_at.elapsed())
    }

    fn is_fresh(&self) -> bool {
        self.fetched_at.elapsed() < self.fresh_for
    }
}

/// The keys of the upstream where they lie on another host.
#[derive(Debug)]
struct Elsewhere {
    endpoint: Endpoint,
    client: reqwest::Client,
}

#[derive(Debug, Default)]
struct Slot {
    last_good: ArcSwapOption<Original>,
    /// Whoever fetches holds it.
    fetching: Arc<Mutex<Fetching>>,
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
    elsewhere: Option<Elsewhere>,
    slots: Cache<Key, Arc<Slot>>,
    /// Those of canonical documents: as many as there are paths. Whoever asks for thousands of
    /// others pushes none of these out.
    canonical: parking_lot::Mutex<HashMap<Key, Arc<Slot>>>,
    metrics: Arc<Metrics>,
}

impl Originals {
    /// `None` where no client can be built: without certificate authorities of the system.
    pub fn new(
        upstream: &Upstream,
        elsewhere: Option<&Endpoint>,
        metrics: &Arc<Metrics>,
    ) -> Option<Self> {
        let elsewhere = match elsewhere {
            None => None,
            Some(endpoint) => {
                let reached = Upstream { ca: endpoint.ca.clone(), ..upstream.clone() };
                let client = client(&reached)?;
                Some(Elsewhere { endpoint: endpoint.clone(), client })
            }
        };
        Some(Self {
            upstream: upstream.clone(),
            client: client(upstream)?,
            elsewhere,
            slots: Cache::new(CAPACITY),
            canonical: parking_lot::Mutex::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Whether these are the documents of that upstream.
    pub fn are_of(&self, upstream: &Upstream, elsewhere: Option<&Endpoint>) -> bool {
        let own = &self.upstream;
        let token = |endpoint: &Endpoint| {
            endpoint.bearer_token.as_ref().map(|token| token.expose_secret().to_owned())
        };
        let is_same_elsewhere = match (&self.elsewhere, elsewhere) {
            (None, None) => true,
            (Some(Elsewhere { endpoint: own, .. }), Some(other)) => {
                own.url == other.url && own.ca == other.ca && token(own) == token(other)
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        is_same_elsewhere
            && own.url == upstream.url
            && own.ca == upstream.ca
            && own.connect_timeout == upstream.connect_timeout
            && own.read_timeout == upstream.read_timeout
    }

    /// The upstream's answer: a document, a redirect, or a refusal as to any other request; else the
    /// last good document. `worth` judges what a server came with that is not down by its status.
    /// An error where the upstream would have to be asked, and `enter` finds no place for that.
    pub async fn get(
        self: &Arc<Self>,
        wanted: &Wanted,
        enter: impl FnOnce() -> Option<Counted>,
        worth: impl FnOnce(&Original, &Wanted) -> Worth + Send + 'static,
    ) -> Result<Option<Arc<Original>>, Full> {
        let slot = self.slot(wanted).await;
        let last_good = slot.last_good.load_full();
        if last_good.as_deref().is_some_and(Original::is_fresh) {
            return Ok(last_good);
        }
        let asked = self.ask(&slot, wanted, enter, worth);
        if last_good.is_none() {
            return asked.await;
        }
        match timeout(PATIENCE, asked).await {
            Ok(Ok(original)) => Ok(original),
            Ok(Err(Full)) | Err(_) => Ok(last_good),
        }
    }

    async fn slot(&self, wanted: &Wanted) -> Arc<Slot> {
        let Wanted { is_elsewhere, path, query, host, is_tls, origin, .. } = wanted.clone();
        let key = Key { is_elsewhere, path, query, host, is_tls, origin };
        if wanted.is_canonical {
            Arc::clone(self.canonical.lock().entry(key).or_default())
        } else {
            self.slots.get_with(key, async { Arc::default() }).await
        }
    }

    /// As [`Self::get`], of what is not fresh, and however long it takes.
    async fn ask(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        wanted: &Wanted,
        enter: impl FnOnce() -> Option<Counted>,
        worth: impl FnOnce(&Original, &Wanted) -> Worth + Send + 'static,
    ) -> Result<Option<Arc<Original>>, Full> {
        let asked_at = Instant::now();
        let fetching = Arc::clone(&slot.fetching).lock_owned().await;
        // Whoever waited here while another one asked takes what that one got.
        if let Some((ended_at, result)) = &fetching.last
            && *ended_at >= asked_at
        {
            return Ok(result.clone().or_else(|| slot.last_good.load_full()));
        }
        if fetching.retry_at.is_some_and(|at| Instant::now() < at)
            && let Some(last_good) = slot.last_good.load_full()
        {
            return Ok(Some(last_good));
        }
        // Another host has nothing to do with how many wait for the upstream, and is asked for one
        // document only.
        let place = if wanted.is_elsewhere { None } else { Some(enter().ok_or(Full)?) };
        // A task of its own: whoever has waited long enough, or is gone, leaves it to all others.
        let task = Arc::clone(self).renew(Arc::clone(slot), fetching, wanted.clone(), place, worth);
        let fetched = tokio::spawn(task).await.ok().flatten();
        Ok(fetched.or_else(|| slot.last_good.load_full()))
    }

    /// Fetches, and leaves what came of it to those who wait and to those who ask later.
    async fn renew(
        self: Arc<Self>,
        slot: Arc<Slot>,
        mut fetching: OwnedMutexGuard<Fetching>,
        wanted: Wanted,
        place: Option<Counted>,
        worth: impl FnOnce(&Original, &Wanted) -> Worth,
    ) -> Option<Arc<Original>> {
        let fetched = self.fetch(&wanted).await;
        // It is free by the time that anybody hears of the end.
        drop(place);
        let fetched = fetched.and_then(|original| {
            let worth = if is_down(original.status) {
                Worth::Down("the status is one of a server that can't answer")
            } else {
                worth(&original, &wanted)
            };
            match worth {
                Worth::Down(why) => Err(why),
                Worth::Kept | Worth::Passed | Worth::Final => Ok((worth, Arc::new(original))),
            }
        });
        fetching.retry_at = None;
        let fetched = match fetched {
            Ok((worth, original)) => {
                match worth {
                    Worth::Kept => slot.last_good.store(Some(Arc::clone(&original))),
                    Worth::Final => slot.last_good.store(None),
                    Worth::Passed | Worth::Down(_) => {}
                }
                Some(original)
            }
            Err(why) => {
                fetching.retry_at = Some(retry_at());
                tracing::warn!(path = wanted.path, why, "the upstream's document cannot be had");
                None
            }
        };
        fetching.last = Some((Instant::now(), fetched.clone()));
        fetched
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Original, &'static str> {
        let began = Instant::now();
        let request = match self.elsewhere.as_ref().filter(|_| wanted.is_elsewhere) {
            Some(Elsewhere { endpoint, client }) => {
                let request = client.get(endpoint.url.clone()).header(ACCEPT, ACCEPTED);
                match &endpoint.bearer_token {
                    Some(token) => request.header(AUTHORIZATION, bearer(token.expose_secret())?),
                    None => request,
                }
            }
            None => self.client.get(self.url(wanted)).headers(headers(wanted)),
        };
        let response = request.send().await;
        let status = response.as_ref().ok().map(|response| response.status().as_u16());
        if !wanted.is_elsewhere {
            self.metrics.upstream(&Method::GET, status, began.elapsed());
        }
        let mut response = response.map_err(|error| why(&error))?;
        // What the client understands it has taken away.
        let mut codings = response.headers().get_all(CONTENT_ENCODING).iter();
        if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err("it has a coding that was not asked for");
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
            if body.len() + chunk.len() > MAX_SIZE {
                return Err("it is too large");
            }
            body.extend_from_slice(&chunk);
        }
        let is_kept = |name: &HeaderName, value: &HeaderValue| {
            if wanted.is_elsewhere {
                let is_for_all = *name == ACCESS_CONTROL_ALLOW_ORIGIN && value == "*";
                OF_THE_DOCUMENT.contains(name) || is_for_all
            } else {
                !NOT_KEPT.contains(name)
            }
        };
        let kept = response.headers().iter().filter(|(name, value)| is_kept(name, value));
        Ok(Original {
            status: response.status(),
            headers: kept.map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: body.freeze(),
            fetched_at: Instant::now(),
            age_then: age(response.headers()),
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

fn client(upstream: &Upstream) -> Option<reqwest::Client> {
    let longest = upstream.connect_timeout.saturating_add(upstream.read_timeout).min(LONGEST);
    let client = asking::client(upstream)?
        .user_agent(concat!("cambio/", env!("CARGO_PKG_VERSION")))
        .timeout(longest);
    client.build().ok()
}

fn bearer(token: &str) -> Result<HeaderValue, &'static str> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| "the token can't be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether an answer says that the upstream is as good as down.
fn is_down(status: StatusCode) -> bool {
    status.is_server_error()
        || status.is_informational()
        || matches!(status.as_u16(), 408 | 429)
        || (status.is_success() && status != StatusCode::OK)
}

fn headers(wanted: &Wanted) -> HeaderMap {
    let mut headers: HeaderMap = wanted.forwarding.iter().cloned().collect();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let named = [(HOST, &wanted.host), (ORIGIN, &wanted.origin)];
    headers.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    headers
}
