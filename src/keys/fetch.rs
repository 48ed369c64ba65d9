//! One GET of a document that somebody else serves, held to bounds in size, time and place.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, DATE, ETAG, HOST, HeaderValue,
    IF_NONE_MATCH, USER_AGENT,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Position, Url};

use super::address::{Reach, Scope};
use super::connection::{Resolver, connect, tls_connector};
use super::error::KeyError;
use super::freshness;
use crate::jwt::key_set::{KeySetError, MAX_DOCUMENT};
use crate::time::Timestamp;

/// For a connection that is ready to be asked over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one answer, from connecting to its last byte.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest header of an answer.
const MAX_HEADER: usize = 64 * 1024;
/// The longest entity tag that is kept.
const MAX_ETAG: usize = 256;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("cambio/", env!("CARGO_PKG_VERSION")));

/// What to ask for.
#[derive(Debug)]
pub(super) struct Get<'a> {
    pub(super) url: &'a Url,
    pub(super) reach: Reach,
    pub(super) accept: &'static str,
    pub(super) bearer_token: Option<&'a SecretString>,
    /// Of what is at hand.
    pub(super) etag: Option<&'a HeaderValue>,
    /// Sent as well.
    pub(super) fields: HeaderMap,
}

/// What came.
#[derive(Debug)]
pub(super) enum Answer {
    /// `scope` is of the address that it came from.
    Document {
        body: Vec<u8>,
        etag: Option<HeaderValue>,
        ttl: Duration,
        date: Option<Timestamp>,
        scope: Scope,
    },
    NotModified {
        ttl: Duration,
    },
}

/// Whoever asks, and trusts one set of roots. These are loaded when they are first needed: that
/// takes time, and there may be none.
#[derive(Debug)]
pub(super) struct Http {
    ca: Option<Vec<CertificateDer<'static>>>,
    /// Instead of what follows from `ca`.
    config: Option<rustls::ClientConfig>,
    resolver: Resolver,
    tls: OnceLock<Option<Tls>>,
}

#[derive(Clone)]
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl Http {
    pub(super) const fn new(ca: Option<Vec<CertificateDer<'static>>>) -> Self {
        Self { ca, config: None, resolver: Resolver::System, tls: OnceLock::new() }
    }

    /// Whose certificates count is said by `config`.
    pub(super) const fn with(config: rustls::ClientConfig) -> Self {
        Self { ca: None, config: Some(config), resolver: Resolver::System, tls: OnceLock::new() }
    }

    pub(super) const fn ca(&self) -> Option<&Vec<CertificateDer<'static>>> {
        self.ca.as_ref()
    }

    /// Asks once. Redirects, proxies and cookies are out of the question.
    pub(super) async fn get(self: &Arc<Self>, get: Get<'_>) -> Result<Answer, KeyError> {
        timeout(TOTAL_TIMEOUT, self.ask(&get)).await.unwrap_or(Err(KeyError::Timeout))
    }

    async fn ask(self: &Arc<Self>, get: &Get<'_>) -> Result<Answer, KeyError> {
        let request = request(get)?;
        let tls = match get.url.scheme() {
            "https" => Some(self.tls().await?),
            "http" => None,
            _ => return Err(KeyError::Client),
        };
        let connecting = connect(get.url, get.reach, &self.resolver, tls.as_ref());
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        let (stream, scope) = connected.unwrap_or(Err(KeyError::Timeout))?;
        let handshake =
            http1::Builder::new().max_buf_size(MAX_HEADER).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| classify(&error))?;
        let answering = async move {
            let response = sender.send_request(request).await;
            answer(response.map_err(|error| classify(&error))?, get.etag.is_some(), scope).await
        };
        // One future is both: whoever gives it up ends the connection, too.
        let (mut connection, mut answering) = (pin!(connection), pin!(answering));
        tokio::select! {
            answer = &mut answering => answer,
            // What has arrived by then can still be read.
            _ = &mut connection => answering.await,
        }
    }

    /// Loading roots reads files, so it is done where it may take its time.
    async fn tls(self: &Arc<Self>) -> Result<TlsConnector, KeyError> {
        if self.tls.get().is_none() {
            let http = Arc::clone(self);
            let load = move || {
                http.tls.get_or_init(|| match &http.config {
                    Some(config) => Some(Tls(TlsConnector::from(Arc::new(config.clone())))),
                    None => tls_connector(http.ca.as_deref()).map(Tls),
                });
            };
            tokio::task::spawn_blocking(load).await.map_err(|_| KeyError::Client)?;
        }
        let loaded = self.tls.get().and_then(Option::as_ref);
        loaded.map(|Tls(connector)| connector.clone()).ok_or(KeyError::Client)
    }
}

