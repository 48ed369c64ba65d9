//! Who mints, and on which paths.

use ::url::Url;

use super::url::is_protected;
use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{self, Maybe};
use crate::config::scalar::{OneOrMany, Text};
use crate::config::{Endpoint, Endpoints};
use crate::exchange::policy::UnknownIssuers;

/// `authorization_server`, as far as it holds.
pub(super) struct AuthorizationServer {
    pub(super) issuer: String,
    pub(super) overlay: bool,
    pub(super) upstream_jwks: Option<Endpoint>,
    pub(super) endpoints: Endpoints,
    pub(super) unknown_issuers: UnknownIssuers,
}

impl Check<'_> {
    pub(super) fn authorization_server(
        &self,
        node: NodeId,
        server: &raw::AuthorizationServer,
    ) -> Option<AuthorizationServer> {
        let hint = "such as `issuer: https://idp.example.com`";
        let issuer = self
            .need(node, "issuer", hint, &server.issuer)
            .and_then(|(node, issuer)| self.own_issuer(node, issuer));
        let overlay = given(&server.overlay).is_some_and(|(_, overlay)| *overlay);
        let hint = "such as `endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks }`";
        let endpoints = self
            .need(node, "endpoints", hint, &server.endpoints)
            .and_then(|(node, endpoints)| self.endpoints(node, endpoints));
        let upstream_jwks = given(&server.upstream_jwks).and_then(|(node, jwks)| {
            let own = issuer.as_deref().zip(endpoints.as_ref());
            self.upstream_jwks(node, jwks, overlay, own)
        });
        let unknown_issuers = given(&server.unknown_issuers)
            .map_or_else(UnknownIssuers::default, |(_, unknown)| (*unknown).into());
        Some(AuthorizationServer {
            issuer: issuer?,
            overlay,
            upstream_jwks,
            endpoints: endpoints?,
            unknown_issuers,
        })
    }

    /// `own` is who we are, and what we answer.
    fn upstream_jwks(
        &self,
        node: NodeId,
        jwks: &raw::JwksEndpoint,
        overlay: bool,
        own: Option<(&str, &Endpoints)>,
    ) -> Option<Endpoint> {
        let endpoint = self.jwks_endpoint(node, jwks)?;
        if !overlay {
            self.fault(
                node,
                "needs `overlay: true`: without it the upstream's keys are not published here",
            );
        }
        let (issuer, endpoints) = own?;
        let Some(path) = &endpoints.jwks else {
            self.fault(
                node,
                "needs `endpoints.jwks`: the path on which the merged keys are served",
            );
            return None;
        };
        let issuer = Url::parse(issuer).ok();
        let is_here = issuer.is_some_and(|issuer| issuer.origin() == endpoint.url.origin());
        if is_here && endpoint.url.path() == path {
            self.fault(
                node,
                "is what Cambio itself answers: leave the key out, and the upstream is asked for it",
            );
            return None;
        }
        Some(endpoint)
    }

    /// RFC 8414 §2: an https URL without query and fragment. It is kept to the byte.
    fn own_issuer(&self, node: NodeId, issuer: &Text) -> Option<String> {
        let text = issuer.as_str();
        let Some(url) =
            Url::parse(text).ok().filter(|_| text.bytes().all(|b| b.is_ascii_graphic()))
        else {
            self.fault(node, "must be a URL, such as https://idp.example.com");
            return None;
        };
        if !is_protected(&url) {
            self.warn(node, "should be an https URL: relying parties may refuse another");
        } else if url.query().is_some() || url.fragment().is_some() {
            self.warn(node, "should have neither query nor fragment (RFC 8414 §2)");
        }
        Some(text.to_owned())
    }

    fn endpoints(&self, node: NodeId, endpoints: &raw::Endpoints) -> Option<Endpoints> {
        let mut paths = Taken { check: self, paths: Vec::new() };
        let hint = "such as `token: [/oauth2/token]`";
        let token = self
            .need(node, "token", hint, &endpoints.token)
            .map(|(node, list)| paths.several("token", node, list));
        let metadata = given(&endpoints.metadata)
            .filter(|(_, paths)| !paths.fields().is_empty())
            .map(|(node, list)| paths.several("metadata", node, list))
            .unwrap_or_default();
        let jwks = paths.single("jwks", &endpoints.jwks);
        let introspection = paths.single("introspection", &endpoints.introspection);
        let revocation = paths.single("revocation", &endpoints.revocation);
        if endpoints.jwks.is_none() {
            self.warn(
                node,
                "has no `jwks`: our keys are not published, so that nobody can verify what is \
                 minted",
            );
        }
        Some(Endpoints { token: token?, jwks, metadata, introspection, revocation })
    }
}

/// The paths that are given away already.
struct Taken<'c, 'a> {
    check: &'c Check<'a>,
    /// Each with what it is for, and without what a router may overlook.
    paths: Vec<(&'static str, String, NodeId)>,
}

impl Taken<'_, '_> {
    fn several(
        &mut self,
        purpose: &'static str,
        node: NodeId,
        paths: &OneOrMany<Text>,
    ) -> Vec<String> {
        let items: Vec<_> = self.check.items(node, paths.fields()).collect();
        items.into_iter().filter_map(|(node, path)| self.path(purpose, node, path)).collect()
    }

    fn single(&mut self, purpose: &'static str, path: &Maybe<Text>) -> Option<String> {
        let (node, path) = given(path)?;
        self.path(purpose, node, path)
    }

    fn path(&mut self, purpose: &'static str, node: NodeId, path: &Text) -> Option<String> {
        let path = path.as_str();
        if let Some(message) = not_normal(path) {
            self.check.fault(node, message);
            return None;
        }
        // Of one kind there may be two spellings, such as with a slash at the end and without.
        let same = |(other, taken, _): &&(&str, String, NodeId)| {
            taken == path || *other != purpose && are_alike(taken, path)
        };
        if let Some((other, _, first)) = self.paths.iter().find(same) {
            let line = self.check.line(*first);
            self.check.fault(
                node,
                format!("is a path of `{other}` already, on line {line}: each has its own"),
            );
            return None;
        }
        self.paths.push((purpose, path.to_owned(), node));
        Some(path.to_owned())
    }
}

/// Whether a router may take two paths for one.
pub(in crate::config) fn are_alike(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

/// Why a path could be spelt in another way, or is none.
pub(in crate::config) fn not_normal(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("must be a path that begins with /");
    }
    if path.contains(['?', '#']) {
        return Some("has a query or a fragment: give the path alone");
    }
    if path.contains(['%', ';', '\\']) || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("has one of % ; \\ or a character that is not ASCII: give a plain path");
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment == "." || segment == ".." || segment.is_empty() && !is_last {
            return Some("has `//`, `/./` or `/../` in it: give the path without");
        }
    }
    None
}
