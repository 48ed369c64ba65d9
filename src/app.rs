//! The composition root: a configuration becomes a running server.
//!
//! pingora's accept loops and proxy run on the runtime of the caller, without pingora's own
//! `Server`: that one closes every listener at once on SIGTERM, the admin listener too, and then
//! sleeps out its whole period of grace.

mod condition;
pub mod doctor;
pub mod handover;
mod keeper;
pub mod listen;
pub mod revoke;
pub mod survey;
pub mod watch;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
/// Listening sockets by their address, on their way from one process to the next.
pub use pingora::server::Fds;
use pingora::server::ListenFds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use thiserror::Error;
use tokio::sync::watch::Sender;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use self::condition::Condition;
use self::keeper::{Keeper, Opened};
use self::listen::{listen, listen_for_operators};
use crate::admin::{self, ListenerStatus};
use crate::config::Config;
use crate::count::Count;
use crate::proxy::authentication::Authentication;
use crate::proxy::connection::Door;
use crate::proxy::gate::Gate;
use crate::proxy::generation::{Front, GenerationError, Shared};
use crate::proxy::token_endpoint::TokenEndpoint;
use crate::proxy::uploads::Uploads;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// Per connection. Most connections are idle, and whoever reads has a buffer of its own.
const READ_BUFFER: usize = 0;
const WRITE_BUFFER: usize = 1460;
/// What was accepted when the listeners closed gets so long to be counted.
const SETTLING: Duration = Duration::from_millis(20);
/// For requests of operators that are in flight at the very end.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);
/// The admin address may still be in the hands of the process that we take over from.
const ADMIN_BIND: Duration = Duration::from_secs(10);
/// The embedded store may still be in the hands of the process that we take over from.
const STORE_HELD: Duration = Duration::from_secs(60);
/// Or of one that is about to end, or of a command that is soon done.
const STORE_BUSY: Duration = Duration::from_secs(2);
/// How long a process that has handed its sockets over waits for the last requests of connections
/// that it has accepted: its successor waits for the store.
const LAST_CONNECTIONS: Duration = Duration::from_millis(500);
/// And for requests in flight that may ask the store.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("{address} can't be listened on: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error("the system has no random numbers")]
    Random,
    #[error("a thread was lost")]
    Thread,
}

/// A server that runs until it is stopped.
pub struct Running {
    condition: Arc<Condition>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    descriptors: ListenFds,
    admin_address: SocketAddr,
    stop_accepting: Sender<bool>,
    accepting: JoinSet<()>,
    stop_admin: Sender<bool>,
    admin: JoinHandle<()>,
    /// One at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// Starts servers.
#[derive(Debug)]
pub struct App;

impl App {
    /// Listens and serves, on the runtime of the caller.
    pub async fn start(config: Config, metrics: Arc<Metrics>) -> Result<Running, StartError> {
        Self::start_with(config, metrics, Fds::new()).await
    }

    /// Like [`App::start`], with the listening sockets that another process has handed over.
    pub async fn start_with(
        config: Config,
        metrics: Arc<Metrics>,
        inherited: Fds,
    ) -> Result<Running, StartError> {
        Self::run(config, metrics, inherited, None).await
    }

    /// Like [`App::start`], on a store that is open already.
    pub async fn start_on(
        config: Config,
        metrics: Arc<Metrics>,
        store: Arc<dyn Store>,
    ) -> Result<Running, StartError> {
        Self::run(config, metrics, Fds::new(), Some(store)).await
    }

