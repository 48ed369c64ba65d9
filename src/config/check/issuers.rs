//! Trusted token issuers: what is asked of their tokens.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::{Check, given};
use crate::config::IssuerKeys;
use crate::config::document::NodeId;
use crate::config::raw::{List, Maybe, Replay, TrustedTokenIssuer as RawIssuer};
use crate::config::scalar::Text;
use crate::config::shape::Field;
use crate::exchange::subject::{ClaimMapping, RESERVED_CLAIMS, TrustedIssuer};
use crate::jwt::algorithm::{Algorithm, AlgorithmSet};
use crate::jwt::verify::{MediaType, Rules};

/// The longest name: it stands in every series of a metric.
pub(super) const MAX_NAME: usize = 100;
/// The longest prefix of a subject, which itself has up to 255 bytes.
const MAX_PREFIX: usize = 100;
/// The most claims that are copied.
const MAX_CLAIMS: usize = 50;
const DAY: Duration = Duration::from_secs(86400);
const YEAR: Duration = Duration::from_secs(365 * 86400);
/// What metrics call what has no label of its own.
const LABELS_TAKEN: [&str; 2] = ["unknown", "other"];

/// Where a prefix stands that this one begins with, or that begins with this one.
fn alike(seen: &BTreeMap<&str, NodeId>, prefix: &str) -> Option<NodeId> {
    let mut beginnings = (0..=prefix.len().min(MAX_PREFIX)).filter_map(|end| prefix.get(..end));
    if let Some(node) = beginnings.find_map(|beginning| seen.get(beginning)) {
        return Some(*node);
    }
    // In their order, those that begin with it follow it at once.
    let (other, node) = seen.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).next()?;
    other.starts_with(prefix).then_some(*node)
}

