//! Callers whose credentials are tried at the upstream, before a token of ours is shown to them or
//! ends at their wish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cambio::config::{Endpoints, Upstream};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::inquiry::Purpose;
use cambio::exchange::throttle::{GuessLimits, Origin};
use cambio::exchange::vouching::{Attempt, Unvouched};
use cambio::oauth::form::Form;
use cambio::proxy::asking::Asking;
use cambio::proxy::client_probe::{Belief, ClientProbe, EndpointFinding, Finding};
use cambio::proxy::guesses::{Guess, Guesses};
use cambio::telemetry::metrics::Metrics;
use tokio::task::JoinSet;
use url::Url;

use crate::inquiry_support::{
    Estate, INTROSPECT, ITS_INACTIVE, ITS_REFUSAL, ITS_UNSUPPORTED, Idp, REVOKE, Says,
    assert_hidden, assert_its_own, assert_ours, basic, credentials, its_secret, parameters,
};
use crate::support::{Recorded, install_crypto, response};

fn unsupported() -> Vec<u8> {
    response("400 Bad Request", &[("X-IdP", "yes")], ITS_UNSUPPORTED)
}

/// Whether a request asks about a token that nobody has, in the name of a client that nobody has
/// registered.
fn is_stranger(request: &Recorded) -> bool {
    credentials(request).is_some_and(|(id, _)| id.len() >= 43)
}

/// Whether a request asks about a token that nobody has, in a client's name.
fn is_probe(request: &Recorded) -> bool {
    !parameters(&request.body)["token"].contains('.') && !is_stranger(request)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_tried_and_nothing_else_of_the_request() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    estate.idp.says(Says::NoJwts);
    let secret = its_secret("portal");
    let more = "Cookie: a=b\r\nX-Mine: 1\r\nUser-Agent: someone\r\nDPoP: x\r\n";
    let by_basic = format!("{}{more}", basic("portal", &secret));
    let by_post = format!("{access}&x=1&client_id=portal&client_secret={secret}");
    for (fields, token) in [(by_basic.as_str(), &access), (more, &by_post)] {
        let before = estate.idp.upstream.requests().len();
        let body = format!("{token}&token_type_hint=access_token");
        let response = estate.ask(&format!("{INTROSPECT}?a=b"), fields, &body).await;
        assert_ours(&response, 200);
        assert_eq!(response.json()["active"], true);
        // Its own request, its credentials, and a wrong secret in its name.
        let mut asked = estate.idp.upstream.requests().split_off(before);
        asked.retain(|one| !is_stranger(one));
        let [own, tried, wrong] = asked.as_slice() else { panic!("{asked:#?}") };
        assert!(!is_probe(own));
        for probe in [tried, wrong] {
            assert_eq!((probe.method(), probe.target()), ("POST", INTROSPECT));
            assert!(is_probe(probe));
            for name in ["cookie", "x-mine", "dpop"] {
                assert_eq!(probe.header(name), None, "{name}");
            }
            assert_eq!(probe.header("host"), Some("idp.example"));
            assert_eq!(probe.header("x-forwarded-proto"), Some("https"));
            assert_eq!(probe.header("content-type"), Some("application/x-www-form-urlencoded"));
            assert_eq!(probe.header("user-agent"), Some("cambio/0.1.0"));
            let mut names: Vec<_> = parameters(&probe.body).into_keys().collect();
            names.sort();
            let is_basic = fields.contains("Basic");
            let expected: &[&str] =
                if is_basic { &["token"] } else { &["client_id", "client_secret", "token"] };
            assert_eq!(names, expected);
            assert!(!String::from_utf8_lossy(&probe.raw).contains(&access));
            assert!(parameters(&probe.body)["token"].len() >= 43);
        }
        assert_eq!(tried.header("authorization"), own.header("authorization"));
        assert_eq!(credentials(tried), Some(("portal".to_owned(), secret.clone())));
        let (id, random) = credentials(wrong).unwrap();
        assert_eq!(id, "portal");
        assert!(random.len() >= 43 && random != secret, "{random}");
        let tokens = [own, tried, wrong].map(|one| parameters(&one.body)["token"].clone());
        assert_ne!(tokens[1], tokens[2]);
    }
    assert_eq!(estate.probes("accepted").await, 2);
    assert_eq!(estate.probes("rejected").await + estate.probes("unclear").await, 0);
    // Before all that, once: somebody whom nobody knows.
    let asked = estate.idp.upstream.requests();
    let strangers: Vec<_> = asked.iter().filter(|one| is_stranger(one)).collect();
    let [stranger] = strangers[..] else { panic!("{strangers:#?}") };
    assert_eq!(parameters(&stranger.body).len(), 1);
    let first = asked.iter().position(is_probe).unwrap();
    assert!(asked[..first].iter().any(is_stranger));
}

