//! TLS towards clients: certificates of the configuration, ALPN for HTTP/2 and HTTP/1.1.

use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use crate::config::ListenerTls;

/// What accepts TLS connections with this certificate. Secret sessions of another certificate are
/// not resumed: each has an acceptor of its own.
pub fn acceptor(tls: &ListenerTls) -> Result<Arc<Acceptor>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(tls.chain.clone(), tls.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(Acceptor::from_server_config(Arc::new(config))))
}
