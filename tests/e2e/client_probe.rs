//! Callers whose credentials are tried at the upstream, because it says nothing of a token of ours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cambio::config::{Endpoints, Upstream};
use cambio::exchange::client::Credentials;
use cambio::oauth::form::Form;
use cambio::proxy::asking::Asking;
use cambio::proxy::client_probe::{Attempt, Belief, ClientProbe};
use cambio::telemetry::metrics::{Metrics, ProbeOutcome};
use tokio::task::JoinSet;
use url::Url;

use crate::inquiry_support::{
    Estate, INTROSPECT, ITS_INACTIVE, ITS_UNSUPPORTED, Idp, REVOKE, Says, assert_hidden,
    assert_its_own, assert_ours, basic, credentials, its_secret, parameters,
};
use crate::support::{Recorded, install_crypto, response};

fn unsupported() -> Vec<u8> {
    response("400 Bad Request", &[("X-IdP", "yes")], ITS_UNSUPPORTED)
}

/// Whether a request asks about a token that nobody has.
fn is_probe(request: &Recorded) -> bool {
    !parameters(&request.body)["token"].contains('.')
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
        let asked = estate.idp.upstream.requests().split_off(before);
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
    // It was tried once, and then for a while not at all.
    let probes = estate.idp.upstream.requests().iter().filter(|one| is_probe(one)).count();
    assert_eq!(probes, 2);
    assert_eq!(estate.probes("unclear").await, 3);
    assert_eq!(estate.probes("accepted").await, 0);
    // Other clients it may well know.
    estate.idp.says(Says::NoJwts);
    assert_hidden(&estate.introspect("stranger", &tokens.access).await);
    assert_its_own(&ask(INTROSPECT).await, 400, ITS_UNSUPPORTED);
    assert!(estate.is_active("portal", &tokens.access).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn where_introspection_is_missing_upstream_revocation_is_tried() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    estate.idp.says(Says::Nowhere { status: "404 Not Found", path: INTROSPECT });
    let response = estate.revoke("portal", &tokens.access).await;
    assert_ours(&response, 200);
    let asked: Vec<_> =
        estate.idp.upstream.requests().iter().map(|one| one.target().to_owned()).collect();
    assert_eq!(asked, [REVOKE, INTROSPECT, REVOKE, INTROSPECT, REVOKE]);
    assert!(!estate.is_active("portal", &tokens.access).await);
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
        let probe = ClientProbe::new(&asking, &metrics, &endpoints, issuer, belief).unwrap();
        Self { idp, probe }
    }

    fn attempt(client_id: &str, secret: &str) -> Attempt {
        let fields = basic(client_id, secret);
        let value = fields.trim_start_matches("Authorization: ").trim().as_bytes();
        let form = Form::parse(b"").unwrap();
        let credentials = Credentials::present(&[value], &form).unwrap();
        Attempt::of(&credentials, &form, &[value]).unwrap()
    }

    async fn of(&self, client_id: &str, secret: &str) -> ProbeOutcome {
        self.probe.of(&Self::attempt(client_id, secret)).await
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
        assert_eq!(outcome, ProbeOutcome::Accepted);
    }
    assert_eq!(probe.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_forgotten_again() {
    let brief = Duration::from_millis(50);
    let probe = Probe::with(Belief { right: brief, trial: brief }).await;
    let secret = its_secret("portal");
    assert_eq!(probe.of("portal", &secret).await, ProbeOutcome::Accepted);
    let asked = probe.asked();
    let began = Instant::now();
    // Both the credentials and a wrong secret are tried once more.
    while probe.asked() < asked + 2 {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never tried again");
        assert_eq!(probe.of("portal", &secret).await, ProbeOutcome::Accepted);
    }
    // An upstream that no longer looks is found out at the next trial, and believed again later.
    probe.idp.says(Says::Open);
    while probe.of("portal", &secret).await == ProbeOutcome::Accepted {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never found out");
    }
    assert_eq!(probe.of("portal", "anything").await, ProbeOutcome::Unclear);
    probe.idp.says(Says::Usual);
    while probe.of("portal", &secret).await != ProbeOutcome::Accepted {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never believed again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_tells_nothing_is_no_proof_and_is_repeated() {
    let probe = Probe::with(Belief::default()).await;
    let right = response("200 OK", &[], ITS_INACTIVE);
    let secret = its_secret("portal");
    // A refusal of another kind is one as well: of the wrong secret, not of the right one.
    let told: [(Vec<u8>, ProbeOutcome); 3] = [
        (response("500 Internal Server Error", &[], b""), ProbeOutcome::Unclear),
        (Vec::new(), ProbeOutcome::Unclear),
        (response("403 Forbidden", &[], b""), ProbeOutcome::Accepted),
    ];
    for (wrong, outcome) in told {
        probe.idp.says(Says::Secrets { right: right.clone(), wrong });
        assert_eq!(probe.of("portal", &secret).await, outcome);
    }
    assert_eq!(probe.asked(), 6);
}

#[test]
fn nothing_is_tried_where_there_is_no_secret_or_more_than_one_client() {
    let attempt = |authorization: &[&[u8]], body: &str| {
        let form = Form::parse(body.as_bytes()).unwrap();
        let credentials = Credentials::present(authorization, &form).unwrap();
        Attempt::of(&credentials, &form, authorization).is_some()
    };
    assert!(attempt(&[b"Basic YTpi"], ""));
    assert!(attempt(&[], "client_id=a&client_secret=b"));
    assert!(!attempt(&[], "client_id=a"));
    // `a:`, and `%61:b`.
    assert!(!attempt(&[b"Basic YTo="], ""));
    assert!(!attempt(&[b"Basic JTYxOmI="], ""));
    assert!(attempt(&[b"Basic JTYxOmI="], "client_id=a"));
}
