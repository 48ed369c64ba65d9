//! Connections of clients: how many there may be, how long they may take, and how they end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use pingora::apps::{HttpServerApp as _, HttpServerOptions, ServerApp};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::Answer;
use super::gate::Gate;
use super::generation::Front;
use super::head;
use super::patience;
use super::screen::MAX_HEADER;
use super::stream::Watched;
use super::uploads;
use crate::config::Limits;

/// Streams of one HTTP/2 connection that were refused for their form.
const MALFORMED_STREAMS: usize = 32;
/// Streams of one connection that may be open at a time (RFC 9113 §5.1.2). Not fewer, it says.
const MAX_STREAMS: u32 = 100;
/// Requests of one connection that are in progress: beside those that are open, some that were
/// reset, and have not noticed yet (CVE-2023-44487).
const MAX_IN_PROGRESS: usize = 120;
/// Streams of one connection that were reset for what a client did in them (CVE-2025-8671).
const MAX_FAULTY_STREAMS: usize = 100;
/// What waits in a stream for its client to read on.
const SEND_BUFFER: usize = 16 * 1024;
/// How long a new connection may still bring its first request when the server is about to stop:
/// its client can't know.
const LAST_CALL: Duration = Duration::from_millis(500);

/// CONNECT is let through to where we refuse it ourselves.
pub fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    options
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
        let front = self.front.load_full();
        let limits = front.generation.config.limits;
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet());
        let address = peer.map(SocketAddr::ip);
        let _place = self.gate.enter(address, limits.connections_per_address)?;
        let stream = match front.tls(self.listener.0, self.listener.1) {
            None => stream,
            Some(acceptor) => {
                let stream = stream.into_any().downcast::<L4Stream>().ok()?;
                // Apart: what it takes is not to be held for as long as the connection lives.
                let accepted = Box::pin(acceptor.tls_handshake(*stream));
                Box::new(timeout(limits.header_timeout, accepted).await.ok()?.ok()?)
            }
        };
        drop(front);
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            Box::pin(self.serve_http2(stream, address, limits, shutdown)).await;
        } else {
            let (lent, returned) = Watched::lent(stream);
            if self.serve_http1(Box::new(lent), limits, shutdown).await
                && let Ok(mut stream) = returned.await
            {
                head::linger(&mut stream).await;
            }
        }
        None
    }
}

impl Door {
    /// Whether the last thing on the connection was the answer to a request, of which the client may
    /// still be sending something.
    async fn serve_http1(
        &self,
        mut stream: Stream,
        limits: Limits,
        shutdown: &ShutdownWatch,
    ) -> bool {
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
            let Ok(Some(first)) = first else { return false };
            let section = match head::read(&mut stream, first, limits.header_timeout).await {
                Ok(Some(section)) => section,
                Ok(None) => return false,
                Err(refused) => {
                    head::refuse(&mut stream, refused).await;
                    return false;
                }
            };
            let front = self.front.load_full();
            let mut session = ServerSession::new_http1(stream);
            let idle = limits.idle_timeout.as_secs().max(1);
            session.set_keepalive((!*shutdown.borrow()).then_some(idle));
            session.set_pipelined_prefix(section);
            let served = patience::of_one_request(front.http.process_new_http(session, shutdown));
            let Some(reused) = served.await else { return true };
            stream = reused.consume().0;
            patience = limits.idle_timeout;
            last_call = Duration::ZERO;
        }
    }

    async fn serve_http2(
        &self,
        stream: Stream,
        address: Option<IpAddr>,
        limits: Limits,
        shutdown: &ShutdownWatch,
    ) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let stream = Box::new(Watched::paced(stream));
        let connected = timeout(limits.header_timeout, handshake(stream, Some(options()))).await;
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
                Ok(Some(H2Accept::Session(mut session))) => {
                    patience = limits.idle_timeout;
                    let front = self.front.load_full();
                    let share = front.generation.config.limits.connections_per_address;
                    // The first one has the place of the connection.
                    let is_alone = streams.is_empty();
                    let place = (!is_alone).then(|| self.gate.enter(address, share));
                    if streams.len() >= MAX_IN_PROGRESS || matches!(place, Some(None)) {
                        refuse(&mut session);
                        continue;
                    }
                    let shutdown = shutdown.clone();
                    streams.spawn(async move {
                        let _place = place;
                        let session = ServerSession::new_http2(session);
                        let served = async {
                            front.http.process_new_http(session, &shutdown).await;
                        };
                        uploads::unless_silent(patience::of_one_request(served)).await;
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

fn options() -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(u32::try_from(MAX_HEADER).unwrap_or(u32::MAX));
    options.max_concurrent_streams(MAX_STREAMS);
    options.max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS));
    options.max_send_buffer_size(SEND_BUFFER);
    options
}

/// Answers a stream for which there is no place.
fn refuse(session: &mut HttpSession) {
    let answer =
        Answer::plain(StatusCode::SERVICE_UNAVAILABLE, "The server is busy. Try again later.");
    let Ok(mut head) = ResponseHeader::build(answer.status, Some(answer.headers.len() + 1)) else {
        return;
    };
    for (name, value) in answer.headers.into_iter().filter(|(name, _)| *name != CONTENT_TYPE) {
        // Static ones, whose form is right.
        let _ = head.insert_header(name, value);
    }
    let _ = head.insert_header(CONTENT_LENGTH, 0);
    // Whoever is gone by now hears nothing.
    let _ = session.write_response_header(Box::new(head), true);
}

/// Waits until the server is about to stop.
async fn stopped(shutdown: &mut ShutdownWatch) {
    // Whoever could say so is gone: that is the end, too.
    let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
}
