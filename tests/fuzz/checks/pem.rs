//! Of a PEM text every block is a certificate whose key can be used, or the text is refused.
//!
//! An input that begins as DER is put into a block of its own first: the encoding would hide it from
//! a fuzzer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cambio::jwt::certificate::{Certificate, CertificateError};

use super::forgery;

pub fn check(data: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    let wrapped = match data {
        [SEQUENCE, ..] => Some(block(data)),
        _ => None,
    };
    let pem = wrapped.as_deref().unwrap_or(data);
    let labels = labels(pem);
    let result = Certificate::parse_pem(pem);
    match &result {
        Ok(certificates) => {
            assert_eq!(labels, vec!["CERTIFICATE"; certificates.len()]);
            assert!(!certificates.is_empty());
            for certificate in certificates {
                assert!(!certificate.key.algorithms().is_empty());
                assert_eq!(certificate.key.kid(), None);
                forgery::refused_by(&certificate.key);
            }
            if wrapped.is_some() {
                assert_eq!(length(data), Some(data.len()), "something stands after the end");
            }
        }
        Err(CertificateError::PrivateKey) => {
            assert!(labels.iter().any(|label| label.ends_with("PRIVATE KEY")));
        }
        Err(CertificateError::OtherBlock) => {
            assert!(labels.iter().any(|label| *label != "CERTIFICATE"));
        }
        Err(CertificateError::None) => assert!(labels.is_empty(), "a certificate was passed over"),
        Err(
            CertificateError::NotPem
            | CertificateError::Malformed
            | CertificateError::KeyUsage
            | CertificateError::Key(_),
        ) => {}
    }
    assert_eq!(format!("{:?}", Certificate::parse_pem(pem)), format!("{result:?}"));
    result.is_ok()
}

fn block(der: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").into_bytes()
}

/// What each line says that begins a block (RFC 7468 §3), whatever comes after it.
fn labels(pem: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(pem);
    let lines =
        text.split(['\n', '\r']).map(|line| line.trim_matches(|c: char| c.is_ascii_whitespace()));
    let labels = lines.filter_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    labels.map(str::to_owned).collect()
}

/// How long the value is that stands at the beginning (X.690 §8.1.3), with its identifier.
fn length(der: &[u8]) -> Option<usize> {
    let (first, rest) = der.get(1..)?.split_first()?;
    let first = usize::from(*first);
    if first < 0x80 {
        return Some(2 + first);
    }
    let octets = rest.get(..first - 0x80)?;
    let length = octets.iter().fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet));
    Some(2 + octets.len() + length)
}
