//! What was granted once is held to the configuration of now at every refresh, and may only be
//! narrowed.

use cambio::exchange::client::{ApplicationType, Format};
use cambio::exchange::error::{Reason, Refusal};
use cambio::exchange::opaque::OpaqueId;
use cambio::exchange::policy::PolicyError;
use cambio::oauth::scope::Scope;
use serde_json::json;

use crate::refresh_support::{REFRESH, Refreshing};
use crate::support::{EXCHANGE, Exchange, mapping};

const API: &str = "https://api.example.com";
const OTHER: &str = "urn:example:other";

/// Asserts that a change of the configuration ends refreshing from the next request on, and that
/// taking it back lets it go on.
#[track_caller]
fn withdrawn(change: impl FnOnce(&mut Refreshing), reason: Reason) {
    let mut one = Refreshing::new();
    one.refreshed();
    let (issuer, application) = (one.estate.issuer.clone(), one.estate.application.clone());
    change(&mut one);
    one.refuses_for_now(reason);
    one.refuses_for_now(reason);
    one.estate.issuer = issuer;
    one.estate.application = application;
    one.has_issuer = true;
    one.refreshed();
}

#[test]
fn an_issuer_that_is_gone_ends_it() {
    withdrawn(|one| one.has_issuer = false, Reason::PolicyWithdrawn);
    withdrawn(|one| one.estate.issuer.enabled = false, Reason::PolicyWithdrawn);
    let issuers = |names: &[&str]| Some(names.iter().map(|name| (*name).into()).collect());
    for names in [&[][..], &["another"], &["Partner"]] {
        withdrawn(
            |one| one.estate.application.trusted_token_issuers = issuers(names),
            Reason::PolicyWithdrawn,
        );
    }
    // The name of the issuer is the configuration's own: it is known by its `iss`.
    let mut one = Refreshing::new();
    one.estate.issuer.name = "renamed".into();
    assert_eq!(one.refreshed().record.issuer.as_deref(), Some("renamed"));
    one.estate.application.trusted_token_issuers = issuers(&["another", "renamed"]);
    one.refreshed();
    withdrawn(|one| one.estate.issuer.rules.issuer += "/", Reason::PolicyWithdrawn);
}

#[test]
fn an_audience_that_is_gone_ends_it() {
    withdrawn(|one| drop(one.estate.application.audiences.remove(0)), Reason::PolicyWithdrawn);
    withdrawn(
        |one| one.estate.application.audiences = vec!["https://API.example.com".to_owned()],
        Reason::PolicyWithdrawn,
    );
    // One of two is enough.
    let mut one = Refreshing::after(|estate| {
        for audience in [API, OTHER] {
            estate.parameters.push(("audience".to_owned(), audience.to_owned()));
        }
    });
    assert_eq!(one.refreshed().claims["aud"], json!([API, OTHER]));
    one.estate.application.audiences.retain(|audience| audience != OTHER);
    one.refuses_for_now(Reason::PolicyWithdrawn);
    // Also where the other one is asked for.
    let mut one = one.parameter("audience", API);
    one.refuses_for_now(Reason::PolicyWithdrawn);
    // Another default, and more of them, change nothing of what was granted.
    let mut one = Refreshing::new();
    one.estate.application.audiences.insert(0, "https://new.example".to_owned());
    assert_eq!(one.refreshed().claims["aud"], API);
}

#[test]
fn subjects_that_are_named_otherwise_now_end_it() {
    withdrawn(|one| one.estate.issuer.subject_prefix = "p:".to_owned(), Reason::PolicyWithdrawn);
    let mut one = Refreshing::after(|estate| estate.issuer.subject_prefix = "p:".to_owned());
    assert_eq!(one.refreshed().claims["sub"], "p:alice");
    one.estate.issuer.subject_prefix.clear();
    one.refuses_for_now(Reason::PolicyWithdrawn);
    // A prefix and a subject that make up the same name are not the same.
    let mut one = Refreshing::after(|estate| estate.issuer.subject_prefix = "a".to_owned());
    one.estate.issuer.subject_prefix = "b".to_owned();
    one.refuses_for_now(Reason::PolicyWithdrawn);
}

