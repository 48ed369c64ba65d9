//! The configuration as it is written: serde shapes, whose doc comments become the JSON Schema.
//!
//! Every value is a [`Field`], so that one wrong value spoils nothing beside it; what is required
//! is asked for in `check`, which names all that is missing. Sections that come in a later version
//! are read, and refused there with a sentence that says so; the schema does not have them.

mod application;
mod issuer;
mod store;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub(super) use self::application::{
    AccessToken, Application, Authentication, ClientSecret, Format, GrantType, RefreshToken,
};
pub(super) use self::issuer::{
    CertificateSource, Discovery, FetchedJwks, FetchedKeys, JwksEndpoint, KeyCache, Replay,
    TrustedTokenIssuer, VerificationAlgorithm,
};
pub(super) use self::store::{Embedded, Redis, Store};
use super::scalar::{OneOrMany, Span, Text};
use super::shape::Field;
use crate::exchange::policy::UnknownIssuers;
use crate::jwt::algorithm::Algorithm;

/// A value that may be left out, or that `check` asks for.
pub(super) type Maybe<T> = Option<Field<T>>;
pub(super) type List<T> = Vec<Field<T>>;

/// The configuration of Cambio. Relative paths are relative to the file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Cambio configuration")]
pub(super) struct Raw {
    /// Where clients connect.
    #[schemars(required)]
    pub(super) listen: Maybe<List<Listen>>,
    /// The listener for operators: metrics, liveness, readiness, status.
    pub(super) admin: Maybe<Admin>,
    /// The identity provider that Cambio stands in front of.
    #[schemars(required)]
    pub(super) upstream: Maybe<Upstream>,
    /// What the upstream is to its clients, and where.
    #[schemars(required)]
    pub(super) authorization_server: Maybe<AuthorizationServer>,
    /// Our own keys. The first whose time has come signs; all are published.
    #[schemars(required)]
    pub(super) signing_keys: Maybe<List<SigningKey>>,
    /// The third parties whose JWTs are accepted.
    pub(super) trusted_token_issuers: Maybe<List<TrustedTokenIssuer>>,
    /// What becomes of the issuers' keys once they are fetched.
    pub(super) fetched_keys: Maybe<FetchedKeys>,
    /// The OAuth clients that may exchange tokens.
    pub(super) applications: Maybe<List<Application>>,
    /// Who may introspect what, beside a token's own client and the clients that its `aud` names.
    pub(super) resource_servers: Maybe<List<ResourceServer>>,
    /// Where refresh tokens, revocations and tokens that come once are kept.
    pub(super) store: Maybe<Store>,
    /// Bounds on what clients may take up.
    pub(super) limits: Maybe<Limits>,
    #[schemars(skip)]
    pub(super) tests: Maybe<IgnoredAny>,
}

/// An address to listen on.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    /// IP address and port, such as `127.0.0.1:8080` or `[::]:8443`.
    #[schemars(required)]
    pub(super) address: Maybe<Text>,
    /// Without it, plain HTTP is spoken here.
    pub(super) tls: Maybe<Tls>,
}

/// The certificate that a listener shows.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// The certificate chain in PEM, the server's own certificate first.
    #[schemars(required)]
    pub(super) certificate: Maybe<FileReference>,
    /// Its private key in PEM, best readable for its owner alone.
    #[schemars(required)]
    pub(super) private_key: Maybe<FileReference>,
}

/// A file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileReference {
    /// Its path, relative to the configuration file.
    #[schemars(required)]
    pub(super) file: Maybe<Text>,
}

/// The listener for operators.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// IP address and port. Default: `127.0.0.1:9464`.
    pub(super) address: Maybe<Text>,
    /// How many issuers, and how many clients, have a metric label of their own. Default: 200.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) metric_labels_max: Maybe<usize>,
    /// What operators must present, as `Authorization: Bearer`, to change anything. Default: those
    /// on this machine need none, and all others may change nothing.
    pub(super) token: Maybe<SecretReference>,
}

/// The identity provider.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// Scheme, host and port, such as `https://idp.example.com`.
    #[schemars(required)]
    pub(super) url: Maybe<Text>,
    /// Certificates to trust instead of the system's roots.
    pub(super) ca: Maybe<FileReference>,
    /// How long the upstream is waited for.
    pub(super) timeouts: Maybe<Timeouts>,
}

/// How long the upstream is waited for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    /// For a connection. Default: 2s.
    pub(super) connect: Maybe<Span>,
    /// For each read. Default: 30s.
    pub(super) read: Maybe<Span>,
}

