//! Exchanges on real sockets: an issuer that serves its keys, Cambio, and an upstream behind it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::scan::{Kind, secrets_in};
use crate::support::{
    Cambio, Connection, Response, Upstream, get, install_crypto, post, write_private,
};

const OURS: &str = "https://idp.example/oauth2/token";
const ALIAS: &str = "https://partner.example/our-name";
const SECRET: &str = "portal-secret-of-many-bytes";
/// What the stand-in signs with.
const SIGNED: [Algorithm; 7] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::EdDSA,
];

/// An issuer, an upstream, and Cambio between them.
struct Estate {
    issuer: StandInIssuer,
    upstream: Upstream,
    cambio: Cambio,
}

impl Estate {
    async fn start() -> Self {
        Self::with("").await
    }

    /// `more` stands at the end of the application's entry.
    async fn with(more: &str) -> Self {
        install_crypto();
        let issuer = StandInIssuer::start(&SIGNED).await.unwrap();
        let upstream = Upstream::start().await;
        let cambio = Cambio::start(&upstream.url(), &Self::lines(&issuer, more)).await;
        Self { issuer, upstream, cambio }
    }

    fn lines(issuer: &StandInIssuer, more: &str) -> String {
        let algorithms: Vec<&str> = SIGNED.iter().map(|one| one.as_str()).collect();
        format!(
            r#"
trusted_token_issuers:
  - name: partner
    issuer: {issuer}
    alias: {ALIAS}
    jwks_endpoint: {jwks}
    algorithms: [{algorithms}]
    subject_prefix: "p:"
  - name: retired
    issuer: https://retired.example
    jwks_endpoint: {jwks}
    enabled: false
    subject_prefix: "r:"
applications:
  - name: Portal
    client_id: portal
    client_secret: {{ hash: "{hash}" }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange"]
    audiences: [https://api.example.com]
    scopes: [read, write]
{more}
"#,
            issuer = issuer.issuer(),
            jwks = issuer.jwks_url(),
            algorithms = algorithms.join(", "),
            hash = cambio::secret::hash(SECRET.as_bytes(), &[3; 16]).unwrap(),
        )
    }

    /// Claims that pass.
    fn claims(&self) -> Value {
        self.issuer.claims("alice", ALIAS, clock::now().as_secs())
    }

    fn token(&self) -> String {
        self.issuer.mint(Algorithm::ES256, &self.claims()).unwrap()
    }

    /// A token whose claims are changed.
    fn changed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.issuer.mint(Algorithm::ES256, &claims).unwrap()
    }

    async fn exchange(&self, token: &str) -> Response {
        self.cambio.request(exchange(token)).await
    }

    #[track_caller]
    fn assert_no_exchange_upstream(&self) {
        for request in self.upstream.requests() {
            let raw = String::from_utf8_lossy(&request.raw).into_owned();
            assert!(!raw.contains("token-exchange"), "{raw}");
            assert!(!secrets_in(&raw).contains(&Kind::Jwt), "{raw}");
        }
    }

    /// The value of every series of `/metrics`.
    async fn metrics(&self) -> HashMap<String, String> {
        let mut admin = Connection::open(self.cambio.running.admin_address()).await;
        let response = admin.request(get("/metrics", "")).await;
        let series = response.text().lines().filter(|line| !line.starts_with('#'));
        series
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{secret}")))
}

fn body(token: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("subject_token", token)
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .finish()
}

fn exchange(token: &str) -> Vec<u8> {
    post("/oauth2/token", &basic("portal", SECRET), &body(token))
}

fn decode(token: &str) -> (Value, Value) {
    let part = |index| {
        let encoded = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
    };
    (part(0), part(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_party_token_is_exchanged() {
    let estate = Estate::start().await;
    // A shell and a file leave a line end after the token.
    let response = estate.exchange(&format!("{}\n", estate.token())).await;
    assert_eq!(response.status, 200, "{}", response.text());
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    assert!(response.header("cambio-decision").is_some_and(|id| id.len() >= 16));
    let answer = response.json();
    let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "expires_in", "issued_token_type", "token_type"]);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let (header, claims) = decode(answer["access_token"].as_str().unwrap());
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(OURS), &json!("p:alice")));
    assert_eq!(
        (&claims["aud"], &claims["client_id"]),
        (&json!("https://api.example.com"), &json!("portal"))
    );
    let published = estate.cambio.request(get("/oauth2/jwks", "")).await.json();
    assert_eq!(published["keys"][0]["kid"], header["kid"]);
    estate.assert_no_exchange_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_each_algorithm_is_exchanged_on_one_connection() {
    let estate = Estate::start().await;
    let mut connection = estate.cambio.connect().await;
    for algorithm in SIGNED {
        let token = estate.issuer.mint(algorithm, &estate.claims()).unwrap();
        let response = connection.request(exchange(&token)).await;
        assert_eq!(response.status, 200, "{algorithm}: {}", response.text());
    }
    assert_eq!(estate.issuer.jwks_requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_refused_and_the_reason_is_counted() {
    let estate = Estate::start().await;
    let now = clock::now().as_secs();
    let stranger = StandInIssuer::start(&SIGNED).await.unwrap();
    let forged = stranger.mint(Algorithm::ES256, &estate.claims()).unwrap();
    let unsigned = format!(
        "{}.{}.AA",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(estate.claims().to_string())
    );
    let cases = [
        (forged, "partner", "key_unknown"),
        (unsigned, "partner", "algorithm_refused"),
        (estate.changed(|claims| claims["exp"] = json!(now - 60)), "partner", "expired"),
        (estate.changed(|claims| claims["nbf"] = json!(now + 600)), "partner", "not_yet_valid"),
        (
            estate.changed(|claims| claims["aud"] = json!("somebody")),
            "partner",
            "audience_mismatch",
        ),
        (estate.changed(|claims| claims["iss"] = json!("https://x")), "unknown", "issuer_unknown"),
        (
            estate.changed(|claims| claims["iss"] = json!("https://retired.example")),
            "retired",
            "issuer_disabled",
        ),
        (
            estate.changed(|claims| drop(claims.as_object_mut().unwrap().remove("sub"))),
            "partner",
            "subject_refused",
        ),
        ("opaque".to_owned(), "unknown", "token_malformed"),
    ];
    for (token, issuer, reason) in cases {
        let response = estate.exchange(&token).await;
        assert_eq!(
            (response.status, &response.json()["error"]),
            (400, &json!("invalid_request")),
            "{reason}"
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(response.header("cambio-decision").is_some());
        let series = format!(
            r#"cambio_exchanges_total{{issuer="{issuer}",outcome="denied",reason="{reason}"}}"#
        );
        assert_eq!(estate.metrics().await.get(&series).map(String::as_str), Some("1"), "{series}");
    }
    assert_eq!(estate.exchange(&estate.token()).await.status, 200);
    let metrics = estate.metrics().await;
    assert_eq!(
        metrics[r#"cambio_exchanges_total{issuer="partner",outcome="granted",reason="none"}"#],
        "1"
    );
    assert_eq!(
        metrics[r#"cambio_exchanges_by_client_total{client="Portal",outcome="granted"}"#],
        "1"
    );
    assert_eq!(
        metrics[r#"cambio_exchanges_by_client_total{client="Portal",outcome="denied"}"#],
        "9"
    );
    assert_eq!(metrics["cambio_exchange_duration_seconds_count"], "10");
    estate.assert_no_exchange_upstream();
}

/// RFC 8725 §3.10: `jku` and `x5u` lead nowhere, and the keys in `jwk` and `x5c` are nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_token_brings_or_names_are_never_fetched() {
    let estate = Estate::start().await;
    let attacker = StandInIssuer::start(&SIGNED).await.unwrap();
    let key = cambio::jwt::sign::generate_pem(Algorithm::ES256).unwrap();
    let key = cambio::jwt::sign::SigningKey::from_pkcs8_pem(
        key.as_bytes(),
        Algorithm::ES256,
        Some("attacker".to_owned()),
        None,
    )
    .unwrap();
    let url = attacker.jwks_url();
    for (name, value) in [
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("jwk", json!(key.jwk())),
        ("x5c", json!([STANDARD.encode("certificate")])),
        ("x5t#S256", json!("x")),
    ] {
        for kid in ["attacker", &url] {
            let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid, name: value});
            let signed = key.sign("JWT", &estate.claims()).unwrap();
            let (_, rest) = signed.split_once('.').unwrap();
            let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
            assert_eq!(estate.exchange(&token).await.status, 400, "{name}");
        }
    }
    assert_eq!(attacker.jwks_requests(), 0);
    assert_eq!(estate.exchange(&estate.token()).await.status, 200);
    let refused =
        r#"cambio_exchanges_total{issuer="partner",outcome="denied",reason="key_unknown"}"#;
    assert_eq!(estate.metrics().await[refused], "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_refused_alike_and_one_verdict_serves_many() {
    let estate = Estate::start().await;
    let token = estate.token();
    let call = |fields: String| post("/oauth2/token", &fields, &body(&token));
    let wrong = estate.cambio.request(call(basic("portal", "wrong"))).await;
    let unknown = estate.cambio.request(call(basic("nobody", "wrong"))).await;
    let missing = estate.cambio.request(call(String::new())).await;
    for response in [&wrong, &unknown, &missing] {
        assert_eq!(response.status, 401);
        assert_eq!(response.body, wrong.body);
        assert!(response.header("www-authenticate").unwrap().starts_with("Basic"));
    }
    assert_eq!(wrong.json()["error"], "invalid_client");
    let posted = format!("{}&client_id=portal&client_secret={SECRET}", body(&token));
    let response = estate.cambio.request(post("/oauth2/token", "", &posted)).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let both =
        estate.cambio.request(post("/oauth2/token", &basic("portal", SECRET), &posted)).await;
    assert_eq!((both.status, &both.json()["error"]), (400, &json!("invalid_request")));
    // An argon2 takes milliseconds; a hundred of them would take seconds.
    let mut connection = estate.cambio.connect().await;
    for _ in 0..100 {
        assert_eq!(connection.request(exchange(&token)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_requests_cause_one_fetch_and_an_outage_stops_nothing() {
    install_crypto();
    let issuer = StandInIssuer::start(&SIGNED).await.unwrap();
    let upstream = Upstream::start().await;
    // They are all there, and it is known who they are, before the issuer's keys may be fetched: a fetch
    // does not wait until so many have come.
    let lines = Estate::lines(&issuer, "");
    let off = lines.replacen("name: partner\n", "name: partner\n    enabled: false\n", 1);
    let cambio = Cambio::start(&upstream.url(), &off).await;
    let estate = Estate { issuer, upstream, cambio };
    let token = estate.token();
    let request = exchange(&token);
    assert_eq!(estate.cambio.request(&request).await.status, 400);
    assert_eq!(estate.issuer.jwks_requests(), 0);
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        waiting.push(estate.cambio.connect().await);
    }
    estate.issuer.hold();
    estate.cambio.reload(&estate.upstream.url(), &lines).await;
    // As many as surely come while it is waited for; `keys.rs` has a thousand that wait.
    let (early, late) = waiting.split_at_mut(200);
    for connection in early {
        connection.send(&request).await;
    }
    estate.issuer.release();
    for connection in late {
        connection.send(&request).await;
    }
    for mut connection in waiting {
        let response = connection.receive().await.unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert_eq!(estate.issuer.jwks_requests(), 1);
    estate.issuer.go_down().await.unwrap();
    for _ in 0..20 {
        assert_eq!(estate.exchange(&token).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_had_are_never_the_callers_fault() {
    let estate = Estate::start().await;
    let token = estate.token();
    // The first one has the keys before they can't be had any more.
    assert_eq!(estate.exchange(&token).await.status, 200);
    estate.issuer.serve_instead(Some("<html>".to_owned()));
    let cambio = Cambio::start(&estate.upstream.url(), &Estate::lines(&estate.issuer, "")).await;
    let response = cambio.request(exchange(&token)).await;
    assert_eq!(
        (response.status, &response.json()["error"]),
        (503, &json!("temporarily_unavailable"))
    );
    assert!(response.header("retry-after").is_some());
    assert_eq!(estate.exchange(&token).await.status, 200);
}

/// However little may go on at a time: who waits for another issuer's keys takes nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_hangs_takes_up_nobody_elses_place() {
    let estate = Estate::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!(
        "trusted_token_issuers:
  - {{ name: hanging, issuer: https://hanging.example, alias: {ALIAS}, \
           jwks_endpoint: \"http://{}/jwks\", subject_prefix: \"h:\" }}",
        silent.local_addr().unwrap()
    );
    let lines = Estate::lines(&estate.issuer, "limits: { requests: 1 }\n");
    let lines = lines.replacen("trusted_token_issuers:", &hanging, 1);
    let cambio = Cambio::start(&estate.upstream.url(), &lines).await;
    let (asked, _) = silent.accept().await.unwrap();
    assert_eq!(cambio.request(exchange(&estate.token())).await.status, 200);
    let of_hanging =
        exchange(&estate.changed(|claims| claims["iss"] = json!("https://hanging.example")));
    let mut waiting = cambio.connect().await;
    waiting.send(&of_hanging).await;
    cambio.is_open_for(exchange(&estate.token())).await;
    drop((asked, silent));
    let response = waiting.receive_to("POST").await.unwrap();
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.text().contains("temporarily_unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_or_issuer_that_is_taken_away_is_refused_from_the_next_request_on() {
    let estate = Estate::start().await;
    let mut connection = estate.cambio.connect().await;
    let token = estate.token();
    assert_eq!(connection.request(exchange(&token)).await.status, 200);
    let lines = Estate::lines(&estate.issuer, "");
    estate
        .cambio
        .reload(&estate.upstream.url(), &lines.replace("client_id: portal", "client_id: other"))
        .await;
    assert_eq!(connection.request(exchange(&token)).await.status, 401);
    // A verdict on the secret that was remembered says nothing of what the client may do now.
    let no_grant =
        lines.replace("urn:ietf:params:oauth:grant-type:token-exchange", "client_credentials");
    estate.cambio.reload(&estate.upstream.url(), &no_grant).await;
    let response = connection.request(exchange(&token)).await;
    assert_eq!((response.status, &response.json()["error"]), (400, &json!("unauthorized_client")));
    estate.cambio.reload(&estate.upstream.url(), &lines).await;
    assert_eq!(connection.request(exchange(&token)).await.status, 200);
    // What was fetched serves on.
    assert_eq!(estate.issuer.jwks_requests(), 1);
    let disabled =
        lines.replacen("subject_prefix: \"p:\"", "subject_prefix: \"p:\"\n    enabled: false", 1);
    estate.cambio.reload(&estate.upstream.url(), &disabled).await;
    assert_eq!(connection.request(exchange(&token)).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_of_unknown_issuers_go_upstream_where_that_is_wanted() {
    install_crypto();
    let issuer = StandInIssuer::start(&SIGNED).await.unwrap();
    let upstream = Upstream::start().await;
    let lines = format!(
        "authorization_server:\n  issuer: {OURS}\n  unknown_issuers: forward\n  endpoints: {{ token: [/oauth2/token] }}\n{}",
        Estate::lines(&issuer, "")
    );
    let cambio = Cambio::start(&upstream.url(), &lines).await;
    let foreign = exchange("an-opaque-token");
    assert_eq!(cambio.request(&foreign).await.text(), "ok");
    assert!(foreign.ends_with(&upstream.last().body) && !upstream.last().body.is_empty());
    let mut claims = issuer.claims("alice", ALIAS, clock::now().as_secs());
    let ours = issuer.mint(Algorithm::ES256, &claims).unwrap();
    assert!(cambio.request(exchange(&ours)).await.json().get("access_token").is_some());
    claims["aud"] = json!("somebody");
    let refused = issuer.mint(Algorithm::ES256, &claims).unwrap();
    assert_eq!(cambio.request(exchange(&refused)).await.status, 400);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_client_exchanges_by_name_and_certificates_serve_as_keys() {
    install_crypto();
    let upstream = Upstream::start().await;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["partner".to_owned()]).unwrap();
    let pem = certificate.self_signed(&pair).unwrap().pem();
    let indented = pem.replace('\n', "\n        ");
    let folder = crate::support::folder();
    write_private(&folder.path().join("partner.pem"), &pem);
    for source in [
        format!("certificate: {{ file: {} }}", folder.path().join("partner.pem").display()),
        format!("certificate:\n      pem: |\n        {indented}"),
    ] {
        let lines = format!(
            "trusted_token_issuers:\n  - name: partner\n    issuer: https://partner.example\n    {source}\n\
             applications:\n  - client_id: phone\n    type: mobile\n    \
             allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n"
        );
        let cambio = Cambio::start(&upstream.url(), &lines).await;
        let key = cambio::jwt::sign::SigningKey::from_pkcs8_pem(
            pair.serialize_pem().as_bytes(),
            Algorithm::ES256,
            None,
            None,
        )
        .unwrap();
        let now = clock::now().as_secs();
        let claims =
            json!({"iss": "https://partner.example", "sub": "bob", "aud": OURS, "exp": now + 60});
        let token = key.sign("JWT", &claims).unwrap();
        let named = format!("{}&client_id=phone", body(&token));
        let response = cambio.request(post("/oauth2/token", "", &named)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let (_, minted) = decode(response.json()["access_token"].as_str().unwrap());
        assert_eq!((&minted["sub"], &minted["aud"]), (&json!("bob"), &json!("phone")));
        let other = cambio::jwt::sign::generate_pem(Algorithm::ES256).unwrap();
        let other = cambio::jwt::sign::SigningKey::from_pkcs8_pem(
            other.as_bytes(),
            Algorithm::ES256,
            None,
            None,
        )
        .unwrap();
        let named = format!("{}&client_id=phone", body(&other.sign("JWT", &claims).unwrap()));
        assert_eq!(cambio.request(post("/oauth2/token", "", &named)).await.status, 400);
    }
}
