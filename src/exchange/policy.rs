//! Who may have what: the configured tables, and the permit without which nothing is minted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::client::{
    ANY_CLIENT, Application, AuthenticatedClient, ClientCheck, ClientError, SecretCheck, VouchCheck,
};
use super::credentials::Credentials;
use super::error::Refusal;
use super::family::Family;
use super::grant::{CopiedClaim, Grant};
use super::refresh::{RefreshError, RefreshRequest};
use super::request::ExchangeRequest;
use super::subject::{ClaimMapping, TrustedIssuer};
use super::token_id::IssuerTag;
use super::vouching::{Attempt, folded, is_plain};
use crate::jwt::claims::Claims;
use crate::jwt::verify::Verified;
use crate::secret::StoredSecret;
use crate::time::Timestamp;

/// Why an authenticated client with a good token still gets nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error("the application may not ask for this audience")]
    Target,
    #[error("the application may not ask for this scope")]
    Scope,
}

/// What becomes of an exchange whose subject token names no trusted issuer, or is no JWT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownIssuers {
    #[default]
    Reject,
    /// It goes upstream.
    Forward,
}

/// A client that may introspect tokens that are meant for some audiences, beside those for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceServer {
    pub client_id: String,
    pub audiences: Vec<String>,
}

/// Every table that a decision is taken from.
#[derive(Debug)]
pub struct Policy {
    issuer: Arc<str>,
    unknown_issuers: UnknownIssuers,
    issuers: HashMap<String, Arc<TrustedIssuer>>,
    by_tag: HashMap<IssuerTag, Arc<TrustedIssuer>>,
    applications: HashMap<String, Arc<Application>>,
    /// What every `client_id` in there looks like to a lax server.
    folded: HashSet<String>,
    /// Stands for the clients that have none of their own.
    any: Option<Arc<Application>>,
    /// In the order in which they were given.
    in_order: Vec<Arc<Application>>,
    /// The costly secrets that are compared where a caller is refused.
    padding: Arc<[StoredSecret]>,
    resource_servers: Vec<ResourceServer>,
}

