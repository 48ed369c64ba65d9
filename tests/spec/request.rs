//! The parameters of an exchange (RFC 8693 §2.1), and what an application may ask for.

use cambio::exchange::client::Format;
use cambio::exchange::error::{Reason, Refusal};
use cambio::exchange::request::RequestError;
use cambio::exchange::{Record, begin};
use cambio::jwt::sign::SigningKeys;
use cambio::oauth::form::Form;
use cambio::oauth::token_type::TokenType;
use cambio::time::Timestamp;
use serde_json::json;

use crate::support::{Exchange, SECRET, authenticate, decode, encode, entropy, signing_keys};

#[test]
fn the_subject_token_and_its_type_are_required() {
    Exchange::new().granted();
    Exchange::new().parameter("subject_token", "").refused(Reason::ParameterMissing);
    Exchange::new().parameter("subject_token", " \r\n").refused(Reason::ParameterMissing);
    Exchange::new().without_parameter("subject_token_type").refused(Reason::ParameterMissing);
    for (name, good) in [
        ("jwt", true),
        ("access_token", true),
        ("id_token", true),
        ("refresh_token", false),
        ("saml1", false),
        ("saml2", false),
        ("nonsense", false),
        ("JWT", false),
    ] {
        let exchange = Exchange::new()
            .without_parameter("subject_token_type")
            .parameter("subject_token_type", &format!("urn:ietf:params:oauth:token-type:{name}"));
        if good {
            drop(exchange.granted());
        } else {
            exchange.refused(Reason::SubjectTokenTypeUnsupported);
        }
    }
}

/// RFC 8693 §2.1: a request without the parameter is no exchange of nothing.
#[test]
fn a_subject_token_that_does_not_come_is_missed() {
    let exchange = Exchange::new();
    let token = ("subject_token".to_owned(), exchange.token());
    let begun = |parameters: &[(String, String)]| {
        let form = Form::parse(encode(parameters).as_bytes()).unwrap();
        let policy = exchange.policy();
        let client = authenticate(&policy, "portal", SECRET);
        begin(&form, client, &policy, &mut Record::default()).map(|_| ())
    };
    let refusal = Refusal::Request(RequestError::SubjectTokenMissing);
    assert_eq!(refusal.outcome().reason, Reason::ParameterMissing);
    let missing = Err(refusal);
    let (without, mut with) = (&exchange.parameters, exchange.parameters.clone());
    assert_eq!(begun(without), missing);
    // Under another name it is another parameter.
    for other in ["Subject_token", "subject_token[]", "subject_token ", "subjecttoken"] {
        let other = (other.to_owned(), token.1.clone());
        assert_eq!(begun(&[&without[..], &[other]].concat()), missing);
    }
    with.push(token);
    assert_eq!(begun(&with), Ok(()));
}

