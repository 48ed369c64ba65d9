//! The refresh of an access token (RFC 6749 §6): whether the token counts, and whether policy still
//! allows what was granted once.

use std::sync::Arc;

use thiserror::Error;

use super::Record;
use super::client::{AuthenticatedClient, ClientError};
use super::cut_off::{Ancestor, Descent};
use super::error::Refusal;
use super::family::{End, Family, PREFIX, Presented, RefreshToken};
use super::mint::{self, Access, Issued, Kept};
use super::policy::{Permit, Policy};
use super::request::RequestError;
use super::token_id::{Entropy, FamilyId, IssuerTag};
use crate::jwt::sign::SigningKeys;
use crate::oauth::form::Form;
use crate::oauth::grant_type;
use crate::oauth::scope::Scope;
use crate::time::Timestamp;

/// Why a refresh token is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RefreshError {
    #[error("the refresh token is none that is known")]
    Unknown,
    #[error("the refresh token's time is over")]
    Expired,
    #[error("the refresh token was used before")]
    Reused,
    #[error("the refresh token is revoked")]
    Revoked,
    #[error("the refresh token is another client's")]
    OtherClient,
    #[error("the configuration no longer allows what was granted")]
    PolicyWithdrawn,
}

/// Whether this token of a request is one of our refresh tokens, by its prefix: the upstream has no
/// use for such a one, whatever else it is.
pub fn is_ours(refresh_token: &str) -> bool {
    trimmed(refresh_token).starts_with(PREFIX)
}

/// Blanks around a token come with it from files and shells.
pub(super) fn trimmed(token: &str) -> &str {
    token.trim_matches([' ', '\t', '\r', '\n'])
}

/// The parameters of a refresh.
#[derive(Clone)]
pub struct RefreshRequest {
    /// `None` where the token has our prefix and is nevertheless none.
    token: Option<RefreshToken>,
    /// Values of `audience` and `resource` (RFC 8707 §2.2).
    pub(super) targets: Vec<String>,
    /// `None` is all that was granted.
    pub(super) scope: Option<Scope>,
}

impl std::fmt::Debug for RefreshRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshRequest(…)")
    }
}

impl RefreshRequest {
    pub fn parse(form: &Form) -> Result<Self, RequestError> {
        let token = form.get("refresh_token").map(trimmed).and_then(RefreshToken::parse);
        let targets = form.all("audience").chain(form.all("resource")).map(str::to_owned).collect();
        let scope = form
            .get("scope")
            .map(|scope| Scope::parse(scope).ok_or(RequestError::Scope))
            .transpose()?;
        Ok(Self { token, targets, scope })
    }
}

/// A refresh that waits for its family.
#[derive(Debug)]
pub struct PendingRefresh {
    client: AuthenticatedClient,
    request: RefreshRequest,
    token: RefreshToken,
}

/// A refusal, and what has to become of the family before the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    pub ends: Option<End>,
}

impl<E: Into<Refusal>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { refusal: error.into(), ends: None }
    }
}

/// Grant, parameters, and the form of the token.
pub fn begin(
    form: &Form,
    client: AuthenticatedClient,
    record: &mut Record,
) -> Result<PendingRefresh, Refusal> {
    let application = client.application();
    record.client = Some(Arc::clone(&application.name));
    let may_refresh = application.may_refresh();
    if !may_refresh || !application.allows(grant_type::TOKEN_EXCHANGE) {
        return Err(ClientError::GrantNotAllowed.into());
    }
    let request = RefreshRequest::parse(form)?;
    let token = request.token.clone().ok_or(RefreshError::Unknown)?;
    Ok(PendingRefresh { client, request, token })
}

impl PendingRefresh {
    /// The family that is asked for.
    pub const fn family(&self) -> FamilyId {
        self.token.family()
    }

