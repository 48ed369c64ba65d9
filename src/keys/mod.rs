//! Keys: those of other people, fetched and cached.

mod address;
mod connection;
mod error;
mod fetch;
mod freshness;
pub mod inquiry;
mod issuer;
mod keeping;
mod lanes;
pub mod last_good;
mod source;
mod status;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::error::KeyError;
use self::fetch::Http;
use self::issuer::{FetchedIssuer, KeyCache, Parts, Seed, key_cache};
use self::keeping::Keeping;
use self::lanes::Lanes;
use self::last_good::{Label, LastGood};
use self::source::Source;
pub use self::status::{IssuerStatus, KeyState, Origin};
use crate::config::{Config, IssuerKeys, KeySource};
use crate::count::Count;
use crate::exchange::Pending;
use crate::exchange::error::Failure;
use crate::jwt::key_set::KeySet;
use crate::telemetry::metrics::Metrics;

/// The keys of every trusted token issuer of one configuration.
#[derive(Debug)]
pub struct KeyRing {
    issuers: HashMap<Arc<str>, Keys>,
    /// Names as the configuration orders them.
    order: Vec<Arc<str>>,
    cache: KeyCache,
    lanes: Arc<Lanes>,
    /// Those that wait for keys that are never waited for.
    nobody: Count,
}

#[derive(Debug)]
enum Keys {
    Fixed(Arc<KeySet>),
    Fetched(Arc<FetchedIssuer>),
    /// Nothing is fetched. With the kind of its source.
    Disabled(&'static str),
}

impl KeyRing {
    /// Begins to fetch in the background. What `previous` has fetched from an equal source is taken
    /// over; whatever only `previous` needs ends with it. What an earlier process has kept on disk
    /// serves until it is fetched.
    ///
    /// Must be called within a tokio runtime, which the fetching then runs in.
    pub fn new(config: &Config, metrics: &Arc<Metrics>, previous: Option<&Self>) -> Self {
        let last_good = LastGood::of(config).map(Arc::new);
        let cache = previous.map_or_else(key_cache, |previous| previous.cache.clone());
        let lanes = previous.map(|previous| Arc::clone(&previous.lanes));
        let lanes = lanes.unwrap_or_else(|| Arc::new(Lanes::new()));
        let max_stale = config.fetched_keys.max_stale;
        let mut clients: Vec<Arc<Http>> = previous.map(Self::clients).unwrap_or_default();
        let mut issuers = HashMap::new();
        for keys in &config.trusted_token_issuers {
            let IssuerKeys { issuer, source } = keys;
            let source = match source {
                KeySource::Endpoint(endpoint) => Ok(Source::Endpoint(endpoint.clone())),
                KeySource::Discovery(discovery) => Ok(Source::Discovery(discovery.clone())),
                KeySource::Fixed(fixed) => Err(Arc::clone(&fixed.keys)),
            };
            let keys = match source {
                Err(_) if !issuer.enabled => Keys::Disabled("fixed"),
                Err(fixed) => Keys::Fixed(fixed),
                Ok(source) if !issuer.enabled => Keys::Disabled(source.kind()),
                Ok(source) => {
                    let keeping = last_good.as_ref().zip(Label::of(keys)).map(|(there, label)| {
                        let keeping = Keeping::new(&issuer.name, Arc::clone(there), label);
                        let earlier = previous.into_iter().flat_map(Self::fetched);
                        earlier.filter_map(|issuer| issuer.keeping()).fold(keeping, Keeping::after)
                    });
                    let parts = Parts {
                        name: Arc::clone(&issuer.name),
                        http: client(&mut clients, &source),
                        source,
                        cache: cache.clone(),
                        lanes: Arc::clone(&lanes),
                        max_stale,
                        keeping: keeping.map(Arc::new),
                        metrics: Arc::clone(metrics),
                    };
                    Keys::Fetched(match find(previous, &parts) {
                        Found::Same(same) => same,
                        Found::Other(seed) => Arc::new(FetchedIssuer::start(parts, seed.as_ref())),
                    })
                }
            };
            issuers.insert(Arc::clone(&issuer.name), keys);
        }
        let names = config.trusted_token_issuers.iter().map(|keys| &keys.issuer.name);
        Self { issuers, order: names.cloned().collect(), cache, lanes, nobody: Count::default() }
    }

