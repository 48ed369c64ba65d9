//! A layer before an identity provider that puts the refusal of a client in its own way.

use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a refusal (401, 403) of the identity provider is put. What it grants stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As the identity provider puts it.
    Own,
    /// 200 and a page that says it.
    Page,
    /// 200 and an empty body.
    Nothing,
    /// 200 and the JSON of an error.
    ErrorUnder200,
    /// 200, and as if the token were merely unknown: it looks at no secret.
    Inactive,
    /// 200, and as if the token were a good one.
    Active,
    /// 201 with the answer for an unknown token.
    Created,
    Forbidden,
    BadRequest,
    ToLogin,
    NotFound,
    Unavailable,
    /// The connection ends without an answer.
    Silence,
}

impl Manner {
    pub const ALL: [Self; 13] = [
        Self::Own,
        Self::Page,
        Self::Nothing,
        Self::ErrorUnder200,
        Self::Inactive,
        Self::Active,
        Self::Created,
        Self::Forbidden,
        Self::BadRequest,
        Self::ToLogin,
        Self::NotFound,
        Self::Unavailable,
        Self::Silence,
    ];

    /// Status, type and body; `None` is [`Self::Own`] or [`Self::Silence`].
    const fn answer(self) -> Option<(u16, &'static str, &'static str)> {
        Some(match self {
            Self::Own | Self::Silence => return None,
            Self::Page => (200, "text/html", "<html><body>Access denied</body></html>"),
            Self::Nothing => (200, "", ""),
            Self::ErrorUnder200 => (200, "application/json", r#"{"error":"invalid_client"}"#),
            Self::Inactive => (200, "application/json", r#"{"active":false}"#),
            Self::Active => (200, "application/json", r#"{"active":true,"sub":"alice"}"#),
            Self::Created => (201, "application/json", r#"{"active":false}"#),
            Self::Forbidden => (403, "", ""),
            Self::BadRequest => (400, "application/json", r#"{"error":"invalid_request"}"#),
            Self::ToLogin => (302, "text/html", "Log in first."),
            Self::NotFound => (404, "", ""),
            Self::Unavailable => (503, "", ""),
        })
    }
}

/// A running layer. It ends when it is dropped.
pub struct Layer {
    pub origin: String,
    manner: Arc<Mutex<Manner>>,
    serving: JoinHandle<()>,
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Layer {
    /// Before who listens at `origin`.
    pub async fn before(origin: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(Manner::Own));
        let shared = Arc::clone(&manner);
        let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        let origin = origin.to_owned();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, http.clone(), origin.clone(), Arc::clone(&shared)));
            }
        });
        Self { origin: format!("http://{address}"), manner, serving }
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock() = manner;
    }
}

async fn attend(
    stream: TcpStream,
    http: reqwest::Client,
    origin: String,
    manner: Arc<Mutex<Manner>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (http, origin, manner) = (http.clone(), origin.clone(), *manner.lock());
        async move { answer(&http, &origin, manner, request).await.ok_or(Silent) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Ends a connection.
#[derive(Debug)]
struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer")
    }
}

impl std::error::Error for Silent {}

async fn answer(
    http: &reqwest::Client,
    origin: &str,
    manner: Manner,
    request: Request<Incoming>,
) -> Option<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let path = head.uri.path_and_query()?.as_str();
    let passed = http.request(head.method, format!("{origin}{path}")).headers(head.headers);
    let own = passed.body(body).send().await.ok()?;
    let is_refusal = matches!(own.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let mut response = Response::builder();
    if is_refusal && manner == Manner::Silence {
        return None;
    }
    if is_refusal && let Some((status, kind, text)) = manner.answer() {
        if !kind.is_empty() {
            response = response.header(header::CONTENT_TYPE, kind);
        }
        if status == 302 {
            response = response.header(header::LOCATION, "/login");
        }
        return response.status(status).body(Full::from(text)).ok();
    }
    response = response.status(own.status());
    for (name, value) in own.headers() {
        if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION)
        {
            response = response.header(name, value);
        }
    }
    response.body(Full::from(own.bytes().await.ok()?)).ok()
}
