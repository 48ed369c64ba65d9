//! Clients whose secret the upstream knows: who is put to it, what counts as a yes, and for whom.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cambio::exchange::client::{
    Application, ApplicationType, AuthenticatedClient, Authentication, ClientCheck, ClientError,
};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::error::{Reason, Refusal};
use cambio::exchange::inquiry::Purpose;
use cambio::exchange::policy::{Policy, UnknownIssuers};
use cambio::exchange::vouching::{Answer, Attempt, BindingKey, Unvouched, is_plain};
use cambio::exchange::{self, Record};
use cambio::oauth::form::Form;
use cambio::secret::StoredSecret;
use proptest::prelude::*;

use crate::support::{Exchange, OURS, entropy, portal, signing_keys};

fn application(client_id: &str, authentication: Authentication) -> Application {
    let kind = ApplicationType::TraditionalWeb;
    Application {
        name: client_id.into(),
        client_id: client_id.to_owned(),
        authentication,
        kind,
        ..portal()
    }
}

fn upstream(client_id: &str) -> Application {
    Application { audiences: Vec::new(), ..application(client_id, Authentication::Upstream) }
}

fn own(client_id: &str) -> Application {
    let secret = StoredSecret::from_plain(b"our-secret");
    application(client_id, Authentication::Secrets(vec![secret]))
}

fn policy(applications: Vec<Application>) -> Policy {
    Policy::new(OURS, UnknownIssuers::Reject, [], applications)
}

/// With and without one that stands for all others.
fn estates() -> [Policy; 2] {
    let named = || {
        vec![
            upstream("svc1"),
            own("portal"),
            own("My App"),
            own("a%2fb"),
            application("phone", Authentication::Public),
        ]
    };
    [policy(named()), policy([named(), vec![upstream("*")]].concat())]
}

fn basic(octets: impl AsRef<[u8]>) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(octets)).into_bytes()
}

fn credentials(authorization: Option<&[u8]>, body: &str) -> Credentials {
    let form = Form::parse(body.as_bytes()).unwrap();
    Credentials::present(authorization.as_slice(), &form).unwrap()
}

fn attempt(authorization: Option<&[u8]>, body: &str) -> Attempt {
    Attempt::of(&credentials(authorization, body)).unwrap()
}

/// Where a caller is sent.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// To the upstream, in this name.
    Upstream(String),
    /// To our own list, which says so.
    Own(Result<String, ClientError>),
    Refused(ClientError),
}

fn sent(policy: &Policy, authorization: Option<&[u8]>, body: &str) -> Sent {
    match policy.client_check(credentials(authorization, body)) {
        Err(error) => Sent::Refused(error),
        Ok(ClientCheck::Upstream(check)) => {
            Sent::Upstream(check.attempt().unverified_client_id().to_owned())
        }
        Ok(ClientCheck::Own(check)) => {
            let verdict = check.run();
            let client = check.conclude(verdict);
            Sent::Own(client.map(|client| client.client_id().to_owned()))
        }
    }
}

