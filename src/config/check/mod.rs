//! From what is written to what holds together: every rule is tried, and whatever fails is told
//! with its place. A [`Config`] is made here and nowhere else.
#![expect(clippy::ref_option, reason = "the shapes own their options, and are only looked at")]

mod applications;
pub(super) mod authorization_server;
mod certificates;
mod fetched_keys;
mod issuers;
mod key_source;
mod network;
mod reference;
mod resource_servers;
mod signing;
mod store;
mod tokens;
pub(super) mod url;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::document::{Document, NodeId};
use super::fault::{Findings, Severity};
use super::raw::{List, Maybe, Raw};
use super::scalar::{Span, Text, written};
use super::shape::Field;
use super::{Config, Surroundings};
use crate::exchange::policy::Policy;
use crate::jwt::sign::SigningKeys;

/// One pass over one file.
pub(super) struct Check<'a> {
    document: &'a Document,
    findings: &'a Findings,
    surroundings: &'a Surroundings<'a>,
    /// Every file that is named, in the order in which they were come across.
    files: RefCell<Vec<PathBuf>>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        document: &'a Document,
        findings: &'a Findings,
        surroundings: &'a Surroundings<'a>,
    ) -> Self {
        let files = RefCell::new(vec![surroundings.file.to_owned()]);
        Self { document, findings, surroundings, files }
    }

    /// `None` where there was a fault, be it here or before.
    pub(super) fn run(self, raw: &Field<Raw>) -> Option<Config> {
        const ROOT: NodeId = NodeId::ROOT;
        let raw = raw.value.as_ref()?;
        self.unavailable("tests", raw.tests.as_ref());

        let admin = self.admin(raw.admin.as_ref());
        let listen = self
            .need(ROOT, "listen", "such as `listen: [{ address: 127.0.0.1:8080 }]`", &raw.listen)
            .map(|field| self.listen(field, admin.address));
        let upstream = self
            .need(ROOT, "upstream", "with the identity provider's `url`", &raw.upstream)
            .and_then(|(node, upstream)| self.upstream(node, upstream));
        let server = self
            .need(
                ROOT,
                "authorization_server",
                "with `issuer` and `endpoints`",
                &raw.authorization_server,
            )
            .and_then(|(node, server)| self.authorization_server(node, server));
        let signing_keys = self
            .need(
                ROOT,
                "signing_keys",
                "with a key from `cambio keys generate --algorithm ES256 --out signing.pem`",
                &raw.signing_keys,
            )
            .map(|(node, keys)| self.signing_keys(node, keys));
        let issuer = server.as_ref().map(|server| server.issuer.as_str());
        let issuers = self.issuers(raw.trusted_token_issuers.as_ref(), issuer);
        let applications = self.applications(raw);
        let resource_servers = self.resource_servers(raw);
        let store = self.store(&raw.store);
        let fetched_keys = self.fetched_keys(raw.fetched_keys.as_ref(), store.as_ref());
        let limits = self.limits(raw.limits.as_ref());

        if self.findings.has_fault() {
            return None;
        }
        let server = server?;
        let policy = Policy::new(
            &server.issuer,
            server.unknown_issuers,
            issuers.iter().map(|issuer| Arc::clone(&issuer.issuer)),
            applications,
        )
        .with_resource_servers(resource_servers);
        let signing_keys = SigningKeys::new(signing_keys?);
        let own_keys = signing_keys.verification_keys();
        Some(Config {
            listen: listen?,
            admin,
            upstream: upstream?,
            overlay: server.overlay,
            upstream_jwks: server.upstream_jwks,
            endpoints: server.endpoints,
            policy: Arc::new(policy),
            trusted_token_issuers: issuers,
            fetched_keys: fetched_keys?,
            signing_keys: Arc::new(signing_keys),
            own_keys: Arc::new(own_keys.ok()?),
            store: store?,
            has_named_store: raw.store.is_some(),
            limits,
            files: self.files.into_inner(),
        })
    }

    fn fault(&self, node: NodeId, message: impl Into<String>) {
        self.find(Severity::Fault, node, message.into());
    }

    fn warn(&self, node: NodeId, message: impl Into<String>) {
        self.find(Severity::Warning, node, message.into());
    }

    fn find(&self, severity: Severity, node: NodeId, message: String) {
        let (mark, path) = (self.document.mark(node), self.document.path(node));
        self.findings.add(severity, mark, path, message);
    }

    /// The line on which a node is written, to point at from another one.
    fn line(&self, node: NodeId) -> usize {
        self.document.mark(node).line
    }

    /// A value that must be there. Where it is missing that is told; where it was refused, it was.
    fn need<'r, T>(
        &self,
        parent: NodeId,
        key: &str,
        hint: &str,
        field: &'r Maybe<T>,
    ) -> Option<(NodeId, &'r T)> {
        let Some(field) = field else {
            self.fault(parent, format!("the key `{key}` is missing: add it, {hint}"));
            return None;
        };
        Some((field.node, field.value.as_ref()?))
    }

    /// Refuses what comes in a later version.
    fn unavailable(&self, what: &str, field: Option<&Field<IgnoredAny>>) {
        if let Some(field) = field {
            self.fault(
                field.node,
                format!("`{what}` is not available in this version: leave the key out"),
            );
        }
    }

    /// A duration within its bounds, or else the default.
    fn duration(
        &self,
        field: &Maybe<Span>,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        self.optional_duration(field, bounds).unwrap_or(default)
    }

    fn optional_duration(
        &self,
        field: &Maybe<Span>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let Field { node, value: Some(Span(duration)) } = field.as_ref()? else { return None };
        if !bounds.contains(duration) {
            let (low, high) = (written(*bounds.start()), written(*bounds.end()));
            self.fault(*node, format!("must be from {low} to {high}: choose a value between"));
            return None;
        }
        Some(*duration)
    }

    fn number(&self, field: &Maybe<usize>, default: usize, bounds: RangeInclusive<usize>) -> usize {
        let Some(Field { node, value: Some(number) }) = field else { return default };
        if !bounds.contains(number) {
            let (low, high) = (bounds.start(), bounds.end());
            self.fault(*node, format!("must be from {low} to {high}: choose a value between"));
            return default;
        }
        *number
    }

    /// The items of a list that could be read. An empty list is refused.
    fn items<'r, T>(
        &self,
        node: NodeId,
        list: &'r [Field<T>],
    ) -> impl Iterator<Item = (NodeId, &'r T)> {
        if list.is_empty() {
            self.fault(node, "is an empty list: name at least one, or leave the key out");
        }
        list.iter().filter_map(|field| Some((field.node, field.value.as_ref()?)))
    }

    /// The items of an optional list of texts.
    fn texts(&self, list: &Maybe<List<Text>>) -> Vec<String> {
        let Some(Field { node, value: Some(list) }) = list else { return Vec::new() };
        self.items(*node, list).map(|(_, text)| text.as_str().to_owned()).collect()
    }
}

/// What a field holds, if it is there and could be read.
fn given<T>(field: &Maybe<T>) -> Option<(NodeId, &T)> {
    let field = field.as_ref()?;
    Some((field.node, field.value.as_ref()?))
}
