//! Why an issuer's keys could not be fetched.

use thiserror::Error;

use crate::jwt::key_set::KeySetError;

/// Nothing of what came over the network is in any of these.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("no answer in time")]
    Timeout,
    #[error("no connection")]
    Connect,
    #[error("the TLS handshake failed: the certificate is not one to trust, or not for this host")]
    Tls,
    #[error("the connection broke")]
    Interrupted,
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is a redirect, which is not followed")]
    Redirect,
    #[error("the answer has a content coding, which was not asked for")]
    Encoded,
    #[error(transparent)]
    Set(#[from] KeySetError),
    #[error("the set has private keys only: its issuer gives them away")]
    PrivateKeys,
    #[error("the metadata is larger than allowed, or not a JSON object, or has no `jwks_uri`")]
    Metadata,
    #[error("the metadata names another issuer")]
    MetadataIssuer,
    #[error(
        "the metadata's `jwks_uri` is not HTTPS on the issuer's own origin, or one named in `origins`"
    )]
    JwksUri,
    #[error("the place that the metadata names is at an address where it may not lead")]
    Address,
    #[error("the HTTP client could not be set up: are there root certificates?")]
    Client,
}
