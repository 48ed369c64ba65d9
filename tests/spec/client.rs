//! Client authentication (RFC 6749 §2.3): what real clients send, and what is refused.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cambio::exchange::client::{Application, ApplicationType, Authentication, ClientError};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::policy::{Policy, UnknownIssuers};
use cambio::oauth::form::Form;
use cambio::secret::{StoredSecret, hash};

use crate::support::{EXCHANGE, OURS, SECRET, partner, portal};

fn estate(applications: Vec<Application>) -> Policy {
    Policy::new(OURS, UnknownIssuers::Reject, [Arc::new(partner())], applications)
}

fn application(client_id: &str, secrets: &[&str]) -> Application {
    Application {
        client_id: client_id.to_owned(),
        authentication: Authentication::Secrets(
            secrets.iter().map(|one| StoredSecret::from_plain(one.as_bytes())).collect(),
        ),
        ..portal()
    }
}

fn mobile() -> Application {
    Application {
        kind: ApplicationType::Mobile,
        authentication: Authentication::Public,
        ..application("app", &[])
    }
}

fn policy() -> Policy {
    estate(vec![
        portal(),
        mobile(),
        application("a b:c%/ä", &["p+a s%s:wörd&="]),
        application("50%", &["100%+"]),
        application("rotated", &["old-secret", "new-secret"]),
    ])
}

/// The `client_id` of whoever is let in.
fn enter(policy: &Policy, authorization: &[&[u8]], body: &str) -> Result<String, ClientError> {
    let form = Form::parse(body.as_bytes()).unwrap();
    let check = policy.secret_check(Credentials::present(authorization, &form)?);
    let verdict = check.run();
    assert_eq!(check.run().is_right(), verdict.is_right());
    check.conclude(verdict).map(|client| client.application().client_id.clone())
}

fn basic(id: &str, secret: &str) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))).into_bytes()
}

