//! Where the keys of a trusted token issuer come from: exactly one source.

use std::sync::Arc;

use ::url::Url;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::certificates::has_private_key;
use super::reference::Privacy;
use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{
    self, CertificateSource, FetchedJwks, FileReference, JwksEndpoint, TrustedTokenIssuer,
};
use crate::config::scalar::OneOrMany;
use crate::config::well_known;
use crate::config::{Discovery, Endpoint, FixedKeys, KeySource};
use crate::jwt::algorithm::AlgorithmSet;
use crate::jwt::certificate::{Certificate, CertificateError};
use crate::jwt::key_set::KeySet;
use crate::time::Timestamp;

const SOURCES: [&str; 4] = ["jwks_endpoint", "discovery", "certificate", "jwks"];

impl Check<'_> {
    pub(super) fn key_source(
        &self,
        node: NodeId,
        raw: &TrustedTokenIssuer,
        issuer: Option<&str>,
        algorithms: AlgorithmSet,
    ) -> Option<KeySource> {
        let is_off = matches!(given(&raw.discovery), Some((_, raw::Discovery::Switch(false))));
        let present = [
            raw.jwks_endpoint.is_some(),
            raw.discovery.is_some() && !is_off,
            raw.certificate.is_some(),
            raw.jwks.is_some(),
        ];
        let one = self.one_of(node, &SOURCES, &present);
        // Each is looked into even where there are too many, so that all faults are told.
        let endpoint = given(&raw.jwks_endpoint)
            .and_then(|(node, endpoint)| self.jwks_endpoint(node, endpoint));
        let discovery = given(&raw.discovery)
            .filter(|_| !is_off)
            .and_then(|(node, discovery)| self.discovery(node, discovery, issuer?));
        let certificates = given(&raw.certificate)
            .and_then(|(node, sources)| self.certificates(node, sources, algorithms));
        let jwks = given(&raw.jwks).and_then(|(node, file)| self.jwks_file(node, file));
        one?;
        endpoint
            .map(KeySource::Endpoint)
            .or(discovery.map(KeySource::Discovery))
            .or(certificates.or(jwks).map(KeySource::Fixed))
    }

    pub(super) fn jwks_endpoint(&self, node: NodeId, endpoint: &JwksEndpoint) -> Option<Endpoint> {
        let FetchedJwks { url, ca, bearer_token } = match endpoint {
            JwksEndpoint::Url(url) => {
                let url = self.fetched_url(node, url)?;
                return Some(Endpoint { url, ca: None, bearer_token: None });
            }
            JwksEndpoint::Detailed(detailed) => detailed,
        };
        let authorities = self.authorities(ca);
        let bearer_token = given(bearer_token)
            .and_then(|(node, reference)| self.secret_reference(node, reference, Privacy::Hidden))
            .and_then(|(node, token)| self.bearer_token(node, &token));
        let hint = "such as `url: https://issuer.example.com/jwks`";
        let (node, url) = self.need(node, "url", hint, url)?;
        let url = self.fetched_url(node, url)?;
        if let Some(ca) = ca
            && url.scheme() == "http"
        {
            self.warn(ca.node, "has no effect with an http URL");
        }
        Some(Endpoint { url, ca: authorities, bearer_token })
    }

    /// RFC 6750 §2.1, loosely: what can stand in a header field.
    pub(super) fn bearer_token(&self, node: NodeId, content: &[u8]) -> Option<SecretString> {
        let token = self.trimmed_secret(node, content)?;
        let text = std::str::from_utf8(&token)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_graphic()));
        if text.is_none() {
            self.fault(
                node,
                "the token that is named here has blanks or other characters that no \
                 bearer token has: write it there alone",
            );
        }
        text.map(SecretString::from)
    }

    fn discovery(
        &self,
        node: NodeId,
        discovery: &raw::Discovery,
        issuer: &str,
    ) -> Option<Discovery> {
        let (mut origins, mut ca) = (Vec::new(), None);
        if let raw::Discovery::Detailed(settings) = discovery {
            ca = self.authorities(&settings.ca);
            if let Some((node, list)) = given(&settings.origins) {
                for (node, origin) in self.items(node, list) {
                    if let Some(url) =
                        self.fetched_url(node, origin).and_then(|_| self.origin_url(node, origin))
                    {
                        origins.push(url);
                    }
                }
            }
        }
        let metadata = metadata_urls(issuer);
        if metadata.is_empty() {
            self.fault(
                node,
                "discovery needs an `issuer` that is an https URL (or http on loopback) without \
                 query, fragment and user name: name the keys' place with `jwks_endpoint` instead",
            );
            return None;
        }
        Some(Discovery { metadata, issuer: issuer.to_owned(), origins, ca })
    }

    fn certificates(
        &self,
        node: NodeId,
        sources: &OneOrMany<CertificateSource>,
        algorithms: AlgorithmSet,
    ) -> Option<FixedKeys> {
        let mut certificates = Vec::new();
        for (node, source) in self.items(node, sources.fields()) {
            let CertificateSource { file, pem } = source;
            let one = self.one_of(node, &["file", "pem"], &[file.is_some(), pem.is_some()]);
            let text = given(pem)
                .map(|(node, pem)| (node, Zeroizing::new(pem.clone().into_bytes())))
                .or_else(|| {
                    let (node, file) = given(file)?;
                    Some((node, self.file(node, file, Privacy::Public)?))
                });
            if let (Some(()), Some((node, pem))) = (one, text) {
                certificates.extend(self.certificate(node, &pem, algorithms));
            }
        }
        let not_after = certificates.iter().map(|certificate| certificate.not_after).min();
        let keys = certificates.into_iter().map(|certificate| certificate.key).collect();
        match KeySet::from_keys(keys) {
            Ok(keys) => Some(FixedKeys { keys: Arc::new(keys), not_after }),
            // Nothing is left where each one was refused, which was told.
            Err(_) if not_after.is_none() => None,
            Err(error) => {
                self.fault(node, format!("{error}: name fewer certificates"));
                None
            }
        }
    }

    /// The certificates of one PEM text.
    fn certificate(&self, node: NodeId, pem: &[u8], algorithms: AlgorithmSet) -> Vec<Certificate> {
        let parsed = if has_private_key(pem) {
            Err(CertificateError::PrivateKey)
        } else {
            Certificate::parse_pem(pem)
        };
        let certificates = match parsed {
            Ok(certificates) => certificates,
            Err(error) => {
                self.fault(node, format!("{error}: name the issuer's certificate in PEM"));
                return Vec::new();
            }
        };
        let now = self.surroundings.now;
        for certificate in &certificates {
            if certificate.not_after < now {
                let when = date(certificate.not_after);
                self.warn(
                    node,
                    format!("the certificate expired on {when}: its key is used all the same, but ask the issuer for the next one"),
                );
            } else if certificate.not_before > now {
                let when = date(certificate.not_before);
                self.warn(
                    node,
                    format!(
                        "the certificate is not valid before {when}: its key is used all the same"
                    ),
                );
            }
            if certificate.key.algorithms().and(algorithms).is_empty() {
                self.warn(
                    node,
                    "none of the issuer's `algorithms` fits the certificate's key: add the one \
                     that it signs with",
                );
            }
        }
        certificates
    }

    fn jwks_file(&self, node: NodeId, file: &FileReference) -> Option<FixedKeys> {
        let (node, document) = self.file_reference(node, file, Privacy::Public)?;
        match KeySet::from_jwks(&document) {
            Ok((keys, skipped)) => {
                for key in skipped {
                    let (index, why) = (key.index, key.why);
                    self.warn(node, format!("keys[{index}] of the file is passed over: {why}"));
                }
                Some(FixedKeys { keys: Arc::new(keys), not_after: None })
            }
            Err(error) => {
                self.fault(node, format!("{error}: name the issuer's JWK Set"));
                None
            }
        }
    }
}

