//! An operator's revocation: names become what tokens descend from, the store keeps the cut-off, and
//! the audit log says so.

use url::Url;

use crate::admin::order::{Kind, Order, Report, RevokeError, Revoked, Target};
use crate::admin::rfc3339_text;
use crate::clock;
use crate::config::Config;
use crate::exchange::client::ANY_CLIENT;
use crate::exchange::cut_off::{Ancestor, CutOff};
use crate::exchange::token_id::IssuerTag;
use crate::proxy::token_endpoint::decision_id;
use crate::store::{Hit, Slot, Store};
use crate::telemetry::audit;
use crate::time::Timestamp;

/// What a token descends from, and how the configuration calls it.
struct Resolved {
    ancestor: Ancestor,
    report: Report,
}

/// Carries out an order to the store of a running server.
pub async fn revoke_here(config: &Config, slot: &Slot, order: &Order) -> Revoked {
    match slot.get() {
        Ok(store) => revoke(config, Ok(&*store), order).await,
        Err(_) if config.needs_store() => {
            revoke(config, Err(RevokeError::StoreUnavailable), order).await
        }
        Err(_) => revoke(config, Err(RevokeError::NothingKept), order).await,
    }
}

/// Carries out an order, and audits it, whatever it ends with.
pub async fn revoke(
    config: &Config,
    store: Result<&dyn Store, RevokeError>,
    order: &Order,
) -> Revoked {
    let decision = decision_id();
    let now = clock::now();
    let before = order.before.unwrap_or(now);
    let result = match resolve(config, &order.target, before) {
        Ok(resolved) => cut_off(store, resolved, before, now).await,
        Err(error) => Err(error),
    };
    audit(&decision, order, before, &result);
    Revoked { decision, result }
}

async fn cut_off(
    store: Result<&dyn Store, RevokeError>,
    Resolved { ancestor, mut report }: Resolved,
    before: Timestamp,
    now: Timestamp,
) -> Result<Report, RevokeError> {
    if before > now {
        return Err(RevokeError::Future);
    }
    let hit = store?.cut_off(&CutOff { ancestor, before }, now).await;
    let Hit { families, opaque_access_tokens } = hit.map_err(|error| {
        tracing::error!(%error, "a revocation by the operator did not reach the store");
        RevokeError::StoreUnavailable
    })?;
    report.families = families;
    report.opaque_access_tokens = opaque_access_tokens;
    Ok(report)
}

/// Names of the configuration come first. What it no longer has can still be revoked: a client by
/// its `client_id`, an issuer by its `iss`.
fn resolve(config: &Config, target: &Target, before: Timestamp) -> Result<Resolved, RevokeError> {
    let report = |ancestor| Report {
        ancestor,
        iss: None,
        client_id: None,
        name: None,
        before: rfc3339_text(before),
        families: 0,
        opaque_access_tokens: 0,
    };
    Ok(match target {
        Target::Subject(subject) => {
            Resolved { ancestor: Ancestor::Subject(subject.clone()), report: report(Kind::Subject) }
        }
        Target::Issuer(name) => {
            let (iss, name) = issuer(config, name)?;
            Resolved {
                ancestor: Ancestor::Issuer(IssuerTag::of(&iss)),
                report: Report { iss: Some(iss), name, ..report(Kind::Issuer) },
            }
        }
        Target::Client(name) => {
            let (client_id, name) = client(config, name)?;
            Resolved {
                ancestor: Ancestor::Client(client_id.clone()),
                report: Report { client_id: Some(client_id), name, ..report(Kind::Client) },
            }
        }
    })
}

/// The `iss` that is meant, and its name.
fn issuer(config: &Config, text: &str) -> Result<(String, Option<String>), RevokeError> {
    let all = || config.trusted_token_issuers.iter().map(|keys| &keys.issuer);
    let named = all().find(|issuer| &*issuer.name == text);
    if let Some(issuer) = named.or_else(|| all().find(|issuer| issuer.rules.issuer == text)) {
        return Ok((issuer.rules.issuer.clone(), Some(issuer.name.to_string())));
    }
    let is_url = Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "https" | "http") && url.has_host() && !text.contains(' ')
    });
    if is_url { Ok((text.to_owned(), None)) } else { Err(RevokeError::UnknownIssuer) }
}

/// The `client_id` that is meant, and the application's name.
fn client(config: &Config, text: &str) -> Result<(String, Option<String>), RevokeError> {
    if let Some(application) = config.policy.application(text) {
        return Ok((text.to_owned(), Some(application.name.to_string())));
    }
    let mut named = config.policy.applications().filter(|one| &*one.name == text);
    match (named.next(), named.next()) {
        (None, _) => {
            let any = config.policy.application_of(text).map(|any| any.name.to_string());
            Ok((text.to_owned(), any))
        }
        // It stands for several.
        (Some(any), None) if any.client_id == ANY_CLIENT => Err(RevokeError::AmbiguousClient),
        (Some(one), None) => Ok((one.client_id.clone(), Some(one.name.to_string()))),
        (Some(_), Some(_)) => Err(RevokeError::AmbiguousClient),
    }
}

