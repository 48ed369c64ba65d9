//! A loopback port that stays with one server from before it starts, and while it is down.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that nobody is given who asks for a free one.
///
/// Whoever is to have it names it. The socket that holds it is bound and never listens: the system lets
/// another bind the same port where both say `SO_REUSEADDR`, as servers do, but does not choose it for
/// anybody. Until a server listens there, connections are refused.
#[derive(Debug)]
pub struct Port {
    _held: TcpSocket,
    address: SocketAddr,
}

impl Port {
    pub fn reserve() -> Self {
        let held = TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = held.local_addr().unwrap();
        Self { _held: held, address }
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// As `Host` has it.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The URL of whoever listens there.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}
