//! Applications whose secret the identity provider knows: who is let in, on whose word, and what is
//! sent there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::inquiry_support::{
    CALLER_UNPROVEN, INTROSPECT, ITS_INACTIVE, ITS_REFUSAL, Idp, REVOKE, Says, assert_ours,
    assert_unavailable, basic, claims, credentials, its_secret, our_secret, parameters,
};
use crate::support::{
    Cambio, Connection, Recorded, Response, Upstream, folder, get, install_crypto, post, response,
    write_private,
};

const OURS: &str = "https://idp.example/oauth2/token";

/// An issuer, an identity provider that knows its clients, and Cambio, which does not.
struct Estate {
    issuer: StandInIssuer,
    idp: Idp,
    cambio: Cambio,
}

/// `svc1`, and all others.
const ANY: &str =
    "  - { client_id: svc1, authentication: upstream, audiences: [https://api.example.com] }
  - name: all others
    client_id: \"*\"
    authentication: upstream
    allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\", refresh_token]
";

fn lines(issuer: &StandInIssuer, applications: &str) -> String {
    format!(
        "trusted_token_issuers:
  - {{ name: partner, issuer: \"{}\", jwks: {{ file: partner.json }} }}
applications:
  - client_id: portal
    type: traditional_web
    client_secret: {{ file: portal }}
    allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]
{applications}",
        issuer.issuer()
    )
}

/// A subject token of the trusted issuer.
fn subject_token(issuer: &StandInIssuer) -> String {
    let claims = issuer.claims("alice", OURS, clock::now().as_secs());
    issuer.mint(Algorithm::ES256, &claims).unwrap()
}

fn exchange_body(issuer: &StandInIssuer) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token", &subject_token(issuer))
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .finish()
}

async fn cambio(issuer: &StandInIssuer, upstream: &str, more: &str) -> Cambio {
    let folder = folder();
    write_private(&folder.path().join("portal"), &our_secret("portal"));
    write_private(&folder.path().join("partner.json"), &issuer.jwks().to_string());
    Cambio::start_in(folder, upstream, &lines(issuer, more)).await
}

async fn stand_in_issuer() -> StandInIssuer {
    install_crypto();
    StandInIssuer::start(&[Algorithm::ES256]).await.unwrap()
}

impl Estate {
    async fn start() -> Self {
        Self::with(ANY).await
    }

    async fn with(more: &str) -> Self {
        let issuer = stand_in_issuer().await;
        let idp = Idp::start().await;
        let cambio = cambio(&issuer, &idp.upstream.url(), more).await;
        Self { issuer, idp, cambio }
    }

    /// An exchange with these header fields and further parameters.
    async fn exchange(&self, fields: &str, more: &str) -> Response {
        let body = format!("{}{more}", exchange_body(&self.issuer));
        self.cambio.request(post("/oauth2/token", fields, &body)).await
    }

    /// With this secret at the identity provider.
    async fn exchange_as(&self, client_id: &str, secret: &str) -> Response {
        self.exchange(&basic(client_id, secret), "").await
    }

    /// How many exchanges were refused so.
    async fn refused(&self, outcome: &str, reason: &str) -> u64 {
        let series = format!(
            "cambio_exchanges_total{{issuer=\"unknown\",outcome=\"{outcome}\",reason=\"{reason}\"}}"
        );
        self.metric(&series).await
    }

