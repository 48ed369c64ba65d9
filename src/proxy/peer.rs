//! Where the upstream is: its name resolved now and then, and how connections to it are made.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pingora::protocols::ALPN;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora::{Error, ErrorType};
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;
use url::Host;
use x509_parser::prelude::FromDer as _;

use super::switch::Turns;
use crate::config::Upstream;

/// How long the addresses of a name are taken for current.
const RESOLVED_FOR: Duration = Duration::from_secs(10);
/// How long a connection to the upstream is kept: less than common servers keep theirs, or we would
/// write into one that they are just closing.
const IDLE: Duration = Duration::from_secs(4);

/// Sets connections apart that may switch to another protocol.
const SWITCHING: u64 = 1;

/// The upstream as connections to it are made.
#[derive(Debug)]
pub struct UpstreamPeer {
    host: Host<String>,
    port: u16,
    is_tls: bool,
    server_name: String,
    options: PeerOptions,
    turns: Arc<Turns>,
    resolved: ArcSwapOption<Resolved>,
    resolving: Mutex<()>,
    /// The index of the address that answered last.
    preferred: AtomicUsize,
}

/// The attempts of one request to connect, each to another address of the upstream's name.
#[derive(Debug, Default)]
pub struct Attempts {
    failed: usize,
    /// The index of the first one's address.
    first: Option<usize>,
    has_more: bool,
}

impl Attempts {
    /// Notes that the last one failed. Whether there is another address to try.
    pub const fn fail(&mut self) -> bool {
        self.failed += 1;
        self.has_more
    }
}

#[derive(Debug)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    at: Instant,
}

impl UpstreamPeer {
    /// `None` where the URL names no host, or a certificate can't be read: the configuration lets
    /// neither through.
    pub fn new(upstream: &Upstream) -> Option<Self> {
        let host = upstream.url.host()?.to_owned();
        let mut options = PeerOptions::new();
        options.alpn = ALPN::H1;
        options.connection_timeout = Some(upstream.connect_timeout);
        options.total_connection_timeout = Some(upstream.connect_timeout * 2);
        options.read_timeout = Some(upstream.read_timeout);
        options.write_timeout = Some(upstream.read_timeout);
        options.idle_timeout = Some(IDLE);
        if let Some(certificates) = &upstream.ca {
            options.ca = Some(authorities(certificates)?);
        }
        Some(Self {
            server_name: match &host {
                Host::Domain(name) => name.clone(),
                Host::Ipv4(address) => address.to_string(),
                Host::Ipv6(address) => address.to_string(),
            },
            host,
            port: upstream.url.port_or_known_default()?,
            is_tls: upstream.url.scheme() == "https",
            options,
            turns: Arc::new(Turns { connect_timeout: upstream.connect_timeout }),
            resolved: ArcSwapOption::empty(),
            resolving: Mutex::new(()),
            preferred: AtomicUsize::new(0),
        })
    }

    /// Whether connections are verified against the system's roots.
    pub const fn needs_system_roots(&self) -> bool {
        self.is_tls && self.options.ca.is_none()
    }

    /// The peer for the next attempt of one request. `patience` takes the place of the configured
    /// time for each read. `may_switch` is whether another protocol may follow.
    pub async fn peer(
        &self,
        attempts: &mut Attempts,
        patience: Option<Duration>,
        may_switch: bool,
    ) -> pingora::Result<Box<HttpPeer>> {
        let address = match self.host {
            Host::Ipv4(address) => SocketAddr::new(IpAddr::V4(address), self.port),
            Host::Ipv6(address) => SocketAddr::new(IpAddr::V6(address), self.port),
            Host::Domain(ref name) => {
                let resolved = self.resolve(name).await?;
                let Some(address) = self.next(&resolved, attempts) else { return unresolved() };
                address
            }
        };
        let mut peer = Box::new(HttpPeer::new(address, self.is_tls, self.server_name.clone()));
        peer.options = self.options.clone();
        if let Some(patience) = patience {
            let configured = peer.options.read_timeout;
            peer.options.read_timeout = configured.map(|configured| configured.max(patience));
        }
        if may_switch {
            peer.options.custom_l4 = Some(Arc::<Turns>::clone(&self.turns));
            // Not one that was made for something else.
            peer.group_key = SWITCHING;
        }
        Ok(peer)
    }

    /// Each address once, beginning with the one that is preferred.
    fn next(&self, resolved: &Resolved, attempts: &mut Attempts) -> Option<SocketAddr> {
        let first = *attempts.first.get_or_insert_with(|| self.preferred.load(Ordering::Relaxed));
        let count = resolved.addresses.len().max(1);
        let at = first.wrapping_add(attempts.failed) % count;
        if attempts.failed > 0 {
            self.preferred.store(at, Ordering::Relaxed);
        }
        attempts.has_more = attempts.failed + 1 < count;
        resolved.addresses.get(at).copied()
    }

    async fn resolve(&self, name: &str) -> pingora::Result<Arc<Resolved>> {
        let is_current = |known: &Arc<Resolved>| known.at.elapsed() < RESOLVED_FOR;
        if let Some(known) = self.resolved.load_full().filter(is_current) {
            return Ok(known);
        }
        let _one_at_a_time = self.resolving.lock().await;
        let known = self.resolved.load_full();
        if let Some(known) = known.clone().filter(is_current) {
            return Ok(known);
        }
        let deadline = self.options.connection_timeout.unwrap_or(RESOLVED_FOR);
        let found =
            tokio::time::timeout(deadline, tokio::net::lookup_host((name, self.port))).await;
        let addresses: Vec<SocketAddr> = match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if addresses.is_empty() {
            tracing::warn!("the upstream's name can't be resolved");
            // Old addresses are better than none.
            return known.map_or_else(unresolved, Ok);
        }
        let resolved = Arc::new(Resolved { addresses, at: Instant::now() });
        self.resolved.store(Some(Arc::clone(&resolved)));
        Ok(resolved)
    }
}

fn unresolved<T>() -> pingora::Result<T> {
    Err(Error::explain(ErrorType::ConnectError, "the upstream's name can't be resolved").into_up())
}

fn authorities(certificates: &[CertificateDer<'static>]) -> Option<Arc<CaType>> {
    certificates
        .iter()
        .map(|certificate| {
            // The constructor panics where this fails.
            x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
            Some(WrappedX509::new(certificate.to_vec(), parse_x509))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_address_of_a_name_is_tried_once_and_the_last_one_first_the_next_time() {
        let upstream = Upstream {
            url: "http://idp.example:81".parse().unwrap(),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            ca: None,
        };
        let peer = UpstreamPeer::new(&upstream).unwrap();
        let addresses = [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 81)));
        let resolved = Resolved { addresses: addresses.to_vec(), at: Instant::now() };
        peer.resolved.store(Some(Arc::new(resolved)));
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut attempts = Attempts::default();
            for (nth, at) in order.into_iter().enumerate() {
                let next = peer.peer(&mut attempts, None, false).await.unwrap();
                assert_eq!(next._address.as_inet(), Some(&addresses[at]), "{order:?} {nth}");
                assert_eq!(attempts.fail(), nth < 2, "{order:?} {nth}");
            }
        }
        // One that answers stays the one that is asked.
        for _ in 0..2 {
            let next = peer.peer(&mut Attempts::default(), None, false).await.unwrap();
            assert_eq!(next._address.as_inet(), Some(&addresses[0]));
        }
    }
}
