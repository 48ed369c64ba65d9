//! The exchange itself (RFC 8693): the steps in order, each a pure function of values.
//!
//! Form → client → grant → parameters → subject token → policy → mint. Secrets, keys and what is kept
//! are needed in the middle, so the core stops and asks: [`SecretCheck`](client::SecretCheck) for a
//! comparison that may take milliseconds, [`Pending`] for the keys of one issuer, [`Approved`] for
//! whether a token comes for the first time. [`Issued`] says what to keep before the answer leaves.
//!
//! [`refresh`] has the same steps for a refresh token, [`inquiry`] and [`issued`] those for a token
//! that is introspected or revoked.

pub mod client;
pub mod credentials;
pub mod cut_off;
pub mod error;
pub mod family;
pub mod grant;
pub mod inquiry;
pub mod issued;
mod marks;
pub mod mint;
pub mod opaque;
pub mod policy;
pub mod refresh;
pub mod request;
pub mod specimen;
pub mod subject;
pub mod throttle;
pub mod token_id;
pub mod vouching;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::client::{AuthenticatedClient, ClientError};
use self::error::Refusal;
use self::family::Family;
use self::issued::AccessToken;
use self::mint::{Access, Issued, Kept};
use self::policy::{Permit, Policy, UnknownIssuers};
use self::request::ExchangeRequest;
use self::subject::{Once, PendingSubject, SubjectTokenError, TrustedIssuer};
use self::token_id::{Entropy, FamilyId};
use crate::jwt::claims::Claims;
use crate::jwt::key_set::KeySet;
use crate::jwt::sign::SigningKeys;
use crate::jwt::unverified::UnverifiedToken;
use crate::jwt::verify::{Verified, VerifyError, verify};
use crate::oauth::form::Form;
use crate::oauth::grant_type;
use crate::oauth::token_type::TokenType;
use crate::time::Timestamp;

/// What an exchange has come to know so far. All of it is configured, or verified, or ours: it may
/// be logged, whatever the exchange ends with.
#[derive(Clone, Default)]
pub struct Record {
    /// Name of the application, once it has authenticated.
    pub client: Option<Arc<str>>,
    /// Name of the trusted token issuer, once its `iss` was found in the configuration.
    pub issuer: Option<Arc<str>>,
    /// `sub` of the subject token, once verified. To be hashed before it is written anywhere.
    pub subject: Option<String>,
    /// `jti` of the subject token, once verified.
    pub subject_jwt_id: Option<String>,
    /// The refresh token family, once its token is known to be ours, or once it has begun.
    pub family: Option<FamilyId>,
    /// What was granted.
    pub minted: Option<MintedRecord>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, issuer, subject: _, subject_jwt_id, family, minted } = self;
        f.debug_struct("Record")
            .field("client", client)
            .field("issuer", issuer)
            .field("subject_jwt_id", subject_jwt_id)
            .field("family", family)
            .field("minted", minted)
            .finish_non_exhaustive()
    }
}

/// What is kept of a minted token.
#[derive(Clone, Debug)]
pub struct MintedRecord {
    pub jwt_id: String,
    pub audiences: Vec<String>,
    pub scope: Option<String>,
    pub expires_at: Timestamp,
    /// The key that signed it; an opaque token has none.
    pub kid: Option<String>,
}

/// An exchange that waits for the keys of one issuer.
#[derive(Debug)]
pub struct Pending {
    client: AuthenticatedClient,
    request: ExchangeRequest,
    subject: PendingSubject,
}

