//! A connection to a place that may be reached, and a bound on all that may come over it.
//!
//! Names are resolved here, and what they resolve to is looked at, and exactly that is connected
//! to: a name which resolves otherwise from one moment to the next gains nothing by it.
//!
//! All else that is fetched in this project goes through reqwest. Here it does not do: its bounds
//! are on time and on what it hands out, and interim responses (RFC 9110 §15.2) are neither. An
//! issuer that sends them without end has them parsed at full speed until the time is over, on a
//! thread that others wait for. reqwest passes no extension of a request on to hyper, where such
//! responses could be counted, and what a `connector_layer` gets is a connection that it can't put
//! anything around. So the bytes are counted here, below HTTP and below TLS, where nothing gets
//! around it; what is left of reqwest's part is below, and HTTP itself is hyper's as before.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::address::{Reach, Scope};
use super::error::KeyError;
use crate::jwt::key_set::{KeySetError, MAX_DOCUMENT};

/// The most that is read for one answer: a document and all around it.
const MAX_RECEIVED: usize = MAX_DOCUMENT + 256 * 1024;
/// After which the next of several addresses is tried, too (RFC 8305 §5, which allows no less).
const ATTEMPT_DELAY: Duration = Duration::from_millis(100);
/// More addresses than these are not tried.
const MAX_ADDRESSES: usize = 16;

/// Who knows addresses.
#[derive(Clone, Debug)]
pub(super) enum Resolver {
    System,
    /// Every name has these.
    #[cfg(test)]
    Fixed(Vec<IpAddr>),
}

impl Resolver {
    async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(lookup_host((name, port)).await?.collect()),
            #[cfg(test)]
            Self::Fixed(ips) => Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
        }
    }
}

/// What HTTP is spoken over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects, with TLS where there is a connector. With the scope of the address that answered.
pub(super) async fn connect(
    url: &Url,
    reach: Reach,
    resolver: &Resolver,
    tls: Option<&TlsConnector>,
) -> Result<(Box<dyn Stream>, Scope), KeyError> {
    let port = url.port_or_known_default().ok_or(KeyError::Client)?;
    let (mut addresses, name) = match url.host() {
        Some(Host::Ipv4(ip)) => (vec![(ip, port).into()], ServerName::from(IpAddr::from(ip))),
        Some(Host::Ipv6(ip)) => (vec![(ip, port).into()], ServerName::from(IpAddr::from(ip))),
        Some(Host::Domain(domain)) => {
            let known = resolver.addresses(domain, port).await.map_err(|_| KeyError::Connect)?;
            let name = ServerName::try_from(domain.to_owned()).map_err(|_| KeyError::Client)?;
            (known, name)
        }
        None => return Err(KeyError::Client),
    };
    let is_known = !addresses.is_empty();
    addresses.retain(|address| reach.allows(address.ip()));
    if is_known && addresses.is_empty() {
        return Err(KeyError::Address);
    }
    let stream = first(&addresses).await.ok_or(KeyError::Connect)?;
    let peer = stream.peer_addr().map_err(|_| KeyError::Connect)?.ip();
    let stream = Metered { stream, left: MAX_RECEIVED };
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let handshake = tls.connect(name, stream).await;
            Box::new(handshake.map_err(|error| classify(&error))?)
        }
    };
    Ok((stream, Scope::of(peer)))
}

/// The first that answers. Each is given a while before the next is tried beside it, so that one
/// that is silent, as all of a broken IPv6 are, keeps nobody from the others.
async fn first(addresses: &[SocketAddr]) -> Option<TcpStream> {
    let mut attempts = JoinSet::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        attempts.spawn(TcpStream::connect(*address));
        if let Ok(Some(Ok(Ok(stream)))) = timeout(ATTEMPT_DELAY, attempts.join_next()).await {
            return Some(stream);
        }
    }
    while let Some(attempt) = attempts.join_next().await {
        if let Ok(Ok(stream)) = attempt {
            return Some(stream);
        }
    }
    None
}

/// Roots of its own are the only ones that it trusts; without them the system's are. `None` where
/// they can't be loaded.
pub(super) fn tls_connector(ca: Option<&[CertificateDer<'static>]>) -> Option<TlsConnector> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let builder = match ca {
        None => builder.with_platform_verifier().ok()?,
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for root in ca {
                roots.add(root.clone()).ok()?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Some(TlsConnector::from(Arc::new(builder.with_no_client_auth())))
}

/// Of what went wrong while TLS began.
fn classify(error: &io::Error) -> KeyError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return KeySetError::TooLarge.into();
    }
    let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    if inner.is_some_and(<dyn Error>::is::<rustls::Error>) {
        KeyError::Tls
    } else {
        KeyError::Connect
    }
}

/// A stream from which only so much is read, and what one more read brings.
struct Metered<S> {
    stream: S,
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
