//! The sockets that a server listens on: its own, or those that it has taken over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::server::{Fds, ListenFds};

use super::StartError;
use crate::config::Listener;

/// Between two attempts.
const STEP: Duration = Duration::from_millis(50);

/// One listening socket for each configured listener: an inherited one where there is one.
pub(super) fn listen(
    listeners: &[Listener],
    mut inherited: Fds,
) -> Result<(ListenFds, Vec<SocketAddr>), StartError> {
    let mut offered: Vec<SocketAddr> =
        inherited.serialize().0.iter().filter_map(|address| address.parse().ok()).collect();
    offered.sort_unstable();
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let wanted = listener.address;
        let is_wanted = |address: &SocketAddr| {
            *address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip())
        };
        if let Some(at) = offered.iter().position(is_wanted) {
            addresses.push(offered.remove(at));
            continue;
        }
        let failed = |error| StartError::Listen { address: wanted, error };
        let socket = std::net::TcpListener::bind(wanted).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        inherited.add(address.to_string(), socket.into_raw_fd());
        addresses.push(address);
    }
    let kept = addresses.iter().map(SocketAddr::to_string).collect();
    for address in inherited.close_unclaimed(&kept) {
        tracing::warn!(address, "no longer listened on");
    }
    Ok((Arc::new(Mutex::new(inherited)), addresses))
}

/// The operators' listener; `patience` is how long another process may still have its address.
pub(super) async fn listen_for_operators(
    address: SocketAddr,
    patience: Duration,
) -> Result<tokio::net::TcpListener, StartError> {
    let began = Instant::now();
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && began.elapsed() < patience =>
            {
                tokio::time::sleep(STEP).await;
            }
            Err(error) => return Err(StartError::Listen { address, error }),
        }
    }
}

/// An address that a listener on all addresses has.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_this_machine() {
        for (configured, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("192.0.2.1:9464", "192.0.2.1:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(reachable(configured.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