impl Check<'_> {
    /// `own` is the audience that every subject token may name.
    pub(super) fn issuers(
        &self,
        issuers: Option<&Field<List<RawIssuer>>>,
        own: Option<&str>,
    ) -> Vec<IssuerKeys> {
        let list = match issuers {
            Some(Field { value: Some(list), .. }) if !list.is_empty() => list,
            Some(Field { value: None, .. }) => return Vec::new(),
            Some(_) | None => {
                let node = issuers.map_or(NodeId::ROOT, |field| field.node);
                self.warn(
                    node,
                    "no `trusted_token_issuers`: nothing can be exchanged until there is one",
                );
                return Vec::new();
            }
        };
        let items: Vec<_> =
            list.iter().filter_map(|field| Some((field.node, field.value.as_ref()?))).collect();
        self.unique("name", items.iter().map(|(_, issuer)| &issuer.name));
        self.unique("issuer", items.iter().map(|(_, issuer)| &issuer.issuer));
        self.shared_subjects(&items);
        items.iter().filter_map(|(node, issuer)| self.issuer(*node, issuer, own)).collect()
    }

    /// Refuses the second of two equal values.
    pub(super) fn unique<'r>(&self, key: &str, fields: impl Iterator<Item = &'r Maybe<Text>>) {
        let mut seen = HashMap::new();
        for (node, text) in fields.filter_map(given) {
            if let Some(first) = seen.get(text.as_str()) {
                let line = self.line(*first);
                self.fault(node, format!("the same `{key}` stands on line {line}: keep one"));
            } else {
                seen.insert(text.as_str(), node);
            }
        }
    }

    /// Two issuers can name two people alike: those of one prefix, and those of whom one's begins
    /// with the other's, as an issuer chooses what follows its own.
    fn shared_subjects(&self, issuers: &[(NodeId, &RawIssuer)]) {
        let mut seen: BTreeMap<&str, NodeId> = BTreeMap::new();
        for (node, issuer) in issuers {
            let is_disabled = given(&issuer.enabled).is_some_and(|(_, enabled)| !enabled);
            // What could not be read is not missed.
            let is_unread =
                issuer.subject_prefix.as_ref().is_some_and(|field| field.value.is_none());
            if is_disabled || is_unread {
                continue;
            }
            let prefix = given(&issuer.subject_prefix).map_or("", |(_, prefix)| prefix);
            if let Some(first) = seen.get(prefix) {
                let line = self.line(*first);
                self.warn(
                    *node,
                    format!(
                        "its subjects and those of the issuer on line {line} share one name \
                         space: give each a `subject_prefix` of its own"
                    ),
                );
            } else if let Some(other) = alike(&seen, prefix) {
                let line = self.line(other);
                self.warn(
                    *node,
                    format!(
                        "its subjects and those of the issuer on line {line} can have one name, as \
                         the `subject_prefix` of one begins with that of the other, or one has \
                         none: give each a `subject_prefix` that no other begins with"
                    ),
                );
            }
            seen.entry(prefix).or_insert(*node);
        }
    }

    /// A name for metrics and logs.
    pub(super) fn name(&self, node: NodeId, name: &Text) -> Arc<str> {
        let name = name.as_str();
        if name.len() > MAX_NAME {
            self.fault(node, format!("is longer than {MAX_NAME} bytes: shorten it"));
        } else if LABELS_TAKEN.contains(&name) {
            self.warn(node, "is what metrics call those that have no name: choose another");
        }
        Arc::from(name)
    }

    fn issuer(&self, node: NodeId, raw: &RawIssuer, own: Option<&str>) -> Option<IssuerKeys> {
        let name = self
            .need(node, "name", "a short one for metrics and logs", &raw.name)
            .map(|(node, name)| self.name(node, name));
        let issuer = self
            .need(node, "issuer", "the `iss` of its tokens, to the byte", &raw.issuer)
            .map(|(node, issuer)| {
                if own == Some(issuer.as_str()) {
                    self.warn(
                        node,
                        "is the issuer of minted tokens too: where its keys are also ours, those \
                         can be exchanged again",
                    );
                }
                issuer.as_str()
            });
        let algorithms = self.algorithms(&raw.algorithms);
        let source = self.key_source(node, raw, issuer, algorithms);
        let token_types = self.texts(&raw.token_types);
        let token_types: Vec<_> = if raw.token_types.is_none() {
            vec![MediaType::new("JWT"), MediaType::new("at+jwt")]
        } else {
            token_types.iter().map(|typ| MediaType::new(typ)).collect()
        };
        let once = self.once(raw);
        let trusted = TrustedIssuer {
            enabled: given(&raw.enabled).is_none_or(|(_, enabled)| *enabled),
            claims: self.claims(&raw.claims),
            subject_prefix: self.subject_prefix(&raw.subject_prefix),
            once,
            rules: Rules {
                issuer: issuer.unwrap_or_default().to_owned(),
                audiences: self.audiences(raw, own),
                algorithms,
                token_types,
                clock_skew: self.duration(
                    &raw.clock_skew,
                    Duration::from_secs(30),
                    Duration::ZERO..=Duration::from_secs(120),
                ),
                max_age: self.optional_duration(&raw.max_age, Duration::from_secs(1)..=30 * DAY),
                max_lifetime: self
                    .optional_duration(&raw.max_lifetime, Duration::from_secs(1)..=YEAR),
            },
            name: name?,
        };
        issuer?;
        Some(IssuerKeys { issuer: Arc::new(trusted), source: source? })
    }

    /// Whether each of its tokens is accepted once only.
    fn once(&self, raw: &RawIssuer) -> bool {
        let Some((node, Replay::Once)) = given(&raw.replay) else { return false };
        if raw.max_lifetime.is_none() {
            self.warn(
                node,
                "without `max_lifetime` each token is remembered for as long as it says that it \
                 lives: add it",
            );
        }
        true
    }

    /// Ours first, then the aliases.
    fn audiences(&self, raw: &RawIssuer, own: Option<&str>) -> Vec<String> {
        let mut audiences: Vec<String> = own.into_iter().map(str::to_owned).collect();
        if let Some((node, aliases)) = given(&raw.alias) {
            for (_, alias) in self.items(node, aliases.fields()) {
                if !audiences.iter().any(|audience| audience == alias.as_str()) {
                    audiences.push(alias.as_str().to_owned());
                }
            }
        }
        audiences
    }

    fn algorithms(
        &self,
        list: &Maybe<List<crate::config::raw::VerificationAlgorithm>>,
    ) -> AlgorithmSet {
        let Some((node, list)) = given(list) else { return AlgorithmSet::DEFAULT };
        let algorithms: Vec<Algorithm> =
            self.items(node, list).map(|(_, algorithm)| (*algorithm).into()).collect();
        AlgorithmSet::of(&algorithms)
    }

    fn claims(
        &self,
        claims: &Maybe<std::collections::BTreeMap<String, Field<Text>>>,
    ) -> Vec<ClaimMapping> {
        let Some((node, claims)) = given(claims) else { return Vec::new() };
        if claims.len() > MAX_CLAIMS {
            self.fault(node, format!("has more than {MAX_CLAIMS} claims: copy fewer"));
        }
        let mut mappings = Vec::new();
        for (minted, field) in claims {
            if RESERVED_CLAIMS.contains(&minted.as_str()) {
                self.fault(
                    field.node,
                    "this claim of a minted token is set by Cambio itself: \
                     remove it, or name another",
                );
            } else if minted.is_empty() || minted.len() > MAX_NAME {
                self.fault(
                    field.node,
                    format!("the name of a claim has 1 to {MAX_NAME} bytes: change it"),
                );
            } else if let Some(subject) = &field.value {
                mappings.extend(ClaimMapping::new(minted, subject.as_str()));
            }
        }
        mappings
    }

    fn subject_prefix(&self, prefix: &Maybe<String>) -> String {
        let Some((node, prefix)) = given(prefix) else { return String::new() };
        if prefix.len() > MAX_PREFIX
            || prefix.chars().any(char::is_control)
            || prefix.starts_with(char::is_whitespace)
        {
            self.fault(
                node,
                format!(
                    "must be up to {MAX_PREFIX} bytes, without control characters and not \
                     beginning with a blank"
                ),
            );
        }
        prefix.clone()
    }
}
