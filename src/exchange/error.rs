//! Every way in which a token request can end, and what each one looks like from outside.
//!
//! [`Refusal::outcome`] is the only table: status, OAuth error, text, metric reason, log level.

use thiserror::Error;

use super::client::ClientError;
use super::policy::PolicyError;
use super::refresh::RefreshError;
use super::request::RequestError;
use super::subject::SubjectTokenError;
use crate::jwt::unverified::UnverifiedError;
use crate::jwt::verify::VerifyError;
use crate::oauth::error_code::ErrorCode;
use crate::oauth::form::FormError;

/// Why a token request was not granted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("form: {0}")]
    Form(#[from] FormError),
    #[error("client: {0}")]
    Client(#[from] ClientError),
    #[error("request: {0}")]
    Request(#[from] RequestError),
    #[error("subject token: {0}")]
    SubjectToken(#[from] SubjectTokenError),
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("refresh: {0}")]
    Refresh(#[from] RefreshError),
    #[error("ours: {0}")]
    Ours(#[from] Failure),
}

/// What failed on our side. It is never the caller's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    #[error("the keys of the token's issuer cannot be had")]
    KeysUnavailable,
    #[error("no signing key can be used")]
    SigningUnavailable,
    #[error("the store of what was issued and revoked does not answer")]
    StoreUnavailable,
    #[error("the upstream does not answer")]
    UpstreamUnavailable,
    #[error("the upstream does not answer in time")]
    UpstreamTimeout,
    #[error("the upstream, which authenticates the caller, does not answer")]
    CallerUnproven,
    #[error("too much is in progress")]
    Overloaded,
    #[error("an internal error")]
    Internal,
}

/// Who is to blame, as the metrics' `outcome` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The caller: `denied`.
    Caller,
    /// Us: `failed`.
    Us,
}

impl Blame {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "denied",
            Self::Us => "failed",
        }
    }
}

/// How loudly an outcome is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The exact reason: a closed set, seen in metrics and audit events but not by callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    BodyTooLarge,
    FormMalformed,
    ParameterRepeated,
    ParameterMissing,
    ClientAuthMissing,
    ClientAuthMultiple,
    ClientUnknown,
    ClientSecretWrong,
    ClientThrottled,
    GrantNotAllowed,
    SubjectTokenTypeUnsupported,
    RequestedTokenTypeUnsupported,
    ActorTokenUnsupported,
    TargetRefused,
    ScopeRefused,
    TokenTooLarge,
    TokenMalformed,
    HeaderRefused,
    TypeRefused,
    IssuerUnknown,
    IssuerDisabled,
    IssuerNotAllowed,
    AlgorithmRefused,
    KeyUnknown,
    SignatureInvalid,
    ClaimsMalformed,
    AudienceMismatch,
    Expired,
    NotYetValid,
    IssuedInFuture,
    TooOld,
    LifetimeTooLong,
    SubjectRefused,
    JtiMissing,
    Replayed,
    RefreshUnknown,
    RefreshExpired,
    RefreshReused,
    RefreshRevoked,
    RefreshOtherClient,
    PolicyWithdrawn,
    KeysUnavailable,
    StoreUnavailable,
    UpstreamUnavailable,
    SigningUnavailable,
    Overloaded,
    Internal,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body_too_large",
            Self::FormMalformed => "form_malformed",
            Self::ParameterRepeated => "parameter_repeated",
            Self::ParameterMissing => "parameter_missing",
            Self::ClientAuthMissing => "client_auth_missing",
            Self::ClientAuthMultiple => "client_auth_multiple",
            Self::ClientUnknown => "client_unknown",
            Self::ClientSecretWrong => "client_secret_wrong",
            Self::ClientThrottled => "client_throttled",
            Self::GrantNotAllowed => "grant_not_allowed",
            Self::SubjectTokenTypeUnsupported => "subject_token_type_unsupported",
            Self::RequestedTokenTypeUnsupported => "requested_token_type_unsupported",
            Self::ActorTokenUnsupported => "actor_token_unsupported",
            Self::TargetRefused => "target_refused",
            Self::ScopeRefused => "scope_refused",
            Self::TokenTooLarge => "token_too_large",
            Self::TokenMalformed => "token_malformed",
            Self::HeaderRefused => "header_refused",
            Self::TypeRefused => "type_refused",
            Self::IssuerUnknown => "issuer_unknown",
            Self::IssuerDisabled => "issuer_disabled",
            Self::IssuerNotAllowed => "issuer_not_allowed",
            Self::AlgorithmRefused => "algorithm_refused",
            Self::KeyUnknown => "key_unknown",
            Self::SignatureInvalid => "signature_invalid",
            Self::ClaimsMalformed => "claims_malformed",
            Self::AudienceMismatch => "audience_mismatch",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::TooOld => "too_old",
            Self::LifetimeTooLong => "lifetime_too_long",
            Self::SubjectRefused => "subject_refused",
            Self::JtiMissing => "jti_missing",
            Self::Replayed => "replayed",
            Self::RefreshUnknown => "refresh_unknown",
            Self::RefreshExpired => "refresh_expired",
            Self::RefreshReused => "refresh_reused",
            Self::RefreshRevoked => "refresh_revoked",
            Self::RefreshOtherClient => "refresh_other_client",
            Self::PolicyWithdrawn => "policy_withdrawn",
            Self::KeysUnavailable => "keys_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::SigningUnavailable => "signing_unavailable",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
        }
    }
}

