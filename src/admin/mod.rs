//! `/metrics`, `/livez`, `/readyz`, `/status` and `/revoke` on their own listener.

mod access;
pub mod order;
mod revoke;
mod status;

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::SecretString;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use self::order::{Order, Revoked};
pub use self::status::{
    Check, ClientAuthenticationStatus, Configuration, FindingStatus, ListenerStatus,
    MissedKeyStatus, OverlayStatus, Readiness, Reload, SigningKeyStatus, Status, StoreStatus,
    VERSION, rfc3339_text,
};
use crate::telemetry::metrics::Metrics;

/// Connections at a time. More wait.
const MAX_CONNECTIONS: usize = 64;
/// For the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection as a whole, which is one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// For a revocation beyond that: a large store is looked through.
pub const REVOCATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Before connections are accepted again where the system has none to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What carries a revocation out.
pub type Revoke = dyn Fn(Order) -> Pin<Box<dyn Future<Output = Revoked> + Send>> + Send + Sync;

/// What the listener shows and does.
pub struct Admin {
    pub metrics: Arc<Metrics>,
    /// How the process is at this moment. Called for `/readyz` and `/status`.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// What operators must show at this moment to change anything.
    pub token: Box<dyn Fn() -> Option<SecretString> + Send + Sync>,
    /// Called for `/revoke`.
    pub revoke: Box<Revoke>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Answers until `stop` is true or its sender gone, then lets requests in flight end. It is to be
/// stopped last: operators watch a drain here.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    loop {
        tokio::select! {
            () = told(&mut stop) => break,
            accepted = accept(&listener, &permits) => match accepted {
                Some((stream, peer, permit)) => {
                    tokio::spawn(converse(stream, peer, Arc::clone(&admin), permit));
                }
                None => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
    drop(listener);
    // Each gives its permit back when it ends, and each ends in bounded time.
    let _ = permits.acquire_many(all).await;
}

/// Until `stop` is true. Nobody can say so any more once its sender is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer.ip(), permit)),
        Err(error) => {
            tracing::warn!(%error, "the admin listener cannot accept");
            None
        }
    }
}

/// One connection, one request.
async fn converse(
    stream: TcpStream,
    peer: IpAddr,
    admin: Arc<Admin>,
    permit: OwnedSemaphorePermit,
) {
    let is_revoking = AtomicBool::new(false);
    let answer = service_fn(|request: Request<Incoming>| {
        let (admin, is_revoking) = (&admin, &is_revoking);
        async move {
            if request.uri().path() != "/revoke" {
                return Ok::<_, Infallible>(answer(admin, request.method(), request.uri().path()));
            }
            is_revoking.store(true, Ordering::Relaxed);
            let answer = revoke::answer(admin, peer, request).await;
            is_revoking.store(false, Ordering::Relaxed);
            Ok(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    // Whoever breaks off or is too slow has no answer; there is nobody to tell.
    let ended = timeout(CONNECTION_TIMEOUT, connection.as_mut()).await;
    if ended.is_err() && is_revoking.load(Ordering::Relaxed) {
        let _ = timeout(REVOCATION_TIMEOUT, connection).await;
    }
    drop(permit);
}

fn answer(admin: &Admin, method: &Method, path: &str) -> Response<String> {
    if !["/metrics", "/livez", "/readyz", "/status"].contains(&path) {
        return response(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned());
    }
    if method != Method::GET && method != Method::HEAD {
        let text = "only GET and HEAD are allowed\n".to_owned();
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => response(StatusCode::OK, METRICS, admin.metrics.render()),
        "/livez" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let readiness = (admin.status)().readiness();
            let status =
                if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(status, &readiness)
        }
        _ => json(StatusCode::OK, &(admin.status)()),
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<String> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => response(status, JSON, text + "\n"),
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
    }
}

fn response(status: StatusCode, content_type: HeaderValue, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
