//! The configuration as it is written: serde shapes, whose doc comments become the JSON Schema.
//!
//! Every value is a [`Field`], so that one wrong value spoils nothing beside it; what is required
//! is asked for in `check`, which names all that is missing. Sections that come in a later version
//! are read, and refused there with a sentence that says so; the schema does not have them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::scalar::{OneOrMany, Span, Text};
use super::shape::Field;
use crate::exchange::client::ApplicationType;
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
    /// The OAuth clients that may exchange tokens.
    pub(super) applications: Maybe<List<Application>>,
    /// Bounds on what clients may take up.
    pub(super) limits: Maybe<Limits>,
    #[schemars(skip)]
    pub(super) resource_servers: Maybe<IgnoredAny>,
    #[schemars(skip)]
    pub(super) store: Maybe<IgnoredAny>,
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
    /// Its private key in PEM, readable for its owner alone.
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

/// A third party whose JWTs are accepted. Its keys come from exactly one of `jwks_endpoint`,
/// `discovery`, `certificate` and `jwks`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustedTokenIssuer {
    /// Unique. The only form in which the issuer appears in metrics and logs.
    #[schemars(required)]
    pub(super) name: Maybe<Text>,
    /// `iss` of its tokens, to the byte.
    #[schemars(required)]
    pub(super) issuer: Maybe<Text>,
    /// The name by which this issuer knows us: another audience that its tokens may name.
    pub(super) alias: Maybe<OneOrMany<Text>>,
    /// Where its JWKS is fetched.
    pub(super) jwks_endpoint: Maybe<JwksEndpoint>,
    /// Takes `jwks_uri` from the issuer's metadata.
    pub(super) discovery: Maybe<Discovery>,
    /// Its X.509 certificates in PEM.
    pub(super) certificate: Maybe<OneOrMany<CertificateSource>>,
    /// Its JWKS in a file.
    pub(super) jwks: Maybe<FileReference>,
    /// Default: true.
    pub(super) enabled: Maybe<bool>,
    /// What it may sign with. Default: RS256, ES256, PS256, EdDSA.
    #[schemars(length(min = 1))]
    pub(super) algorithms: Maybe<List<VerificationAlgorithm>>,
    /// How far its clock may be off, 0s to 120s. Default: 30s.
    pub(super) clock_skew: Maybe<Span>,
    /// The greatest age of a token by `iat`, which is then required. Default: any.
    pub(super) max_age: Maybe<Span>,
    /// How far ahead `exp` may lie. Default: any.
    pub(super) max_lifetime: Maybe<Span>,
    /// Accepted `typ` values. A token without one counts as JWT. Default: JWT, at+jwt.
    #[schemars(length(min = 1))]
    pub(super) token_types: Maybe<List<Text>>,
    /// Minted claim: claim of the subject token. Default: none, only `sub` is copied.
    pub(super) claims: Maybe<BTreeMap<String, Field<Text>>>,
    /// Put before `sub`, so that two issuers' subjects can't be taken for one another.
    pub(super) subject_prefix: Maybe<String>,
    /// Whether a token may be exchanged more than once.
    pub(super) replay: Maybe<Replay>,
}

/// Whether a token may be exchanged more than once.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Replay {
    Allow,
    #[schemars(skip)]
    Once,
}

/// What a trusted token issuer may sign with.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(super) enum VerificationAlgorithm {
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
pub(super) enum JwksEndpoint {
    #[serde(rename = "<text>")]
    Url(Text),
    #[serde(rename = "<mapping>")]
    Detailed(FetchedJwks),
}

/// A JWKS URL and how it is fetched.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FetchedJwks {
    /// `https`, or `http` on loopback.
    #[schemars(required)]
    pub(super) url: Maybe<Text>,
    /// Certificates to trust instead of the system's roots.
    pub(super) ca: Maybe<FileReference>,
    /// Sent as `Authorization: Bearer`.
    pub(super) bearer_token: Maybe<SecretReference>,
}

/// Whether to discover, or how.
#[derive(Deserialize, JsonSchema)]
#[schemars(untagged, inline)]
pub(super) enum Discovery {
    #[serde(rename = "<switch>")]
    Switch(bool),
    #[serde(rename = "<mapping>")]
    Detailed(DiscoverySettings),
}

/// How the issuer's metadata is used.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DiscoverySettings {
    /// Origins besides the issuer's own on which `jwks_uri` may lie.
    pub(super) origins: Maybe<List<Text>>,
    /// Certificates to trust instead of the system's roots.
    pub(super) ca: Maybe<FileReference>,
}