#[test]
fn either_grant_type_that_is_gone_ends_it() {
    for gone in [REFRESH, EXCHANGE] {
        withdrawn(
            |one| one.estate.application.grant_types.retain(|grant_type| grant_type != gone),
            Reason::GrantNotAllowed,
        );
    }
    let outcome = Refusal::from(cambio::exchange::client::ClientError::GrantNotAllowed).outcome();
    assert_eq!((outcome.status, outcome.error.as_str()), (400, "unauthorized_client"));
    // Before anything is said of the token.
    let mut one = Refreshing::new();
    one.estate.application.grant_types.clear();
    one.refuses("cambio_rt_x", Reason::GrantNotAllowed);
}

#[test]
fn an_application_that_cannot_keep_a_token_any_more_ends_it() {
    withdrawn(
        |one| one.estate.application.kind = ApplicationType::SinglePage,
        Reason::GrantNotAllowed,
    );
    let mut one = Refreshing::new();
    for kind in [ApplicationType::StandardOidc, ApplicationType::TraditionalWeb] {
        one.estate.application.kind = kind;
        one.refreshed();
    }
}

#[test]
fn a_scope_is_narrowed_for_one_answer_alone() {
    let mut one = Refreshing::new().parameter("scope", "write");
    let narrow = one.refreshed();
    assert_eq!(narrow.claims["scope"], "write");
    assert_eq!(narrow.granted.scope.as_deref(), Some("write"));
    one.parameters.clear();
    assert_eq!(one.refreshed().claims["scope"], "read write");
    // RFC 6749 §6: the order in which it is asked for is nobody's business.
    let mut one = one.parameter("scope", "write read");
    assert_eq!(one.refreshed().claims["scope"], "write read");
    for blank in ["", " "] {
        let mut one = Refreshing::new().parameter("scope", blank);
        let scope = one.refreshed().claims.get("scope").cloned();
        assert_eq!(scope, blank.is_empty().then(|| json!("read write")), "{blank:?}");
    }
}

#[test]
fn a_scope_is_never_widened() {
    for scope in ["admin", "read admin", "read write x", "READ"] {
        let mut one = Refreshing::new().parameter("scope", scope);
        // Not even where the application may have it now.
        one.estate.application.scopes = Scope::parse("read write admin x READ").unwrap();
        one.refuses_for_now(Reason::ScopeRefused);
    }
    let mut one = Refreshing::new().parameter("scope", "re\"ad");
    one.refuses_for_now(Reason::ScopeRefused);
    let mut one = Refreshing::after(|estate| estate.parameters.retain(|(name, _)| name != "scope"));
    assert!(one.refreshed().claims.get("scope").is_none());
    let mut one = one.parameter("scope", "read");
    one.refuses_for_now(Reason::ScopeRefused);
    let outcome = Refusal::from(PolicyError::Scope).outcome();
    assert_eq!((outcome.status, outcome.error.as_str()), (400, "invalid_scope"));
}

#[test]
fn a_scope_that_is_withdrawn_is_gone_from_the_next_answer_on() {
    let mut one = Refreshing::new();
    one.estate.application.scopes = Scope::parse("write").unwrap();
    let answer = one.refreshed();
    assert_eq!(answer.claims["scope"], "write");
    // What was granted is not forgotten, but it is not to be had by asking either.
    let mut one = one.parameter("scope", "read");
    one.refuses_for_now(Reason::ScopeRefused);
    one.parameters[0].1 = "write".to_owned();
    one.refreshed();
    one.parameters.clear();
    one.estate.application.scopes = Scope::default();
    let answer = one.refreshed();
    assert_eq!((answer.claims.get("scope"), answer.granted.scope), (None, None));
    one.estate.application.scopes = Scope::parse("write read").unwrap();
    assert_eq!(one.refreshed().claims["scope"], "read write");
}

