//! Every two checks together: what breaks both is refused, for the reason of the one that comes first,
//! so that no check stands in for another.

use std::time::Duration;

use cambio::exchange::error::Reason;
use serde_json::json;

use crate::support::{Exchange, NOW, stranger};

/// One check, broken alone. Of two with the same `part` only one can be broken at a time.
struct Violation {
    part: &'static str,
    reason: Reason,
    commit: fn(Exchange) -> Exchange,
}

/// In the order of the checks: grant → parameters → token → policy.
fn violations() -> Vec<Violation> {
    let of = |part, reason, commit| Violation { part, reason, commit };
    vec![
        of("grant", Reason::GrantNotAllowed, |exchange| {
            exchange.with(|exchange| exchange.application.grant_types.clear())
        }),
        of("subject_token_type", Reason::ParameterMissing, |exchange| {
            exchange.without_parameter("subject_token_type")
        }),
        of("subject_token_type", Reason::SubjectTokenTypeUnsupported, |exchange| {
            let saml = "urn:ietf:params:oauth:token-type:saml2";
            exchange.without_parameter("subject_token_type").parameter("subject_token_type", saml)
        }),
        of("actor_token", Reason::ActorTokenUnsupported, |exchange| {
            exchange.parameter("actor_token", "x")
        }),
        of("requested_token_type", Reason::RequestedTokenTypeUnsupported, |exchange| {
            exchange.parameter("requested_token_type", "urn:ietf:params:oauth:token-type:saml1")
        }),
        of("resource", Reason::TargetRefused, |exchange| {
            exchange.parameter("resource", "https://api.example.com#fragment")
        }),
        of("scope", Reason::ScopeRefused, |exchange| exchange.parameter("scope", "\"")),
        of("crit", Reason::HeaderRefused, |exchange| exchange.member("crit", json!(["x"]))),
        of("alg", Reason::HeaderRefused, |exchange| exchange.member("alg", json!(null))),
        of("iss", Reason::ClaimsMalformed, |exchange| exchange.claim("iss", json!(["x"]))),
        of("iss", Reason::IssuerUnknown, |exchange| exchange.claim("iss", json!("x"))),
        of("enabled", Reason::IssuerDisabled, |exchange| {
            exchange.with(|exchange| exchange.issuer.enabled = false)
        }),
        of("allowed", Reason::IssuerNotAllowed, |exchange| {
            exchange.with(|exchange| exchange.application.trusted_token_issuers = Some(vec![]))
        }),
        of("typ", Reason::TypeRefused, |exchange| exchange.member("typ", json!("dpop+jwt"))),
        of("alg", Reason::AlgorithmRefused, |exchange| exchange.member("alg", json!("HS256"))),
        of("kid", Reason::KeyUnknown, |exchange| exchange.member("kid", json!("another"))),
        of("key", Reason::SignatureInvalid, |exchange| {
            exchange.with(|exchange| exchange.forge = stranger())
        }),
        of("aud", Reason::AudienceMismatch, |exchange| exchange.claim("aud", json!("x"))),
        of("aud", Reason::ClaimsMalformed, |exchange| exchange.claim("aud", json!(1))),
        of("exp", Reason::ClaimsMalformed, |exchange| exchange.without_claim("exp")),
        of("exp", Reason::Expired, |exchange| exchange.claim("exp", json!(NOW - 60))),
        of("nbf", Reason::NotYetValid, |exchange| exchange.claim("nbf", json!(NOW + 60))),
        of("iat", Reason::IssuedInFuture, |exchange| exchange.claim("iat", json!(NOW + 60))),
        of("iat", Reason::TooOld, |exchange| {
            let exchange = exchange.claim("iat", json!(NOW - 3600));
            exchange.with(|exchange| exchange.issuer.rules.max_age = Some(Duration::from_secs(60)))
        }),
        of("exp", Reason::LifetimeTooLong, |exchange| {
            let exchange = exchange.claim("exp", json!(NOW + 7200));
            let hour = Duration::from_secs(3600);
            exchange.with(|exchange| exchange.issuer.rules.max_lifetime = Some(hour))
        }),
        of("cnf", Reason::TypeRefused, |exchange| exchange.claim("cnf", json!({"jkt": "x"}))),
        of("sub", Reason::SubjectRefused, |exchange| exchange.claim("sub", json!(" "))),
        of("jti", Reason::ClaimsMalformed, |exchange| exchange.claim("jti", json!(1))),
        of("jti", Reason::JtiMissing, |exchange| {
            exchange.without_claim("jti").with(|exchange| exchange.issuer.once = true)
        }),
        of("audience", Reason::TargetRefused, |exchange| exchange.parameter("audience", "x")),
        of("scope", Reason::ScopeRefused, |exchange| exchange.parameter("scope", "admin")),
    ]
}

#[test]
fn whatever_breaks_two_rules_is_refused_for_the_first() {
    Exchange::new().granted();
    let violations = violations();
    let (mut alone, mut pairs) = (0, 0);
    for (at, first) in violations.iter().enumerate() {
        eprintln!("{}: {:?}", first.part, first.reason);
        (first.commit)(Exchange::new()).refused(first.reason);
        alone += 1;
        for second in violations[at + 1..].iter().filter(|other| other.part != first.part) {
            eprintln!("    {}: {:?}", second.part, second.reason);
            (second.commit)((first.commit)(Exchange::new())).refused(first.reason);
            (first.commit)((second.commit)(Exchange::new())).refused(first.reason);
            pairs += 1;
        }
    }
    crate::vectors::tell(&format!("{alone} checks, {pairs} pairs of them"));
    assert!(pairs > 400, "{pairs}");
}