    /// Holds the token to its family, and what was granted to the policy of now. `is_cut_off` is
    /// whether an operator has revoked what the family descends from.
    pub fn judge<'a>(
        &'a self,
        family: Option<&'a Family>,
        is_cut_off: bool,
        policy: &Policy,
        now: Timestamp,
        record: &mut Record,
    ) -> Result<Approved<'a>, Refused> {
        let family = family.ok_or(RefreshError::Unknown)?;
        let presented = family.recognise(&self.token, now);
        if presented == Presented::MadeUp {
            return Err(RefreshError::Unknown.into());
        }
        let grant = &family.grant;
        record.family = Some(family.id);
        // The attempt of another client costs the rightful one nothing (RFC 6749 §10.4).
        if grant.client_id != self.client.client_id() {
            return Err(RefreshError::OtherClient.into());
        }
        let issuer = policy.issuer(&grant.issuer);
        record.issuer = issuer.map(|issuer| Arc::clone(&issuer.name));
        record.subject = Some(grant.subject_of_issuer.clone());
        match family.ended {
            Some(End::Revoked) => return Err(RefreshError::Revoked.into()),
            None if is_cut_off => return Err(RefreshError::Revoked.into()),
            Some(End::Expired) | None => {}
        }
        let successor = match presented {
            Presented::Current => None,
            Presented::Preceding(successor) => Some(successor),
            // RFC 9700 §4.14.2: one of two that have it is a thief. That the family's time is over
            // changes nothing: access tokens that it gave may live on.
            Presented::Spent | Presented::MadeUp => {
                return Err(Refused {
                    refusal: RefreshError::Reused.into(),
                    ends: Some(End::Revoked),
                });
            }
        };
        if family.ended == Some(End::Expired) {
            return Err(RefreshError::Expired.into());
        }
        if family.is_expired(now) {
            return Err(Refused {
                refusal: RefreshError::Expired.into(),
                ends: Some(End::Expired),
            });
        }
        // A lifetime that was made shorter holds at once; it may be made longer again, so that nothing
        // ends here.
        let settings = &self.client.application().refresh_token;
        if grant.granted_at.plus(settings.lifetime) <= now {
            return Err(RefreshError::Expired.into());
        }
        let permit = Permit::again(&self.client, family, &self.request, policy)?;
        Ok(Approved { pending: self, family, permit, successor })
    }
}

impl Family {
    /// What it descends from.
    pub fn descent(&self) -> Descent {
        Descent {
            ancestors: [
                Ancestor::Subject(self.grant.subject.clone()),
                Ancestor::Client(self.grant.client_id.clone()),
                Ancestor::Issuer(IssuerTag::of(&self.grant.issuer)),
            ],
            granted_at: self.grant.granted_at,
        }
    }
}

/// A refresh that is to be granted.
#[derive(Debug)]
pub struct Approved<'a> {
    pending: &'a PendingRefresh,
    family: &'a Family,
    permit: Permit,
    /// What the preceding token gets again.
    successor: Option<RefreshToken>,
}

impl Approved<'_> {
    /// Mints and signs. The answer may only leave once what is to be kept is kept.
    pub fn mint(
        self,
        signing_keys: &SigningKeys,
        policy: &Policy,
        entropy: &Entropy,
        now: Timestamp,
        record: &mut Record,
    ) -> Result<Issued, Refusal> {
        let Self { pending, family, permit, successor } = self;
        let application = pending.client.application();
        let minted = mint::mint(
            &permit,
            policy.authorization_server(),
            Some(family.id),
            entropy.jwt_id,
            now,
        )
        .ok_or(RefreshError::Expired)?;
        let Access { token: access_token, opaque, kid } = mint::access_token(
            &minted,
            application.access_token.format,
            signing_keys,
            entropy,
            now,
        )?;
        let (rotated, refresh_token) = if let Some(successor) = successor {
            (None, successor)
        } else {
            let settings = &application.refresh_token;
            let (family, token) = family.rotated(&pending.token, settings, entropy, now);
            (Some(family), token)
        };
        record.minted = Some(minted.record(kid));
        Ok(Issued {
            granted: super::Granted {
                access_token,
                issued_token_type: None,
                expires_in: minted.expires_in(),
                scope: minted.scope().map(str::to_owned),
                refresh_token: Some(refresh_token.to_text()),
            },
            kept: Kept { family: rotated, opaque },
        })
    }
}