#[test]
fn targets_are_narrowed_for_one_answer_alone() {
    let both = |estate: &mut Exchange| {
        for audience in [OTHER, API] {
            estate.parameters.push(("audience".to_owned(), audience.to_owned()));
        }
    };
    for name in ["audience", "resource"] {
        let mut one = Refreshing::after(both).parameter(name, API);
        assert_eq!(one.refreshed().claims["aud"], API);
        one.parameters.clear();
        assert_eq!(one.refreshed().claims["aud"], json!([OTHER, API]));
    }
    let mut one = Refreshing::after(both).parameter("resource", API).parameter("audience", API);
    assert_eq!(one.refreshed().claims["aud"], API);
    // What the application may have, and this grant has not.
    for name in ["audience", "resource"] {
        for target in [OTHER, "https://foreign.example", "portal", "https://api.example.com#x"] {
            let mut one = Refreshing::new().parameter(name, target);
            one.refuses_for_now(Reason::TargetRefused);
            one.parameters[0].1 = API.to_owned();
            one.refreshed();
        }
    }
    let mut one = Refreshing::new().parameter("audience", API).parameter("audience", OTHER);
    one.refuses_for_now(Reason::TargetRefused);
    let outcome = Refusal::from(PolicyError::Target).outcome();
    assert_eq!((outcome.status, outcome.error.as_str()), (400, "invalid_target"));
}

#[test]
fn a_claim_is_copied_for_as_long_as_the_configuration_maps_it() {
    let mapped = |estate: &mut Exchange| {
        estate.issuer.claims = vec![mapping("email", "email"), mapping("origin", "client_id")];
    };
    let mut one = Refreshing::after(mapped);
    let answer = one.refreshed();
    assert_eq!(
        (&answer.claims["email"], &answer.claims["origin"]),
        (&json!("alice@example.com"), &json!("evil"))
    );
    one.estate.issuer.claims.remove(1);
    let answer = one.refreshed();
    assert_eq!(answer.claims["email"], "alice@example.com");
    assert_eq!(answer.claims.get("origin"), None);
    // What it is mapped from now was never seen: the subject token is gone.
    one.estate.issuer.claims = vec![mapping("email", "verified_email"), mapping("new", "email")];
    let answer = one.refreshed();
    assert_eq!((answer.claims.get("email"), answer.claims.get("new")), (None, None));
    mapped(&mut one.estate);
    assert_eq!(one.refreshed().claims["email"], "alice@example.com");
}

#[test]
fn the_settings_of_now_are_those_of_the_answer() {
    let mut one = Refreshing::new();
    one.estate.application.access_token.lifetime = std::time::Duration::from_secs(77);
    let answer = one.refreshed();
    assert_eq!((answer.granted.expires_in, answer.opaque), (77, None));
    one.estate.application.access_token.format = Format::Opaque;
    let answer = one.refreshed();
    let opaque = answer.opaque.unwrap();
    assert_eq!(OpaqueId::parse(&answer.granted.access_token), Some(opaque.id));
    // It lies beside its family.
    assert_eq!(opaque.id.locator, one.family().id.0);
    assert_eq!(answer.claims["exp"], opaque.expires_at.as_secs());
    assert_eq!((&answer.claims["sub"], &answer.claims["aud"]), (&json!("alice"), &json!(API)));
    assert_eq!(answer.record.minted.unwrap().kid, None);
}

#[test]
fn no_token_is_shown_by_what_carries_it() {
    let mut one = Refreshing::new();
    let first = one.token.clone();
    let answer = one.refreshed();
    let shown = format!("{:?} {:?} {:?}", one.family(), answer.granted, answer.record);
    for token in [&first, &answer.token, &*answer.granted.access_token] {
        for part in [&token[..12], &token[token.len() - 24..]] {
            assert!(!shown.contains(part), "{shown}");
        }
    }
    assert!(!shown.contains("alice"), "{shown}");
}