    async fn metric(&self, series: &str) -> u64 {
        let text = shown(&self.cambio, "/metrics").await;
        let text = String::from_utf8(text.body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }

    async fn probes(&self, outcome: &str) -> u64 {
        self.metric(&format!("cambio_client_probes_total{{outcome=\"{outcome}\"}}")).await
    }
}

async fn shown(cambio: &Cambio, path: &str) -> Response {
    Connection::open(cambio.running.admin_address()).await.request(get(path, "")).await
}

/// What the identity provider was asked in the name of this client.
fn asked(upstream: &Upstream, client_id: &str) -> Vec<Recorded> {
    let is_of = |one: &Recorded| credentials(one).is_some_and(|(id, _)| id == client_id);
    upstream.requests().into_iter().filter(is_of).collect()
}

/// How often it was asked about a client. Its documents are fetched now and then, too, and at the start
/// it is asked about somebody whom nobody has registered.
fn asked_about_anybody(upstream: &Upstream) -> usize {
    let is_known = |one: &Recorded| credentials(one).is_none_or(|(id, _)| id.len() < 43);
    let requests = upstream.requests();
    requests.iter().filter(|one| one.method() == "POST" && is_known(one)).count()
}

#[track_caller]
fn granted(response: &Response) -> Value {
    assert_ours(response, 200);
    claims(response.json()["access_token"].as_str().unwrap())
}

#[track_caller]
fn assert_failed(response: &Response) {
    assert_ours(response, 401);
    assert_eq!(response.json()["error"], "invalid_client");
    assert!(response.header("www-authenticate").is_some());
}

#[track_caller]
fn assert_throttled(response: &Response) {
    assert_ours(response, 429);
    assert_eq!(response.json()["error"], "invalid_client");
    assert_eq!(response.header("retry-after"), Some("60"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_right_at_the_identity_provider_is_let_in() {
    let estate = Estate::start().await;
    let claims = granted(&estate.exchange_as("svc1", &its_secret("svc1")).await);
    assert_eq!(
        (&claims["client_id"], &claims["aud"]),
        (&"svc1".into(), &"https://api.example.com".into())
    );
    // Any other client is named by its own id, and its own id is what its tokens are meant for.
    let posted = format!("&client_id=svc9&client_secret={}", its_secret("svc9"));
    let claims = granted(&estate.exchange("", &posted).await);
    assert_eq!((&claims["client_id"], &claims["aud"]), (&"svc9".into(), &"svc9".into()));
    assert_eq!(claims["sub"], "alice");
    for name in ["svc1", "all others"] {
        let series =
            format!("cambio_exchanges_by_client_total{{client=\"{name}\",outcome=\"granted\"}}");
        assert_eq!(estate.metric(&series).await, 1, "{name}");
    }
    // In the metrics nobody is called by an id that a request has brought.
    assert!(!shown(&estate.cambio, "/metrics").await.text().contains("svc9"));

    assert_failed(&estate.exchange_as("svc1", "wrong").await);
    assert_failed(&estate.exchange_as("svc9", &its_secret("svc1")).await);
    assert_eq!(estate.refused("denied", "client_secret_wrong").await, 2);
    for more in ["&client_id=svc1", "&client_id=svc9", "&client_id=svc1&client_secret="] {
        assert_failed(&estate.exchange("", more).await);
    }
    assert_eq!(estate.refused("denied", "client_auth_missing").await, 3);
    assert_eq!((estate.probes("accepted").await, estate.probes("rejected").await), (2, 2));
    // Those whose secret is ours are not the identity provider's to vouch for.
    let before = asked(&estate.idp.upstream, "portal").len();
    assert_failed(&estate.exchange_as("portal", &its_secret("portal")).await);
    granted(&estate.exchange_as("portal", &our_secret("portal")).await);
    assert_eq!(asked(&estate.idp.upstream, "portal").len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_a_stranger_is_unknown_and_not_asked_about() {
    let estate = Estate::with("  - { client_id: svc1, authentication: upstream }\n").await;
    assert_failed(&estate.exchange_as("svc9", &its_secret("svc9")).await);
    assert_eq!(estate.refused("denied", "client_unknown").await, 1);
    assert_eq!(asked(&estate.idp.upstream, "svc9").len(), 0);
    granted(&estate.exchange_as("svc1", &its_secret("svc1")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_a_random_token_are_all_that_is_sent() {
    let estate = Estate::start().await;
    let secret = its_secret("svc1");
    let more = "Cookie: a=b\r\nX-Mine: 1\r\nUser-Agent: someone\r\nDPoP: x\r\n";
    let by_post = format!("&x=1&client_id=svc1&client_secret={secret}");
    // Of every subject token here; what is random begins like any JWT now and then.
    let token = subject_token(&estate.issuer);
    let (token_header, _) = token.split_once('.').unwrap();
    for (fields, body) in
        [(format!("{}{more}", basic("svc1", &secret)), ""), (more.to_owned(), &by_post)]
    {
        let before = estate.idp.upstream.requests().len();
        granted(&estate.exchange(&fields, body).await);
        let sent = estate.idp.upstream.requests().split_off(before);
        assert!(!sent.is_empty());
        for request in sent {
            assert_eq!(request.method(), "POST");
            // At the other endpoint none but somebody unknown.
            let is_own = credentials(&request).unwrap().0 == "svc1";
            assert!(request.target() == INTROSPECT || request.target() == REVOKE && !is_own);
            let raw = String::from_utf8(request.raw.clone()).unwrap();
            let texts = ["subject_token", "token-exchange", "x=1", "someone", "audience"];
            for text in texts.into_iter().chain([token_header]) {
                assert!(!raw.contains(text), "{text} in {raw}");
            }
            for name in ["cookie", "x-mine", "dpop", "x-forwarded-for"] {
                assert_eq!(request.header(name), None, "{name}");
            }
            let mut names: Vec<_> = parameters(&request.body).into_keys().collect();
            names.sort();
            let expected: &[&str] = match request.header("authorization") {
                Some(_) => &["token"],
                None => &["client_id", "client_secret", "token"],
            };
            assert_eq!(names, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_the_identity_provider_answers_is_no_yes() {
    let json = ("Content-Type", "application/json");
    let html = ("Content-Type", "text/html");
    let big = vec![b' '; 1024 * 1024 + 1];
    let answers: [(Vec<u8>, bool); 18] = [
        (response("401 Unauthorized", &[json], ITS_REFUSAL), true),
        (response("400 Bad Request", &[json], ITS_REFUSAL), true),
        (response("400 Bad Request", &[json], ITS_INACTIVE), true),
        (response("403 Forbidden", &[], b""), true),
        (response("403 Forbidden", &[json], ITS_INACTIVE), true),
        (response("200 OK", &[html], b"<form action=/login>"), false),
        (response("200 OK", &[html], b""), false),
        (response("200 OK", &[json], b"{}"), false),
        (response("200 OK", &[json], br#"{"active":false,"error":"invalid_client"}"#), false),
        (response("200 OK", &[json], br#"{"error":"invalid_client"}"#), false),
        (response("200 OK", &[json], &big), false),
        (response("204 No Content", &[json], b""), false),
        (response("302 Found", &[("Location", "/yes")], b""), false),
        (response("307 Temporary Redirect", &[("Location", "/yes")], ITS_INACTIVE), false),
        (response("429 Too Many Requests", &[json], ITS_INACTIVE), false),
        (response("500 Internal Server Error", &[json], ITS_INACTIVE), false),
        // It hangs in the middle, and it goes away.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"active\":false}".to_vec(), false),
        (Vec::new(), false),
    ];
    let estate = Estate::start().await;
    granted(&estate.exchange_as("svc1", &its_secret("svc1")).await);
    for (number, (answer, is_no)) in answers.into_iter().enumerate() {
        let client_id = format!("svc-{number}");
        let told = answer.escape_ascii().to_string().chars().take(200).collect::<String>();
        let right = response("200 OK", &[json], ITS_INACTIVE);
        estate.idp.says(Says::Secrets { right: right.clone(), wrong: answer.clone() });
        let wrong = estate.exchange_as(&client_id, "wrong").await;
        if is_no {
            assert_failed(&wrong);
        } else {
            assert_unavailable(&wrong, CALLER_UNPROVEN);
        }
        // Nor is a right secret that is answered so.
        estate.idp.says(Says::Secrets { right: answer, wrong: right });
        let right = estate.exchange_as(&client_id, &its_secret(&client_id)).await;
        assert!(matches!(right.status, 401 | 503), "{told}: {}", right.status);
        assert!(right.json()["access_token"].is_null(), "{told}");
        assert_eq!(estate.probes("accepted").await, 1, "{told}");
    }
    estate.idp.says(Says::Usual);
    granted(&estate.exchange_as("svc-0", &its_secret("svc-0")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_is_one_attempt() {
    let estate = Arc::new(Estate::start().await);
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let estate = Arc::clone(&estate);
        callers.spawn(async move { estate.exchange_as("svc1", &its_secret("svc1")).await });
    }
    for response in callers.join_all().await {
        granted(&response);
    }
    let secrets: Vec<_> =
        asked(&estate.idp.upstream, "svc1").iter().map(|one| credentials(one).unwrap().1).collect();
    // The right one, and then a wrong one.
    assert_eq!(secrets.len(), 2);
    assert_eq!(secrets[0], its_secret("svc1"));
    assert_ne!(secrets[1], its_secret("svc1"));
    // Before them, somebody unknown at each endpoint.
    let all = estate.idp.upstream.requests();
    assert!(all.len() <= 4, "{}", all.len());
    assert!(credentials(&all[0]).unwrap().0.len() >= 43);
}

/// The header section of a request.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// However little may go on at a time: who waits for its word takes nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_hangs_those_whom_it_does_not_vouch_for_are_let_in() {
    let issuer = stand_in_issuer().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", silent.local_addr().unwrap());
    let cambio = cambio(&issuer, &upstream, &format!("{ANY}limits: {{ requests: 1 }}\n")).await;
    let of = |client_id: &str, secret: &str| {
        post("/oauth2/token", &basic(client_id, secret), &exchange_body(&issuer))
    };
    let mut waiting = cambio.connect().await;
    waiting.send(of("svc1", &its_secret("svc1"))).await;
    // About somebody unknown it is asked at the start, and answers. It hangs once it is asked about the
    // caller: what that one took up before, it has given back by then.
    let about_the_caller = basic("svc1", &its_secret("svc1")).to_lowercase();
    let refusal = response("401 Unauthorized", &[("Connection", "close")], ITS_REFUSAL);
    let mut asked = Vec::new();
    loop {
        let (mut stream, _) = silent.accept().await.unwrap();
        let head = head(&mut stream).await;
        if head.to_lowercase().contains(about_the_caller.trim_end()) {
            asked.push(stream);
            break;
        }
        if head.starts_with("POST") {
            stream.write_all(&refusal).await.unwrap();
        }
        asked.push(stream);
    }
    cambio.is_open_for(of("portal", &our_secret("portal"))).await;
    drop((asked, silent));
    assert_unavailable(&waiting.receive_to("POST").await.unwrap(), CALLER_UNPROVEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_down_those_who_are_known_are_let_in() {
    let estate = Estate::start().await;
    granted(&estate.exchange_as("svc1", &its_secret("svc1")).await);
    let down = response("503 Service Unavailable", &[], b"");
    for says in [down, Vec::new()] {
        estate.idp.says(Says::Secrets { right: says.clone(), wrong: says });
        granted(&estate.exchange_as("svc1", &its_secret("svc1")).await);
        for _ in 0..20 {
            let other = estate.exchange_as("svc9", &its_secret("svc9")).await;
            assert_unavailable(&other, CALLER_UNPROVEN);
        }
    }
    assert_eq!(estate.refused("failed", "upstream_unavailable").await, 40);
    // Nothing was learnt, so that nothing was counted against anybody.
    estate.idp.says(Says::Usual);
    granted(&estate.exchange_as("svc9", &its_secret("svc9")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_any_secret_is_not_used_and_the_operator_is_told() {
    let estate = Estate::with("").await;
    estate.idp.says(Says::Open);
    let lines = lines(&estate.issuer, ANY);
    estate.cambio.reload(&estate.idp.upstream.url(), &lines).await;
    for _ in 0..3 {
        let response = estate.exchange_as("svc1", &its_secret("svc1")).await;
        assert_unavailable(&response, CALLER_UNPROVEN);
    }
    assert_eq!(asked(&estate.idp.upstream, "svc1").len(), 0);
    assert_eq!(estate.probes("unclear").await, 3);
    let status = shown(&estate.cambio, "/status").await.json();
    let endpoint = |endpoint: &str, path: &str| serde_json::json!({"endpoint": endpoint, "path": path, "wrong_secret": "accepted"});
    let both = [endpoint("introspection", INTROSPECT), endpoint("revocation", REVOKE)];
    assert_eq!(status["client_authentication"], serde_json::json!(both));
    let ready = shown(&estate.cambio, "/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["degraded"][0]),
        (200, &"client_authentication".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_provider_that_fails_open_meanwhile_does_not_win() {
    let issuer = stand_in_issuer().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    // The first to ask at each endpoint are told no; from then on everybody is right.
    let upstream = Upstream::answering(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) < 2 {
            return response("401 Unauthorized", &[], ITS_REFUSAL);
        }
        response("200 OK", &[("Content-Type", "application/json")], ITS_INACTIVE)
    })
    .await;
    let cambio = cambio(&issuer, &upstream.url(), ANY).await;
    let status = async || shown(&cambio, "/status").await.json()["client_authentication"].clone();
    // It is tried before anybody needs it.
    let began = std::time::Instant::now();
    while status().await[1]["wrong_secret"] != "refused" {
        assert!(began.elapsed() < crate::support::PATIENCE, "it was never tried");
        tokio::task::yield_now().await;
    }
    let body = exchange_body(&issuer);
    for secret in ["wrong", &its_secret("svc1")] {
        let request = post("/oauth2/token", &basic("svc1", secret), &body);
        assert_unavailable(&cambio.request(request).await, CALLER_UNPROVEN);
    }
    assert_eq!(status().await[0]["wrong_secret"], "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_every_secret_is_right_is_nobody_and_takes_no_other_along() {
    let estate = Estate::start().await;
    estate.idp.says(Says::OpenTo("svc1"));
    for secret in ["wrong", &its_secret("svc1")] {
        assert_failed(&estate.exchange_as("svc1", secret).await);
    }
    granted(&estate.exchange_as("svc9", &its_secret("svc9")).await);
    assert_eq!((estate.probes("unclear").await, estate.probes("accepted").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_the_configuration_is_gone_whatever_is_remembered() {
    let estate = Estate::start().await;
    let url = estate.idp.upstream.url();
    let again = async || estate.exchange_as("svc1", &its_secret("svc1")).await;
    granted(&again().await);
    let sent = asked(&estate.idp.upstream, "svc1").len();
    // Another reload leaves what is known as it is.
    let others = format!("{ANY}  - {{ client_id: svc2, authentication: upstream }}\n");
    estate.cambio.reload(&url, &lines(&estate.issuer, &others)).await;
    granted(&again().await);
    assert_eq!(asked(&estate.idp.upstream, "svc1").len(), sent);
    estate.cambio.reload(&url, &lines(&estate.issuer, "")).await;
    assert_failed(&again().await);
    assert_eq!(estate.refused("denied", "client_unknown").await, 1);
    // Another identity provider has not vouched for anybody.
    let other = Idp::start().await;
    other.says(Says::Secrets {
        right: response("401 Unauthorized", &[], ITS_REFUSAL),
        wrong: response("401 Unauthorized", &[], ITS_REFUSAL),
    });
    estate.cambio.reload(&other.upstream.url(), &lines(&estate.issuer, ANY)).await;
    assert_failed(&again().await);
    assert_eq!(asked(&other.upstream, "svc1").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn their_refresh_tokens_are_their_own() {
    let estate = Estate::start().await;
    let first = estate.exchange_as("svc9", &its_secret("svc9")).await;
    let token = first.json()["refresh_token"].as_str().unwrap().to_owned();
    let refresh = async |client_id: &str, secret: &str, token: &str| {
        let body = format!("grant_type=refresh_token&refresh_token={token}");
        estate.cambio.request(post("/oauth2/token", &basic(client_id, secret), &body)).await
    };
    // Another client of the same application is another client.
    let other = refresh("svc8", &its_secret("svc8"), &token).await;
    assert_ours(&other, 400);
    assert_eq!(other.json()["error"], "invalid_grant");
    assert_failed(&refresh("svc9", "wrong", &token).await);
    let second = refresh("svc9", &its_secret("svc9"), &token).await;
    let claims = granted(&second);
    assert_eq!((&claims["client_id"], &claims["aud"]), (&"svc9".into(), &"svc9".into()));
    assert_ne!(second.json()["refresh_token"], token);
    // `svc1` has no such grant.
    let own = estate.exchange_as("svc1", &its_secret("svc1")).await;
    assert!(own.json()["refresh_token"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_can_be_read_in_two_ways_is_not_asked_about() {
    let estate = Estate::start().await;
    granted(&estate.exchange_as("svc1", &its_secret("svc1")).await);
    let sent = asked_about_anybody(&estate.idp.upstream);
    // This identity provider decodes nothing: it would vouch for each of them.
    for id in ["%73vc1", "SVC1", " svc1", "Portal", "%70ortal", "a+b"] {
        for more in ["", "&client_id=svc1", "&client_id=portal"] {
            let response = estate.exchange(&basic(id, &its_secret(id)), more).await;
            assert!(matches!(response.status, 400 | 401), "{id} {more}: {}", response.status);
            assert!(response.json()["access_token"].is_null());
        }
        let posted = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", id)
            .append_pair("client_secret", &its_secret(id))
            .finish();
        assert_failed(&estate.exchange("", &format!("&{posted}")).await);
    }
    assert_eq!(asked_about_anybody(&estate.idp.upstream), sent);
}

/// One request from another address of this machine.
async fn from(cambio: &Cambio, address: &str, request: Vec<u8>) -> Response {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(cambio.address()).await.unwrap();
    Connection::over(stream).request(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_limited_and_nobody_is_locked_out_by_anothers() {
    const LIMITS: &str =
        "limits: { failed_authentications: { per_client_and_address: 3, per_client: 5 } }\n";
    let estate = Estate::with(&format!("{ANY}{LIMITS}")).await;
    for (client_id, right) in [("svc1", its_secret("svc1")), ("portal", our_secret("portal"))] {
        let as_client = |secret: &str| {
            let body = exchange_body(&estate.issuer);
            post("/oauth2/token", &basic(client_id, secret), &body)
        };
        granted(&from(&estate.cambio, "127.0.0.3", as_client(&right)).await);
        for guess in ["a", "b", "c"] {
            assert_failed(&estate.exchange_as(client_id, guess).await);
        }
        let sent = asked_about_anybody(&estate.idp.upstream);
        for guess in ["a", "d", "e"] {
            assert_throttled(&estate.exchange_as(client_id, guess).await);
        }
        // Spelt otherwise it is the same client.
        let otherwise = estate.exchange(&basic(&client_id.to_uppercase(), "x"), "").await;
        assert_throttled(&otherwise);
        assert_eq!(asked_about_anybody(&estate.idp.upstream), sent);
        // Not even what is right is told from here, and where it was right it goes on.
        assert_throttled(&estate.exchange_as(client_id, &right).await);
        granted(&from(&estate.cambio, "127.0.0.3", as_client(&right)).await);
        // From elsewhere another guess may be made, and all together few.
        for guess in ["f", "g"] {
            assert_failed(&from(&estate.cambio, "127.0.0.2", as_client(guess)).await);
        }
        assert_throttled(&from(&estate.cambio, "127.0.0.2", as_client("h")).await);
        assert_throttled(&from(&estate.cambio, "127.0.0.4", as_client("h")).await);
        // What was right before is let through wherever nobody has guessed too often.
        granted(&from(&estate.cambio, "127.0.0.2", as_client(&right)).await);
        granted(&from(&estate.cambio, "127.0.0.4", as_client(&right)).await);
    }
    // Another client is unharmed. One that has never been right is answered as a guess is.
    granted(&estate.exchange_as("svc7", &its_secret("svc7")).await);
    for guess in ["a", "b", "c"] {
        assert_failed(&estate.exchange_as("svc9", guess).await);
    }
    for secret in ["d", &its_secret("svc9")] {
        assert_throttled(&estate.exchange_as("svc9", secret).await);
    }
    granted(
        &from(&estate.cambio, "127.0.0.2", {
            let body = exchange_body(&estate.issuer);
            post("/oauth2/token", &basic("svc9", &its_secret("svc9")), &body)
        })
        .await,
    );
    assert_eq!(estate.refused("denied", "client_throttled").await, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_at_once_are_no_more_than_few() {
    const LIMITS: &str = "limits: { failed_authentications: { per_client_and_address: 5 } }\n";
    let estate = Arc::new(Estate::with(&format!("{ANY}{LIMITS}")).await);
    for client_id in ["svc1", "portal"] {
        let mut guessers = JoinSet::new();
        for guess in 0..100 {
            let estate = Arc::clone(&estate);
            guessers.spawn(async move { estate.exchange_as(client_id, &guess.to_string()).await });
        }
        let answers = guessers.join_all().await;
        let looked_at = answers.iter().filter(|one| one.status == 401).count();
        assert!((5..=8).contains(&looked_at), "{client_id}: {looked_at}");
        assert!(answers.iter().all(|one| matches!(one.status, 401 | 429)));
    }
    assert!(asked(&estate.idp.upstream, "svc1").len() <= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_the_other_endpoints_count_as_well() {
    const LIMITS: &str = "limits: { failed_authentications: { per_client_and_address: 3 } }\n";
    let estate = Estate::with(&format!("{ANY}{LIMITS}")).await;
    let first = estate.exchange_as("svc9", &its_secret("svc9")).await;
    let token = first.json()["access_token"].as_str().unwrap().to_owned();
    // It looks at no JWT, so that we have it try the caller.
    estate.idp.says(Says::NoJwtsToAnybody);
    let introspect = async |client_id: &str, secret: &str| {
        let fields = basic(client_id, secret);
        estate.cambio.request(post(INTROSPECT, &fields, &format!("token={token}"))).await
    };
    for guess in 0..3 {
        assert_failed(&introspect("svc8", &guess.to_string()).await);
    }
    assert_throttled(&introspect("svc8", "x").await);
    assert_throttled(&introspect("svc8", &its_secret("svc8")).await);
    assert_throttled(&estate.exchange_as("svc8", "y").await);
    granted(&estate.exchange_as("svc9", &its_secret("svc9")).await);
    // It says 200 to whoever asks about a token of ours, so that we have it try the caller, too.
    estate.idp.says(Says::Exactly(response("200 OK", &[], ITS_INACTIVE)));
    for guess in 0..3 {
        assert_failed(&introspect("svc9", &guess.to_string()).await);
    }
    assert_throttled(&introspect("svc9", "x").await);
    assert_eq!(introspect("svc9", &its_secret("svc9")).await.json()["active"], true);
}