#[test]
fn the_upstream_is_asked_about_one_client_or_none() {
    use Sent::{Own, Refused, Upstream};
    let [named, any] = estates();
    let up = |id: &str| Upstream(id.to_owned());
    let unknown = || Own(Err(ClientError::Unknown));
    let wrong = || Own(Err(ClientError::SecretWrong));
    // What is presented, and where that leads without `*`, and with it.
    let cases: Vec<(Option<&[u8]>, &str, Sent, Sent)> = vec![
        (Some(b"svc1:s"), "", up("svc1"), up("svc1")),
        (Some(b"svc1:s"), "client_id=svc1", up("svc1"), up("svc1")),
        (None, "client_id=svc1&client_secret=s", up("svc1"), up("svc1")),
        // The secret may be read in two ways: it is for the upstream to read.
        (Some(b"svc1:%73+"), "", up("svc1"), up("svc1")),
        (Some(b"svc9:s"), "", unknown(), up("svc9")),
        (None, "client_id=Svc-9_x.y~z&client_secret=s", unknown(), up("Svc-9_x.y~z")),
        // Without a secret there is nothing to vouch for.
        (
            None,
            "client_id=svc1",
            Refused(ClientError::AuthMissing),
            Refused(ClientError::AuthMissing),
        ),
        (Some(b"svc1:"), "", Refused(ClientError::AuthMissing), Refused(ClientError::AuthMissing)),
        (None, "client_id=svc9", unknown(), Refused(ClientError::AuthMissing)),
        // Read in two ways, whatever else names one of them.
        (Some(b"%73vc1:s"), "", unknown(), unknown()),
        (Some(b"%73vc1:s"), "client_id=svc1", unknown(), unknown()),
        (Some(b"%73vc1:s"), "client_id=%2573vc1", unknown(), unknown()),
        (Some(b"svc+9:s"), "", unknown(), unknown()),
        (Some(b"%zzsvc1:s"), "", unknown(), unknown()),
        (Some("svc\u{e4}:s".as_bytes()), "", unknown(), unknown()),
        // A lax server takes these for a client that is named.
        (Some(b"SVC1:s"), "", unknown(), unknown()),
        (Some(b" svc1:s"), "", unknown(), unknown()),
        (Some(b"svc1 :s"), "", unknown(), unknown()),
        (Some(b"svc1\t:s"), "", unknown(), unknown()),
        (Some(b"PORTAL:s"), "", unknown(), unknown()),
        (Some(b"Phone:s"), "", unknown(), unknown()),
        (Some(b"my app:s"), "", unknown(), unknown()),
        (None, "client_id=%2573vc1&client_secret=s", unknown(), unknown()),
        (None, "client_id=%252573vc1&client_secret=s", unknown(), unknown()),
        (None, "client_id=Svc1&client_secret=s", unknown(), unknown()),
        (None, "client_id=svc1%20&client_secret=s", unknown(), unknown()),
        (None, "client_id=+portal&client_secret=s", unknown(), unknown()),
        (None, "client_id=a/b&client_secret=s", unknown(), unknown()),
        (None, "client_id=A%2FB&client_secret=s", unknown(), unknown()),
        // Names that `*` does not stand for.
        (None, "client_id=*&client_secret=s", unknown(), unknown()),
        (None, "client_id=svc+9&client_secret=s", unknown(), unknown()),
        (None, "client_id=svc%2B9&client_secret=s", unknown(), unknown()),
        (None, "client_id=svc%0A9&client_secret=s", unknown(), unknown()),
        (None, "client_id=sv%C3%A7&client_secret=s", unknown(), unknown()),
        // Ours are ours, and nobody else vouches for them.
        (
            Some(b"portal:our-secret"),
            "",
            Own(Ok("portal".to_owned())),
            Own(Ok("portal".to_owned())),
        ),
        (Some(b"portal:s"), "", wrong(), wrong()),
        (
            Some(b"p%6frtal:our-secret"),
            "",
            Own(Ok("portal".to_owned())),
            Own(Ok("portal".to_owned())),
        ),
        (Some(b"phone:s"), "", wrong(), wrong()),
        (None, "client_id=phone", Own(Ok("phone".to_owned())), Own(Ok("phone".to_owned()))),
    ];
    for (pair, body, without, with) in cases {
        let value = pair.map(basic);
        let told = format!("{} {body}", pair.unwrap_or_default().escape_ascii());
        assert_eq!(sent(&named, value.as_deref(), body), without, "{told}");
        assert_eq!(sent(&any, value.as_deref(), body), with, "{told}, with *");
    }
}