fn request(get: &Get<'_>) -> Result<Request<Empty<Bytes>>, KeyError> {
    let value = |text: &str| HeaderValue::try_from(text).map_err(|_| KeyError::Client);
    let mut fields = HeaderMap::new();
    fields.insert(HOST, value(&get.url[Position::BeforeHost..Position::AfterPort])?);
    fields.insert(USER_AGENT, AGENT);
    fields.insert(ACCEPT, HeaderValue::from_static(get.accept));
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Their `Host` is the one that is meant, if they have one.
    fields.extend(get.fields.clone());
    if let Some(etag) = get.etag {
        fields.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(token) = get.bearer_token {
        let mut value = value(&format!("Bearer {}", token.expose_secret()))?;
        value.set_sensitive(true);
        fields.insert(AUTHORIZATION, value);
    }
    let target = &get.url[Position::BeforePath..Position::AfterQuery];
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.parse().map_err(|_| KeyError::Client)?;
    *request.headers_mut() = fields;
    Ok(request)
}

async fn answer(
    response: Response<Incoming>,
    is_conditional: bool,
    scope: Scope,
) -> Result<Answer, KeyError> {
    let ttl = freshness::ttl(response.headers());
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if is_conditional => return Ok(Answer::NotModified { ttl }),
        status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
            return Err(KeyError::Redirect);
        }
        status => return Err(KeyError::Status(status.as_u16())),
    }
    if is_encoded(response.headers()) {
        return Err(KeyError::Encoded);
    }
    let etag =
        response.headers().get(ETAG).filter(|etag| etag.as_bytes().len() <= MAX_ETAG).cloned();
    let date = date(response.headers());
    Ok(Answer::Document { body: read(response.into_body()).await?, etag, ttl, date, scope })
}

/// Whether the body is anything but the document itself (RFC 9110 §8.4): a small body that grows
/// on decoding would get around the bound on size.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .into_iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// By the clock of who answers (RFC 9110 §6.6.1).
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(date.as_second()).ok().map(Timestamp::from_secs)
}

