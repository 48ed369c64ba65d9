//! X.509 certificates (RFC 5280) as a source of keys: the subject's public key, and how long it is
//! vouched for.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::algorithm::Algorithm;
use super::key_set::{KeyRefused, VerificationKey};
use crate::time::Timestamp;

/// Why a PEM text is no list of usable certificates.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    #[error("is not PEM")]
    NotPem,
    #[error("holds no certificate")]
    None,
    #[error("holds a private key: only the certificate may be given away")]
    PrivateKey,
    #[error("holds a PEM block that is not a certificate")]
    OtherBlock,
    #[error("holds a certificate that can't be read")]
    Malformed,
    #[error("holds a certificate whose key usage does not allow digital signatures")]
    KeyUsage,
    #[error("holds a certificate whose public key can't be used: {0}")]
    Key(KeyRefused),
}

/// A certificate whose key may verify signatures.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub key: VerificationKey,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads every certificate of a PEM text.
    pub fn parse_pem(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        // By their labels, because the PEM reader skips blocks that it does not know, and those that
        // are indented.
        let mut blocks = 0;
        for label in pem.split(|b| matches!(b, b'\r' | b'\n')).filter_map(label) {
            if label.ends_with(b"PRIVATE KEY") {
                return Err(CertificateError::PrivateKey);
            }
            if label != b"CERTIFICATE" {
                return Err(CertificateError::OtherBlock);
            }
            blocks += 1;
        }
        let certificates = CertificateDer::pem_slice_iter(pem)
            .map(|der| Self::parse_der(&der.map_err(|_| CertificateError::NotPem)?))
            .collect::<Result<Vec<_>, _>>()?;
        if certificates.len() != blocks {
            return Err(CertificateError::NotPem);
        }
        if certificates.is_empty() {
            return Err(CertificateError::None);
        }
        Ok(certificates)
    }

    fn parse_der(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |_| CertificateError::Malformed;
        let (rest, certificate) = X509Certificate::from_der(der).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        // RFC 5280 §4.2.1.3: where the extension stands, it binds.
        let usage = certificate.key_usage().map_err(|_| CertificateError::Malformed)?;
        if usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return Err(CertificateError::KeyUsage);
        }
        let key = public_key(&certificate).map_err(CertificateError::Key)?;
        let validity = certificate.validity();
        let seconds = |seconds: i64| Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            key,
            not_before: seconds(validity.not_before.timestamp()),
            not_after: seconds(validity.not_after.timestamp()),
        })
    }
}

/// What a line says that begins a PEM block (RFC 7468 §3).
fn label(line: &[u8]) -> Option<&[u8]> {
    line.trim_ascii().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")
}

fn public_key(certificate: &X509Certificate<'_>) -> Result<VerificationKey, KeyRefused> {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const EC: &str = "1.2.840.10045.2.1";
    /// RFC 5480 §2.1.1.1: the curves, by name alone.
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    /// RFC 8410 §3.
    const ED25519: &str = "1.3.101.112";
    let info = certificate.public_key();
    if info.subject_public_key.unused_bits != 0 {
        return Err(KeyRefused::NotAKey);
    }
    let octets = &info.subject_public_key.data;
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match info.algorithm.algorithm.to_id_string().as_str() {
        RSA => match info.parsed() {
            // ASN.1 integers are signed: a leading zero is theirs, not the key's.
            Ok(PublicKey::RSA(key)) => VerificationKey::rsa(
                key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus),
                key.exponent.strip_prefix(&[0]).unwrap_or(key.exponent),
            ),
            _ => Err(KeyRefused::NotAKey),
        },
        EC => {
            let algorithm = match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some(P256) => Algorithm::ES256,
                Some(P384) => Algorithm::ES384,
                _ => return Err(KeyRefused::Unsupported),
            };
            let key = VerificationKey::ec(octets)?;
            if key.algorithms().contains(algorithm) { Ok(key) } else { Err(KeyRefused::NotOnCurve) }
        }
        ED25519 => VerificationKey::ed25519(octets),
        _ => Err(KeyRefused::Unsupported),
    }
}
