//! Who calls: applications as they are configured, and the proof that a caller is one of them (RFC 6749
//! §2.3).

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use zeroize::Zeroizing;

use super::credentials::Credentials;
use super::family::RefreshTokenSettings;
use super::subject::TrustedIssuer;
use super::vouching::{Attempt, BindingKey, Vouched};
use crate::oauth::grant_type;
use crate::oauth::scope::Scope;
use crate::secret::StoredSecret;

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClientError {
    #[error("no usable client credentials were presented")]
    AuthMissing,
    #[error("more than one way of authenticating was used at once")]
    AuthMultiple,
    #[error("no application has this client_id")]
    Unknown,
    #[error("the secret is not the application's")]
    SecretWrong,
    #[error("too many wrong secrets were tried before this one")]
    Throttled,
    #[error("the grant type is not among the application's")]
    GrantNotAllowed,
}

/// The kind of an application, which says whether it can keep a secret (RFC 6749 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplicationType {
    StandardOidc,
    TraditionalWeb,
    /// Public: it is named by its `client_id` alone.
    Mobile,
    /// Public, and never allowed to exchange tokens.
    SinglePage,
}

impl ApplicationType {
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Mobile | Self::SinglePage)
    }
}

/// How an application proves that it is the one that calls.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Any of these is right: several while a secret is being rotated.
    Secrets(Vec<StoredSecret>),
    /// It has none: its `client_id` is all that it shows.
    Public,
    /// The upstream knows its secret, and is asked.
    Upstream,
}

impl Authentication {
    /// Empty where it is no secret of ours that proves anything.
    pub fn secrets(&self) -> &[StoredSecret] {
        match self {
            Self::Secrets(secrets) => secrets,
            Self::Public | Self::Upstream => &[],
        }
    }

    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }

    pub const fn is_upstream(&self) -> bool {
        matches!(self, Self::Upstream)
    }
}

/// The `client_id` of an application that stands for every client that the upstream vouches for, and
/// that no other application names.
pub const ANY_CLIENT: &str = "*";

/// An application that may call, and what it may ask for.
#[derive(Clone, Debug)]
pub struct Application {
    /// The only form in which the application appears in metrics and logs.
    pub name: Arc<str>,
    /// Or [`ANY_CLIENT`].
    pub client_id: String,
    pub kind: ApplicationType,
    pub authentication: Authentication,
    /// `allowed_grant_types` as configured.
    pub grant_types: Vec<String>,
    /// Names of trusted token issuers; `None` is all.
    pub trusted_token_issuers: Option<Vec<Arc<str>>>,
    /// What may be asked for. The first is the default. None is the client's own `client_id`.
    pub audiences: Vec<String>,
    pub scopes: Scope,
    pub access_token: AccessTokenSettings,
    pub refresh_token: RefreshTokenSettings,
}

/// How an application's access tokens are minted.
#[derive(Clone, Copy, Debug)]
pub struct AccessTokenSettings {
    pub lifetime: Duration,
    pub format: Format,
    /// Lifts the bound by the subject token's `exp`.
    pub outlive_subject: bool,
}

/// What an access token is to whoever receives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// RFC 9068.
    #[default]
    Jwt,
    /// A name that has to be introspected (RFC 7662).
    Opaque,
}

impl Application {
    /// Whether it gets refresh tokens, and may use them. What can't keep a token to itself may not.
    pub fn may_refresh(&self) -> bool {
        self.kind != ApplicationType::SinglePage && self.allows(grant_type::REFRESH_TOKEN)
    }

    /// Whether exchanges give it refresh tokens, which it may use here.
    pub fn gets_refresh_tokens(&self) -> bool {
        self.may_refresh() && self.allows(grant_type::TOKEN_EXCHANGE)
    }

    /// Whether it may exchange tokens of this issuer.
    pub fn may_use(&self, issuer: &TrustedIssuer) -> bool {
        self.trusted_token_issuers.as_ref().is_none_or(|names| names.contains(&issuer.name))
    }

    pub fn allows(&self, grant_type: &str) -> bool {
        self.grant_types.iter().any(|own| own == grant_type)
    }
}