    async fn run(
        config: Config,
        metrics: Arc<Metrics>,
        inherited: Fds,
        store: Option<Arc<dyn Store>>,
    ) -> Result<Running, StartError> {
        metrics.configure(&config);
        let takes_over = !inherited.serialize().0.is_empty();
        let (descriptors, addresses) = listen(&config.listen, inherited)?;
        let patience = if takes_over { ADMIN_BIND } else { Duration::ZERO };
        let admin_listener = listen_for_operators(config.admin.address, patience).await?;
        let admin_address = admin_listener
            .local_addr()
            .map_err(|error| StartError::Listen { address: config.admin.address, error })?;
        let keeper = Arc::new(Keeper::new(&metrics));
        let patience = if takes_over { STORE_HELD } else { STORE_BUSY };
        let opened = match store {
            Some(store) => Some(Opened::of(store, &config.store).await),
            None => keeper.open(&config, patience).await.map_err(GenerationError::from)?,
        };
        keeper.keep(opened);
        let authentication = Arc::new(Authentication::new().ok_or(StartError::Random)?);
        let token_endpoint = TokenEndpoint::new(
            Arc::clone(&metrics),
            Arc::clone(&authentication),
            Arc::clone(keeper.slot()),
        );
        let shared = Arc::new(Shared {
            metrics: Arc::clone(&metrics),
            authentication,
            token_endpoint,
            store: Arc::clone(keeper.slot()),
            forwarded: Count::default(),
            uploads: Uploads::default(),
            is_stopping: AtomicBool::new(false),
        });
        let gate = Arc::new(Gate::new(config.limits.connections));
        let (configured, tls): (Vec<_>, Vec<_>) =
            config.listen.iter().map(|one| (one.address, one.tls.is_some())).unzip();
        let front = build(config, &shared, None).await?;
        ask_ahead(&front);
        try_upstream(&front);
        let front = Arc::new(ArcSwap::from(front));
        let listeners = addresses.iter().zip(tls);
        let listeners = listeners.map(|(address, tls)| ListenerStatus { address: *address, tls });
        let condition = Condition::new(Arc::clone(&front), keeper, listeners.collect());
        let condition = Arc::new(condition);
        let (stop_accepting, stopping) = tokio::sync::watch::channel(false);
        let mut accepting = JoinSet::new();
        let mut seen: HashMap<SocketAddr, usize> = HashMap::new();
        for (address, configured) in addresses.iter().zip(configured) {
            let nth = seen.entry(configured).or_default();
            let door = Door {
                front: Arc::clone(&front),
                gate: Arc::clone(&gate),
                listener: (configured, *nth),
            };
            *nth += 1;
            let mut service = Service::new(format!("listener {address}"), door);
            let buffers = L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER);
            service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers));
            let (descriptors, stopping) = (Arc::clone(&descriptors), stopping.clone());
            accepting.spawn(async move {
                service.start_service(Some(descriptors), stopping, 1).await;
            });
            tracing::info!(%address, "listening");
        }
        let (stop_admin, stopping) = tokio::sync::watch::channel(false);
        let shown = Arc::new(Condition::shown(&condition, metrics));
        let admin = tokio::spawn(admin::serve(admin_listener, shown, stopping));
        Condition::watch_store(&condition);
        tracing::info!(address = %admin_address, "listening for operators");
        Ok(Running {
            condition,
            shared,
            gate,
            descriptors,
            admin_address,
            stop_accepting,
            accepting,
            stop_admin,
            admin,
            reloading: tokio::sync::Mutex::new(()),
        })
    }
}

