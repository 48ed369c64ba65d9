//! Who calls: credentials as they arrive, applications as they are configured, and the proof that
//! the one is the other (RFC 6749 §2.3).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use zeroize::Zeroizing;

use super::family::RefreshTokenSettings;
use super::subject::TrustedIssuer;
use crate::oauth::form::{self, Form};
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

/// An application that may call, and what it may ask for.
#[derive(Clone, Debug)]
pub struct Application {
    /// The only form in which the application appears in metrics and logs.
    pub name: Arc<str>,
    pub client_id: String,
    pub kind: ApplicationType,
    /// Any of these is right: several while a secret is being rotated.
    pub secrets: Vec<StoredSecret>,
    /// `allowed_grant_types` as configured.
    pub grant_types: Vec<String>,
    /// Names of trusted token issuers; `None` is all.
    pub trusted_token_issuers: Option<Vec<Arc<str>>>,
    /// What may be asked for. The first is the default. Never empty.
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

/// How a caller presented itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 6749 §2.3.1, `Authorization: Basic`.
    ClientSecretBasic,
    /// RFC 6749 §2.3.1, in the body.
    ClientSecretPost,
    /// RFC 6749 §3.2.1, `client_id` alone.
    None,
}

/// What a caller says of itself. Nothing is proven yet.
#[derive(Clone)]
pub struct Credentials {
    pub method: Method,
    /// As RFC 6749 §2.3.1 wants them, percent-encoded, and as many clients send them, raw: where
    /// the two readings differ there are two.
    readings: Vec<(String, Option<SecretString>)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("method", &self.method).finish_non_exhaustive()
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Credentials {
    /// Reads the one way in which the caller authenticates. `authorization` has the value of every
    /// `Authorization` field of the request.
    pub fn present(authorization: &[&[u8]], form: &Form) -> Result<Self, ClientError> {
        let posted = form.get("client_secret");
        let assertion = form.get("client_assertion").or(form.get("client_assertion_type"));
        let ways =
            authorization.len() + usize::from(posted.is_some()) + usize::from(assertion.is_some());
        if ways > 1 {
            return Err(ClientError::AuthMultiple);
        }
        let secret = |text: &str| Some(SecretString::from(text)).filter(|_| !text.is_empty());
        if let [value] = authorization {
            let mut readings = basic(value).ok_or(ClientError::AuthMissing)?;
            if let Some(named) = form.get("client_id") {
                readings.retain(|(id, _)| id == named);
            }
            if readings.is_empty() {
                return Err(ClientError::AuthMultiple);
            }
            let readings = readings.into_iter().map(|(id, text)| (id, secret(&text))).collect();
            return Ok(Self { method: Method::ClientSecretBasic, readings });
        }
        let id = form.get("client_id").ok_or(ClientError::AuthMissing)?.to_owned();
        if assertion.is_some() {
            return Err(ClientError::AuthMissing);
        }
        let method = if posted.is_some() { Method::ClientSecretPost } else { Method::None };
        Ok(Self { method, readings: vec![(id, posted.and_then(secret))] })
    }

    /// The `client_id`, where all readings agree on it. Somebody else has to say whether it is the
    /// caller's.
    pub fn unverified_client_id(&self) -> Option<&str> {
        let mut ids = self.readings.iter().map(|(id, _)| id.as_str());
        let first = ids.next()?;
        ids.all(|id| id == first).then_some(first)
    }

    /// Whether there is a secret, so that there is something to be right or wrong.
    pub fn has_secret(&self) -> bool {
        self.readings.iter().all(|(_, secret)| secret.is_some())
    }
}

/// The value of an `Authorization` field of the same client as in `value`, to the byte, and with
/// another secret. `None` where `value` is not of Basic.
pub fn basic_with_secret(value: &[u8], secret: &str) -> Option<Zeroizing<String>> {
    let decoded = basic_octets(value)?;
    let at = decoded.iter().position(|b| *b == b':')?;
    let other = Zeroizing::new([decoded.get(..=at)?, secret.as_bytes()].concat());
    Some(Zeroizing::new(format!("Basic {}", BASE64.encode(&*other))))
}

/// What `Basic <base64(id ":" secret)>` holds.
fn basic_octets(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    BASE64.decode(encoded.trim_matches(' ')).ok().map(Zeroizing::new)
}

/// The readings of `Basic <base64(id ":" secret)>`, with or without padding.
fn basic(value: &[u8]) -> Option<Vec<(String, String)>> {
    let decoded = basic_octets(value)?;
    let at = decoded.iter().position(|b| *b == b':')?;
    let (id, secret) = (decoded.get(..at)?, decoded.get(at + 1..)?);
    let as_encoded = form::decode(id).zip(form::decode(secret));
    let as_raw = String::from_utf8(id.to_vec()).ok().zip(String::from_utf8(secret.to_vec()).ok());
    let mut readings: Vec<_> = as_encoded.into_iter().chain(as_raw).collect();
    readings.dedup();
    readings.retain(|(id, _)| !id.is_empty());
    (!readings.is_empty()).then_some(readings)
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
            .readings
            .into_iter()
            .map(|(id, secret)| (application(&id), id, secret))
            .collect();
        Self { readings, padding }
    }

    /// Whether running it takes milliseconds rather than microseconds.
    pub fn is_costly(&self) -> bool {
        !self.padding.is_empty() && self.readings.iter().any(|(_, _, secret)| secret.is_some())
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
            for stored in application.iter().flat_map(|application| &application.secrets) {
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
        let application = right.and_then(|(application, _, _)| application);
        application.map(AuthenticatedClient).ok_or(ClientError::Unknown)
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
                if application.as_ref().is_some_and(|application| application.kind.is_public()) {
                    return Ok(index);
                }
                missing |= application.is_some();
                continue;
            };
            let secret = secret.expose_secret().as_bytes();
            let mut padding: Vec<&StoredSecret> = self.padding.iter().collect();
            for stored in application.iter().flat_map(|application| &application.secrets) {
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

/// A caller who is who it says. Made by a [`SecretCheck`] alone.
#[derive(Clone, Debug)]
pub struct AuthenticatedClient(Arc<Application>);

impl AuthenticatedClient {
    pub fn application(&self) -> &Arc<Application> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::policy::{Policy, UnknownIssuers};
    use crate::secret::Cost;

    fn application(client_id: &str, secrets: &[&str]) -> Application {
        let secret = |phc: &&str| StoredSecret::from_hash(phc).unwrap();
        Application {
            name: client_id.into(),
            client_id: client_id.to_owned(),
            kind: ApplicationType::TraditionalWeb,
            secrets: secrets.iter().map(secret).collect(),
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
            secrets: vec![StoredSecret::from_plain(b"secret")],
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
