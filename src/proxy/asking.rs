//! Requests that we send to the upstream ourselves, to read the answer before anybody else does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName,
    USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use url::Url;

use super::answer::Answer;
use super::forward::{self, Client};
use super::route::{path_of, query_of};
use crate::config::Upstream;
use crate::exchange::inquiry::Purpose;
use crate::telemetry::metrics::Metrics;

/// Larger answers are none that we understand.
const MAX_SIZE: usize = 1024 * 1024;
/// How long a connection is kept: less than common servers keep theirs.
const IDLE: Duration = Duration::from_secs(4);

/// How clients of our own speak to the upstream: as the proxy does, and nowhere else.
pub fn client(upstream: &Upstream) -> Option<reqwest::ClientBuilder> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(upstream.connect_timeout)
        .pool_idle_timeout(IDLE);
    let Some(authorities) = &upstream.ca else { return Some(client) };
    let certificates: Result<Vec<_>, _> =
        authorities.iter().map(|der| reqwest::Certificate::from_der(der)).collect();
    Some(client.tls_certs_only(certificates.ok()?))
}

/// Asks the upstream in the name of clients.
#[derive(Debug)]
pub struct Asking {
    upstream: Upstream,
    client: reqwest::Client,
    metrics: Arc<Metrics>,
}

/// A request in another's name.
#[derive(Clone)]
pub struct Question {
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Question(…)")
    }
}

/// What the upstream answered, whole.
#[derive(Clone)]
pub struct Reply {
    pub head: ResponseHeader,
    pub body: Bytes,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("status", &self.head.status).finish_non_exhaustive()
    }
}

impl Reply {
    /// As a client gets it that asked for it: complete, and otherwise as it came.
    pub fn relayed(mut self) -> pingora::Result<Answer> {
        let version = self.head.version;
        forward::complete_response(&mut self.head, version)?;
        // It is written anew, with the body in one piece.
        self.head.remove_header(&http::header::TRANSFER_ENCODING);
        self.head.remove_header(&CONTENT_LENGTH);
        let headers = self.head.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Answer { status: self.head.status, headers, body: self.body })
    }
}

impl Asking {
    /// `None` where no client can be built: without certificate authorities of the system.
    pub fn new(upstream: &Upstream, metrics: &Arc<Metrics>) -> Option<Self> {
        let longest = upstream.connect_timeout.saturating_add(upstream.read_timeout);
        let client = client(upstream)?.timeout(longest);
        // Nothing is taken out of an answer that is passed on.
        let client = client.no_gzip().no_brotli().no_deflate().no_zstd().build().ok()?;
        Some(Self { upstream: upstream.clone(), client, metrics: Arc::clone(metrics) })
    }

    pub const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// A client's own request as it would be forwarded, but for the forms of the answer. `None`
    /// where its target could not be sent to the byte.
    pub fn forwarded(
        &self,
        purpose: Purpose,
        request: &RequestHeader,
        body: Bytes,
        client: Client,
    ) -> Option<Question> {
        let target = request.raw_path();
        let url = self.url(path_of(target), query_of(target))?;
        let mut upstream = request.clone();
        forward::end_hop(&mut upstream);
        forward::complete_request(&mut upstream, request, client).ok()?;
        let mut headers = upstream.headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if purpose == Purpose::Introspection {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        if let Some(host) = forward::host_of(request) {
            headers.insert(HOST, host);
        }
        Some(Question { url, headers, body })
    }

    /// A form of our own, as a client sends it that knows us by `host`.
    pub fn form(
        &self,
        path: &str,
        host: Option<&HeaderValue>,
        is_tls: bool,
        authorization: Option<HeaderValue>,
        body: String,
    ) -> Option<Question> {
        let url = self.url(path.as_bytes(), None)?;
        let mut request = RequestHeader::build(Method::POST, path.as_bytes(), None).ok()?;
        if let Some(host) = host {
            request.insert_header(HOST, host).ok()?;
        }
        let client = Client { address: None, is_tls };
        let mut headers: HeaderMap =
            forward::forwarding_fields(&request, client).into_iter().collect();
        let fixed = [
            (ACCEPT, "application/json"),
            (ACCEPT_ENCODING, "identity"),
            (CONTENT_TYPE, "application/x-www-form-urlencoded"),
            (USER_AGENT, concat!("cambio/", env!("CARGO_PKG_VERSION"))),
        ];
        headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.insert(VIA, forward::via(Version::HTTP_11));
        let given: [(HeaderName, Option<HeaderValue>); 2] =
            [(HOST, host.cloned()), (AUTHORIZATION, authorization)];
        headers.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Some(Question { url, headers, body: body.into() })
    }

    /// The upstream's answer; `None` where it gave none that is whole and in time.
    pub async fn ask(&self, question: Question, within: Option<Duration>) -> Option<Reply> {
        let Question { url, headers, body } = question;
        let began = Instant::now();
        let mut request = self.client.post(url).headers(headers).body(body);
        if let Some(within) = within {
            request = request.timeout(within);
        }
        let response = request.send().await;
        let status = response.as_ref().ok().map(|response| response.status().as_u16());
        let reply = match response {
            Ok(response) => read(response).await,
            Err(error) => Err(why(&error)),
        };
        self.metrics.upstream(&Method::POST, status, began.elapsed());
        reply
            .inspect_err(|why| tracing::warn!(why, "the upstream did not answer as it should"))
            .ok()
    }

    /// `None` where the URL would be another one than was asked for.
    fn url(&self, path: &[u8], query: Option<&[u8]>) -> Option<Url> {
        let mut url = self.upstream.url.clone();
        url.set_path(std::str::from_utf8(path).ok()?);
        url.set_query(query.map(std::str::from_utf8).transpose().ok()?);
        let is_same = url.path().as_bytes() == path && url.query().map(str::as_bytes) == query;
        is_same.then_some(url)
    }
}

async fn read(mut response: reqwest::Response) -> Result<Reply, &'static str> {
    const STATUS: &str = "the status is none";
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
        if body.len() + chunk.len() > MAX_SIZE {
            return Err("the answer is too large");
        }
        body.extend_from_slice(&chunk);
    }
    let headers = response.headers();
    let mut head =
        ResponseHeader::build(response.status(), Some(headers.len() + 1)).map_err(|_| STATUS)?;
    head.set_version(response.version());
    for (name, value) in headers {
        head.append_header(name, value).map_err(|_| STATUS)?;
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switches protocols, and nobody asked for that");
    }
    Ok(Reply { head, body: body.freeze() })
}

/// The library's own texts may quote what passed.
pub fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection, or its certificate is not one to trust"
    } else {
        "the connection broke"
    }
}