    /// The keys to verify a pending exchange with: those at hand, or fresher ones where those at
    /// hand have none that fits.
    pub async fn resolve(&self, pending: &Pending) -> Result<Arc<KeySet>, Failure> {
        match self.issuers.get(&pending.issuer().name) {
            Some(Keys::Fixed(keys)) => Ok(Arc::clone(keys)),
            Some(Keys::Fetched(issuer)) => issuer.resolve(|keys| pending.has_key_in(keys)).await,
            Some(Keys::Disabled(_)) | None => Err(Failure::KeysUnavailable),
        }
    }

    /// Those that wait for the keys of the issuer of a pending exchange. Who counts them bounds how
    /// many one issuer may keep waiting, and leaves others out of it.
    pub fn waiting(&self, pending: &Pending) -> &Count {
        match self.issuers.get(&pending.issuer().name) {
            Some(Keys::Fetched(issuer)) => issuer.waiting(),
            Some(Keys::Fixed(_) | Keys::Disabled(_)) | None => &self.nobody,
        }
    }

    /// How the keys of each issuer are, in the order of the configuration.
    pub fn status(&self) -> Vec<IssuerStatus> {
        let known = self.order.iter().filter_map(|name| Some((name, self.issuers.get(name)?)));
        known.map(|(name, keys)| status(name, keys)).collect()
    }

    fn fetched(&self) -> impl Iterator<Item = &Arc<FetchedIssuer>> {
        self.issuers.values().filter_map(|keys| match keys {
            Keys::Fetched(issuer) => Some(issuer),
            Keys::Fixed(_) | Keys::Disabled(_) => None,
        })
    }

    fn clients(&self) -> Vec<Arc<Http>> {
        self.fetched().map(|issuer| Arc::clone(issuer.http())).collect()
    }
}

enum Found {
    /// The very issuer, with all that goes on there.
    Same(Arc<FetchedIssuer>),
    /// Another one, perhaps with keys to begin with.
    Other(Option<Seed>),
}

/// What of an earlier configuration may be taken over. A source that is asked by other means, such
/// as with a new token, serves what it brought until it has been asked.
fn find(previous: Option<&KeyRing>, parts: &Parts) -> Found {
    let Some(previous) = previous else { return Found::Other(None) };
    let source = &parts.source;
    let same = previous.fetched().find(|one| {
        *one.name() == parts.name
            && one.source().equals(source)
            && one.keeps(parts.max_stale, parts.keeping.as_deref())
    });
    if let Some(same) = same {
        return Found::Same(Arc::clone(same));
    }
    let equal = previous.fetched().find(|one| one.source().equals(source));
    let similar = || previous.fetched().find(|one| one.source().brings_the_same(source));
    Found::Other(
        equal.and_then(|one| one.seed(false)).or_else(|| similar().and_then(|one| one.seed(true))),
    )
}

/// One client for each set of roots.
fn client(clients: &mut Vec<Arc<Http>>, source: &Source) -> Arc<Http> {
    if let Some(known) = clients.iter().find(|known| known.ca() == source.ca()) {
        return Arc::clone(known);
    }
    let new = Arc::new(Http::new(source.ca().cloned()));
    clients.push(Arc::clone(&new));
    new
}

fn status(name: &Arc<str>, keys: &Keys) -> IssuerStatus {
    let (source, state, keys) = match keys {
        Keys::Fetched(issuer) => return issuer.status(),
        Keys::Fixed(keys) => ("fixed", KeyState::Fixed, keys.len()),
        Keys::Disabled(source) => (*source, KeyState::Disabled, 0),
    };
    IssuerStatus {
        name: Arc::clone(name),
        source,
        state,
        keys,
        keys_from: None,
        age_seconds: None,
        last_error: None,
        next_fetch_in_seconds: None,
    }
}