impl Running {
    /// Where clients connect, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.condition.addresses()
    }

    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The files of the configuration that serves.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        self.condition.front.load().generation.config.files.clone()
    }

    /// Connections of clients at this moment.
    pub fn connections(&self) -> usize {
        self.gate.connections()
    }

    /// Serves under another configuration from the next request on.
    pub async fn reload(&self, config: Config) -> Result<(), GenerationError> {
        let _one_at_a_time = self.reloading.lock().await;
        let previous = self.condition.front.load_full();
        let keeper = &self.condition.keeper;
        let other_store = keeper.is_other(&config).then_some("store");
        let settings = needs_restart(&previous.generation.config, &config);
        for setting in settings.into_iter().chain(other_store) {
            tracing::warn!(setting, "a change of this setting takes effect after a restart");
        }
        let built = match keeper.open(&config, STORE_BUSY).await {
            Err(error) => Err(error.into()),
            Ok(opened) => match build(config, &self.shared, Some(Arc::clone(&previous))).await {
                Ok(front) => Ok((front, opened)),
                Err(error) => {
                    if let Some(opened) = opened {
                        opened.discard().await;
                    }
                    Err(error)
                }
            },
        };
        match built {
            Ok((front, opened)) => {
                keeper.keep(opened);
                self.shared.metrics.configure(&front.generation.config);
                self.condition.change_keys(&previous.generation.config, &front.generation.config);
                ask_ahead(&front);
                try_upstream(&front);
                self.condition.front.store(front);
                self.note_reload(true);
                Ok(())
            }
            Err(error) => {
                self.refuse_reload();
                Err(error)
            }
        }
    }

    /// Notes that a configuration was not good enough to be tried.
    pub fn refuse_reload(&self) {
        self.note_reload(false);
    }

    fn note_reload(&self, applied: bool) {
        self.shared.metrics.config_reload(applied);
        self.condition.note_reload(applied);
    }

    /// The listening sockets.
    fn descriptors(&self) -> ListenFds {
        Arc::clone(&self.descriptors)
    }

    /// Gives the admin address up.
    async fn stop_admin(&mut self) {
        let _ = self.stop_admin.send(true);
        // What the listener showed last is no reason to wait for long.
        let _ = timeout(ADMIN_DRAIN, &mut self.admin).await;
    }

    /// Accepts no more, lets what is in flight end, and ends. `false` where something was still in
    /// flight when the time for it was over.
    pub async fn stop(mut self) -> bool {
        self.stop_accepting().await;
        let is_drained = self.drain().await;
        self.stop_admin().await;
        self.condition.keeper.close(Duration::ZERO).await;
        tracing::info!("stopped");
        is_drained
    }

    /// As [`Running::stop`], where another process has the listening sockets: the admin address and
    /// the store, which that one waits for, are given up first. What is still in flight then does
    /// without.
    pub async fn give_way(mut self) -> bool {
        self.stop_admin().await;
        self.stop_accepting().await;
        // A connection that was just accepted may still bring its request.
        let _ = timeout(LAST_CONNECTIONS, self.gate.emptied()).await;
        self.condition.keeper.close(LAST_REQUESTS).await;
        tracing::info!("the store is given up");
        let is_drained = self.drain().await;
        tracing::info!("stopped");
        is_drained
    }

    async fn stop_accepting(&mut self) {
        self.condition.drain();
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        let connections = self.gate.connections();
        tracing::info!(connections, "stopping: no more connections are accepted");
        let _ = self.stop_accepting.send(true);
        while self.accepting.join_next().await.is_some() {}
        tokio::time::sleep(SETTLING).await;
    }

    /// Waits for what is in flight, as long as it is configured.
    async fn drain(&self) -> bool {
        let deadline = self.condition.front.load().generation.config.limits.drain_timeout;
        let is_drained = timeout(deadline, self.gate.emptied()).await.is_ok();
        if !is_drained {
            let connections = self.gate.connections();
            tracing::warn!(connections, "the time is over: what is in flight is cut off");
        }
        is_drained
    }
}

/// Tells the operator early where the upstream can't authenticate clients.
fn try_upstream(front: &Arc<Front>) {
    let generation = &front.generation;
    let Some(inquiries) = &generation.inquiries else { return };
    if generation.config.policy.asks_upstream() {
        let inquiries = Arc::clone(inquiries);
        tokio::spawn(async move { inquiries.probe.try_endpoints().await });
    }
}

/// How often the upstream's documents are asked for while nobody else does.
const ASK_AHEAD: Duration = Duration::from_mins(5);
const ASK_AHEAD_FAILED: Duration = Duration::from_secs(10);

/// Asks for the upstream's documents now and then, as long as the generation serves.
fn ask_ahead(front: &Arc<Front>) {
    let generation = Arc::downgrade(&front.generation);
    tokio::spawn(async move {
        while let Some(generation) = generation.upgrade() {
            if !generation.config.overlay {
                return;
            }
            let is_there = generation.documents.ask_ahead().await;
            drop(generation);
            tokio::time::sleep(if is_there { ASK_AHEAD } else { ASK_AHEAD_FAILED }).await;
        }
    });
}

/// Builds a generation off the request threads: it may read the system's certificate authorities.
async fn build(
    config: Config,
    shared: &Arc<Shared>,
    previous: Option<Arc<Front>>,
) -> Result<Arc<Front>, GenerationError> {
    let shared = Arc::clone(shared);
    let built = tokio::task::spawn_blocking(move || {
        Front::new(config, &shared, previous.as_deref()).map(Arc::new)
    });
    built.await.unwrap_or(Err(GenerationError::SystemRoots))
}

/// Settings that differ and are read once only.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let addresses = |config: &Config| -> Vec<SocketAddr> {
        config.listen.iter().map(|listener| listener.address).collect()
    };
    let checks = [
        ("listen", addresses(old) != addresses(new)),
        ("admin.address", old.admin.address != new.admin.address),
        ("limits.connections", old.limits.connections != new.limits.connections),
    ];
    checks.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
