//! Certificates for tests, and who trusts them.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::support::write_private;

/// A listener that shows them.
pub const LISTEN: &str = "listen: [{ address: 127.0.0.1:0, tls: { certificate: { file: tls.crt }, private_key: { file: tls.key } } }]\n";

/// A certificate authority, and a certificate of it for `localhost` and 127.0.0.1.
pub struct Authority {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// PEM of a certificate and its key.
    pub fn issue(&self) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn write_leaf(&self, folder: &Path) {
        let (certificate, key) = self.issue();
        std::fs::write(folder.join("tls.crt"), certificate).unwrap();
        write_private(&folder.join("tls.key"), &key);
    }

    pub fn connector(&self, alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}