proptest! {
    /// Whatever a client calls itself, it is put to the upstream under a name that is written in one
    /// way, and never one that a server could take for an application with a policy of its own.
    #[test]
    fn no_name_slips_past_the_one_that_is_configured(
        id in prop::sample::select(vec!["svc1", "portal", "phone"]),
        upper in any::<u8>(),
        before in "[ \t]{0,2}",
        after in "[ \t]{0,2}",
        coded in any::<u8>(),
        again in any::<bool>(),
        in_body in any::<bool>(),
    ) {
        let spelled: String = id.char_indices().map(|(at, c)| {
            let c = if (upper >> (at % 8)) & 1 == 1 { c.to_ascii_uppercase() } else { c };
            let percent = if again { "%25" } else { "%" };
            if (coded >> (at % 8)) & 1 == 1 { format!("{percent}{:02x}", c as u32) } else { c.to_string() }
        }).collect();
        let name = format!("{before}{spelled}{after}");
        let [_, any] = estates();
        let sent = if in_body {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("client_id", &name).append_pair("client_secret", "s").finish();
            sent(&any, None, &body)
        } else {
            sent(&any, Some(&basic(format!("{name}:s"))), "")
        };
        if let Sent::Upstream(put) = sent {
            prop_assert_eq!((put.as_str(), name.as_str()), ("svc1", "svc1"));
        }
    }
}