fn audit(decision: &str, order: &Order, before: Timestamp, result: &Result<Report, RevokeError>) {
    let report = result.as_ref().ok();
    let name = report.and_then(|report| report.name.as_deref());
    let (ancestor, issuer, client, subject) = match &order.target {
        Target::Subject(subject) => ("subject", None, None, Some(subject.as_str())),
        Target::Issuer(_) => ("issuer", name, None, None),
        Target::Client(_) => ("client", None, name, None),
    };
    audit::cut_off(&audit::CutOff {
        decision,
        ancestor,
        issuer,
        iss: report.and_then(|report| report.iss.as_deref()),
        client,
        client_id: report.and_then(|report| report.client_id.as_deref()),
        subject,
        before: &rfc3339_text(before),
        result: result
            .as_ref()
            .map(|report| (report.families, report.opaque_access_tokens))
            .map_err(|error| (error.status().is_server_error(), error.code())),
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Surroundings, parse};
    use crate::exchange::policy::{Policy, UnknownIssuers};
    use crate::store::embedded::Embedded;

    const BEFORE: Timestamp = Timestamp::from_secs(1_767_225_600);

    fn config() -> Config {
        let pem = crate::jwt::sign::generate_pem(crate::jwt::algorithm::Algorithm::ES256).unwrap();
        let text = r#"
listen: [{ address: "127.0.0.1:0" }]
upstream: { url: "http://127.0.0.1:9" }
authorization_server:
  issuer: https://idp.example/oauth2/token
  endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks }
store: { embedded: { path: state } }
signing_keys: [{ algorithm: ES256, private_key: { env: KEY } }]
trusted_token_issuers:
  - { name: partner, issuer: "https://partner.example", jwks_endpoint: "https://partner.example/jwks" }
  - { name: retired, issuer: "kubernetes/x", jwks_endpoint: "https://k.example/jwks", enabled: false }
applications:
  - { name: Portal, client_id: portal, type: mobile, allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"] }
  - { name: Twin, client_id: one, type: mobile, allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"] }
  - { name: Twin, client_id: two, type: mobile, allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"] }
  - { name: one, client_id: three, type: mobile, allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"] }
"#;
        let environment = |name: &str| (name == "KEY").then(|| pem.to_string());
        let surroundings = Surroundings {
            file: std::path::Path::new("/nowhere/cambio.yaml"),
            environment: &environment,
            now: BEFORE,
        };
        parse(text, &surroundings).unwrap().0
    }

    #[test]
    fn names_become_what_tokens_descend_from() {
        let config = config();
        let of = |target| {
            resolve(&config, &target, BEFORE).map(|Resolved { ancestor, report }| {
                assert_eq!(report.before, "2026-01-01T00:00:00Z");
                (ancestor, report.iss.or(report.client_id), report.name)
            })
        };
        let issuer = |iss: &str, name: Option<&str>| {
            let ancestor = Ancestor::Issuer(IssuerTag::of(iss));
            Ok((ancestor, Some(iss.to_owned()), name.map(str::to_owned)))
        };
        let client = |id: &str, name: Option<&str>| {
            Ok((Ancestor::Client(id.to_owned()), Some(id.to_owned()), name.map(str::to_owned)))
        };
        let by_issuer = |text: &str| of(Target::Issuer(text.to_owned()));
        assert_eq!(by_issuer("partner"), issuer("https://partner.example", Some("partner")));
        assert_eq!(by_issuer("https://partner.example"), by_issuer("partner"));
        assert_eq!(by_issuer("retired"), issuer("kubernetes/x", Some("retired")));
        assert_eq!(by_issuer("https://gone.example"), issuer("https://gone.example", None));
        for unknown in ["Partner", "partner ", "gone", "ftp://gone.example", "https://", "urn:x"] {
            assert_eq!(by_issuer(unknown), Err(RevokeError::UnknownIssuer), "{unknown}");
        }
        let by_client = |text: &str| of(Target::Client(text.to_owned()));
        assert_eq!(by_client("portal"), client("portal", Some("Portal")));
        assert_eq!(by_client("Portal"), client("portal", Some("Portal")));
        // A `client_id` comes before a name.
        assert_eq!(by_client("one"), client("one", Some("Twin")));
        assert_eq!(by_client("Twin"), Err(RevokeError::AmbiguousClient));
        assert_eq!(by_client("gone"), client("gone", None));
        let subject = of(Target::Subject("partner".to_owned()));
        assert_eq!(subject, Ok((Ancestor::Subject("partner".to_owned()), None, None)));
    }

    #[tokio::test]
    async fn nothing_is_said_to_be_revoked_where_that_is_not_sure() {
        let config = config();
        let folder = tempfile::tempdir().unwrap();
        let opened = Embedded::open(folder.path(), Duration::ZERO).await.unwrap();
        let order = |before| Order { target: Target::Client("portal".to_owned()), before };
        let soon = clock::now().plus(Duration::from_secs(60));
        let done = revoke(&config, Ok(&opened), &order(None)).await;
        assert_eq!(done.result.map(|report| report.families), Ok(0));
        let early = revoke(&config, Ok(&opened), &order(Some(soon))).await;
        assert_eq!(early.result, Err(RevokeError::Future));
        opened.close().await;
        let lost = revoke(&config, Ok(&opened), &order(None)).await;
        assert_eq!(lost.result, Err(RevokeError::StoreUnavailable));
        // What is wrong with the order is told all the same.
        let nobody = Order { target: Target::Issuer("nobody".to_owned()), before: None };
        let lost = revoke(&config, Ok(&opened), &nobody).await;
        assert_eq!(lost.result, Err(RevokeError::UnknownIssuer));
        assert_ne!(done.decision, lost.decision);
    }

    #[tokio::test]
    async fn a_server_without_a_store_says_why() {
        let order = Order { target: Target::Subject("alice".to_owned()), before: None };
        let slot = Slot::default();
        let mut config = config();
        let closed = revoke_here(&config, &slot, &order).await;
        assert_eq!(closed.result, Err(RevokeError::StoreUnavailable));
        config.has_named_store = false;
        let nothing = Policy::new("https://idp.example", UnknownIssuers::Reject, [], []);
        config.policy = std::sync::Arc::new(nothing);
        let nothing = revoke_here(&config, &slot, &order).await;
        assert_eq!(nothing.result, Err(RevokeError::NothingKept));
    }
}