/// Certificates in PEM: in a file, or here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct CertificateSource {
    /// A path, relative to the configuration file.
    pub(super) file: Maybe<Text>,
    /// The PEM text itself.
    pub(super) pem: Maybe<String>,
}

/// An OAuth client.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    /// The only form in which it appears in metrics and logs. Default: its `client_id`.
    pub(super) name: Maybe<Text>,
    #[schemars(required)]
    pub(super) client_id: Maybe<Text>,
    /// One, or several while it is being rotated.
    pub(super) client_secret: Maybe<OneOrMany<ClientSecret>>,
    /// `standard_oidc` and `traditional_web` keep a secret; `mobile` and `single_page` are public,
    /// and `single_page` may not exchange tokens.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(super) kind: Maybe<Kind>,
    /// The grants that it may use here.
    #[schemars(required, length(min = 1))]
    pub(super) allowed_grant_types: Maybe<List<GrantType>>,
    /// Names of the issuers whose tokens it may exchange. Default: all.
    pub(super) trusted_token_issuers: Maybe<List<Text>>,
    /// What it may ask for. The first is the default. Default: its `client_id`.
    #[schemars(length(min = 1))]
    pub(super) audiences: Maybe<List<Text>>,
    /// What it may ask for. Default: none.
    pub(super) scopes: Maybe<List<Text>>,
    pub(super) access_token: Maybe<AccessToken>,
    #[schemars(skip)]
    pub(super) authentication: Maybe<IgnoredAny>,
    #[schemars(skip)]
    pub(super) refresh_token: Maybe<IgnoredAny>,
}

/// The kind of an application.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Kind {
    StandardOidc,
    TraditionalWeb,
    Mobile,
    SinglePage,
}

impl From<Kind> for ApplicationType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::StandardOidc => Self::StandardOidc,
            Kind::TraditionalWeb => Self::TraditionalWeb,
            Kind::Mobile => Self::Mobile,
            Kind::SinglePage => Self::SinglePage,
        }
    }
}

/// A grant type (RFC 6749 §4 and its extensions).
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum GrantType {
    /// RFC 8693 §2.1.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
    AuthorizationCode,
    Implicit,
    Password,
    ClientCredentials,
    #[schemars(skip)]
    RefreshToken,
    /// RFC 7523.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:jwt-bearer")]
    JwtBearer,
    /// RFC 7522.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:saml2-bearer")]
    Saml2Bearer,
    /// RFC 8628.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
    #[serde(rename = "urn:openid:params:grant-type:ciba")]
    Ciba,
}

impl GrantType {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TokenExchange => crate::oauth::grant_type::TOKEN_EXCHANGE,
            Self::AuthorizationCode => "authorization_code",
            Self::Implicit => "implicit",
            Self::Password => "password",
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => crate::oauth::grant_type::REFRESH_TOKEN,
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::Saml2Bearer => "urn:ietf:params:oauth:grant-type:saml2-bearer",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::Ciba => "urn:openid:params:grant-type:ciba",
        }
    }
}

/// Where a client secret is read from: an environment variable, a file, or a hash of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct ClientSecret {
    /// The name of an environment variable.
    pub(super) env: Maybe<Text>,
    /// A file that its owner alone may read.
    pub(super) file: Maybe<Text>,
    /// What `cambio hash-secret` prints.
    pub(super) hash: Maybe<Text>,
}

/// How access tokens are minted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessToken {
    /// 1s to 24h. Default: 1h.
    pub(super) lifetime: Maybe<Span>,
    /// Default: jwt.
    pub(super) format: Maybe<Format>,
    /// Lifts the bound by the subject token's `exp`. Default: false.
    pub(super) outlive_subject: Maybe<bool>,
}

/// The form of an access token.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Format {
    Jwt,
    #[schemars(skip)]
    Opaque,
}

/// Bounds on what clients may take up.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Connections at a time, over all listeners. Default: 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections: Maybe<usize>,
    /// For the whole header of a request. Default: 10s.
    pub(super) header_timeout: Maybe<Span>,
    /// For the whole body of a request that Cambio answers. Default: 10s.
    pub(super) body_timeout: Maybe<Span>,
    /// How long a connection may be idle between requests. Default: 60s.
    pub(super) idle_timeout: Maybe<Span>,
    /// How long requests in flight may take after SIGTERM. Default: 30s.
    pub(super) drain_timeout: Maybe<Span>,
}