/// What the upstream is to its clients, and where.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizationServer {
    /// `iss` of minted tokens, and the audience that subject tokens must name.
    #[schemars(required)]
    pub(super) issuer: Maybe<Text>,
    /// Whether `issuer` is the upstream's own, so that our keys and grants are merged into its
    /// documents. Default: false.
    pub(super) overlay: Maybe<bool>,
    /// With `overlay`: where the upstream's keys are fetched from, where its `jwks_uri` lies on
    /// another host. They are served on `endpoints.jwks` with ours, and the metadata lead there.
    /// Default: the upstream is asked, on `endpoints.jwks`.
    pub(super) upstream_jwks: Maybe<JwksEndpoint>,
    /// The paths that Cambio answers or looks into. All else goes upstream untouched.
    #[schemars(required)]
    pub(super) endpoints: Maybe<Endpoints>,
    /// What becomes of an exchange whose subject token names no trusted issuer, or is no JWT.
    /// Default: reject.
    pub(super) unknown_issuers: Maybe<Unknown>,
}

/// What becomes of an exchange that names no trusted issuer.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Unknown {
    Reject,
    Forward,
}

impl From<Unknown> for UnknownIssuers {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Reject => Self::Reject,
            Unknown::Forward => Self::Forward,
        }
    }
}

/// Paths, each beginning with `/`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoints {
    /// Where tokens are asked for (RFC 6749 §3.2).
    #[schemars(required)]
    pub(super) token: Maybe<OneOrMany<Text>>,
    /// Where the keys are published (RFC 7517 §5).
    pub(super) jwks: Maybe<Text>,
    /// Metadata documents (OpenID Connect Discovery §4, RFC 8414 §3). Default: none.
    pub(super) metadata: Maybe<OneOrMany<Text>>,
    /// RFC 7662.
    pub(super) introspection: Maybe<Text>,
    /// RFC 7009.
    pub(super) revocation: Maybe<Text>,
}

/// A private key of ours.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SigningKey {
    #[schemars(required)]
    pub(super) algorithm: Maybe<SigningAlgorithm>,
    /// PKCS#8 in PEM, as `cambio keys generate` writes it.
    #[schemars(required)]
    pub(super) private_key: Maybe<SecretReference>,
    /// The name under which the key is published. Default: its thumbprint (RFC 7638).
    pub(super) kid: Maybe<Text>,
    /// Published at once, signs from then on (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub(super) not_before: Maybe<Text>,
}

/// What Cambio signs with (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) enum SigningAlgorithm {
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    EdDSA,
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::ES256 => Self::ES256,
            SigningAlgorithm::ES384 => Self::ES384,
            SigningAlgorithm::RS256 => Self::RS256,
            SigningAlgorithm::RS384 => Self::RS384,
            SigningAlgorithm::RS512 => Self::RS512,
            SigningAlgorithm::PS256 => Self::PS256,
            SigningAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Where a secret is read from: an environment variable or a file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct SecretReference {
    /// The name of an environment variable.
    pub(super) env: Maybe<Text>,
    /// A file that its owner alone may read.
    pub(super) file: Maybe<Text>,
}

/// A client that may introspect tokens which are meant for some audiences.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceServer {
    /// As the identity provider knows it, which authenticates it.
    #[schemars(required)]
    pub(super) client_id: Maybe<Text>,
    #[schemars(required, length(min = 1))]
    pub(super) audiences: Maybe<List<Text>>,
}

/// Bounds on what clients may take up.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Connections at a time, over all listeners. Default: 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections: Maybe<usize>,
    /// How many of these one address may have (of IPv6: one /64). Not where clients come by a load
    /// balancer: that has one address for all of them. Default: as many as there are.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections_per_address: Maybe<usize>,
    /// Exchanges and refreshes that are being answered, at a time. Default: 1000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) requests: Maybe<usize>,
    /// Requests that wait for the upstream, at a time. Default: 2000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) forwarded_requests: Maybe<usize>,
    /// For the whole header of a request. Default: 10s.
    pub(super) header_timeout: Maybe<Span>,
    /// For the whole body of a request that Cambio answers. Default: 10s.
    pub(super) body_timeout: Maybe<Span>,
    /// How long a connection may be idle between requests. Default: 60s.
    pub(super) idle_timeout: Maybe<Span>,
    /// How long requests in flight may take after SIGTERM. Default: 30s.
    pub(super) drain_timeout: Maybe<Span>,
    /// How many wrong client secrets may be tried.
    pub(super) failed_authentications: Maybe<FailedAuthentications>,
}

/// How many wrong client secrets may be tried within a minute. Whoever was right before is let
/// through all the same.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are the names of the settings")]
pub(super) struct FailedAuthentications {
    /// Of one client, from one address (of IPv6: from one /64). Default: 20.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_client_and_address: Maybe<usize>,
    /// Of one client, from wherever. Default: 200.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_client: Maybe<usize>,
    /// From one address, which may be that of a load balancer. Default: 2000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_address: Maybe<usize>,
}