/// The body, as long as it stays within bounds by what arrives, not by what is announced.
async fn read(mut arriving: Incoming) -> Result<Vec<u8>, KeyError> {
    let mut body = Vec::new();
    while let Some(frame) = arriving.frame().await {
        let Ok(chunk) = frame.map_err(|error| classify(&error))?.into_data() else { continue };
        if body.len() + chunk.len() > MAX_DOCUMENT {
            return Err(KeySetError::TooLarge.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Of what went wrong once there was a connection.
fn classify(error: &hyper::Error) -> KeyError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::FileTooLarge
        {
            return KeySetError::TooLarge.into();
        }
        cause = error.source();
    }
    KeyError::Interrupted
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener as TcpSocketListener, TcpSocket};
    use url::Host;

    use super::*;

    const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

    /// Listens on all of this machine's loopback addresses that there are, on one port, and counts.
    struct Victim {
        listeners: Vec<TcpListener>,
        port: u16,
    }

    impl Victim {
        fn listen() -> Self {
            let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = first.local_addr().unwrap().port();
            let more: [IpAddr; 2] =
                [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()];
            let more = more.iter().filter_map(|ip| TcpListener::bind((*ip, port)).ok());
            let listeners: Vec<_> = std::iter::once(first).chain(more).collect();
            for listener in &listeners {
                listener.set_nonblocking(true).unwrap();
            }
            Self { listeners, port }
        }

        fn accept(&self) -> Option<TcpStream> {
            self.listeners.iter().find_map(|listener| match listener.accept() {
                Ok((stream, _)) => Some(stream),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    None
                }
            })
        }

        /// Answers one request, once it comes.
        async fn answer(&self) {
            let stream = loop {
                match self.accept() {
                    Some(stream) => break stream,
                    None => tokio::task::yield_now().await,
                }
            };
            stream.set_nonblocking(true).unwrap();
            let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(HELLO).await.unwrap();
        }
    }

    fn http(resolver: Resolver) -> Arc<Http> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Arc::new(Http { resolver, ..Http::new(None) })
    }

    async fn get(http: &Arc<Http>, url: &str, reach: Reach) -> Result<Answer, KeyError> {
        let url = Url::parse(url).unwrap();
        let (accept, fields) = ("*/*", HeaderMap::new());
        http.get(Get { url: &url, reach, accept, bearer_token: None, etag: None, fields }).await
    }

    /// Ways to write an address that is not for the public, with a port to come.
    const SPELLINGS: [&str; 58] = [
        "127.0.0.1",
        "127.0.0.2",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0X7F000001",
        "017700000001",
        "0x7f.1",
        "0177.0.0.1",
        "0177.0x0.0.01",
        "127.0.0.0x1",
        "%31%32%37.0.0.1",
        "127%2e0%2E0.1",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "\u{2460}\u{2461}\u{2466}.\u{24ea}.\u{24ea}.\u{2460}",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "127\u{ff0e}0\u{ff61}0.1",
        "127.0.0.1\u{ad}",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "l\u{24de}calhost",
        "%6cocalhost",
        "0.0.0.0",
        "0",
        "0x0",
        "00.0.0",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[0000::0001]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fc00::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ];

    #[tokio::test]
    async fn no_spelling_of_an_address_leads_from_outside_to_where_nobody_outside_is() {
        let victim = Victim::listen();
        let http = http(Resolver::System);
        for spelling in SPELLINGS {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{spelling}:{}/jwks", victim.port);
                let error = get(&http, &url, Reach::LearntFrom(Scope::Public)).await.unwrap_err();
                // Not every system knows every one of the names.
                let is_name = matches!(Url::parse(&url).unwrap().host(), Some(Host::Domain(_)));
                let is_unknown = is_name && error == KeyError::Connect;
                assert!(error == KeyError::Address || is_unknown, "{url}: {error}");
                assert!(victim.accept().is_none(), "{url}");
            }
        }
        println!("{} spellings, each by http and https: 0 connections", SPELLINGS.len());
        // The same place where it is written in the configuration, or named by one from there.
        for spelling in ["127.0.0.1", "2130706433", "localhost"] {
            for reach in [Reach::AsWritten, Reach::LearntFrom(Scope::Loopback)] {
                let url = format!("http://{spelling}:{}/jwks", victim.port);
                let (answer, ()) = tokio::join!(get(&http, &url, reach), victim.answer());
                let Ok(Answer::Document { body, scope, .. }) = answer else { panic!("{answer:?}") };
                assert_eq!((body.as_slice(), scope), (&b"{}"[..], Scope::Loopback), "{url}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to_when_it_is_connected_to() {
        let victim = Victim::listen();
        let to = |ips: &[&str]| {
            http(Resolver::Fixed(ips.iter().map(|ip| ip.parse().unwrap()).collect()))
        };
        let url = format!("http://issuer.example:{}/jwks", victim.port);
        for inside in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254"] {
            for resolved in [&[inside][..], &[inside, "127.0.0.1"][..]] {
                let answer = get(&to(resolved), &url, Reach::LearntFrom(Scope::Public)).await;
                assert_eq!(answer.unwrap_err(), KeyError::Address, "{resolved:?}");
                assert!(victim.accept().is_none(), "{resolved:?}");
            }
        }
        // Of several addresses those that are refused are left out, not connected to in turn.
        let mixed = to(&["10.0.0.1", "127.0.0.1"]);
        for (http, reach) in [
            (to(&["127.0.0.1"]), Reach::AsWritten),
            (to(&["127.0.0.1"]), Reach::LearntFrom(Scope::Loopback)),
            (mixed, Reach::LearntFrom(Scope::Loopback)),
        ] {
            let (answer, ()) = tokio::join!(get(&http, &url, reach), victim.answer());
            assert!(matches!(answer, Ok(Answer::Document { .. })), "{answer:?}");
        }
    }

    /// A listener whose queue is full, so that nothing comes back to whoever connects; with what
    /// fills it.
    fn silent(port: u16) -> (TcpSocketListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 3), port).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let filling = || TcpStream::connect_timeout(&address, Duration::from_millis(50));
        (listener, std::iter::from_fn(|| filling().ok()).take(100).collect())
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_is_silent_keeps_nobody_from_the_next() {
        let victim = Victim::listen();
        let url = format!("http://issuer.example:{}/jwks", victim.port);
        let to = |ips: Vec<IpAddr>| http(Resolver::Fixed(ips));
        let dead = Ipv4Addr::new(127, 0, 0, 3).into();
        let several = to([vec![dead; 10], vec![Ipv4Addr::LOCALHOST.into()]].concat());
        // At first nobody listens there, and then nobody answers.
        let (answer, ()) = tokio::join!(get(&several, &url, Reach::AsWritten), victim.answer());
        assert!(matches!(answer, Ok(Answer::Document { .. })), "{answer:?}");
        let _silent = silent(victim.port);
        let error = get(&to(vec![dead]), &url, Reach::AsWritten).await.unwrap_err();
        assert_eq!(error, KeyError::Timeout);
        let (answer, ()) = tokio::join!(get(&several, &url, Reach::AsWritten), victim.answer());
        assert!(matches!(answer, Ok(Answer::Document { .. })), "{answer:?}");
        // Only so many are tried.
        let many = to([vec![dead; 16], vec![Ipv4Addr::LOCALHOST.into()]].concat());
        assert_eq!(get(&many, &url, Reach::AsWritten).await.unwrap_err(), KeyError::Timeout);
        assert!(victim.accept().is_none());
    }
}