/// A token to hand out.
#[derive(Clone)]
pub struct Granted {
    pub access_token: Zeroizing<String>,
    /// Of an exchange alone (RFC 8693 §2.2.1).
    pub issued_token_type: Option<TokenType>,
    /// Seconds.
    pub expires_in: u64,
    pub scope: Option<String>,
    pub refresh_token: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Whether the configuration wants this exchange to go upstream: its subject token names no trusted
/// issuer, or is no JWT at all.
pub fn is_forwarded(form: &Form, policy: &Policy) -> bool {
    if policy.unknown_issuers() == UnknownIssuers::Reject {
        return false;
    }
    let Some(token) = form.get("subject_token") else { return false };
    let token = token.trim_matches([' ', '\t', '\r', '\n']);
    match UnverifiedToken::parse(token) {
        Err(_) => !resembles_jws(token),
        Ok(token) => match token.unverified_issuer() {
            Ok(Some(issuer)) => policy.issuer(issuer).is_none(),
            Ok(None) => true,
            Err(_) => false,
        },
    }
}

/// Whether some laxer reader could take the text for a JWS, in whatever serialization: header and
/// claims are JSON objects, and nothing in their encoding can change without the signature.
fn resembles_jws(text: &str) -> bool {
    let is_base64url = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    // `{` is 0x7B: 6 bits that are `e`, and 2 that begin the next letter.
    let is_object = |word: &&str| {
        let mut letters = word.bytes();
        letters.next() == Some(b'e')
            && letters.next().is_some_and(|b| matches!(b, b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    text.split(|c| !is_base64url(c)).filter(is_object).nth(1).is_some()
}

/// Grant, parameters, and the subject token up to its issuer's keys.
pub fn begin(
    form: &Form,
    client: AuthenticatedClient,
    policy: &Policy,
    record: &mut Record,
) -> Result<Pending, Refusal> {
    let application = client.application();
    record.client = Some(Arc::clone(&application.name));
    if !application.allows(grant_type::TOKEN_EXCHANGE) {
        return Err(ClientError::GrantNotAllowed.into());
    }
    let request = ExchangeRequest::parse(form, application.may_refresh())?;
    let token = UnverifiedToken::parse(&request.subject_token).map_err(SubjectTokenError::from)?;
    let issuer = subject::issuer_of(&token, &client, policy, &mut record.issuer)?;
    let subject = PendingSubject::new(issuer, token)?;
    Ok(Pending { client, request, subject })
}

impl Pending {
    /// The issuer whose keys are asked for.
    pub fn issuer(&self) -> &Arc<TrustedIssuer> {
        &self.subject.issuer
    }

    /// Whether these keys of that issuer have the one that signed the token, as far as can be told.
    /// Where they do not, fresher ones may.
    pub fn has_key_in(&self, keys: &KeySet) -> bool {
        self.subject.candidate.has_key_in(keys)
    }

    /// Verifies and permits.
    pub fn approve(
        self,
        keys: &KeySet,
        now: Timestamp,
        record: &mut Record,
    ) -> Result<Approved, Refusal> {
        let Self { client, request, subject: PendingSubject { issuer, candidate } } = self;
        let subject_kid = candidate.kid().map(str::to_owned);
        let subject =
            verify(candidate, &issuer.rules, keys, now).map_err(SubjectTokenError::from)?;
        record.subject = Some(subject.get().subject.clone());
        record.subject_jwt_id.clone_from(&subject.get().jwt_id);
        let once = match Once::of(&issuer, subject.get()) {
            Some(once) if issuer.once => Some(once),
            None if issuer.once => return Err(SubjectTokenError::JwtIdMissing.into()),
            Some(_) | None => None,
        };
        let permit = Permit::new(&client, &issuer, &subject, &request, now)?;
        Ok(Approved { client, request, subject, subject_kid, permit, once })
    }
}

/// An exchange that is to be granted, unless its subject token was exchanged before and must not be,
/// or is one of ours that was revoked.
#[derive(Debug)]
pub struct Approved {
    client: AuthenticatedClient,
    request: ExchangeRequest,
    subject: Verified<Claims>,
    subject_kid: Option<String>,
    permit: Permit,
    once: Option<Once>,
}

impl Approved {
    /// What is to be remembered before anything is minted, where the token is accepted once only.
    /// Where it is remembered already, the exchange is refused as [`SubjectTokenError::Replayed`].
    pub const fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// The subject token, where it is an access token of ours that comes back: the configuration
    /// trusts our own issuer, with our keys. Whether it still holds is to be known before anything is
    /// minted; where it does not, the exchange is refused as [`SubjectTokenError::Revoked`].
    pub fn own_subject(&self, signing_keys: &SigningKeys, policy: &Policy) -> Option<AccessToken> {
        let claims = self.subject.get();
        // In front of an identity provider of the same issuer only the key tells whose it is.
        let is_ours = claims.issuer == policy.authorization_server()
            && signing_keys.iter().any(|key| Some(key.kid()) == self.subject_kid.as_deref());
        is_ours.then(|| AccessToken::new(claims.all.clone())).flatten()
    }

    /// Mints and signs. The answer may only leave once what is to be kept is kept.
    ///
    /// What was exchanged and comes back gains no time by that: its successor never outlives it, and
    /// begins no family of refresh tokens.
    pub fn mint(
        self,
        signing_keys: &SigningKeys,
        policy: &Policy,
        entropy: &Entropy,
        now: Timestamp,
        record: &mut Record,
    ) -> Result<Issued, Refusal> {
        let is_own = self.own_subject(signing_keys, policy).is_some();
        let Self { client, request, subject, subject_kid: _, mut permit, once: _ } = self;
        if is_own {
            permit.not_after = permit.not_after.min(subject.get().expires_at);
        }
        let application = client.application();
        let family = (application.may_refresh() && !is_own).then_some(entropy.family);
        let issuer = policy.authorization_server();
        let minted = mint::mint(&permit, issuer, family, entropy.jwt_id, now)
            .ok_or(SubjectTokenError::Verify(VerifyError::Expired))?;
        let format = application.access_token.format;
        let Access { token: access_token, opaque, kid } =
            mint::access_token(&minted, format, signing_keys, entropy, now)?;
        let begun = family.map(|_| {
            let settings = &application.refresh_token;
            Family::begin(permit.grant, settings, minted.expires_at(), entropy)
        });
        let (family, refresh_token) = begun.unzip();
        record.family = family.as_ref().map(|family| family.id);
        record.minted = Some(minted.record(kid));
        Ok(Issued {
            granted: Granted {
                access_token,
                issued_token_type: Some(request.requested),
                expires_in: minted.expires_in(),
                scope: minted.scope().map(str::to_owned),
                refresh_token: refresh_token.map(|token| token.to_text()),
            },
            kept: Kept { family, opaque },
        })
    }
}
