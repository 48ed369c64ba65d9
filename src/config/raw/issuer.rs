//! Trusted token issuers as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FileReference, List, Maybe, SecretReference};
use crate::config::scalar::{OneOrMany, Span, Text};
use crate::config::shape::Field;
use crate::jwt::algorithm::Algorithm;

/// A third party whose JWTs are accepted. Its keys come from exactly one of `jwks_endpoint`,
/// `discovery`, `certificate` and `jwks`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TrustedTokenIssuer {
    /// Unique. The only form in which the issuer appears in metrics and logs.
    #[schemars(required)]
    pub(in crate::config) name: Maybe<Text>,
    /// `iss` of its tokens, to the byte.
    #[schemars(required)]
    pub(in crate::config) issuer: Maybe<Text>,
    /// The name by which this issuer knows us: another audience that its tokens may name.
    pub(in crate::config) alias: Maybe<OneOrMany<Text>>,
    /// Where its JWKS is fetched.
    pub(in crate::config) jwks_endpoint: Maybe<JwksEndpoint>,
    /// Takes `jwks_uri` from the issuer's metadata.
    pub(in crate::config) discovery: Maybe<Discovery>,
    /// Its X.509 certificates in PEM.
    pub(in crate::config) certificate: Maybe<OneOrMany<CertificateSource>>,
    /// Its JWKS in a file.
    pub(in crate::config) jwks: Maybe<FileReference>,
    /// Default: true.
    pub(in crate::config) enabled: Maybe<bool>,
    /// What it may sign with. Default: RS256, ES256, PS256, EdDSA.
    #[schemars(length(min = 1))]
    pub(in crate::config) algorithms: Maybe<List<VerificationAlgorithm>>,
    /// How far its clock may be off, 0s to 120s. Default: 30s.
    pub(in crate::config) clock_skew: Maybe<Span>,
    /// The greatest age of a token by `iat`, which is then required. Default: any.
    pub(in crate::config) max_age: Maybe<Span>,
    /// How far ahead `exp` may lie. Default: any.
    pub(in crate::config) max_lifetime: Maybe<Span>,
    /// Accepted `typ` values. A token without one counts as JWT. Default: JWT, at+jwt.
    #[schemars(length(min = 1))]
    pub(in crate::config) token_types: Maybe<List<Text>>,
    /// Minted claim: claim of the subject token. Default: none, only `sub` is copied.
    pub(in crate::config) claims: Maybe<BTreeMap<String, Field<Text>>>,
    /// Put before `sub`, so that two issuers' subjects can't be taken for one another.
    pub(in crate::config) subject_prefix: Maybe<String>,
    /// Whether a token may be exchanged more than once: `allow`, or `once` and never again, for
    /// which it needs a `jti`. Default: allow.
    pub(in crate::config) replay: Maybe<Replay>,
}

/// Whether a token may be exchanged more than once.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum Replay {
    Allow,
    Once,
}

/// What a trusted token issuer may sign with.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(in crate::config) enum VerificationAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl From<VerificationAlgorithm> for Algorithm {
    fn from(algorithm: VerificationAlgorithm) -> Self {
        match algorithm {
            VerificationAlgorithm::RS256 => Self::RS256,
            VerificationAlgorithm::RS384 => Self::RS384,
            VerificationAlgorithm::RS512 => Self::RS512,
            VerificationAlgorithm::PS256 => Self::PS256,
            VerificationAlgorithm::PS384 => Self::PS384,
            VerificationAlgorithm::PS512 => Self::PS512,
            VerificationAlgorithm::ES256 => Self::ES256,
            VerificationAlgorithm::ES384 => Self::ES384,
            VerificationAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// A JWKS URL, with or without how it is fetched.
#[derive(Deserialize, JsonSchema)]
#[schemars(untagged, inline)]
pub(in crate::config) enum JwksEndpoint {
    #[serde(rename = "<text>")]
    Url(Text),
    #[serde(rename = "<mapping>")]
    Detailed(FetchedJwks),
}

/// A JWKS URL and how it is fetched.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FetchedJwks {
    /// `https`, or `http` on loopback.
    #[schemars(required)]
    pub(in crate::config) url: Maybe<Text>,
    /// Certificates to trust instead of the system's roots.
    pub(in crate::config) ca: Maybe<FileReference>,
    /// Sent as `Authorization: Bearer`.
    pub(in crate::config) bearer_token: Maybe<SecretReference>,
}

/// Whether to discover, or how.
#[derive(Deserialize, JsonSchema)]
#[schemars(untagged, inline)]
pub(in crate::config) enum Discovery {
    #[serde(rename = "<switch>")]
    Switch(bool),
    #[serde(rename = "<mapping>")]
    Detailed(DiscoverySettings),
}

/// How the issuer's metadata is used.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DiscoverySettings {
    /// Origins besides the issuer's own on which `jwks_uri` may lie.
    pub(in crate::config) origins: Maybe<List<Text>>,
    /// Certificates to trust instead of the system's roots.
    pub(in crate::config) ca: Maybe<FileReference>,
}

/// What becomes of keys once they are fetched.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FetchedKeys {
    /// How long they serve while their issuer can't be reached, since it last confirmed them; 5m to
    /// 7d. Default: 24h.
    pub(in crate::config) max_stale: Maybe<Span>,
    /// Where they are kept, so that a restart while their issuer is down serves on. Default: the
    /// folder `issuer-keys` in the embedded store's, if it can be written to.
    pub(in crate::config) cache: Maybe<KeyCache>,
}

/// A folder of this process alone, relative to the configuration file. `true` is the default one,
/// `false` is none.
#[derive(Deserialize, JsonSchema)]
#[schemars(untagged, inline)]
pub(in crate::config) enum KeyCache {
    #[serde(rename = "<switch>")]
    Switch(bool),
    #[serde(rename = "<text>")]
    Folder(Text),
}

/// Certificates in PEM: in a file, or here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::config) struct CertificateSource {
    /// A path, relative to the configuration file.
    pub(in crate::config) file: Maybe<Text>,
    /// The PEM text itself.
    pub(in crate::config) pem: Maybe<String>,
}