impl Policy {
    /// `issuer` is the `iss` of minted tokens. Issuers have distinct `iss`, applications distinct
    /// `client_id`: the last one counts.
    pub fn new(
        issuer: &str,
        unknown_issuers: UnknownIssuers,
        issuers: impl IntoIterator<Item = Arc<TrustedIssuer>>,
        applications: impl IntoIterator<Item = Application>,
    ) -> Self {
        let mut in_order: Vec<_> = applications.into_iter().map(Arc::new).collect();
        let mut applications: HashMap<_, _> = in_order
            .iter()
            .map(|application| (application.client_id.clone(), Arc::clone(application)))
            .collect();
        in_order.retain(|one| {
            applications.get(&one.client_id).is_some_and(|last| Arc::ptr_eq(last, one))
        });
        // Whose `client_id` this is, nobody knows. Only the upstream can say.
        let any = applications.remove(ANY_CLIENT).filter(|any| any.authentication.is_upstream());
        let folded = applications.keys().map(|client_id| folded(client_id)).collect();
        let padding = padding(applications.values());
        let issuers: HashMap<_, _> =
            issuers.into_iter().map(|issuer| (issuer.rules.issuer.clone(), issuer)).collect();
        let by_tag = issuers.iter().map(|(iss, issuer)| (IssuerTag::of(iss), Arc::clone(issuer)));
        Self {
            issuer: issuer.into(),
            unknown_issuers,
            by_tag: by_tag.collect(),
            issuers,
            applications,
            folded,
            any,
            in_order,
            padding,
            resource_servers: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_resource_servers(mut self, resource_servers: Vec<ResourceServer>) -> Self {
        self.resource_servers = resource_servers;
        self
    }

    pub fn resource_servers(&self) -> &[ResourceServer] {
        &self.resource_servers
    }

    /// `iss` of minted tokens.
    pub fn authorization_server(&self) -> &str {
        &self.issuer
    }

    pub const fn unknown_issuers(&self) -> UnknownIssuers {
        self.unknown_issuers
    }

    /// The trusted token issuer with this `iss`, to the byte.
    pub fn issuer(&self, issuer: &str) -> Option<&Arc<TrustedIssuer>> {
        self.issuers.get(issuer)
    }

    /// The trusted token issuer whose tag stands in a token of ours.
    pub fn issuer_by_tag(&self, tag: IssuerTag) -> Option<&Arc<TrustedIssuer>> {
        self.by_tag.get(&tag)
    }

    pub fn issuers(&self) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.issuers.values()
    }

    /// The application that is named so in the configuration.
    pub fn application(&self, client_id: &str) -> Option<&Arc<Application>> {
        self.applications.get(client_id)
    }

    /// The application that a client with this `client_id` is: the one that names it, or else the one
    /// that stands for all others. That is not for an id which a lax server could take for one that is
    /// named: the client would get around what is configured for it.
    pub fn application_of(&self, client_id: &str) -> Option<&Arc<Application>> {
        let is_other = || is_plain(client_id) && !self.folded.contains(&folded(client_id));
        let any = || self.any.as_ref().filter(|_| client_id != ANY_CLIENT && is_other());
        self.application(client_id).or_else(any)
    }

    /// In the order in which they were given.
    pub fn applications(&self) -> impl Iterator<Item = &Arc<Application>> {
        self.in_order.iter()
    }

    /// Whether there is an application that the upstream authenticates.
    pub fn asks_upstream(&self) -> bool {
        self.applications().any(|application| application.authentication.is_upstream())
    }

    /// How it is to be learnt whether a caller is who it says. The upstream is asked where it alone can
    /// know, and nobody can read another client from the credentials.
    pub fn client_check(&self, credentials: Credentials) -> Result<ClientCheck, ClientError> {
        let named = credentials.unverified_client_id().and_then(|id| self.application_of(id));
        match named.filter(|application| application.authentication.is_upstream()) {
            None => Ok(ClientCheck::Own(self.secret_check(credentials))),
            Some(application) => Attempt::of(&credentials)
                .and_then(|attempt| VouchCheck::new(Arc::clone(application), attempt))
                .map(ClientCheck::Upstream)
                .ok_or(ClientError::AuthMissing),
        }
    }

    /// What is to be compared to learn whether a caller is one of the applications whose secrets are
    /// ours, or that have none.
    pub fn secret_check(&self, credentials: Credentials) -> SecretCheck {
        let own = |client_id: &str| {
            let application = self.application(client_id)?;
            (!application.authentication.is_upstream()).then(|| Arc::clone(application))
        };
        SecretCheck::new(credentials, own, Arc::clone(&self.padding))
    }
}

/// Of each cost as many secrets as the application that has most: the least work that takes as long
/// as refusing any of them.
fn padding<'a>(applications: impl Iterator<Item = &'a Arc<Application>>) -> Arc<[StoredSecret]> {
    let mut padding: Vec<StoredSecret> = Vec::new();
    for application in applications {
        let mut rest: Vec<_> = padding.iter().map(StoredSecret::cost).collect();
        let secrets = application.authentication.secrets().iter();
        for secret in secrets.filter(|secret| secret.cost().is_some()) {
            match rest.iter().position(|cost| *cost == secret.cost()) {
                Some(at) => drop(rest.swap_remove(at)),
                None => padding.push(secret.clone()),
            }
        }
    }
    padding.into()
}

/// That a named rule lets this client have a token for this subject, these audiences and this
/// scope. `mint` takes nothing else.
#[derive(Debug)]
pub struct Permit {
    pub(super) grant: Grant,
    /// Of the access token.
    pub(super) lifetime: Duration,
    /// The access token expires then at the latest.
    pub(super) not_after: Timestamp,
}

