//! Who may have what: the configured tables, and the permit without which nothing is minted.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use super::client::{Application, AuthenticatedClient, Credentials, SecretCheck};
use super::request::ExchangeRequest;
use super::subject::TrustedIssuer;
use crate::jwt::claims::Claims;
use crate::jwt::verify::Verified;
use crate::oauth::scope::Scope;
use crate::secret::StoredSecret;

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

/// Every table that a decision is taken from.
#[derive(Debug)]
pub struct Policy {
    issuer: Arc<str>,
    unknown_issuers: UnknownIssuers,
    issuers: HashMap<String, Arc<TrustedIssuer>>,
    applications: HashMap<String, Arc<Application>>,
    /// In the order in which they were given.
    in_order: Vec<Arc<Application>>,
    /// The costly secrets that are compared where a caller is refused.
    padding: Arc<[StoredSecret]>,
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
        let applications: HashMap<_, _> = in_order
            .iter()
            .map(|application| (application.client_id.clone(), Arc::clone(application)))
            .collect();
        in_order.retain(|one| {
            applications.get(&one.client_id).is_some_and(|last| Arc::ptr_eq(last, one))
        });
        let padding = padding(applications.values());
        let issuers =
            issuers.into_iter().map(|issuer| (issuer.rules.issuer.clone(), issuer)).collect();
        Self { issuer: issuer.into(), unknown_issuers, issuers, applications, in_order, padding }
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

    pub fn issuers(&self) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.issuers.values()
    }

    pub fn application(&self, client_id: &str) -> Option<&Arc<Application>> {
        self.applications.get(client_id)
    }

    /// In the order in which they were given.
    pub fn applications(&self) -> impl Iterator<Item = &Arc<Application>> {
        self.in_order.iter()
    }

    /// What is to be compared to learn whether a caller is who it says.
    pub fn secret_check(&self, credentials: Credentials) -> SecretCheck {
        SecretCheck::new(
            credentials,
            |client_id| self.application(client_id).cloned(),
            Arc::clone(&self.padding),
        )
    }
}

/// Of each cost as many secrets as the application that has most: the least work that takes as long
/// as refusing any of them.
fn padding<'a>(applications: impl Iterator<Item = &'a Arc<Application>>) -> Arc<[StoredSecret]> {
    let mut padding: Vec<StoredSecret> = Vec::new();
    for application in applications {
        let mut rest: Vec<_> = padding.iter().map(StoredSecret::cost).collect();
        for secret in application.secrets.iter().filter(|secret| secret.cost().is_some()) {
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
pub struct Permit<'a> {
    pub(super) client: &'a AuthenticatedClient,
    pub(super) issuer: &'a TrustedIssuer,
    pub(super) subject: &'a Verified<Claims>,
    pub(super) audiences: Vec<String>,
    pub(super) scope: Scope,
}

impl<'a> Permit<'a> {
    /// Holds what is asked for to what the application may have. Nothing asked for is the first of
    /// its audiences, and no scope.
    pub(super) fn new(
        client: &'a AuthenticatedClient,
        issuer: &'a TrustedIssuer,
        subject: &'a Verified<Claims>,
        request: &ExchangeRequest,
    ) -> Result<Self, PolicyError> {
        let application = client.application();
        let mut audiences: Vec<String> = Vec::new();
        for target in &request.targets {
            if !application.audiences.contains(target) {
                return Err(PolicyError::Target);
            }
            if !audiences.contains(target) {
                audiences.push(target.clone());
            }
        }
        if audiences.is_empty() {
            audiences.push(application.audiences.first().ok_or(PolicyError::Target)?.clone());
        }
        if !request.scope.is_subset_of(&application.scopes) {
            return Err(PolicyError::Scope);
        }
        Ok(Self { client, issuer, subject, audiences, scope: request.scope.clone() })
    }
}
