//! A token issuer's web server, which answers as a test wants and remembers what it was asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::leap::until;

/// What the body of an answer is like.
pub enum Content {
    Whole(Option<Bytes>),
    /// Some of it, then nothing more.
    Stalls(Option<Bytes>),
    /// It never ends. Counts the chunks of 64 KiB.
    Endless(Arc<Mutex<usize>>),
    /// Some of it, then the connection breaks.
    Breaks(Option<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match self.get_mut() {
            Self::Whole(bytes) => match bytes.take() {
                Some(bytes) => frame(bytes),
                None => Poll::Ready(None),
            },
            Self::Stalls(bytes) => match bytes.take() {
                Some(bytes) => frame(bytes),
                None => Poll::Pending,
            },
            Self::Endless(chunks) => {
                *chunks.lock().unwrap() += 1;
                frame(Bytes::from(vec![b' '; 64 * 1024]))
            }
            Self::Breaks(bytes) => match bytes.take() {
                Some(bytes) => frame(bytes),
                None => Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
            },
        }
    }
}

pub type Answer = Box<dyn Fn(&Asked) -> Response<Content> + Send + Sync>;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
}

pub struct Issuer {
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    asked: Mutex<Vec<Asked>>,
    answer: Mutex<Answer>,
    /// Each answer takes a permit.
    gate: Semaphore,
    /// Requests that have not been answered.
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// A request that has not been answered, and whose asker is still there.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn one(shared: &'a Shared) -> Self {
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_open.fetch_max(open, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer with this body.
pub fn whole(body: impl Into<Bytes>) -> Response<Content> {
    Response::new(Content::Whole(Some(body.into())))
}

pub fn status(status: u16) -> Response<Content> {
    Response::builder().status(status).body(Content::Whole(None)).unwrap()
}

impl Issuer {
    /// On loopback, with plain HTTP.
    pub async fn start(
        answer: impl Fn(&Asked) -> Response<Content> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Box::new(answer), None).await
    }

    pub async fn start_tls(
        tls: TlsAcceptor,
        answer: impl Fn(&Asked) -> Response<Content> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Box::new(answer), Some(tls)).await
    }

    async fn listen(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            answer: Mutex::new(answer),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    let answer = service_fn(|request| answer_one(&shared, request));
                    let http = http1::Builder::new();
                    // Clients break off on purpose.
                    if let Some(tls) = tls {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                    } else {
                        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                    }
                });
            }
        });
        Self { address, scheme, shared }
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("{}://{}{path}", self.scheme, self.address)).unwrap()
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answer: impl Fn(&Asked) -> Response<Content> + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(answer);
    }

    /// Answers nothing more until [`Self::go_on`].
    pub fn hang(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn go_on(&self) {
        self.shared.gate.add_permits(1 << 20);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// How many requests wait for an answer.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many have at a time.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    pub async fn asked_times(&self, times: usize) {
        until(|| self.count() >= times).await;
        assert_eq!(self.count(), times);
    }
}

async fn answer_one(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Content>, Infallible> {
    let _open = Open::one(shared);
    let (parts, _) = request.into_parts();
    let asked = Asked { path: parts.uri.path().to_owned(), headers: parts.headers };
    shared.asked.lock().unwrap().push(asked.clone());
    shared.gate.acquire().await.unwrap().forget();
    Ok((shared.answer.lock().unwrap())(&asked))
}