impl Permit {
    /// Holds what is asked for to what the application may have. Nothing asked for is the first of
    /// its audiences, and no scope.
    pub(super) fn new(
        client: &AuthenticatedClient,
        issuer: &TrustedIssuer,
        subject: &Verified<Claims>,
        request: &ExchangeRequest,
        now: Timestamp,
    ) -> Result<Self, PolicyError> {
        let application = client.application();
        let first = || client.audiences().first().cloned().into_iter().collect();
        let audiences = narrowed(&request.targets, client.audiences())?.unwrap_or_else(first);
        if audiences.is_empty() {
            return Err(PolicyError::Target);
        }
        if !request.scope.is_subset_of(&application.scopes) {
            return Err(PolicyError::Scope);
        }
        let subject = subject.get();
        let copied = issuer.claims.iter().filter_map(|ClaimMapping { minted, subject: name }| {
            let value = subject.all.get(name)?.clone();
            Some(CopiedClaim { minted: minted.clone(), subject: name.clone(), value })
        });
        let settings = application.access_token;
        Ok(Self {
            grant: Grant {
                client_id: client.client_id().to_owned(),
                issuer: subject.issuer.clone(),
                subject_of_issuer: subject.subject.clone(),
                subject: issuer.subject_of(&subject.subject),
                audiences,
                scope: request.scope.clone(),
                claims: copied.collect(),
                granted_at: now,
            },
            lifetime: settings.lifetime,
            not_after: if settings.outlive_subject { Timestamp::MAX } else { subject.expires_at },
        })
    }

    /// Holds what was granted once to the policy of now, and what is asked for to what is left.
    pub(super) fn again(
        client: &AuthenticatedClient,
        family: &Family,
        request: &RefreshRequest,
        policy: &Policy,
    ) -> Result<Self, Refusal> {
        let (application, grant) = (client.application(), &family.grant);
        let issuer = policy
            .issuer(&grant.issuer)
            .filter(|issuer| issuer.enabled && application.may_use(issuer))
            .ok_or(RefreshError::PolicyWithdrawn)?;
        let has_audiences =
            grant.audiences.iter().all(|audience| client.audiences().contains(audience));
        let is_same_subject = issuer.subject_of(&grant.subject_of_issuer) == grant.subject;
        if !has_audiences || !is_same_subject {
            return Err(RefreshError::PolicyWithdrawn.into());
        }
        let audiences = narrowed(&request.targets, &grant.audiences)?
            .unwrap_or_else(|| grant.audiences.clone());
        // RFC 6749 §6: what is asked for must not go beyond what was granted. What is not asked for
        // by name shrinks with the configuration.
        let scope = match &request.scope {
            Some(scope) if scope.is_subset_of(&grant.scope) => scope,
            Some(_) => return Err(PolicyError::Scope.into()),
            None => &grant.scope.and(&application.scopes),
        };
        if !scope.is_subset_of(&application.scopes) {
            return Err(PolicyError::Scope.into());
        }
        let is_mapped = |CopiedClaim { minted, subject, .. }: &&CopiedClaim| {
            issuer.claims.iter().any(|now| now.minted == *minted && now.subject == *subject)
        };
        let claims = grant.claims.iter().filter(is_mapped).cloned().collect();
        // A lifetime that was made shorter since then counts, a longer one does not.
        let of_now = grant.granted_at.plus(application.refresh_token.lifetime);
        Ok(Self {
            grant: Grant { audiences, scope: scope.clone(), claims, ..grant.clone() },
            lifetime: application.access_token.lifetime,
            not_after: family.expires_at.min(of_now),
        })
    }
}

/// The targets that are asked for, each once; `None` where none is.
fn narrowed(targets: &[String], allowed: &[String]) -> Result<Option<Vec<String>>, PolicyError> {
    let mut audiences: Vec<String> = Vec::new();
    for target in targets {
        if !allowed.contains(target) {
            return Err(PolicyError::Target);
        }
        if !audiences.contains(target) {
            audiences.push(target.clone());
        }
    }
    Ok((!audiences.is_empty()).then_some(audiences))
}
