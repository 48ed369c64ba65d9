//! A small HTTP/1.1 server on a free loopback port that can go down and come up again.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// The largest request body that a stand-in reads.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// What a stand-in answers with.
pub type Reply = Response<Full<Bytes>>;

/// Somebody who answers requests.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, request: Request<Bytes>) -> impl Future<Output = Reply> + Send;
}

/// A server on `127.0.0.1` with a port of its own.
pub struct Loopback {
    address: SocketAddr,
    accept: Box<dyn Fn(TcpListener) -> JoinHandle<()> + Send + Sync>,
    state: Mutex<State>,
}

enum State {
    Up(JoinHandle<()>),
    /// Bound but not listening: connections are refused, and nobody else gets the port.
    Down(TcpSocket),
    /// The port was lost on the way down.
    Lost,
}

impl Loopback {
    pub async fn start<A: Answers>(answers: Arc<A>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accept = Box::new(move |listener| tokio::spawn(serve(listener, Arc::clone(&answers))));
        let state = Mutex::new(State::Up(accept(listener)));
        Ok(Self { address, accept, state })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the port and every connection. Connecting is refused from then on.
    pub async fn go_down(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        if let State::Up(serving) = &mut *state {
            serving.abort();
            // Only an awaited task is known to have closed its listener.
            let _ = serving.await;
            *state = State::Lost;
            *state = State::Down(bound(self.address)?);
        }
        Ok(())
    }

    /// Serves again, on the same port.
    pub async fn come_up(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        match std::mem::replace(&mut *state, State::Lost) {
            up @ State::Up(_) => *state = up,
            State::Down(socket) => *state = State::Up((self.accept)(socket.listen(1024)?)),
            State::Lost => {
                let listener = TcpListener::bind(self.address).await?;
                *state = State::Up((self.accept)(listener));
            }
        }
        Ok(())
    }
}

/// A port that is held without listening: whoever else asks for any free port gets another one, and
/// whoever listens on this very address may.
#[derive(Debug)]
pub struct Reservation {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Reservation {
    pub fn make() -> io::Result<Self> {
        let socket = bound((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Drop for Loopback {
    fn drop(&mut self) {
        if let State::Up(serving) = self.state.get_mut() {
            serving.abort();
        }
    }
}

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loopback").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Accepts until it is aborted; its connections end with it.
async fn serve<A: Answers>(listener: TcpListener, answers: Arc<A>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, Arc::clone(&answers)));
                } else {
                    // Out of descriptors, most likely: let other tasks close theirs.
                    tokio::task::yield_now().await;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse<A: Answers>(stream: TcpStream, answers: Arc<A>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let answers = Arc::clone(&answers);
        async move {
            let (head, body) = request.into_parts();
            let reply = match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => answers.answer(Request::from_parts(head, body.to_bytes())).await,
                Err(_) => empty(StatusCode::PAYLOAD_TOO_LARGE),
            };
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer);
    // A client that hangs up is no concern of a stand-in's.
    let _ = connection.await;
}

/// A reply with a status and nothing else.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

/// A JSON reply.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Reply {
    typed(status, "application/json", value.to_string())
}

/// A document with a strong `ETag`; 304 where the caller has it already (RFC 9110 §13.1.2).
pub fn document(request: &Request<Bytes>, content_type: &'static str, body: String) -> Reply {
    use base64::Engine as _;
    let digest = crate::secret::sha256(body.as_bytes());
    let tag = format!("\"{}\"", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest));
    let known = request.headers().get_all(IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|list| {
            list.split(',').any(|one| matches!(one.trim(), "*") || one.trim() == tag)
        })
    });
    let mut reply = if known {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        typed(StatusCode::OK, content_type, body)
    };
    if let Ok(tag) = tag.parse() {
        reply.headers_mut().insert(ETAG, tag);
    }
    reply
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reserved_port_can_be_listened_on_and_refuses_until_then() {
        let reservation = Reservation::make().unwrap();
        assert!(TcpStream::connect(reservation.address()).await.is_err());
        let listener = std::net::TcpListener::bind(reservation.address()).unwrap();
        drop(reservation);
        assert!(TcpStream::connect(listener.local_addr().unwrap()).await.is_ok());
    }
}
