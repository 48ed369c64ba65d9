//! Applications as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{List, Maybe};
use crate::config::scalar::{OneOrMany, Span, Text};
use crate::exchange::client::ApplicationType;

/// An OAuth client.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Application {
    /// The only form in which it appears in metrics and logs. Default: its `client_id`.
    pub(in crate::config) name: Maybe<Text>,
    /// Or `*`, with `authentication: upstream`: every client that the identity provider knows and that
    /// no other application names.
    #[schemars(required)]
    pub(in crate::config) client_id: Maybe<Text>,
    /// Who knows its secret: this file (default), or the upstream.
    pub(in crate::config) authentication: Maybe<Authentication>,
    /// One, or several while it is being rotated. None with `authentication: upstream`.
    pub(in crate::config) client_secret: Maybe<OneOrMany<ClientSecret>>,
    /// `standard_oidc` and `traditional_web` keep a secret; `mobile` and `single_page` are public,
    /// and `single_page` may not exchange tokens. Required unless the upstream knows its secret.
    #[serde(rename = "type")]
    pub(in crate::config) kind: Maybe<Kind>,
    /// The grants that it may use here. Required; default with `authentication: upstream`: token exchange
    /// alone.
    #[schemars(length(min = 1))]
    pub(in crate::config) allowed_grant_types: Maybe<List<GrantType>>,
    /// Names of the issuers whose tokens it may exchange. Default: all.
    pub(in crate::config) trusted_token_issuers: Maybe<List<Text>>,
    /// What it may ask for. The first is the default. Default: its `client_id`.
    #[schemars(length(min = 1))]
    pub(in crate::config) audiences: Maybe<List<Text>>,
    /// What it may ask for. Default: none.
    pub(in crate::config) scopes: Maybe<List<Text>>,
    pub(in crate::config) access_token: Maybe<AccessToken>,
    /// How its refresh tokens live, where `refresh_token` is among its grants.
    pub(in crate::config) refresh_token: Maybe<RefreshToken>,
}

/// Who knows the secret of an application.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::config) enum Authentication {
    /// The configuration.
    Secret,
    /// The identity provider.
    Upstream,
}

/// The kind of an application.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::config) enum Kind {
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
pub(in crate::config) enum GrantType {
    /// RFC 8693 §2.1.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
    AuthorizationCode,
    Implicit,
    Password,
    ClientCredentials,
    /// RFC 6749 §6: an exchange gives a refresh token, too.
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
    pub(in crate::config) const fn as_str(self) -> &'static str {
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
pub(in crate::config) struct ClientSecret {
    /// The name of an environment variable.
    pub(in crate::config) env: Maybe<Text>,
    /// A file, best readable for its owner alone.
    pub(in crate::config) file: Maybe<Text>,
    /// What `cambio hash-secret` prints.
    pub(in crate::config) hash: Maybe<Text>,
}

/// How access tokens are minted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AccessToken {
    /// 1s to 24h. Default: 1h.
    pub(in crate::config) lifetime: Maybe<Span>,
    /// `jwt` is verified by whoever receives it; `opaque` says nothing, and is introspected.
    /// Default: jwt.
    pub(in crate::config) format: Maybe<Format>,
    /// Lifts the bound by the subject token's `exp`. Default: false.
    pub(in crate::config) outlive_subject: Maybe<bool>,
}

/// The form of an access token.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum Format {
    Jwt,
    Opaque,
}

/// How refresh tokens live.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RefreshToken {
    /// From the exchange on, however often it is refreshed. 1m to 366d. Default: 24h.
    pub(in crate::config) lifetime: Maybe<Span>,
    /// How long a token may be left unused, 1m to `lifetime`. Default: as long as it lives.
    pub(in crate::config) idle: Maybe<Span>,
    /// How long the preceding token still gets the same successor, for clients that lose answers.
    /// 0s to 10s. Default: 0s.
    pub(in crate::config) grace: Maybe<Span>,
}
