//! All that serves under one configuration. A reload builds another one and puts it in its place;
//! a request keeps the one that it began with.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pingora::listeners::tls::Acceptor;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use thiserror::Error;

use super::authentication::Authentication;
use super::documents::Documents;
use super::gateway::Gateway;
use super::inquiries::Inquiries;
use super::originals::Originals;
use super::peer::UpstreamPeer;
use super::route::Routes;
use super::tls;
use super::token_endpoint::TokenEndpoint;
use super::uploads::{Upload, Uploads};
use crate::config::{Config, Limits};
use crate::count::{Count, Counted};
use crate::keys::KeyRing;
use crate::overlay::places::well_known_places;
use crate::store::{OpenError, Slot};
use crate::telemetry::metrics::Metrics;

/// Idle connections to the upstream that are kept, for each thread.
const POOL: usize = 256;
/// Attempts to connect to one of the upstream's addresses.
const ATTEMPTS: usize = 4;

/// Why a configuration that holds together can't serve here and now.
#[derive(Debug, Error)]
pub enum GenerationError {
    #[error("upstream.url can't be connected to")]
    Upstream,
    #[error("the system's certificate authorities can't be loaded; name them in upstream.ca")]
    SystemRoots,
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the certificate of listener {0} can't be used: {1}")]
    Certificate(SocketAddr, #[source] rustls::Error),
}

/// What all generations share.
#[derive(Debug)]
pub struct Shared {
    pub metrics: Arc<Metrics>,
    pub authentication: Arc<Authentication>,
    pub token_endpoint: TokenEndpoint,
    pub store: Arc<Slot>,
    /// Requests that wait for the upstream: on their way there, about a token that could be ours,
    /// or our own for its documents.
    pub forwarded: Count,
    /// Requests that the upstream does not have as a whole: their clients are still sending them.
    pub uploads: Uploads,
    /// From then on no connection is kept for another request.
    pub is_stopping: AtomicBool,
}

impl Shared {
    /// `None` where too many wait for the upstream already.
    pub fn wait_for_upstream(&self, limits: &Limits) -> Option<Counted> {
        self.forwarded.enter(limits.forwarded_requests)
    }