#[test]
fn actor_tokens_are_refused_not_ignored() {
    Exchange::new().parameter("actor_token", "").granted();
    Exchange::new().parameter("actor_token", "x").refused(Reason::ActorTokenUnsupported);
    Exchange::new()
        .parameter("actor_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .refused(Reason::ActorTokenUnsupported);
}

#[test]
fn the_requested_type_is_an_access_token_or_a_jwt() {
    let ask = |name: &str| {
        Exchange::new()
            .parameter("requested_token_type", &format!("urn:ietf:params:oauth:token-type:{name}"))
    };
    let issued = |exchange: Exchange| {
        exchange.run_with(&signing_keys()).0.unwrap().issued_token_type.unwrap()
    };
    assert_eq!(issued(Exchange::new()), TokenType::AccessToken);
    assert_eq!(issued(ask("access_token")), TokenType::AccessToken);
    assert_eq!(issued(ask("jwt")), TokenType::Jwt);
    for bad in ["refresh_token", "id_token", "saml1", "saml2", "x"] {
        ask(bad).refused(Reason::RequestedTokenTypeUnsupported);
    }
    // Real clients ask for it where they may refresh (RFC 8693 §2.2.1).
    let refreshing =
        |exchange: &mut Exchange| exchange.application.grant_types.push("refresh_token".to_owned());
    assert_eq!(issued(ask("refresh_token").with(refreshing)), TokenType::AccessToken);
}

#[test]
fn targets_are_the_applications_own() {
    let (api, other) = ("https://api.example.com", "urn:example:other");
    assert_eq!(Exchange::new().granted()["aud"], api);
    assert_eq!(Exchange::new().parameter("audience", other).granted()["aud"], other);
    assert_eq!(Exchange::new().parameter("resource", api).granted()["aud"], api);
    let both = Exchange::new()
        .parameter("audience", other)
        .parameter("resource", api)
        .parameter("audience", other);
    assert_eq!(both.granted()["aud"], json!([other, api]));
    assert_eq!(Exchange::new().parameter("audience", "").granted()["aud"], api);
    for bad in
        ["https://api.example.com/", "https://API.example.com", "*", "https://elsewhere.example"]
    {
        Exchange::new().parameter("audience", bad).refused(Reason::TargetRefused);
        Exchange::new()
            .parameter("audience", api)
            .parameter("audience", bad)
            .refused(Reason::TargetRefused);
    }
    for bad in ["api", "/v1", "https://api.example.com#x", "https://elsewhere.example"] {
        Exchange::new().parameter("resource", bad).refused(Reason::TargetRefused);
    }
}

#[test]
fn scopes_are_the_applications_own_and_only_those_asked_for_are_granted() {
    let asked = |scope: &str| Exchange::new().parameter("scope", scope);
    assert_eq!(Exchange::new().granted().get("scope"), None);
    assert_eq!(asked("read").granted()["scope"], "read");
    assert_eq!(asked("write  read write").granted()["scope"], "write read");
    for bad in ["admin", "read admin", "READ", "read\nwrite", "\"read\""] {
        asked(bad).refused(Reason::ScopeRefused);
    }
    let (result, _) = asked("read").run_with(&signing_keys());
    assert_eq!(result.unwrap().scope.as_deref(), Some("read"));
}

#[test]
fn a_minted_token_is_a_jwt_access_token() {
    let keys = signing_keys();
    let (result, record) = Exchange::new().run_with(&keys);
    let granted = result.unwrap();
    let (header, claims) = decode(&granted.access_token);
    let kid = keys.iter().next().unwrap().kid();
    assert_eq!(header, json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}));
    assert_eq!(granted.expires_in, 600);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
    let minted = record.minted.unwrap();
    assert_eq!(
        (minted.kid.as_deref().unwrap(), minted.jwt_id.as_str()),
        (kid, claims["jti"].as_str().unwrap())
    );
    assert_eq!(record.subject_jwt_id.as_deref(), Some("t-1"));
    assert_eq!(
        (record.client.as_deref(), record.issuer.as_deref()),
        (Some("Portal"), Some("partner"))
    );
}

#[test]
fn nothing_unverified_is_recorded() {
    let forged = Exchange::new().with(|exchange| exchange.forge = crate::support::stranger());
    let (result, record) = forged.run_with(&signing_keys());
    assert_eq!(result.unwrap_err().outcome().reason, Reason::SignatureInvalid);
    assert_eq!((record.subject, record.subject_jwt_id), (None, None));
    assert!(record.minted.is_none());
}

#[test]
fn without_a_key_whose_time_has_come_nothing_is_minted() {
    let (result, _) = Exchange::new().run_with(&SigningKeys::new(Vec::new()));
    assert_eq!(result.unwrap_err().outcome().reason, Reason::SigningUnavailable);
}

/// What is to be remembered, and what is to be kept, before anybody gets an answer.
#[test]
fn what_has_to_be_kept_is_told_before_anything_leaves() {
    let minted = |change: fn(&mut Exchange)| {
        let exchange = Exchange::new().with(change);
        let now = Timestamp::from_secs(exchange.now);
        let mut record = Record::default();
        let approved = exchange.pending().approve(&exchange.keys, now, &mut record).unwrap();
        let once = approved.once().map(|once| once.until);
        let kept = approved
            .mint(&signing_keys(), &exchange.policy(), &entropy(), now, &mut record)
            .unwrap()
            .kept;
        (once, kept.family.is_some(), kept.opaque.is_some(), kept.is_nothing())
    };
    let refreshes = |exchange: &mut Exchange| {
        exchange.application.grant_types.push("refresh_token".to_owned());
    };
    let opaque = |exchange: &mut Exchange| {
        exchange.application.access_token.format = Format::Opaque;
    };
    assert_eq!(minted(|_| ()), (None, false, false, true));
    assert_eq!(minted(refreshes), (None, true, false, false));
    assert_eq!(minted(opaque), (None, false, true, false));
    // Until nothing could accept it any more: its time and the tolerance for clocks.
    let once = minted(|exchange| exchange.issuer.once = true).0;
    let expires_at = Exchange::new().claims["exp"].as_u64().unwrap();
    assert_eq!(once, Some(Timestamp::from_secs(expires_at + 30)));
}
