//! A loopback port that stays with one server from before it starts, and while it is down.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(60);
/// Between two looks at whether it does.
const STEP: Duration = Duration::from_millis(20);

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

    /// Waits until a server accepts connections there. `ended` says how it has ended, if it has.
    pub async fn listened(&self, mut ended: impl FnMut() -> Option<String>) {
        let began = Instant::now();
        let mut step = tokio::time::interval(STEP);
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(end) = ended() {
                panic!("the server has ended: {end}");
            }
            assert!(began.elapsed() < STARTING, "the server does not come up");
            step.tick().await;
        }
    }
}