    /// As [`Shared::wait_for_upstream`], for a request whose body is still to come.
    pub fn begin_upload(&self, limits: &Limits) -> Option<Upload> {
        let most = limits.forwarded_requests;
        let has_room = self.forwarded.now() < most;
        has_room.then(|| self.uploads.begin(most)).flatten()
    }
}

/// One configuration and what is derived from it.
#[derive(Debug)]
pub struct Generation {
    pub config: Config,
    pub keys: Arc<KeyRing>,
    pub routes: Routes,
    pub upstream: UpstreamPeer,
    pub documents: Arc<Documents>,
    /// Where tokens can be introspected or revoked.
    pub inquiries: Option<Arc<Inquiries>>,
}

/// How one configured listener accepts.
#[derive(Clone)]
struct Accepting {
    address: SocketAddr,
    tls: Option<Arc<Acceptor>>,
}

/// A generation at work.
pub struct Front {
    pub generation: Arc<Generation>,
    pub http: Arc<HttpProxy<Gateway>>,
    listeners: Vec<Accepting>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Front {
    /// May load the system's certificate authorities from disk.
    pub fn new(
        config: Config,
        shared: &Arc<Shared>,
        previous: Option<&Self>,
    ) -> Result<Self, GenerationError> {
        let mut listeners = Vec::with_capacity(config.listen.len());
        for listener in &config.listen {
            let address = listener.address;
            let accept = |of| {
                tls::acceptor(of).map_err(|error| GenerationError::Certificate(address, error))
            };
            let tls = listener.tls.as_ref().map(accept).transpose()?;
            listeners.push(Accepting { address, tls });
        }
        // A listener that the new configuration no longer has stays open until a restart.
        let gone = previous.iter().flat_map(|previous| &previous.listeners);
        let gone = gone.filter(|old| config.listen.iter().all(|new| new.address != old.address));
        listeners.extend(gone.cloned().collect::<Vec<_>>());
        let upstream = UpstreamPeer::new(&config.upstream).ok_or(GenerationError::Upstream)?;
        let needs_system_roots = upstream.needs_system_roots();
        // Without overlay the issuer is not the upstream's, and neither are its documents.
        let issuer = config.overlay.then(|| config.policy.authorization_server());
        let well_known = issuer.map(well_known_places).unwrap_or_default();
        let routes = Routes::new(&config.endpoints, &well_known);
        let documents = documents(&config, shared, previous)?;
        let inquiries = inquiries(&config, shared, previous)?;
        // Last of all that may fail: what it keeps on disk is then no longer the previous one's.
        let previous_keys = previous.map(|previous| &*previous.generation.keys);
        let keys = Arc::new(KeyRing::new(&config, &shared.metrics, previous_keys));
        let generation =
            Arc::new(Generation { config, keys, routes, upstream, documents, inquiries });
        let http =
            http(Gateway::new(Arc::clone(&generation), Arc::clone(shared)), needs_system_roots)?;
        Ok(Self { generation, http, listeners })
    }

    /// What accepts TLS on the `nth` listener that is configured with this address; `None` for
    /// plain HTTP.
    pub fn tls(&self, address: SocketAddr, nth: usize) -> Option<&Arc<Acceptor>> {
        let mut same = self.listeners.iter().filter(|listener| listener.address == address);
        same.nth(nth)?.tls.as_ref()
    }
}

/// What is known of the upstream's clients outlives a reload, too.
fn inquiries(
    config: &Config,
    shared: &Shared,
    previous: Option<&Front>,
) -> Result<Option<Arc<Inquiries>>, GenerationError> {
    if config.endpoints.introspection.is_none() && config.endpoints.revocation.is_none() {
        return Ok(None);
    }
    let known = previous.and_then(|previous| previous.generation.inquiries.clone());
    let known = known.filter(|known| known.are_of(config));
    let new = || Inquiries::new(config, shared).map(Arc::new);
    known.or_else(new).map(Some).ok_or(GenerationError::SystemRoots)
}

/// What the upstream answered last, and what is withheld for it, outlives a reload that leaves the
/// upstream as it is.
fn documents(
    config: &Config,
    shared: &Arc<Shared>,
    previous: Option<&Front>,
) -> Result<Arc<Documents>, GenerationError> {
    if !config.overlay {
        return Ok(Arc::new(Documents::new(config, None, shared)));
    }
    let previous = previous.map(|previous| &previous.generation);
    let known = previous.and_then(|previous| previous.documents.originals.clone());
    let elsewhere = config.upstream_jwks.as_ref();
    let originals = match known.filter(|known| known.are_of(&config.upstream, elsewhere)) {
        Some(known) => known,
        None => Arc::new(
            Originals::new(&config.upstream, elsewhere, &shared.metrics)
                .ok_or(GenerationError::SystemRoots)?,
        ),
    };
    if let Some(previous) = previous {
        let withheld: Vec<&str> = previous.config.signing_keys.withheld().collect();
        config.signing_keys.withhold(|kid| withheld.contains(&kid));
    }
    Ok(Arc::new(Documents::new(config, Some(originals), shared)))
}

fn http(
    gateway: Gateway,
    needs_system_roots: bool,
) -> Result<Arc<HttpProxy<Gateway>>, GenerationError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = ServerConf {
        threads,
        max_retries: ATTEMPTS,
        upstream_keepalive_pool_size: POOL,
        // Nothing to load where nothing is verified against it.
        ca_file: (!needs_system_roots).then(|| "/dev/null".to_owned()),
        ..ServerConf::default()
    };
    // The library panics where the system has no roots.
    let mut http = catch_unwind(AssertUnwindSafe(|| HttpProxy::new(gateway, Arc::new(conf))))
        .map_err(|_| GenerationError::SystemRoots)?;
    http.server_options = Some(super::connection::server_options());
    http.handle_init_modules();
    Ok(Arc::new(http))
}