/// A comparison of secrets that is still to be made: it may take milliseconds, so it is a value
/// that the shell can run where it does no harm, or answer from a cache.
#[derive(Clone, Debug)]
pub struct SecretCheck {
    /// Each reading with the application that it names.
    readings: Vec<(Option<Arc<Application>>, String, Option<SecretString>)>,
    /// The costly secrets that each reading is compared with where the caller is refused, so that
    /// it takes the same time whoever is refused.
    padding: Arc<[StoredSecret]>,
}

/// What a [`SecretCheck`] found: which of its readings is right. Only running one makes one, and it
/// says something of that check, or of one with the same [`binding`](SecretCheck::binding), alone.
#[derive(Clone, Copy, Debug)]
pub struct Verdict(Result<usize, ClientError>);

impl Verdict {
    pub const fn is_right(&self) -> bool {
        self.0.is_ok()
    }
}

impl SecretCheck {
    pub(super) fn new(
        credentials: Credentials,
        application: impl Fn(&str) -> Option<Arc<Application>>,
        padding: Arc<[StoredSecret]>,
    ) -> Self {
        let readings = credentials
            .into_readings()
            .map(|(id, secret)| (application(&id), id, secret))
            .collect();
        Self { readings, padding }
    }

    /// Whether there is a secret in it, which may be a guess.
    pub fn has_secret(&self) -> bool {
        self.readings.iter().any(|(_, _, secret)| secret.is_some())
    }

    /// Every `client_id` that is meant.
    pub fn unverified_client_ids(&self) -> impl Iterator<Item = &str> {
        self.readings.iter().map(|(_, id, _)| id.as_str())
    }

    /// Whether running it takes milliseconds rather than microseconds.
    pub fn is_costly(&self) -> bool {
        !self.padding.is_empty() && self.has_secret()
    }

    /// What a cached verdict must be bound to: the credentials and the secrets they were held
    /// against. It has the secret in it, so it is to be hashed under a key at once.
    pub fn binding(&self) -> Zeroizing<Vec<u8>> {
        let mut binding = Zeroizing::new(Vec::new());
        let mut part = |bytes: &[u8]| {
            binding.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            binding.extend_from_slice(bytes);
        };
        for (application, id, secret) in &self.readings {
            part(id.as_bytes());
            part(secret.as_ref().map_or("", |secret| secret.expose_secret()).as_bytes());
            for stored in application.iter().flat_map(|one| one.authentication.secrets()) {
                part(stored.fingerprint());
            }
        }
        binding
    }

    /// Compares. A refusal takes the same costly comparisons whether the client is unknown or its
    /// secret wrong, so that the time tells nothing.
    pub fn run(&self) -> Verdict {
        Verdict(self.compare(StoredSecret::matches))
    }

    /// The caller, if it is who it says.
    pub fn conclude(self, verdict: Verdict) -> Result<AuthenticatedClient, ClientError> {
        let right = self.readings.into_iter().nth(verdict.0?);
        let (application, client_id, _) = right.ok_or(ClientError::Unknown)?;
        let application = application.ok_or(ClientError::Unknown)?;
        Ok(AuthenticatedClient { application, client_id })
    }

    fn compare(
        &self,
        mut matches: impl FnMut(&StoredSecret, &[u8]) -> bool,
    ) -> Result<usize, ClientError> {
        let mut known = false;
        let mut missing = false;
        let mut left: Vec<(&StoredSecret, &[u8])> = Vec::new();
        for (index, (application, _, secret)) in self.readings.iter().enumerate() {
            known |= application.is_some();
            let Some(secret) = secret else {
                if application.as_ref().is_some_and(|one| one.authentication.is_public()) {
                    return Ok(index);
                }
                missing |= application.is_some();
                continue;
            };
            let secret = secret.expose_secret().as_bytes();
            let mut padding: Vec<&StoredSecret> = self.padding.iter().collect();
            for stored in application.iter().flat_map(|one| one.authentication.secrets()) {
                if let Some(at) = padding.iter().position(|one| one.cost() == stored.cost()) {
                    padding.swap_remove(at);
                }
                if matches(stored, secret) {
                    return Ok(index);
                }
            }
            left.extend(padding.into_iter().map(|stored| (stored, secret)));
        }
        for (stored, secret) in left {
            std::hint::black_box(matches(stored, secret));
        }
        Err(match (known, missing) {
            (false, _) => ClientError::Unknown,
            (true, true) => ClientError::AuthMissing,
            (true, false) => ClientError::SecretWrong,
        })
    }
}

