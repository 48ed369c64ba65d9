//! Certificates that are not a token issuer's: those of authorities that are trusted, and the one
//! that a listener shows.

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::reference::Privacy;
use super::{Check, given};
use crate::config::ListenerTls;
use crate::config::document::NodeId;
use crate::config::raw::{FileReference, Maybe, Tls};

/// Whether a text has the frame of a private key, in whatever encoding.
pub(super) fn has_private_key(pem: &[u8]) -> bool {
    const FRAME: &[u8] = b"PRIVATE KEY-----";
    pem.windows(FRAME.len()).any(|window| window == FRAME)
}

impl Check<'_> {
    /// Every certificate of a PEM text, of which there is at least one.
    fn chain(&self, node: NodeId, pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
        let refuse = |message: &str| {
            self.fault(node, message);
            None
        };
        if has_private_key(pem) {
            return refuse("the file holds a private key: name the certificate's file");
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Some(certificates),
            Ok(_) | Err(_) => refuse(
                "the file holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`): \
                 name one that does",
            ),
        }
    }

    /// Certificates of authorities, to be trusted instead of the system's.
    pub(super) fn authorities(
        &self,
        ca: &Maybe<FileReference>,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let (node, reference) = given(ca)?;
        let (node, pem) = self.file_reference(node, reference, Privacy::Public)?;
        let certificates = self.chain(node, &pem)?;
        let mut roots = RootCertStore::empty();
        if certificates.iter().any(|certificate| roots.add(certificate.clone()).is_err()) {
            self.fault(node, "the file holds a certificate that can't be read: export it again");
            return None;
        }
        Some(certificates)
    }

    /// A chain and a key that belong together.
    pub(super) fn listener_tls(&self, node: NodeId, tls: &Tls) -> Option<ListenerTls> {
        let hint = "as in { file: PATH }";
        let chain = self
            .need(node, "certificate", hint, &tls.certificate)
            .and_then(|(node, file)| self.file_reference(node, file, Privacy::Public))
            .and_then(|(node, pem)| Some((node, self.chain(node, &pem)?)));
        let key = self
            .need(node, "private_key", hint, &tls.private_key)
            .and_then(|(node, file)| self.file_reference(node, file, Privacy::Guarded));
        let ((chain_node, chain), (key_node, pem)) = (chain?, key?);
        let Ok(key) = PrivateKeyDer::from_pem_slice(&pem) else {
            self.fault(
                key_node,
                "the file holds no private key in PEM that is not encrypted: convert it with \
                 `openssl pkcs8 -topk8 -nocrypt`",
            );
            return None;
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let Ok(signing) = provider.key_provider.load_private_key(key.clone_key()) else {
            self.fault(
                key_node,
                "the private key is of a kind that TLS does not use: take another",
            );
            return None;
        };
        match CertifiedKey::new(chain.clone(), signing).keys_match() {
            Ok(()) => Some(ListenerTls { chain, key }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                self.fault(
                    key_node,
                    "the private key is not that of the first certificate in the chain: name the \
                     key that belongs to it, or put the server's own certificate first",
                );
                None
            }
            Err(_) => {
                self.fault(chain_node, "the first certificate can't be read: export it again");
                None
            }
        }
    }
}
