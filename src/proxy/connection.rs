//! Connections of clients: how many there may be, how long they may take, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp as _, HttpServerOptions, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, HttpSession, default_h2_options, handshake};
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::generation::Front;
use super::head;
use super::screen::MAX_HEADER;
use crate::config::Limits;

/// Streams of one HTTP/2 connection that were refused for their form.
const MALFORMED_STREAMS: usize = 32;
/// How long a new connection may still bring its first request when the server is about to stop:
/// its client can't know.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Refused connections are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// CONNECT is let through to where we refuse it ourselves.
pub fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    options
}

/// Counts connections over all listeners.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    capacity: u32,
    turned_away: AtomicU64,
    began: Instant,
    /// When that was last logged, in milliseconds from `began`.
    logged: AtomicU64,
}

impl Gate {
    pub fn new(connections: usize) -> Self {
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let connections = connections.min(most);
        Self {
            places: Arc::new(Semaphore::new(connections)),
            capacity: u32::try_from(connections).unwrap_or(u32::MAX),
            turned_away: AtomicU64::new(0),
            began: Instant::now(),
            logged: AtomicU64::new(0),
        }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX) - self.places.available_permits()
    }

    /// Waits until no connection is left.
    pub async fn emptied(&self) {
        // An error would mean that the semaphore is closed, which it never is.
        let _ = self.places.acquire_many(self.capacity).await;
    }

    fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let last = self.logged.load(Ordering::Relaxed);
            let interval = u64::try_from(LOG_INTERVAL.as_millis()).unwrap_or(u64::MAX);
            let is_due = last == 0 || now.saturating_sub(last) >= interval;
            let swapped = |to| {
                let order = Ordering::Relaxed;
                self.logged.compare_exchange(last, to, order, order).is_ok()
            };
            if is_due && swapped(now.max(1)) {
                let count = self.turned_away.swap(0, Ordering::Relaxed);
                tracing::warn!(count, "too many connections: new ones are closed at once");
            }
        }
        place
    }
}

/// One listener's connections.
#[derive(Debug)]
pub struct Door {
    pub front: Arc<ArcSwap<Front>>,
    pub gate: Arc<Gate>,
    /// As configured, and which of several with the same one this is.
    pub listener: (SocketAddr, usize),
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let _place = self.gate.enter()?;
        let front = self.front.load_full();
        let limits = front.generation.config.limits;
        let stream = match front.tls(self.listener.0, self.listener.1) {
            None => stream,
            Some(acceptor) => {
                let stream = stream.into_any().downcast::<L4Stream>().ok()?;
                let accepted = acceptor.tls_handshake(*stream);
                Box::new(timeout(limits.header_timeout, accepted).await.ok()?.ok()?)
            }
        };
        drop(front);
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            Box::pin(self.serve_http2(stream, limits, shutdown)).await;
        } else {
            self.serve_http1(stream, limits, shutdown).await;
        }
        None
    }
}

impl Door {
    async fn serve_http1(&self, mut stream: Stream, limits: Limits, shutdown: &ShutdownWatch) {
        let mut stopping = shutdown.clone();
        let mut patience = limits.header_timeout;
        let mut last_call = LAST_CALL;
        loop {
            let first = {
                let first = timeout(patience, head::first_byte(&mut stream));
                tokio::pin!(first);
                tokio::select! {
                    biased;
                    first = &mut first => first,
                    () = stopped(&mut stopping) => timeout(last_call, first).await.unwrap_or(Ok(None)),
                }
            };
            let Ok(Some(first)) = first else { return };
            let section = match head::read(&mut stream, first, limits.header_timeout).await {
                Ok(Some(section)) => section,
                Ok(None) => return,
                Err(refused) => return head::refuse(&mut stream, refused).await,
            };
            let front = self.front.load_full();
            let mut session = ServerSession::new_http1(stream);
            let idle = limits.idle_timeout.as_secs().max(1);
            session.set_keepalive((!*shutdown.borrow()).then_some(idle));
            session.set_pipelined_prefix(section);
            let Some(reused) = front.http.process_new_http(session, shutdown).await else { return };
            stream = reused.consume().0;
            patience = limits.idle_timeout;
            last_call = Duration::ZERO;
        }
    }

    async fn serve_http2(&self, stream: Stream, limits: Limits, shutdown: &ShutdownWatch) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let mut options = default_h2_options();
        options.max_header_list_size(u32::try_from(MAX_HEADER).unwrap_or(u32::MAX));
        let connected = timeout(limits.header_timeout, handshake(stream, Some(options))).await;
        let Ok(Ok(mut connection)) = connected else { return };
        let mut stopping = shutdown.clone();
        let mut is_stopping = false;
        let mut malformed = 0;
        let mut patience = limits.header_timeout;
        let mut streams = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut stopping), if !is_stopping => {
                    connection.graceful_shutdown();
                    is_stopping = true;
                    patience = limits.header_timeout;
                    continue;
                }
                Some(_) = streams.join_next() => continue,
                accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
                () = tokio::time::sleep(patience), if streams.is_empty() => return,
            };
            match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    patience = limits.idle_timeout;
                    let front = self.front.load_full();
                    let shutdown = shutdown.clone();
                    streams.spawn(async move {
                        let session = ServerSession::new_http2(session);
                        front.http.process_new_http(session, &shutdown).await;
                    });
                }
                Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED_STREAMS => malformed += 1,
                Ok(Some(H2Accept::Rejected) | None) | Err(_) => break,
            }
        }
        // Nobody reads or writes any more: whoever waits for that is told.
        drop(connection);
        // What is under way still has to be counted, though nobody may be left to hear of it.
        while streams.join_next().await.is_some() {}
    }
}

/// Waits until the server is about to stop.
async fn stopped(shutdown: &mut ShutdownWatch) {
    // Whoever could say so is gone: that is the end, too.
    let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
}
