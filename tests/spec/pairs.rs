//! Every two checks together: what breaks both is refused, for the reason of the one that comes first,
//! so that no check stands in for another.

use std::path::Path;
use std::time::Duration;

use cambio::exchange::error::{Reason, Refusal};
use serde_json::json;

use crate::support::{Exchange, NOW, SECRET, signing_keys, stranger};

/// One check, broken alone. Of two that share a part only one can be broken at a time.
struct Violation {
    parts: &'static [&'static str],
    reason: Reason,
    commit: fn(Exchange) -> Exchange,
}

const fn of(
    parts: &'static [&'static str],
    reason: Reason,
    commit: fn(Exchange) -> Exchange,
) -> Violation {
    Violation { parts, reason, commit }
}

/// A JSON object with a member that stands twice, which no value can have.
fn twice(mut object: String) -> String {
    object.insert_str(1, r#""x":1,"x":1,"#);
    object
}

/// In the order of the checks: form → client → grant → parameters.
fn of_the_request() -> Vec<Violation> {
    vec![
        of(&["form"], Reason::BodyTooLarge, |exchange| {
            exchange.parameter("padding", &"x".repeat(65_536))
        }),
        of(&["form"], Reason::FormMalformed, |exchange| exchange.parameter("padding", "\0")),
        of(&["form"], Reason::ParameterRepeated, |exchange| {
            exchange.parameter("padding", "").parameter("padding", "")
        }),
        of(&["client"], Reason::ClientAuthMultiple, |exchange| {
            exchange.parameter("client_secret", SECRET)
        }),
        of(&["client"], Reason::ClientAuthMissing, |exchange| {
            exchange.with(|exchange| exchange.basic = None)
        }),
        of(&["client"], Reason::ClientUnknown, |exchange| {
            exchange.with(|exchange| exchange.basic = Some(("nobody", SECRET)))
        }),
        of(&["client"], Reason::ClientSecretWrong, |exchange| {
            exchange.with(|exchange| exchange.basic = Some(("portal", "another-secret")))
        }),
        of(&["grant"], Reason::GrantNotAllowed, |exchange| {
            exchange.with(|exchange| exchange.application.grant_types.clear())
        }),
        of(&["subject_token"], Reason::ParameterMissing, |exchange| {
            exchange.parameter("subject_token", "")
        }),
        of(&["subject_token_type"], Reason::ParameterMissing, |exchange| {
            exchange.without_parameter("subject_token_type")
        }),
        of(&["subject_token_type"], Reason::SubjectTokenTypeUnsupported, |exchange| {
            let saml = "urn:ietf:params:oauth:token-type:saml2";
            exchange.without_parameter("subject_token_type").parameter("subject_token_type", saml)
        }),
        of(&["actor_token"], Reason::ActorTokenUnsupported, |exchange| {
            exchange.parameter("actor_token", "x")
        }),
        of(&["requested_token_type"], Reason::RequestedTokenTypeUnsupported, |exchange| {
            exchange.parameter("requested_token_type", "urn:ietf:params:oauth:token-type:saml1")
        }),
        of(&["resource"], Reason::TargetRefused, |exchange| {
            exchange.parameter("resource", "https://api.example.com#fragment")
        }),
        of(&["scope"], Reason::ScopeRefused, |exchange| exchange.parameter("scope", "\"")),
    ]
}

/// Of the token, before its issuer's keys are asked: text → header → claims → issuer → rules.
fn of_the_unverified_token() -> Vec<Violation> {
    vec![
        of(&["padding"], Reason::TokenTooLarge, |exchange| {
            exchange.claim("padding", json!("x".repeat(16_384)))
        }),
        of(&["text"], Reason::TokenMalformed, |exchange| {
            exchange.with(|exchange| exchange.spelling.token = |token| token + ".AA")
        }),
        of(&["header padding"], Reason::TokenTooLarge, |exchange| {
            exchange.member("padding", json!("x".repeat(4_096)))
        }),
        of(&["text"], Reason::TokenMalformed, |exchange| {
            exchange.with(|exchange| exchange.spelling.token = |token| token + "=")
        }),
        of(&["header text"], Reason::TokenMalformed, |exchange| {
            exchange.with(|exchange| exchange.spelling.header = twice)
        }),
        of(&["crit"], Reason::HeaderRefused, |exchange| exchange.member("crit", json!(["x"]))),
        of(&["b64"], Reason::HeaderRefused, |exchange| exchange.member("b64", json!(true))),
        of(&["zip"], Reason::HeaderRefused, |exchange| exchange.member("zip", json!("DEF"))),
        of(&["enc"], Reason::HeaderRefused, |exchange| exchange.member("enc", json!("A128GCM"))),
        of(&["cty"], Reason::HeaderRefused, |exchange| exchange.member("cty", json!("JWT"))),
        of(&["alg"], Reason::HeaderRefused, |exchange| exchange.member("alg", json!(null))),
        of(&["kid"], Reason::HeaderRefused, |exchange| exchange.member("kid", json!(1))),
        of(&["typ"], Reason::HeaderRefused, |exchange| exchange.member("typ", json!(["JWT"]))),
        of(&["claims text"], Reason::TokenMalformed, |exchange| {
            exchange.with(|exchange| exchange.spelling.claims = twice)
        }),
        of(&["iss"], Reason::ClaimsMalformed, |exchange| exchange.claim("iss", json!(["x"]))),
        of(&["iss"], Reason::IssuerUnknown, |exchange| exchange.claim("iss", json!("x"))),
        of(&["enabled"], Reason::IssuerDisabled, |exchange| {
            exchange.with(|exchange| exchange.issuer.enabled = false)
        }),
        of(&["allowed"], Reason::IssuerNotAllowed, |exchange| {
            exchange.with(|exchange| exchange.application.trusted_token_issuers = Some(vec![]))
        }),
        of(&["typ"], Reason::TypeRefused, |exchange| exchange.member("typ", json!("dpop+jwt"))),
        of(&["alg"], Reason::AlgorithmRefused, |exchange| exchange.member("alg", json!("HS256"))),
    ]
}

/// Of the token by its issuer's keys: signature → audience → times → what it is and whom it names.
fn of_the_verified_token() -> Vec<Violation> {
    vec![
        of(&["kid"], Reason::KeyUnknown, |exchange| exchange.member("kid", json!("another"))),
        of(&["key"], Reason::SignatureInvalid, |exchange| {
            exchange.with(|exchange| exchange.forge = stranger())
        }),
        of(&["aud"], Reason::AudienceMismatch, |exchange| exchange.without_claim("aud")),
        of(&["aud"], Reason::ClaimsMalformed, |exchange| exchange.claim("aud", json!(1))),
        of(&["aud"], Reason::AudienceMismatch, |exchange| exchange.claim("aud", json!("x"))),
        of(&["exp"], Reason::ClaimsMalformed, |exchange| exchange.without_claim("exp")),
        of(&["exp"], Reason::ClaimsMalformed, |exchange| exchange.claim("exp", json!("1"))),
        of(&["nbf"], Reason::ClaimsMalformed, |exchange| exchange.claim("nbf", json!(null))),
        of(&["iat"], Reason::ClaimsMalformed, |exchange| exchange.claim("iat", json!([NOW]))),
        of(&["exp"], Reason::Expired, |exchange| exchange.claim("exp", json!(NOW - 60))),
        of(&["nbf"], Reason::NotYetValid, |exchange| exchange.claim("nbf", json!(NOW + 60))),
        of(&["iat"], Reason::IssuedInFuture, |exchange| exchange.claim("iat", json!(NOW + 60))),
        of(&["iat"], Reason::ClaimsMalformed, |exchange| {
            let exchange = exchange.without_claim("iat");
            exchange.with(|exchange| exchange.issuer.rules.max_age = Some(Duration::from_secs(60)))
        }),
        of(&["iat"], Reason::TooOld, |exchange| {
            let exchange = exchange.claim("iat", json!(NOW - 3600));
            exchange.with(|exchange| exchange.issuer.rules.max_age = Some(Duration::from_secs(60)))
        }),
        of(&["exp"], Reason::LifetimeTooLong, |exchange| {
            let exchange = exchange.claim("exp", json!(NOW + 7200));
            let hour = Duration::from_secs(3600);
            exchange.with(|exchange| exchange.issuer.rules.max_lifetime = Some(hour))
        }),
        // Beyond the year 9999, where nothing else is asked of it.
        of(&["exp"], Reason::LifetimeTooLong, |exchange| {
            exchange.claim("exp", json!(253_402_300_800_u64))
        }),
        // Within the skew: neither expired nor of the future.
        of(&["exp", "iat"], Reason::Expired, |exchange| {
            exchange.claim("exp", json!(NOW + 5)).claim("iat", json!(NOW + 5))
        }),
        of(&["exp", "nbf"], Reason::Expired, |exchange| {
            exchange.claim("exp", json!(NOW + 5)).claim("nbf", json!(NOW + 5))
        }),
        of(&["cnf"], Reason::TypeRefused, |exchange| exchange.claim("cnf", json!({"jkt": "x"}))),
        of(&["sub"], Reason::SubjectRefused, |exchange| exchange.claim("sub", json!(" "))),
        of(&["jti"], Reason::ClaimsMalformed, |exchange| exchange.claim("jti", json!(1))),
        of(&["jti"], Reason::JtiMissing, |exchange| {
            exchange.without_claim("jti").with(|exchange| exchange.issuer.once = true)
        }),
    ]
}

/// Once the token is right: policy → mint → whether it comes for the first time.
fn of_the_policy() -> Vec<Violation> {
    vec![
        of(&["audience"], Reason::TargetRefused, |exchange| exchange.parameter("audience", "x")),
        of(&["scope"], Reason::ScopeRefused, |exchange| exchange.parameter("scope", "admin")),
        // Borne for the skew, and what is minted would not live for a second.
        of(&["exp"], Reason::Expired, |exchange| exchange.claim("exp", json!(NOW))),
        of(&["jti"], Reason::Replayed, |exchange| {
            exchange.with(|exchange| {
                (exchange.issuer.once, exchange.was_exchanged) = (true, true);
            })
        }),
    ]
}

fn violations() -> Vec<Violation> {
    let mut all = of_the_request();
    all.extend(of_the_unverified_token());
    all.extend(of_the_verified_token());
    all.extend(of_the_policy());
    all
}

#[test]
fn whatever_breaks_two_rules_is_refused_for_the_first() {
    Exchange::new().granted();
    let violations = violations();
    let (mut alone, mut pairs) = (0, 0);
    for (at, first) in violations.iter().enumerate() {
        eprintln!("{:?}: {:?}", first.parts, first.reason);
        (first.commit)(Exchange::new()).refused(first.reason);
        alone += 1;
        let is_apart = |other: &&Violation| {
            let mut parts = other.parts.iter();
            parts.all(|part| !first.parts.contains(part))
        };
        for second in violations[at + 1..].iter().filter(is_apart) {
            eprintln!("    {:?}: {:?}", second.parts, second.reason);
            (second.commit)((first.commit)(Exchange::new())).refused(first.reason);
            (first.commit)((second.commit)(Exchange::new())).refused(first.reason);
            pairs += 1;
        }
    }
    crate::vectors::tell(&format!("{alone} checks, {pairs} pairs of them"));
    assert_eq!(alone, 61);
    assert!(pairs > 1700, "{pairs}");
}

/// Where a reason is tested.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the list above.
    Here,
    /// It is none of an exchange by itself.
    At(&'static str),
}

/// Sorts every reason there is: without one of them this does not compile.
macro_rules! sorted {
    ($($reason:ident => $place:expr,)*) => {
        const SORTED: &[(Reason, Place)] = &[$((Reason::$reason, $place)),*];

        const fn is_sorted(reason: Reason) -> bool {
            match reason {
                $(Reason::$reason)|* => true,
            }
        }
    };
}

sorted! {
    BodyTooLarge => Place::Here,
    FormMalformed => Place::Here,
    ParameterRepeated => Place::Here,
    ParameterMissing => Place::Here,
    ClientAuthMissing => Place::Here,
    ClientAuthMultiple => Place::Here,
    ClientUnknown => Place::Here,
    ClientSecretWrong => Place::Here,
    // Guesses are counted over many requests.
    ClientThrottled => Place::At(
        "tests/e2e/vouched.rs::guesses_are_limited_and_nobody_is_locked_out_by_anothers"
    ),
    GrantNotAllowed => Place::Here,
    SubjectTokenTypeUnsupported => Place::Here,
    RequestedTokenTypeUnsupported => Place::Here,
    ActorTokenUnsupported => Place::Here,
    TargetRefused => Place::Here,
    ScopeRefused => Place::Here,
    TokenTooLarge => Place::Here,
    TokenMalformed => Place::Here,
    HeaderRefused => Place::Here,
    TypeRefused => Place::Here,
    IssuerUnknown => Place::Here,
    IssuerDisabled => Place::Here,
    IssuerNotAllowed => Place::Here,
    AlgorithmRefused => Place::Here,
    KeyUnknown => Place::Here,
    SignatureInvalid => Place::Here,
    ClaimsMalformed => Place::Here,
    AudienceMismatch => Place::Here,
    Expired => Place::Here,
    NotYetValid => Place::Here,
    IssuedInFuture => Place::Here,
    TooOld => Place::Here,
    LifetimeTooLong => Place::Here,
    SubjectRefused => Place::Here,
    JtiMissing => Place::Here,
    Replayed => Place::Here,
    // Of refresh tokens.
    RefreshUnknown => Place::At(
        "tests/spec/refresh.rs::a_token_that_the_family_never_had_is_unknown_and_ends_nothing"
    ),
    RefreshExpired => Place::At(
        "tests/spec/refresh.rs::a_family_expires_and_no_clock_brings_it_back"
    ),
    RefreshReused => Place::At("tests/spec/refresh.rs::a_spent_token_ends_the_family"),
    RefreshRevoked => Place::At(
        "tests/spec/refresh.rs::a_revoked_family_refuses_all_its_tokens"
    ),
    RefreshOtherClient => Place::At(
        "tests/spec/refresh.rs::another_clients_attempt_fails_and_costs_the_rightful_one_nothing"
    ),
    PolicyWithdrawn => Place::At(
        "tests/spec/refresh_policy.rs::an_audience_that_is_gone_ends_it"
    ),
    // Never the caller's fault.
    KeysUnavailable => Place::At(
        "tests/e2e/exchange.rs::keys_that_cannot_be_had_are_never_the_callers_fault"
    ),
    StoreUnavailable => Place::At(
        "tests/e2e/refresh_faults.rs::what_needs_no_store_goes_on_without_a_disk_and_nothing_is_lost_when_it_is_back"
    ),
    UpstreamUnavailable => Place::At(
        "tests/spec/vouching.rs::only_what_was_answered_is_the_callers_fault"
    ),
    SigningUnavailable => Place::At(
        "tests/spec/request.rs::without_a_key_whose_time_has_come_nothing_is_minted"
    ),
    Overloaded => Place::At("tests/abuse/pressure.rs::exchanges_beyond_the_bound_are_told_to_come_back"),
    Internal => Place::At(
        "tests/e2e/panics.rs::a_panic_ends_its_own_request_and_quotes_nothing_of_it"
    ),
}

/// No check is left out of the list: each reason that an exchange can be refused for is met there, and
/// each refusal of its parameters, its token and its policy.
#[test]
fn every_way_to_refuse_an_exchange_is_among_them() {
    let refusal = |violation: &Violation| {
        let broken = (violation.commit)(Exchange::new());
        broken.run_with(&signing_keys()).0.unwrap_err()
    };
    let met: Vec<Refusal> = violations().iter().map(refusal).collect();
    for (reason, place) in SORTED {
        assert!(is_sorted(*reason));
        let is_met = met.iter().any(|refusal| refusal.outcome().reason == *reason);
        match place {
            Place::Here => assert!(is_met, "{reason:?}"),
            Place::At(test) => {
                assert!(!is_met, "{reason:?}");
                let (path, name) = test.split_once("::").unwrap();
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
                let source = std::fs::read_to_string(path).unwrap();
                assert!(source.contains(&format!("fn {name}(")), "{reason:?}: {test}");
            }
        }
    }
    for refusal in Refusal::all() {
        let is_of_these = match refusal {
            Refusal::Request(_) | Refusal::SubjectToken(_) | Refusal::Policy(_) => true,
            Refusal::Form(_) | Refusal::Client(_) | Refusal::Refresh(_) | Refusal::Ours(_) => false,
        };
        // One that needs what is kept has the reason of what it is kept for.
        let is_here = SORTED.iter().any(|(reason, place)| {
            *reason == refusal.outcome().reason && matches!(place, Place::Here)
        });
        assert!(!(is_of_these && is_here) || met.contains(&refusal), "{refusal:?}");
    }
}
