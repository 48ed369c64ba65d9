//! Applications: who may call, how they prove it, and what they may have.

use std::sync::Arc;

use super::reference::{Privacy, SHORTEST_SECRET};
use super::resource_servers::{introspects, vouches};
use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{
    Application as RawApplication, Authentication as RawAuthentication, ClientSecret, List, Maybe,
    Raw,
};
use crate::config::scalar::{OneOrMany, Text};
use crate::config::shape::Field;
use crate::config::suggestion::did_you_mean;
use crate::exchange::client::{ANY_CLIENT, Application, ApplicationType, Authentication};
use crate::oauth::grant_type;
use crate::oauth::scope::Scope;
use crate::secret::{Cost, StoredSecret};

/// The most secrets at a time. Each may cost a comparison.
const MAX_SECRETS: usize = 4;

/// What can be asked, and of whom.
#[derive(Clone, Copy)]
struct Endpoints {
    introspects: bool,
    vouches: bool,
}

impl Check<'_> {
    pub(super) fn applications(&self, raw: &Raw) -> Vec<Application> {
        let nothing = |node| {
            self.warn(node, "no application may exchange tokens: add one under `applications`");
        };
        let list = match &raw.applications {
            Some(Field { value: Some(list), .. }) => list,
            Some(Field { value: None, .. }) => return Vec::new(),
            None => {
                nothing(NodeId::ROOT);
                return Vec::new();
            }
        };
        let items: Vec<_> =
            list.iter().filter_map(|field| Some((field.node, field.value.as_ref()?))).collect();
        self.unique("client_id", items.iter().map(|(_, application)| &application.client_id));
        self.shared_names(&items);
        self.differing_hashes(&items);
        let names: Option<Vec<&str>> = match &raw.trusted_token_issuers {
            // Names that could not be read are not held against those who use them.
            Some(Field { value: None, .. }) => None,
            Some(Field { value: Some(list), .. }) => list
                .iter()
                .map(|field| Some(given(&field.value.as_ref()?.name)?.1.as_str()))
                .collect(),
            None => Some(Vec::new()),
        };
        let endpoints = Endpoints { introspects: introspects(raw), vouches: vouches(raw) };
        let applications: Vec<_> = items
            .iter()
            .filter_map(|(node, application)| {
                self.application(*node, application, names.as_deref(), endpoints)
            })
            .collect();
        if applications.len() == list.len()
            && !applications
                .iter()
                .any(|application| application.allows(grant_type::TOKEN_EXCHANGE))
        {
            nothing(NodeId::ROOT);
        }
        applications
    }

    /// In metrics and logs two of one name can't be told apart.
    fn shared_names(&self, applications: &[(NodeId, &RawApplication)]) {
        let mut seen = std::collections::HashMap::new();
        for (node, application) in applications {
            let Some((_, name)) = given(&application.name).or(given(&application.client_id)) else {
                continue;
            };
            if let Some(first) = seen.insert(name.as_str(), *node) {
                let line = self.line(first);
                self.warn(
                    *node,
                    format!("has the name of the application on line {line}: in metrics and logs they are one"),
                );
            }
        }
    }

    /// The time that a comparison takes tells which hash it was held against.
    fn differing_hashes(&self, applications: &[(NodeId, &RawApplication)]) {
        let mut first: Option<(String, NodeId)> = None;
        for (_, application) in applications {
            let Some((_, secrets)) = given(&application.client_secret) else { continue };
            for secret in secrets.fields() {
                let Some((node, phc)) =
                    secret.value.as_ref().and_then(|secret| given(&secret.hash))
                else {
                    continue;
                };
                let cost: Vec<_> = phc.as_str().split('$').take(4).collect();
                let cost = cost.join("$");
                match &first {
                    None => first = Some((cost, node)),
                    Some((other, _)) if *other == cost => {}
                    Some((_, other)) => {
                        let line = self.line(*other);
                        self.warn(
                            node,
                            format!(
                                "is hashed with other parameters than the one on line {line}: \
                                 the time of an answer tells the clients apart, so hash them alike"
                            ),
                        );
                    }
                }
            }
        }
    }

    fn application(
        &self,
        node: NodeId,
        raw: &RawApplication,
        issuers: Option<&[&str]>,
        endpoints: Endpoints,
    ) -> Option<Application> {
        let client_id = self
            .need(node, "client_id", "such as `client_id: portal`", &raw.client_id)
            .and_then(|(node, id)| self.client_id(node, id));
        let is_upstream = self.is_upstream(raw, endpoints.vouches);
        let kind = if is_upstream && raw.kind.is_none() {
            Some(ApplicationType::TraditionalWeb)
        } else {
            let hint = "one of standard_oidc, traditional_web, mobile, single_page";
            self.need(node, "type", hint, &raw.kind).map(|(_, kind)| ApplicationType::from(*kind))
        };
        let grant_types = if is_upstream && raw.allowed_grant_types.is_none() {
            Some(vec![grant_type::TOKEN_EXCHANGE.to_owned()])
        } else {
            self.grant_types(node, raw)
        };
        if kind == Some(ApplicationType::SinglePage)
            && raw.allowed_grant_types.is_some()
            && grant_types
                .as_ref()
                .is_some_and(|types| types.iter().any(|own| own == grant_type::TOKEN_EXCHANGE))
        {
            self.fault(
                raw.allowed_grant_types.as_ref().map_or(node, |field| field.node),
                "a single_page application may not exchange tokens: remove token-exchange, or \
                 change its `type`",
            );
        }
        let authentication = if is_upstream {
            // Where it was not meant, that is told, and nothing else.
            if given(&raw.authentication)
                .is_some_and(|(_, one)| *one == RawAuthentication::Upstream)
            {
                self.no_secret(raw, kind);
            }
            Authentication::Upstream
        } else {
            let secrets = self.secrets(node, raw, kind);
            let is_public = kind.is_some_and(ApplicationType::is_public);
            if is_public { Authentication::Public } else { Authentication::Secrets(secrets) }
        };
        let name = given(&raw.name).map(|(node, name)| self.name(node, name));
        let trusted_token_issuers = self.allowed_issuers(&raw.trusted_token_issuers, issuers);
        let audiences = self.texts(&raw.audiences);
        let scopes = self.scopes(&raw.scopes);
        let access_token = self.access_token(&raw.access_token, endpoints.introspects);
        let refresh_token = self.refresh_token(&raw.refresh_token);
        self.refresh_grant(raw);
        let client_id = client_id?;
        Some(Application {
            name: name.unwrap_or_else(|| Arc::from(client_id.as_str())),
            // Those of `*` are each client's own.
            audiences: if raw.audiences.is_none() && client_id != ANY_CLIENT {
                vec![client_id.clone()]
            } else {
                audiences
            },
            client_id,
            kind: kind?,
            authentication,
            grant_types: grant_types?,
            trusted_token_issuers,
            scopes,
            access_token,
            refresh_token,
        })
    }

    /// Whether the upstream knows the application's secret. `vouches` is whether it can be asked.
    fn is_upstream(&self, raw: &RawApplication, vouches: bool) -> bool {
        let is_any = given(&raw.client_id).filter(|(_, id)| id.as_str() == ANY_CLIENT);
        let upstream = given(&raw.authentication)
            .filter(|(_, authentication)| **authentication == RawAuthentication::Upstream);
        if let Some((node, _)) = upstream
            && !vouches
        {
            self.fault(
                node,
                "needs an endpoint at which the upstream authenticates its clients: add \
                 `authorization_server.endpoints.introspection`, or else `revocation`",
            );
        }
        // What could not be read is not missed.
        let is_unread = raw.authentication.as_ref().is_some_and(|field| field.value.is_none());
        if let Some((node, _)) = is_any
            && upstream.is_none()
            && !is_unread
        {
            self.fault(
                node,
                "`*` stands for clients whose secrets the upstream knows: add \
                 `authentication: upstream`, or name each client",
            );
        }
        upstream.is_some() || is_any.is_some() || is_unread
    }

    /// The upstream alone knows the secret, and there is one.
    fn no_secret(&self, raw: &RawApplication, kind: Option<ApplicationType>) {
        if let Some(field) = &raw.client_secret {
            self.fault(
                field.node,
                "the upstream knows this client's secret: remove it here, or remove \
                 `authentication: upstream`",
            );
        }
        if let Some(field) = &raw.kind
            && kind.is_some_and(ApplicationType::is_public)
        {
            self.fault(
                field.node,
                "an application of this `type` is public, so that the upstream can't vouch for it: \
                 remove the `type`, or `authentication: upstream`",
            );
        }
    }

    /// RFC 6749 Appendix A.1.
    pub(super) fn client_id(&self, node: NodeId, id: &Text) -> Option<String> {
        let id = id.as_str();
        if id.len() > 255 || !id.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            self.fault(
                node,
                "must be up to 255 printable ASCII characters (RFC 6749 Appendix A.1)",
            );
            return None;
        }
        Some(id.to_owned())
    }

    fn grant_types(&self, node: NodeId, raw: &RawApplication) -> Option<Vec<String>> {
        let hint = "such as [urn:ietf:params:oauth:grant-type:token-exchange]";
        let (node, list) =
            self.need(node, "allowed_grant_types", hint, &raw.allowed_grant_types)?;
        let mut types: Vec<String> = Vec::new();
        for (_, grant_type) in self.items(node, list) {
            if !types.iter().any(|own| own == grant_type.as_str()) {
                types.push(grant_type.as_str().to_owned());
            }
        }
        Some(types)
    }

    /// RFC 6749 §2.1: who can keep a secret must have one, and who can't must not.
    fn secrets(
        &self,
        node: NodeId,
        raw: &RawApplication,
        kind: Option<ApplicationType>,
    ) -> Vec<StoredSecret> {
        let Some(field) = &raw.client_secret else {
            if kind.is_some_and(|kind| !kind.is_public()) {
                self.fault(
                    node,
                    "has no `client_secret`, which an application of this `type` needs: add it, \
                     such as { env: NAME }",
                );
            }
            return Vec::new();
        };
        if kind.is_some_and(ApplicationType::is_public) {
            self.fault(
                field.node,
                "an application of this `type` is public and can't keep a secret: remove it, or \
                 change the `type`",
            );
        }
        let Some(list) = field.value.as_ref().map(OneOrMany::fields) else { return Vec::new() };
        if list.len() > MAX_SECRETS {
            self.fault(field.node, format!("has more than {MAX_SECRETS} secrets: remove old ones"));
        }
        self.items(field.node, list)
            .filter_map(|(node, secret)| self.secret(node, secret))
            .collect()
    }

    fn secret(&self, node: NodeId, secret: &ClientSecret) -> Option<StoredSecret> {
        let ClientSecret { env, file, hash } = secret;
        let present = [env.is_some(), file.is_some(), hash.is_some()];
        self.one_of(node, &["env", "file", "hash"], &present)?;
        if let Some((node, phc)) = given(hash) {
            let stored = StoredSecret::from_hash(phc.as_str())
                .map_err(|error| self.fault(node, format!("{error}: hash the secret again")))
                .ok()?;
            if stored.cost().is_some_and(Cost::is_small) {
                self.warn(
                    node,
                    "asks for so little work that whoever has it can try secrets fast: hash the \
                     secret again with `cambio hash-secret`",
                );
            }
            return Some(stored);
        }
        let (node, content) = self.env_or_file(env, file, Privacy::Guarded)?;
        let secret = self.trimmed_secret(node, &content)?;
        if secret.len() < SHORTEST_SECRET {
            self.warn(
                node,
                format!(
                    "the secret that is named here has fewer than {SHORTEST_SECRET} bytes and \
                     might be guessed: choose a longer one"
                ),
            );
        }
        Some(StoredSecret::from_plain(&secret))
    }

    fn allowed_issuers(
        &self,
        allowed: &Maybe<List<Text>>,
        known: Option<&[&str]>,
    ) -> Option<Vec<Arc<str>>> {
        let (node, list) = given(allowed)?;
        let mut names = Vec::new();
        for (node, name) in self.items(node, list) {
            let name = name.as_str();
            if known.is_some_and(|known| !known.contains(&name)) {
                let meant = did_you_mean(name, known.unwrap_or_default().iter().copied());
                self.fault(
                    node,
                    format!(
                        "no trusted token issuer has this `name`: correct it or add one{meant}"
                    ),
                );
            }
            names.push(Arc::from(name));
        }
        Some(names)
    }

    fn scopes(&self, scopes: &Maybe<List<Text>>) -> Scope {
        let mut scope = Scope::default();
        let Some((_, list)) = given(scopes) else { return scope };
        for field in list {
            if let Some(token) = &field.value
                && scope.push(token.as_str()).is_none()
            {
                self.fault(
                    field.node,
                    "is no scope: printable ASCII without blanks, \" and \\ (RFC 6749 §3.3), one \
                     an item",
                );
            }
        }
        scope
    }
}