/// OpenID Connect Discovery §4.1 first, then RFC 8414 §3.1.
fn metadata_urls(issuer: &str) -> Vec<Url> {
    let clean = issuer.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let Some(url) = Url::parse(issuer).ok().filter(|url| {
        clean
            && super::url::is_protected(url)
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    }) else {
        return Vec::new();
    };
    let places = well_known::of_issuer(url.path());
    let place = |path: String| {
        let mut url = url.clone();
        url.set_path(&path);
        url
    };
    places.into_iter().map(place).collect()
}

/// The day of a timestamp, to be read by people.
fn date(timestamp: Timestamp) -> String {
    i64::try_from(timestamp.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| timestamp.to_string(), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_the_two_specifications_say() {
        let urls = |issuer| metadata_urls(issuer).iter().map(Url::to_string).collect::<Vec<_>>();
        for issuer in ["https://a.example/realms/x", "https://a.example/realms/x/"] {
            assert_eq!(
                urls(issuer),
                [
                    "https://a.example/realms/x/.well-known/openid-configuration",
                    "https://a.example/.well-known/oauth-authorization-server/realms/x",
                ]
            );
        }
        assert_eq!(
            urls("https://a.example"),
            [
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ]
        );
        for bad in ["a.example", "http://a.example", "https://a.example?x", "https://u@a.example"] {
            assert!(metadata_urls(bad).is_empty(), "{bad}");
        }
        assert_eq!(metadata_urls("http://127.0.0.1:8080").len(), 2);
    }
}