fn percent(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[test]
fn who_has_no_secret_and_who_gets_refresh_tokens() {
    use ApplicationType::{Mobile, SinglePage, TraditionalWeb};
    const REFRESH: &str = "refresh_token";
    assert_eq!(
        [TraditionalWeb, Mobile, SinglePage].map(ApplicationType::is_public),
        [false, true, true]
    );
    for (kind, grant_types, may, gets) in [
        (TraditionalWeb, vec![EXCHANGE, REFRESH], true, true),
        (Mobile, vec![EXCHANGE, REFRESH], true, true),
        (SinglePage, vec![EXCHANGE, REFRESH], false, false),
        (TraditionalWeb, vec![REFRESH], true, false),
        (TraditionalWeb, vec![EXCHANGE], false, false),
        (TraditionalWeb, vec![], false, false),
    ] {
        let told = format!("{kind:?} {grant_types:?}");
        let grant_types = grant_types.into_iter().map(str::to_owned).collect();
        let application = Application { kind, grant_types, ..portal() };
        let is = (application.may_refresh(), application.gets_refresh_tokens());
        assert_eq!(is, (may, gets), "{told}");
    }
}

#[test]
fn a_check_says_whether_there_was_a_secret_and_whether_it_was_right() {
    let policy = policy();
    for (body, has_secret, is_right) in [
        ("client_id=app", false, true),
        ("client_id=portal", false, false),
        ("client_id=portal&client_secret=wrong", true, false),
        (&format!("client_id=portal&client_secret={SECRET}"), true, true),
    ] {
        let form = Form::parse(body.as_bytes()).unwrap();
        let check = policy.secret_check(Credentials::present(&[], &form).unwrap());
        assert_eq!((check.has_secret(), check.run().is_right()), (has_secret, is_right), "{body}");
    }
}

#[test]
fn basic_is_read_percent_encoded_and_raw_padded_and_not() {
    let policy = policy();
    for (id, secret) in
        [("portal", SECRET), ("50%", "100%+"), ("rotated", "old-secret"), ("rotated", "new-secret")]
    {
        for value in [basic(id, secret), basic(&percent(id), &percent(secret))] {
            assert_eq!(enter(&policy, &[&value], ""), Ok(id.to_owned()), "{id}");
        }
    }
    // An id with a colon can only come percent-encoded.
    let (id, secret) = ("a b:c%/ä", "p+a s%s:wörd&=");
    let value = basic(&percent(id), &percent(secret));
    assert_eq!(enter(&policy, &[&value], ""), Ok(id.to_owned()));
    let unpadded = format!("basic  {} ", STANDARD_NO_PAD.encode(format!("portal:{SECRET}")));
    assert_eq!(enter(&policy, &[unpadded.as_bytes()], ""), Ok("portal".to_owned()));
    let two_readings = estate(vec![application("a%62c", &["one"]), application("abc", &["two"])]);
    for (secret, id) in [("one", "a%62c"), ("two", "abc")] {
        assert_eq!(enter(&two_readings, &[&basic("a%62c", secret)], ""), Ok(id.to_owned()));
        let body = format!("client_id={}", percent(id));
        let named = enter(&two_readings, &[&basic("a%62c", secret)], &body);
        assert_eq!(named, Ok(id.to_owned()));
        let other = if id == "abc" { "client_id=a%2562c" } else { "client_id=abc" };
        let named = enter(&two_readings, &[&basic("a%62c", secret)], other);
        assert_eq!(named, Err(ClientError::SecretWrong));
    }
    let same_id = enter(&policy, &[&basic("portal", SECRET)], "client_id=portal");
    assert_eq!(same_id, Ok("portal".to_owned()));
}

#[test]
fn the_secret_may_come_in_the_body() {
    let policy = policy();
    let body = |id: &str, secret: &str| {
        format!("client_id={}&client_secret={}", percent(id), percent(secret))
    };
    assert_eq!(enter(&policy, &[], &body("portal", SECRET)), Ok("portal".to_owned()));
    assert_eq!(enter(&policy, &[], &body("50%", "100%+")), Ok("50%".to_owned()));
    assert_eq!(enter(&policy, &[], &body("portal", "wrong")), Err(ClientError::SecretWrong));
}

#[test]
fn a_public_client_is_named_and_has_no_secret() {
    let policy = policy();
    assert_eq!(enter(&policy, &[], "client_id=app"), Ok("app".to_owned()));
    assert_eq!(enter(&policy, &[&basic("app", "")], ""), Ok("app".to_owned()));
    assert_eq!(enter(&policy, &[&basic("app", "guess")], ""), Err(ClientError::SecretWrong));
    assert_eq!(enter(&policy, &[], "client_id=portal"), Err(ClientError::AuthMissing));
    assert_eq!(enter(&policy, &[&basic("portal", "")], ""), Err(ClientError::AuthMissing));
}

#[test]
fn wrong_callers_are_refused_for_the_exact_reason() {
    let policy = policy();
    let good = basic("portal", SECRET);
    assert_eq!(enter(&policy, &[&good], ""), Ok("portal".to_owned()));
    let refused =
        |authorization: &[&[u8]], body: &str| enter(&policy, authorization, body).unwrap_err();
    assert_eq!(refused(&[], ""), ClientError::AuthMissing);
    assert_eq!(refused(&[], &format!("client_secret={SECRET}")), ClientError::AuthMissing);
    assert_eq!(refused(&[&basic("portal", "wrong")], ""), ClientError::SecretWrong);
    assert_eq!(refused(&[&basic("portal", &format!("{SECRET} "))], ""), ClientError::SecretWrong);
    assert_eq!(refused(&[&basic("Portal", SECRET)], ""), ClientError::Unknown);
    assert_eq!(refused(&[&basic("nobody", "x")], ""), ClientError::Unknown);
    assert_eq!(refused(&[&basic("rotated", "older-secret")], ""), ClientError::SecretWrong);
    for bad in
        ["Basic", "Basic ", "Basic !", "Basic cG9ydGFs", "Bearer abc", "Basic Og==", "basic\tx", ""]
    {
        assert_eq!(refused(&[bad.as_bytes()], ""), ClientError::AuthMissing, "{bad:?}");
    }
    assert_eq!(refused(&[b"Basic \xff"], ""), ClientError::AuthMissing);
    assert_eq!(refused(&[], "client_id=portal&client_assertion=x"), ClientError::AuthMissing);
}

#[test]
fn two_ways_at_once_are_refused() {
    let policy = policy();
    let good = basic("portal", SECRET);
    let posted = format!("client_id=portal&client_secret={SECRET}");
    for (authorization, body) in [
        (&[&good[..], &good[..]][..], ""),
        (&[&good[..]][..], &posted),
        (&[&b"Bearer x"[..]][..], &posted),
        (&[&good[..]][..], "client_assertion=x"),
        (&[][..], &format!("{posted}&client_assertion_type=x")),
        (&[&good[..]][..], "client_id=another"),
    ] {
        assert_eq!(enter(&policy, authorization, body), Err(ClientError::AuthMultiple), "{body}");
    }
}

#[test]
fn a_check_is_costly_for_everybody_where_it_is_for_one() {
    let phc = hash(SECRET.as_bytes(), &[1; 16]).unwrap();
    let hashed = Application {
        client_id: "hashed".to_owned(),
        authentication: Authentication::Secrets(vec![StoredSecret::from_hash(&phc).unwrap()]),
        ..portal()
    };
    let is_costly = |policy: &Policy, id: &str| {
        let form = Form::parse(b"").unwrap();
        let credentials = Credentials::present(&[&basic(id, "wrong-secret")], &form).unwrap();
        policy.secret_check(credentials).is_costly()
    };
    let policy = estate(vec![hashed, portal()]);
    assert_eq!(enter(&policy, &[&basic("hashed", SECRET)], ""), Ok("hashed".to_owned()));
    for id in ["hashed", "portal", "nobody"] {
        assert!(enter(&policy, &[&basic(id, "wrong")], "").is_err());
        assert!(is_costly(&policy, id), "{id}");
        assert!(!is_costly(&estate(vec![portal()]), id), "{id}");
    }
}

#[test]
fn a_policy_lists_what_it_was_made_of() {
    let policy = policy();
    let issuers: Vec<_> = policy.issuers().map(|issuer| &*issuer.name).collect();
    assert_eq!(issuers, ["partner"]);
    let applications: Vec<_> = policy.applications().map(|one| one.client_id.as_str()).collect();
    assert_eq!(applications, ["portal", "app", "a b:c%/ä", "50%", "rotated"]);
}

/// What is guessed at is counted for all of them.
#[test]
fn a_check_names_every_client_that_may_be_meant() {
    for (id, all) in [("portal", &["portal"][..]), ("50%25", &["50%", "50%25"])] {
        let form = Form::parse(b"").unwrap();
        let credentials = Credentials::present(&[&basic(id, "any")], &form).unwrap();
        let check = policy().secret_check(credentials);
        assert_eq!(check.unverified_client_ids().collect::<Vec<_>>(), all);
    }
}

#[test]
fn a_binding_changes_with_all_that_a_verdict_rests_on() {
    let binding = |application: Application, id: &str, secret: &str| {
        let form = Form::parse(b"").unwrap();
        let policy = estate(vec![application]);
        let check =
            policy.secret_check(Credentials::present(&[&basic(id, secret)], &form).unwrap());
        check.binding().to_vec()
    };
    let same = || binding(portal(), "portal", SECRET);
    assert_eq!(same(), same());
    assert_ne!(same(), binding(portal(), "portal", "other"));
    assert_ne!(same(), binding(portal(), "porta", &format!("l:{SECRET}")));
    assert_ne!(same(), binding(application("portal", &["changed"]), "portal", SECRET));
}

#[test]
fn nothing_secret_is_shown() {
    let form = Form::parse(format!("client_id=portal&client_secret={SECRET}").as_bytes()).unwrap();
    let credentials = Credentials::present(&[], &form).unwrap();
    let shown =
        format!("{form:?} {credentials:?} {:?}", policy().secret_check(credentials.clone()));
    assert!(!shown.contains(SECRET), "{shown}");
}