/// A caller who is who it says. Made by a [`SecretCheck`] or a [`VouchCheck`] alone.
#[derive(Clone, Debug)]
pub struct AuthenticatedClient {
    application: Arc<Application>,
    client_id: String,
}

impl AuthenticatedClient {
    /// What is configured for it.
    pub const fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// Its own, where the application stands for several.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What it may ask for. The first is the default. Never empty.
    pub fn audiences(&self) -> &[String] {
        match self.application.audiences.as_slice() {
            [] => std::slice::from_ref(&self.client_id),
            configured => configured,
        }
    }
}

/// How a caller is to be authenticated.
#[derive(Debug)]
pub enum ClientCheck {
    /// Its secret is held against ours.
    Own(SecretCheck),
    /// Its credentials are tried at the upstream.
    Upstream(VouchCheck),
}

/// A caller whom the upstream may vouch for: credentials that every server reads in the name of one
/// and the same client, and the application that this client is.
#[derive(Debug)]
pub struct VouchCheck {
    application: Arc<Application>,
    attempt: Attempt,
}

impl VouchCheck {
    /// `None` where the application is not the upstream's to vouch for.
    pub(super) fn new(application: Arc<Application>, attempt: Attempt) -> Option<Self> {
        let is_upstream = application.authentication.is_upstream();
        is_upstream.then_some(Self { application, attempt })
    }

    /// What is to be tried.
    pub const fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// The caller, if the upstream has vouched for exactly these credentials.
    pub fn conclude(
        self,
        vouched: &Vouched,
        key: &BindingKey,
    ) -> Result<AuthenticatedClient, ClientError> {
        let Self { application, attempt } = self;
        if !vouched.is_for(&attempt, key) {
            return Err(ClientError::SecretWrong);
        }
        Ok(AuthenticatedClient { application, client_id: attempt.into_client_id() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::policy::{Policy, UnknownIssuers};
    use crate::oauth::form::Form;
    use crate::secret::Cost;

    fn application(client_id: &str, secrets: &[&str]) -> Application {
        let secret = |phc: &&str| StoredSecret::from_hash(phc).unwrap();
        Application {
            name: client_id.into(),
            client_id: client_id.to_owned(),
            kind: ApplicationType::TraditionalWeb,
            authentication: Authentication::Secrets(secrets.iter().map(secret).collect()),
            grant_types: Vec::new(),
            trusted_token_issuers: None,
            audiences: Vec::new(),
            scopes: Scope::default(),
            access_token: AccessTokenSettings {
                lifetime: Duration::from_secs(60),
                format: Format::Jwt,
                outlive_subject: false,
            },
            refresh_token: RefreshTokenSettings {
                lifetime: Duration::from_secs(60),
                idle: None,
                grace: Duration::ZERO,
            },
        }
    }

    #[test]
    fn a_refusal_takes_the_same_comparisons_whoever_is_refused() {
        let light = crate::secret::hash(b"secret", &[1; 16]).unwrap();
        let heavy = light.replace("m=19456", "m=65536");
        let plain = Application {
            authentication: Authentication::Secrets(vec![StoredSecret::from_plain(b"secret")]),
            ..application("plain", &[])
        };
        let applications = [
            application("light", &[&light, &light]),
            application("heavy", &[&heavy]),
            application("both", &[&light, &heavy]),
            plain,
        ];
        let policy = Policy::new("us", UnknownIssuers::Reject, [], applications);
        let compared = |client_id: &str| {
            let body = format!("client_id={client_id}&client_secret=wrong");
            let credentials = Credentials::present(&[], &Form::parse(body.as_bytes()).unwrap());
            let check = policy.secret_check(credentials.unwrap());
            let mut costs: Vec<Option<Cost>> = Vec::new();
            let result = check.compare(|stored, _| {
                costs.extend(stored.cost().map(Some));
                false
            });
            assert!(result.is_err());
            let count = |phc: &str| {
                let cost = StoredSecret::from_hash(phc).unwrap().cost();
                costs.iter().filter(|one| **one == cost).count()
            };
            (count(&light), count(&heavy))
        };
        for client_id in ["light", "heavy", "both", "plain", "nobody"] {
            assert_eq!(compared(client_id), (2, 1), "{client_id}");
        }
    }
}