#[tokio::test(flavor = "multi_thread")]
async fn right_credentials_are_remembered_and_wrong_ones_are_not() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    estate.idp.says(Says::NoJwtsToAnybody);
    let probes = || estate.idp.upstream.requests().iter().filter(|one| is_probe(one)).count();
    for _ in 0..3 {
        assert_eq!(estate.introspect("portal", &access).await.json()["active"], true);
        assert_eq!(probes(), 2);
    }
    for again in 1..=3 {
        let response = estate.ask(INTROSPECT, &basic("portal", "wrong"), &access).await;
        assert_ours(&response, 401);
        assert_eq!(probes(), 2 + again);
    }
    // Another client of the same name has another secret; another name with the same secret.
    assert_ours(
        &estate.ask(INTROSPECT, &basic("plain", &its_secret("portal")), &access).await,
        401,
    );
    assert_eq!((estate.probes("accepted").await, estate.probes("rejected").await), (1, 4));
    // What is remembered is remembered for either endpoint.
    assert_ours(&estate.revoke("portal", &access).await, 200);
    assert_eq!(probes(), 6);
    assert_hidden(&estate.introspect("portal", &access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_takes_any_secret_proves_nothing() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    estate.idp.says(Says::Open);
    let ask = async |path: &str| {
        estate.ask(path, &basic("portal", &its_secret("portal")), &tokens.access).await
    };
    for path in [INTROSPECT, REVOKE, INTROSPECT] {
        assert_its_own(&ask(path).await, 400, ITS_UNSUPPORTED);
    }
    // Each endpoint was tried once, and then for a while not at all. No credentials were.
    let asked = estate.idp.upstream.requests();
    assert_eq!(asked.iter().filter(|one| is_stranger(one)).count(), 2);
    assert_eq!(asked.iter().filter(|one| is_probe(one)).count(), 0);
    assert_eq!(estate.probes("unclear").await, 3);
    assert_eq!(estate.probes("accepted").await, 0);
    estate.idp.says(Says::NoJwts);
    assert_its_own(&ask(INTROSPECT).await, 400, ITS_UNSUPPORTED);
    // Nothing has ended, as one is told that has not found out about it.
    let estate = estate.restart().await;
    assert!(estate.is_active("portal", &tokens.access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_every_secret_is_right_takes_no_other_along() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    estate.idp.says(Says::OpenTo("portal"));
    let ask = async |client_id: &str| {
        estate.ask(INTROSPECT, &basic(client_id, &its_secret(client_id)), &tokens.access).await
    };
    for _ in 0..3 {
        assert_its_own(&ask("portal").await, 400, ITS_UNSUPPORTED);
    }
    // It was tried once, and then for a while not at all.
    let asked = estate.idp.upstream.requests();
    assert_eq!(asked.iter().filter(|one| is_probe(one)).count(), 2);
    assert_eq!(estate.probes("unclear").await, 3);
    assert_eq!(ask("api-server").await.json()["active"], true);
    assert_eq!(estate.probes("accepted").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_neither_yes_nor_no_is_no_yes() {
    let estate = Estate::start().await;
    let access = estate.exchange("portal", "").await.access;
    let json = [("Content-Type", "application/json")];
    let unclear = [
        response("200 OK", &[], b""),
        response("200 OK", &[("Content-Type", "text/html")], b"<form action=/login>"),
        response("200 OK", &json, b"[]"),
        response("200 OK", &json, b"{}"),
        response("200 OK", &json, br#"{"active":"false"}"#),
        response("200 OK", &json, br#"{"active":false,"error":"invalid_client"}"#),
        response("204 No Content", &json, b""),
        response("302 Found", &[("Location", "/login")], b""),
        response("400 Bad Request", &json, br#"{"error":"invalid_request"}"#),
        response("403 Forbidden", &json, b"{}"),
        response("404 Not Found", &json, b"{}"),
        response("429 Too Many Requests", &json, b"{}"),
        response("500 Internal Server Error", &json, b"{}"),
        Vec::new(),
    ];
    for (count, answer) in unclear.into_iter().enumerate() {
        let text = answer.escape_ascii().to_string();
        estate.idp.says(Says::Both(unsupported(), answer));
        assert_its_own(&estate.introspect("portal", &access).await, 400, ITS_UNSUPPORTED);
        assert_eq!(estate.probes("unclear").await, count as u64 + 1, "{text}");
    }
    estate.idp.says(Says::NoJwts);
    assert_eq!(estate.introspect("portal", &access).await.json()["active"], true);
}

/// Many let every client revoke, and only some introspect.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_tried_at_the_endpoint_that_it_came_to() {
    for status in ["404 Not Found", "401 Unauthorized", "403 Forbidden"] {
        let estate = Estate::start().await;
        let tokens = estate.exchange("portal", "").await;
        estate.idp.says(Says::Nowhere { status, path: INTROSPECT });
        let wrong = estate.ask(REVOKE, &basic("portal", "wrong"), &tokens.access).await;
        assert_its_own(&wrong, 401, ITS_REFUSAL);
        assert_ours(&estate.revoke("portal", &tokens.access).await, 200);
        let asked: Vec<_> =
            estate.idp.upstream.requests().iter().map(|one| one.target().to_owned()).collect();
        // What came, twice; somebody unknown, the caller, and a wrong secret.
        assert_eq!(asked, [REVOKE; 5], "{status}");
        estate.idp.says(Says::Usual);
        assert!(!estate.is_active("portal", &tokens.access).await, "{status}");
    }
}

/// A probe by itself, with other times.
struct Probe {
    idp: Idp,
    probe: ClientProbe,
}

impl Probe {
    async fn with(belief: Belief) -> Self {
        install_crypto();
        let idp = Idp::start().await;
        let metrics = Arc::new(Metrics::new());
        let upstream = Upstream {
            url: Url::parse(&idp.upstream.url()).unwrap(),
            ca: None,
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(2),
        };
        let asking = Arc::new(Asking::new(&upstream, &metrics).unwrap());
        let endpoints = Endpoints {
            token: vec!["/oauth2/token".to_owned()],
            jwks: None,
            metadata: Vec::new(),
            introspection: Some(INTROSPECT.to_owned()),
            revocation: None,
        };
        let issuer = "https://idp.example";
        let guesses = Arc::new(Guesses::new().unwrap());
        let probe = ClientProbe::new(&asking, &metrics, &guesses, &endpoints, issuer, belief);
        Self { idp, probe }
    }

    fn attempt(client_id: &str, secret: &str) -> Attempt {
        let fields = basic(client_id, secret);
        let value = fields.trim_start_matches("Authorization: ").trim().as_bytes();
        let form = Form::parse(b"").unwrap();
        let credentials = Credentials::present(&[value], &form).unwrap();
        Attempt::of(&credentials).unwrap()
    }

    async fn of(&self, client_id: &str, secret: &str) -> Result<(), Unvouched> {
        const LIMITS: GuessLimits =
            GuessLimits { client_and_address: 10, client: 100, address: 1000 };
        let guess = Guess { limits: &LIMITS, origin: Origin::UNKNOWN, waiting: 100 };
        self.probe.of(&Self::attempt(client_id, secret), guess).await.map(|_| ())
    }

    fn asked(&self) -> usize {
        self.idp.upstream.requests().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_with_the_same_credentials_share_one_attempt() {
    let probe = Arc::new(Probe::with(Belief::default()).await);
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let probe = Arc::clone(&probe);
        callers.spawn(async move { probe.of("portal", &its_secret("portal")).await });
    }
    for outcome in callers.join_all().await {
        assert_eq!(outcome, Ok(()));
    }
    // Somebody unknown, the caller, and a wrong secret in its name.
    assert_eq!(probe.asked(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_forgotten_again() {
    let brief = Duration::from_millis(50);
    let probe = Probe::with(Belief { right: brief, trial: brief }).await;
    let secret = its_secret("portal");
    assert_eq!(probe.of("portal", &secret).await, Ok(()));
    let asked = probe.asked();
    let began = Instant::now();
    // Both the credentials and a wrong secret are tried once more.
    while probe.asked() < asked + 2 {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never tried again");
        assert_eq!(probe.of("portal", &secret).await, Ok(()));
    }
    // An upstream that no longer looks is found out at the next trial, and believed again later.
    probe.idp.says(Says::Open);
    while probe.of("portal", &secret).await == Ok(()) {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never found out");
    }
    assert_eq!(probe.of("portal", "anything").await, Err(Unvouched::Open));
    probe.idp.says(Says::Usual);
    while probe.of("portal", &secret).await != Ok(()) {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never believed again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_tells_nothing_is_no_proof_and_is_repeated() {
    let probe = Probe::with(Belief::default()).await;
    let right = response("200 OK", &[], ITS_INACTIVE);
    let secret = its_secret("portal");
    let down = response("500 Internal Server Error", &[], b"");
    let says = |wrong: &[u8]| Says::Secrets { right: right.clone(), wrong: wrong.to_vec() };
    // Nobody is asked about before it is known what the endpoint is good for.
    for wrong in [&down[..], b""] {
        probe.idp.says(says(wrong));
        assert_eq!(probe.of("portal", &secret).await, Err(Unvouched::Silent));
    }
    assert_eq!(probe.asked(), 2);
    probe.idp.says(Says::Usual);
    let finding = |finding| EndpointFinding {
        purpose: Purpose::Introspection,
        path: INTROSPECT.to_owned(),
        finding,
    };
    assert_eq!(probe.probe.known_findings(), [finding(Finding::Unknown)]);
    assert_eq!(probe.probe.findings().await, [finding(Finding::RefusesWrongSecrets)]);
    // A refusal of another kind is one as well: of the wrong secret, not of the right one.
    let redirect = response("302 Found", &[("Location", "/login")], b"");
    let page = response("200 OK", &[("Content-Type", "text/html")], b"<html>");
    for (wrong, outcome) in [
        (down, Err(Unvouched::Silent)),
        (Vec::new(), Err(Unvouched::Silent)),
        (redirect, Err(Unvouched::Silent)),
        (page, Err(Unvouched::Silent)),
        (response("403 Forbidden", &[], b""), Ok(())),
    ] {
        probe.idp.says(says(&wrong));
        assert_eq!(probe.of("portal", &secret).await, outcome);
    }
    // And one that says yes all of a sudden is found out.
    let other = Probe::with(Belief::default()).await;
    assert_eq!(other.probe.findings().await, [finding(Finding::RefusesWrongSecrets)]);
    other.idp.says(Says::Open);
    assert_eq!(other.of("portal", &secret).await, Err(Unvouched::Open));
    assert_eq!(other.probe.known_findings(), [finding(Finding::AcceptsWrongSecrets)]);
    other.idp.says(Says::Usual);
    assert_eq!(other.of("portal", &secret).await, Err(Unvouched::Open));
}

#[test]
fn nothing_is_tried_where_there_is_no_secret_or_more_than_one_client() {
    let attempt = |authorization: &[&[u8]], body: &str| {
        let form = Form::parse(body.as_bytes()).unwrap();
        let credentials = Credentials::present(authorization, &form).unwrap();
        Attempt::of(&credentials).is_some()
    };
    assert!(attempt(&[b"Basic YTpi"], ""));
    assert!(attempt(&[], "client_id=a&client_secret=b"));
    assert!(!attempt(&[], "client_id=a"));
    // `a:`, and `%61:b`.
    assert!(!attempt(&[b"Basic YTo="], ""));
    assert!(!attempt(&[b"Basic JTYxOmI="], ""));
    assert!(!attempt(&[b"Basic JTYxOmI="], "client_id=a"));
}