/// The public face of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: u16,
    pub error: ErrorCode,
    /// The same for everybody: nothing of a request is ever in it (RFC 6749 §5.2).
    pub description: &'static str,
    pub reason: Reason,
    pub blame: Blame,
    pub level: Level,
}

/// One answer for whatever is wrong with who calls: it tells no client from another.
const CLIENT_FAILED: &str = "Client authentication failed.";
/// One answer for whatever is wrong with a subject token beyond its outer form: it does not tell
/// what would have passed.
const TOKEN_REFUSED: &str = "The subject token is not accepted.";
/// One answer for whatever is wrong with a refresh token: it tells none that was spent from one that
/// never was.
const REFRESH_REFUSED: &str = "The refresh token is not accepted.";

impl Refusal {
    /// The outcome table.
    #[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
    pub const fn outcome(self) -> Outcome {
        use ErrorCode as E;
        use Reason as R;
        let (status, error, description, reason) = match self {
            Self::Form(FormError::TooLarge) => (
                413,
                E::InvalidRequest,
                "The request body is larger than 65536 bytes.",
                R::BodyTooLarge,
            ),
            Self::Form(FormError::NotPost) => {
                (405, E::InvalidRequest, "The token endpoint takes POST only.", R::FormMalformed)
            }
            Self::Form(FormError::TimedOut) => (
                408,
                E::InvalidRequest,
                "The request body did not arrive in time.",
                R::FormMalformed,
            ),
            Self::Form(FormError::ContentCoding) => {
                (415, E::InvalidRequest, "Content codings are not accepted here.", R::FormMalformed)
            }
            Self::Form(FormError::ContentType) => (
                400,
                E::InvalidRequest,
                "The content type must be application/x-www-form-urlencoded in UTF-8.",
                R::FormMalformed,
            ),
            Self::Form(FormError::InQuery) => (
                400,
                E::InvalidRequest,
                "Parameters must be in the request body, not in the URL.",
                R::FormMalformed,
            ),
            Self::Form(FormError::Malformed) => {
                (400, E::InvalidRequest, "The request body is not well-formed.", R::FormMalformed)
            }
            Self::Form(FormError::Repeated) => {
                (400, E::InvalidRequest, "A parameter is repeated.", R::ParameterRepeated)
            }
            Self::Client(ClientError::AuthMissing) => {
                (401, E::InvalidClient, CLIENT_FAILED, R::ClientAuthMissing)
            }
            Self::Client(ClientError::AuthMultiple) => (
                400,
                E::InvalidRequest,
                "More than one way of client authentication is used.",
                R::ClientAuthMultiple,
            ),
            Self::Client(ClientError::Unknown) => {
                (401, E::InvalidClient, CLIENT_FAILED, R::ClientUnknown)
            }
            Self::Client(ClientError::SecretWrong) => {
                (401, E::InvalidClient, CLIENT_FAILED, R::ClientSecretWrong)
            }
            // RFC 6585 §4. Whether the secret was right is not looked at.
            Self::Client(ClientError::Throttled) => (
                429,
                E::InvalidClient,
                "Client authentication failed too often. Try again later.",
                R::ClientThrottled,
            ),
            Self::Client(ClientError::GrantNotAllowed) => (
                400,
                E::UnauthorizedClient,
                "The client may not use this grant type.",
                R::GrantNotAllowed,
            ),
            Self::Request(RequestError::SubjectTokenMissing) => {
                (400, E::InvalidRequest, "The subject_token is missing.", R::ParameterMissing)
            }
            Self::Request(RequestError::SubjectTokenTypeMissing) => {
                (400, E::InvalidRequest, "The subject_token_type is missing.", R::ParameterMissing)
            }
            Self::Request(RequestError::SubjectTokenType) => (
                400,
                E::InvalidRequest,
                "The subject_token_type is not supported.",
                R::SubjectTokenTypeUnsupported,
            ),
            Self::Request(RequestError::RequestedTokenType) => (
                400,
                E::InvalidRequest,
                "The requested_token_type is not supported.",
                R::RequestedTokenTypeUnsupported,
            ),
            Self::Request(RequestError::ActorToken) => (
                400,
                E::InvalidRequest,
                "Actor tokens are not supported.",
                R::ActorTokenUnsupported,
            ),
            Self::Request(RequestError::Resource) => (
                400,
                E::InvalidTarget,
                "A resource must be an absolute URI without a fragment.",
                R::TargetRefused,
            ),
            Self::Request(RequestError::Scope) => {
                (400, E::InvalidScope, "The scope is not well-formed.", R::ScopeRefused)
            }
            Self::SubjectToken(SubjectTokenError::Unverified(UnverifiedError::TooLarge)) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::TokenTooLarge)
            }
            Self::SubjectToken(SubjectTokenError::Unverified(UnverifiedError::Malformed)) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::TokenMalformed)
            }
            Self::SubjectToken(SubjectTokenError::Unverified(UnverifiedError::Header)) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::HeaderRefused)
            }
            Self::SubjectToken(SubjectTokenError::Unverified(UnverifiedError::Issuer)) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::ClaimsMalformed)
            }
            Self::SubjectToken(SubjectTokenError::IssuerUnknown) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::IssuerUnknown)
            }
            Self::SubjectToken(SubjectTokenError::IssuerDisabled) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::IssuerDisabled)
            }
            Self::SubjectToken(SubjectTokenError::IssuerNotAllowed) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::IssuerNotAllowed)
            }
            Self::SubjectToken(SubjectTokenError::Verify(error)) => {
                let reason = match error {
                    VerifyError::Type | VerifyError::SenderConstrained => R::TypeRefused,
                    VerifyError::Algorithm => R::AlgorithmRefused,
                    VerifyError::KeyUnknown => R::KeyUnknown,
                    VerifyError::Signature => R::SignatureInvalid,
                    VerifyError::Claims => R::ClaimsMalformed,
                    VerifyError::Audience => R::AudienceMismatch,
                    VerifyError::Expired => R::Expired,
                    VerifyError::NotYetValid => R::NotYetValid,
                    VerifyError::IssuedInFuture => R::IssuedInFuture,
                    VerifyError::TooOld => R::TooOld,
                    VerifyError::LifetimeTooLong => R::LifetimeTooLong,
                    VerifyError::Subject => R::SubjectRefused,
                };
                (400, E::InvalidRequest, TOKEN_REFUSED, reason)
            }
            Self::SubjectToken(SubjectTokenError::JwtIdMissing) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::JtiMissing)
            }
            Self::SubjectToken(SubjectTokenError::Replayed) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::Replayed)
            }
            Self::SubjectToken(SubjectTokenError::Revoked) => {
                (400, E::InvalidRequest, TOKEN_REFUSED, R::RefreshRevoked)
            }
            Self::Refresh(error) => {
                let reason = match error {
                    RefreshError::Unknown => R::RefreshUnknown,
                    RefreshError::Expired => R::RefreshExpired,
                    RefreshError::Reused => R::RefreshReused,
                    RefreshError::Revoked => R::RefreshRevoked,
                    RefreshError::OtherClient => R::RefreshOtherClient,
                    RefreshError::PolicyWithdrawn => R::PolicyWithdrawn,
                };
                (400, E::InvalidGrant, REFRESH_REFUSED, reason)
            }
            Self::Policy(PolicyError::Target) => (
                400,
                E::InvalidTarget,
                "The client may not ask for this audience or resource.",
                R::TargetRefused,
            ),
            Self::Policy(PolicyError::Scope) => {
                (400, E::InvalidScope, "The client may not ask for this scope.", R::ScopeRefused)
            }
            Self::Ours(Failure::KeysUnavailable) => (
                503,
                E::TemporarilyUnavailable,
                "The token cannot be checked at the moment.",
                R::KeysUnavailable,
            ),
            Self::Ours(Failure::SigningUnavailable) => (
                503,
                E::TemporarilyUnavailable,
                "No token can be issued at the moment.",
                R::SigningUnavailable,
            ),
            Self::Ours(Failure::StoreUnavailable) => (
                503,
                E::TemporarilyUnavailable,
                "The request cannot be answered at the moment.",
                R::StoreUnavailable,
            ),
            Self::Ours(Failure::UpstreamUnavailable) => (
                502,
                E::TemporarilyUnavailable,
                "The identity provider does not answer.",
                R::UpstreamUnavailable,
            ),
            Self::Ours(Failure::UpstreamTimeout) => (
                504,
                E::TemporarilyUnavailable,
                "The identity provider does not answer in time.",
                R::UpstreamUnavailable,
            ),
            Self::Ours(Failure::CallerUnproven) => (
                503,
                E::TemporarilyUnavailable,
                "The client cannot be authenticated at the moment.",
                R::UpstreamUnavailable,
            ),
            Self::Ours(Failure::Overloaded) => (
                503,
                E::TemporarilyUnavailable,
                "The server is busy. Try again later.",
                R::Overloaded,
            ),
            Self::Ours(Failure::Internal) => {
                (500, E::ServerError, "The request could not be answered.", R::Internal)
            }
        };
        let (blame, level) = match self {
            Self::Form(_)
            | Self::Client(
                ClientError::AuthMissing
                | ClientError::AuthMultiple
                | ClientError::Unknown
                | ClientError::SecretWrong
                | ClientError::GrantNotAllowed,
            )
            | Self::Request(_)
            | Self::SubjectToken(_)
            | Self::Policy(_)
            | Self::Refresh(
                RefreshError::Unknown
                | RefreshError::Expired
                | RefreshError::Revoked
                | RefreshError::PolicyWithdrawn,
            ) => (Blame::Caller, Level::Info),
            // Somebody has a token that is not theirs, or tries secrets.
            Self::Refresh(RefreshError::Reused | RefreshError::OtherClient)
            | Self::Client(ClientError::Throttled) => (Blame::Caller, Level::Warn),
            Self::Ours(Failure::Internal | Failure::SigningUnavailable) => {
                (Blame::Us, Level::Error)
            }
            Self::Ours(
                Failure::KeysUnavailable
                | Failure::StoreUnavailable
                | Failure::UpstreamUnavailable
                | Failure::UpstreamTimeout
                | Failure::CallerUnproven
                | Failure::Overloaded,
            ) => (Blame::Us, Level::Warn),
        };
        Outcome { status, error, description, reason, blame, level }
    }

    /// Every refusal there is, in the order of the checks: for the table in the documentation and
    /// for the golden file.
    pub fn all() -> Vec<Self> {
        let form = [
            FormError::TooLarge,
            FormError::NotPost,
            FormError::TimedOut,
            FormError::ContentCoding,
            FormError::ContentType,
            FormError::InQuery,
            FormError::Malformed,
            FormError::Repeated,
        ];
        let client = [
            ClientError::AuthMissing,
            ClientError::AuthMultiple,
            ClientError::Unknown,
            ClientError::SecretWrong,
            ClientError::Throttled,
            ClientError::GrantNotAllowed,
        ];
        let request = [
            RequestError::SubjectTokenMissing,
            RequestError::SubjectTokenTypeMissing,
            RequestError::SubjectTokenType,
            RequestError::RequestedTokenType,
            RequestError::ActorToken,
            RequestError::Resource,
            RequestError::Scope,
        ];
        let unverified = [
            UnverifiedError::TooLarge,
            UnverifiedError::Malformed,
            UnverifiedError::Header,
            UnverifiedError::Issuer,
        ];
        let issuer = [
            SubjectTokenError::IssuerUnknown,
            SubjectTokenError::IssuerDisabled,
            SubjectTokenError::IssuerNotAllowed,
        ];
        let kept = [
            SubjectTokenError::JwtIdMissing,
            SubjectTokenError::Revoked,
            SubjectTokenError::Replayed,
        ];
        let refresh = [
            RefreshError::Unknown,
            RefreshError::Expired,
            RefreshError::Reused,
            RefreshError::Revoked,
            RefreshError::OtherClient,
            RefreshError::PolicyWithdrawn,
        ];
        let verify = [
            VerifyError::Type,
            VerifyError::Algorithm,
            VerifyError::KeyUnknown,
            VerifyError::Signature,
            VerifyError::Claims,
            VerifyError::Audience,
            VerifyError::Expired,
            VerifyError::NotYetValid,
            VerifyError::IssuedInFuture,
            VerifyError::TooOld,
            VerifyError::LifetimeTooLong,
            VerifyError::SenderConstrained,
            VerifyError::Subject,
        ];
        let ours = [
            Failure::KeysUnavailable,
            Failure::SigningUnavailable,
            Failure::StoreUnavailable,
            Failure::UpstreamUnavailable,
            Failure::UpstreamTimeout,
            Failure::CallerUnproven,
            Failure::Overloaded,
            Failure::Internal,
        ];
        let token = unverified
            .into_iter()
            .map(SubjectTokenError::Unverified)
            .chain(issuer)
            .chain(verify.into_iter().map(SubjectTokenError::Verify))
            .chain(kept);
        form.into_iter()
            .map(Self::Form)
            .chain(client.into_iter().map(Self::Client))
            .chain(request.into_iter().map(Self::Request))
            .chain(token.map(Self::SubjectToken))
            .chain([PolicyError::Target, PolicyError::Scope].map(Self::Policy))
            .chain(refresh.into_iter().map(Self::Refresh))
            .chain(ours.into_iter().map(Self::Ours))
            .collect()
    }
}