#[test]
fn an_answer_is_a_yes_a_no_or_neither() {
    use Answer::{Down, No, NoEndpoint, Other, Refused, Yes};
    use Purpose::{Introspection, Revocation};
    let cases: [(u16, &[u8], Answer, Answer); 38] = [
        (200, br#"{"active":false}"#, Yes, Yes),
        (200, b" {\"active\" : true, \"x\": 1}\n", Yes, Yes),
        (200, br#"{"active":false,"error":"invalid_client"}"#, Other, Other),
        (200, br#"{"active":false,"error":null}"#, Other, Other),
        (200, br#"{"error":"invalid_client"}"#, Other, Other),
        (200, br#"{"active":"false"}"#, Other, Yes),
        (200, br#"{"active":null}"#, Other, Yes),
        (200, br#"{"active":0}"#, Other, Yes),
        (200, br#"{"Active":false}"#, Other, Yes),
        (200, br#"{"active":false,"active":false}"#, Other, Other),
        (200, b"{}", Other, Yes),
        (200, b"", Other, Yes),
        (200, b" \r\n", Other, Yes),
        (200, b"[]", Other, Other),
        (200, b"null", Other, Other),
        (200, b"true", Other, Other),
        (200, b"OK", Other, Other),
        (200, b"<!DOCTYPE html><title>Sign in</title>", Other, Other),
        (200, b"{\"active\":false}<!-- -->", Other, Other),
        (201, br#"{"active":false}"#, Other, Other),
        (202, br#"{"active":false}"#, Other, Other),
        (204, b"", Other, Other),
        (206, br#"{"active":false}"#, Other, Other),
        (301, br#"{"active":false}"#, Other, Other),
        (302, b"", Other, Other),
        (307, br#"{"active":false}"#, Other, Other),
        (400, br#"{"error":"invalid_request"}"#, Refused, Refused),
        (400, br#"{"active":false}"#, Refused, Refused),
        (401, br#"{"active":false}"#, No, No),
        (401, b"", No, No),
        (403, b"", Refused, Refused),
        (403, br#"{"active":false}"#, Refused, Refused),
        (404, br#"{"active":false}"#, NoEndpoint, NoEndpoint),
        (405, b"", NoEndpoint, NoEndpoint),
        (418, br#"{"active":false}"#, Other, Other),
        (429, b"{}", Down, Down),
        (500, br#"{"active":false}"#, Down, Down),
        (503, b"", Down, Down),
    ];
    for (status, body, introspection, revocation) in cases {
        let told = format!("{status} {}", body.escape_ascii());
        assert_eq!(Answer::of(Introspection, status, body), introspection, "{told}");
        assert_eq!(Answer::of(Revocation, status, body), revocation, "{told}");
    }
}

#[test]
fn a_yes_counts_only_after_a_wrong_secret_of_the_same_client_was_refused() {
    use Answer::{Down, No, NoEndpoint, Other, Refused, Yes};
    let key = BindingKey::from_octets(&[1; 32]);
    let ways = [
        attempt(Some(&basic("svc1:right")), ""),
        attempt(None, "client_id=svc1&client_secret=right"),
    ];
    for right in &ways {
        let wrong = right.with_secret("of-nobody").unwrap();
        for answer in [Yes, No, Refused, NoEndpoint, Other, Down] {
            for of_wrong in [Yes, No, Refused, NoEndpoint, Other, Down] {
                let vouched = right.vouched(answer, (&wrong, of_wrong), &key);
                let counts = answer == Yes && matches!(of_wrong, No | Refused);
                assert_eq!(vouched.is_some(), counts, "{answer:?} {of_wrong:?}");
            }
        }
        // A refusal of another client, or of the very same secret, shows nothing.
        let other = attempt(Some(&basic("svc2:wrong")), "");
        for no_trial in [right, &other, &Attempt::of_stranger("svc1x", "wrong")] {
            assert!(right.vouched(Yes, (no_trial, No), &key).is_none());
        }
    }
    // Nor does one that came in another way.
    assert!(ways[0].vouched(Yes, (&ways[1].with_secret("x").unwrap(), No), &key).is_none());
}

/// The client that these credentials make, after the upstream has vouched for `vouched_for`.
fn conclude(
    policy: &Policy,
    presented: &[u8],
    vouched_for: &[u8],
) -> Result<AuthenticatedClient, ClientError> {
    let key = BindingKey::from_octets(&[1; 32]);
    let credentials = credentials(Some(&basic(presented)), "");
    let Ok(ClientCheck::Upstream(check)) = policy.client_check(credentials) else {
        panic!("it is not put to the upstream")
    };
    let right = attempt(Some(&basic(vouched_for)), "");
    let wrong = right.with_secret("of-nobody").unwrap();
    let vouched = right.vouched(Answer::Yes, (&wrong, Answer::No), &key).unwrap();
    check.conclude(&vouched, &key)
}

#[test]
fn a_receipt_is_good_for_exactly_the_credentials_that_it_is_about() {
    let [_, policy] = estates();
    let client = conclude(&policy, b"svc1:s", b"svc1:s").unwrap();
    assert_eq!((client.client_id(), &*client.application().name), ("svc1", "svc1"));
    let client = conclude(&policy, b"svc9:s", b"svc9:s").unwrap();
    assert_eq!((client.client_id(), &*client.application().name), ("svc9", "*"));
    assert_eq!(client.audiences(), ["svc9"]);
    for (presented, vouched_for) in [
        ("svc1:s", "svc9:s"),
        ("svc9:s", "svc1:s"),
        ("svc9:s", "svc8:s"),
        ("svc9:s", "svc9:t"),
        ("svc9:s:", "svc9:s"),
    ] {
        let client = conclude(&policy, presented.as_bytes(), vouched_for.as_bytes());
        assert_eq!(client.unwrap_err(), ClientError::SecretWrong, "{presented} {vouched_for}");
    }
    // Made under another key, it is about nothing.
    let (key, other) = (BindingKey::from_octets(&[1; 32]), BindingKey::from_octets(&[2; 32]));
    let right = attempt(Some(&basic("svc1:s")), "");
    let wrong = right.with_secret("of-nobody").unwrap();
    let vouched = right.vouched(Answer::Yes, (&wrong, Answer::No), &key).unwrap();
    assert!(vouched.is_for(&right, &key) && !vouched.is_for(&right, &other));
    assert!(!vouched.is_for(&attempt(None, "client_id=svc1&client_secret=s"), &key));
}

#[test]
fn what_is_remembered_of_credentials_does_not_depend_on_how_they_are_written() {
    let binding = |value: &str| attempt(Some(value.as_bytes()), "").binding();
    let kept = binding("Basic c3ZjMTpzZQ==");
    for same in
        ["basic c3ZjMTpzZQ==", "BASIC   c3ZjMTpzZQ==", "Basic c3ZjMTpzZQ", "Basic c3ZjMTpzZQ="]
    {
        assert_eq!(*binding(same), *kept, "{same}");
    }
    assert_ne!(*binding("Basic c3ZjMTpzZg=="), *kept);
    assert_ne!(*binding("Basic c3ZjMjpzZQ=="), *kept);
}

#[test]
fn what_is_minted_names_the_client_itself() {
    let any = |change: fn(&mut Application)| {
        let mut any = upstream("*");
        change(&mut any);
        Exchange::new().with(|exchange| exchange.application = any)
    };
    let run = |exchange: &Exchange, pair: &[u8]| {
        let policy = exchange.policy();
        let mut record = Record::default();
        let client = conclude(&policy, pair, pair).unwrap();
        let now = cambio::time::Timestamp::from_secs(exchange.now);
        let granted = exchange::begin(&exchange.form(), client, &policy, &mut record)
            .and_then(|pending| pending.approve(&exchange.keys, now, &mut record))
            .and_then(|one| one.mint(&signing_keys(), &policy, &entropy(), now, &mut record));
        let claims = granted.map(|issued| crate::support::decode(&issued.granted.access_token).1);
        (claims.map_err(|refusal| refusal.outcome().reason), record)
    };
    let (claims, record) = run(&any(|_| ()), b"svc9:s");
    let claims = claims.unwrap();
    assert_eq!((&claims["client_id"], &claims["aud"]), (&"svc9".into(), &"svc9".into()));
    assert_eq!(record.client.as_deref(), Some("*"));
    // Its own name is all that it may ask for.
    let asking = |audience: &str| any(|_| ()).parameter("audience", audience);
    assert_eq!(run(&asking("svc9"), b"svc9:s").0.unwrap()["aud"], "svc9");
    for audience in ["svc8", "*", "SVC9"] {
        assert_eq!(run(&asking(audience), b"svc9:s").0.unwrap_err(), Reason::TargetRefused);
    }
    let configured = any(|any| any.audiences = vec!["https://api.example.com".to_owned()]);
    let claims = run(&configured, b"svc9:s").0.unwrap();
    assert_eq!(
        (&claims["client_id"], &claims["aud"]),
        (&"svc9".into(), &"https://api.example.com".into())
    );
}

#[test]
fn only_what_was_answered_is_the_callers_fault() {
    for (why, reason, status) in [
        (Unvouched::Wrong, Reason::ClientSecretWrong, 401),
        (Unvouched::Refused, Reason::ClientSecretWrong, 401),
        (Unvouched::Unprovable, Reason::ClientSecretWrong, 401),
        (Unvouched::Throttled, Reason::ClientThrottled, 429),
        (Unvouched::Silent, Reason::UpstreamUnavailable, 503),
        (Unvouched::Open, Reason::UpstreamUnavailable, 503),
    ] {
        let outcome = Refusal::from(why).outcome();
        assert_eq!((outcome.reason, outcome.status), (reason, status), "{why:?}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let [_, policy] = estates();
    let check = policy.client_check(credentials(Some(&basic("svc1:hunter2")), "")).unwrap();
    let attempt = attempt(None, "client_id=svc1&client_secret=hunter2");
    let shown = format!("{check:?} {attempt:?} {:?}", attempt.asking_about("x"));
    assert!(!shown.contains("hunter2") && !shown.contains("c3ZjMT"), "{shown}");
}

#[test]
fn who_asks_the_upstream_and_whose_name_is_beyond_doubt() {
    assert!(estates()[0].asks_upstream());
    assert!(!policy(vec![own("portal")]).asks_upstream());
    for good in ["a", "A-b_c.d~e", "https://client.example/x?y#z", &"x".repeat(255)] {
        assert!(is_plain(good), "{good}");
    }
    for bad in ["", "a b", " a", "a%62", "a+b", "\u{e4}", "a\u{7f}", "a\n", &"x".repeat(256)] {
        assert!(!is_plain(bad), "{bad:?}");
    }
}
