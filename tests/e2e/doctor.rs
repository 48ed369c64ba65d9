//! `cambio doctor` as operators run it: an estate in order, and one thing after another out of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cambio::app::{App, Running};
use cambio::config;
use cambio::dev::idp::StandInIdp;
use cambio::dev::issuer::StandInIssuer;
use cambio::dev::loopback::Reservation;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use cambio::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::leap::leap;
use super::process::command;
use super::scan::{Kind, secrets_in};
use super::support::{Connection, Upstream, folder, get, response, write_private};

const SECRET: &str = "a-secret-of-the-portal";

/// A stand-in on each side, and Cambio between them.
struct Estate {
    folder: TempDir,
    clients: Reservation,
    operators: Reservation,
    idp: StandInIdp,
    partner: StandInIssuer,
    running: Option<Running>,
}

impl Estate {
    /// Everything is there, but Cambio does not run yet.
    async fn new() -> Self {
        let folder = folder();
        let (clients, operators) = (Reservation::make().unwrap(), Reservation::make().unwrap());
        let idp = StandInIdp::start(Some(format!("http://{}", clients.address()))).await.unwrap();
        let partner = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
        let estate = Self { folder, clients, operators, idp, partner, running: None };
        write_private(&estate.folder.path().join("portal.secret"), SECRET);
        estate.write(|text| text);
        estate
    }

    /// In order, and running.
    async fn healthy() -> Self {
        let mut estate = Self::new().await;
        estate.run().await;
        estate
    }

    async fn run(&mut self) {
        let (config, _) = config::load(&self.folder.path().join("cambio.yaml")).unwrap();
        self.running = Some(App::start(config, Arc::new(Metrics::new())).await.unwrap());
        // Its keys are fetched in the background.
        loop {
            let status = Connection::open(self.operators.address())
                .await
                .request(get("/status", ""))
                .await
                .json();
            let issuers = status["trusted_token_issuers"].as_array().unwrap().clone();
            if issuers.iter().all(|issuer| issuer["state"] != "never_fetched") {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.clients.address())
    }

    fn write(&self, change: impl Fn(String) -> String) {
        let (clients, operators) = (self.clients.address(), self.operators.address());
        let (upstream, issuer) = (self.idp.origin(), self.issuer());
        let (partner, jwks) = (self.partner.issuer(), self.partner.jwks_url());
        let text = format!(
            "\
listen: [{{ address: {clients} }}]
admin: {{ address: {operators} }}
upstream: {{ url: {upstream} }}
authorization_server:
  issuer: {issuer}
  overlay: true
  endpoints:
    token: [/oauth2/token]
    jwks: /oauth2/jwks
    metadata: [/.well-known/openid-configuration, /.well-known/oauth-authorization-server]
    introspection: /oauth2/introspect
    revocation: /oauth2/revoke
signing_keys: [{{ algorithm: ES256, private_key: {{ file: signing.pem }} }}]
trusted_token_issuers:
  - {{ name: partner, issuer: {partner}, jwks_endpoint: {jwks} }}
applications:
  - client_id: portal
    client_secret: {{ file: portal.secret }}
    type: traditional_web
    allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange]
"
        );
        std::fs::write(self.folder.path().join("cambio.yaml"), change(text)).unwrap();
    }

    async fn examine(&self) -> Report {
        examine(self.folder.path()).await
    }

    fn kid(&self) -> String {
        let pem = std::fs::read(self.folder.path().join("signing.pem")).unwrap();
        SigningKey::from_pkcs8_pem(&pem, Algorithm::ES256, None, None).unwrap().kid().to_owned()
    }
}

struct Report {
    code: Option<i32>,
    findings: Vec<Value>,
}

async fn run(folder: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["doctor", "--config", "cambio.yaml"], more].concat();
    let mut command = command(folder, &arguments);
    command.current_dir(folder).stdout(std::process::Stdio::piped());
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn examine(folder: &Path) -> Report {
    let (code, out, told) = run(folder, &["--format", "json"]).await;
    assert!(!out.contains(SECRET) && !told.contains(SECRET), "{out}{told}");
    for line in out.lines().chain(told.lines()) {
        assert!(!secrets_in(line).contains(&Kind::Jwt), "{line}");
    }
    let report: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{told}"));
    let findings = report["findings"].as_array().unwrap().clone();
    let faults = findings.iter().filter(|finding| finding["level"] == "fault").count();
    assert_eq!(report["faults"], faults);
    assert_eq!(code, Some(i32::from(faults > 0)), "{findings:#?}");
    for finding in &findings {
        let advice = finding["advice"].as_str().unwrap();
        assert_eq!(advice.is_empty(), finding["level"] == "ok", "{finding}");
    }
    Report { code, findings }
}

impl Report {
    /// What is not in order, of those checks that are not expected to find something.
    #[track_caller]
    fn has_no_other(&self, expected: &[&str]) {
        let other: Vec<_> = (self.findings.iter())
            .filter(|finding| finding["level"] != "ok")
            .filter(|finding| !expected.contains(&finding["check"].as_str().unwrap()))
            .collect();
        assert!(other.is_empty(), "{other:#?}");
    }

    #[track_caller]
    fn has(&self, level: &str, check: &str, about: &str, seen: &str) {
        let found = self.findings.iter().any(|finding| {
            finding["level"] == level
                && finding["check"] == check
                && finding["about"].as_str().unwrap().contains(about)
                && finding["seen"].as_str().unwrap().contains(seen)
        });
        assert!(found, "{level} {check} {about}: {seen}\n{:#?}", self.findings);
    }
}

/// An identity provider that has an issuer, these keys, and says this of callers.
async fn raw_idp(issuer: &str, keys: Value, inquiry: &'static str, date: &'static str) -> Upstream {
    let metadata = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "jwks_uri": format!("{issuer}/oauth2/jwks"),
        "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
    });
    Upstream::answering(move |request| {
        let document = |value: &Value| {
            let mut fields = vec![("Content-Type", "application/json")];
            if !date.is_empty() {
                fields.push(("Date", date));
            }
            response("200 OK", &fields, value.to_string().as_bytes())
        };
        match request.target() {
            "/oauth2/jwks" => document(&keys),
            "/oauth2/introspect" | "/oauth2/revoke" => {
                response(inquiry, &[], b"{\"active\":false}")
            }
            path if path.starts_with("/.well-known/") => document(&metadata),
            _ => response("404 Not Found", &[], b""),
        }
    })
    .await
}

/// The keys of somebody, one of which has this name.
fn keys(kid: &str) -> Value {
    let pem = generate_pem(Algorithm::ES256).unwrap();
    let kid = (!kid.is_empty()).then(|| kid.to_owned());
    let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, kid, None).unwrap();
    json!({ "keys": [key.jwk()] })
}

#[tokio::test]
async fn an_estate_in_order_has_nothing_but_good_findings() {
    let estate = Estate::healthy().await;
    let report = estate.examine().await;
    report.has_no_other(&[]);
    assert_eq!(report.code, Some(0));
    let idp = estate.idp.origin();
    for (check, about, seen) in [
        ("upstream", &*idp, "answers in "),
        ("admin", &estate.operators.address().to_string(), "is ready"),
        ("listener", &estate.clients.address().to_string(), "answers by http"),
        (
            "metadata",
            "/.well-known/openid-configuration",
            "has our issuer and the token-exchange grant",
        ),
        ("metadata", "/.well-known/oauth-authorization-server", "has our issuer"),
        ("keys", "/oauth2/jwks", "the identity provider's 1 first, then ours: 2 in all"),
        ("token", &estate.kid(), "a freshly minted token verifies"),
        ("signing_key", &estate.kid(), "ES256, signs"),
        ("wrong_secret", "/oauth2/introspect", "is refused"),
        ("wrong_secret", "/oauth2/revoke", "is refused"),
        ("issuer", "partner", "1 usable keys at "),
        ("issuer_as_served", "partner", "Cambio has 1 keys, "),
        ("clock", "issuer partner", "agrees with ours"),
        ("clock", "upstream", "agrees with ours"),
        ("store", "", "answers the Cambio that runs"),
        ("store", "", "is held by the Cambio that runs"),
    ] {
        report.has("ok", check, about, seen);
    }
    let (code, out, _) = run(estate.folder.path(), &[]).await;
    assert_eq!(code, Some(0));
    assert!(out.starts_with("ok       upstream http://127.0.0.1:"), "{out}");
    assert!(out.ends_with(" findings: 0 faults, 0 warnings\n"), "{out}");
}

#[tokio::test]
async fn where_cambio_does_not_run_that_is_said_and_the_rest_is_asked() {
    let estate = Estate::new().await;
    let report = estate.examine().await;
    report.has("fault", "listener", "127.0.0.1", "nobody answers there: no connection");
    report.has("fault", "admin", "127.0.0.1", "does not say how Cambio is: no connection");
    report.has_no_other(&["listener", "admin"]);
    report.has("ok", "upstream", "", "answers in ");
    report.has("ok", "issuer", "partner", "1 usable keys");
    report.has("ok", "store", "", "does not exist yet");
    assert!(!estate.folder.path().join("state").exists());
    let (code, out, _) = run(estate.folder.path(), &[]).await;
    assert_eq!(code, Some(1));
    assert!(out.contains("\n         -> start it with `cambio serve --config FILE`"), "{out}");
}

#[tokio::test]
async fn a_bad_configuration_is_told_and_nobody_is_asked() {
    let estate = Estate::new().await;
    estate.write(|text| text.replace("overlay: true", "overlay: maybe"));
    let (code, out, told) = run(estate.folder.path(), &[]).await;
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(told.contains("authorization_server.overlay"), "{told}");
    assert!(estate.idp.received().is_empty());
}

#[tokio::test]
async fn an_upstream_that_is_down_is_told_apart_from_cambio() {
    let estate = Estate::healthy().await;
    estate.idp.go_down().await.unwrap();
    let report = estate.examine().await;
    report.has("fault", "upstream", &estate.idp.origin(), "can't be used: no connection");
    report.has("warning", "wrong_secret", "/oauth2/introspect", "it can't be told");
    report.has("ok", "listener", "", "answers by http");
    report.has("ok", "issuer", "partner", "1 usable keys");
}

#[tokio::test]
async fn another_issuer_than_the_identity_providers_is_a_fault_of_the_configuration() {
    let mut estate = Estate::new().await;
    estate.write(|text| text.replace("overlay: true", "overlay: true\n  unknown_issuers: reject"));
    let idp = raw_idp("https://other.example", keys(""), "401 Unauthorized", "").await;
    let origin = estate.idp.origin();
    estate.write(|text| text.replace(&origin, &idp.url()));
    estate.run().await;
    let report = estate.examine().await;
    let said =
        "the metadata say that the issuer is https://other.example, and minted tokens that it is";
    report.has("fault", "metadata", "/.well-known/openid-configuration", said);
    report.has("ok", "token", "", "a freshly minted token verifies");
}

#[tokio::test]
async fn a_key_that_is_not_published_is_found_with_the_token_that_does_not_verify() {
    let estate = Estate::healthy().await;
    // The key was changed, and what runs does not know it yet.
    write_private(
        &estate.folder.path().join("signing.pem"),
        &generate_pem(Algorithm::ES256).unwrap(),
    );
    let report = estate.examine().await;
    let kid = estate.kid();
    report.has("fault", "keys", "/oauth2/jwks", &format!("the public half of {kid} is missing"));
    report.has("fault", "token", &kid, "no key of the issuer fits the token");
    report.has("fault", "configuration", "", "another configuration serves");
    report.has_no_other(&["keys", "token", "configuration"]);
}

#[tokio::test]
async fn a_kid_that_both_have_is_found_on_the_identity_providers_side() {
    let mut estate = Estate::new().await;
    let kid = estate.kid();
    let idp = raw_idp(&estate.issuer(), keys(&kid), "401 Unauthorized", "").await;
    let origin = estate.idp.origin();
    estate.write(|text| text.replace(&origin, &idp.url()));
    estate.run().await;
    let report = estate.examine().await;
    let said = format!("the identity provider publishes another key as {kid}");
    report.has("fault", "keys", "/oauth2/jwks", &said);
    report.has("fault", "token", &kid, "the signature does not hold");
}

#[tokio::test]
async fn an_identity_provider_that_refuses_nobody_is_found_out() {
    let mut estate = Estate::new().await;
    let idp = raw_idp(&estate.issuer(), keys(""), "200 OK", "").await;
    let origin = estate.idp.origin();
    estate.write(|text| text.replace(&origin, &idp.url()));
    estate.run().await;
    let report = estate.examine().await;
    report.has(
        "warning",
        "wrong_secret",
        "/oauth2/introspect",
        "a wrong secret is taken for right",
    );
    report.has_no_other(&["wrong_secret"]);
    // An application rests on it.
    let vouched = "applications:\n  - { client_id: svc1, authentication: upstream }\n";
    estate.write(|text| text.replace(&origin, &idp.url()).replace("applications:\n", vouched));
    let report = estate.examine().await;
    report.has("fault", "wrong_secret", "/oauth2/introspect", "a wrong secret is taken for right");
    // Where there is no such endpoint, the path is wrong.
    let none = raw_idp(&estate.issuer(), keys(""), "404 Not Found", "").await;
    estate.write(|text| text.replace(&origin, &none.url()));
    let report = estate.examine().await;
    report.has("fault", "wrong_secret", "/oauth2/revoke", "has no such endpoint");
}

#[tokio::test]
async fn an_issuer_that_is_down_is_found_before_and_after_its_keys_are_old() {
    let estate = Estate::healthy().await;
    estate.partner.go_down().await.unwrap();
    let report = estate.examine().await;
    report.has("fault", "issuer", "partner", "its keys can't be had: no connection");
    report.has("ok", "issuer_as_served", "partner", "Cambio has 1 keys, ");
    report.has_no_other(&["issuer"]);
    leap(Duration::from_secs(1800)).await;
    loop {
        let mut connection = Connection::open(estate.operators.address()).await;
        let status = connection.request(get("/status", "")).await.json();
        if status["trusted_token_issuers"][0]["state"] == "stale" {
            break;
        }
        tokio::task::yield_now().await;
    }
    let report = estate.examine().await;
    report.has("warning", "issuer_as_served", "partner", "Cambio serves on with keys that are ");
}

#[tokio::test]
async fn an_issuer_without_a_usable_key_is_found_with_the_reason() {
    for (document, level, said) in [
        (
            json!({"keys": []}),
            "fault",
            "its keys can't be had: the set has no key that could verify",
        ),
        (json!({"keys": "x"}), "fault", "its keys can't be had: the document is not a JWK Set"),
        (
            json!({"keys": [keys("")["keys"][0], {"kty": "oct", "k": "AA"}]}),
            "fault",
            "keys[1] is passed over: it has private or symmetric key material",
        ),
        (
            json!({"keys": [keys("")["keys"][0], {"kty": "EC", "crv": "secp256k1"}]}),
            "warning",
            "keys[1] is passed over: its `kty` or `crv` is not supported",
        ),
    ] {
        let mut estate = Estate::new().await;
        let issuer =
            Upstream::answering(move |_| response("200 OK", &[], document.to_string().as_bytes()))
                .await;
        let jwks = estate.partner.jwks_url();
        estate.write(|text| text.replace(&jwks, &issuer.url()));
        estate.run().await;
        let report = estate.examine().await;
        report.has(level, "issuer", "partner", said);
        report.has_no_other(&["issuer", "issuer_as_served"]);
    }
}

#[tokio::test]
async fn a_clock_that_is_five_minutes_off_is_told_with_its_way() {
    fn date(offset: i64) -> &'static str {
        let now = i64::try_from(cambio::clock::now().as_secs()).unwrap();
        let at = jiff::Timestamp::from_second(now + offset).unwrap();
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
        text.unwrap().leak()
    }
    let mut estate = Estate::new().await;
    let (theirs, ahead) = (keys(""), date(300));
    let issuer = Upstream::answering(move |_| {
        response("200 OK", &[("Date", ahead)], theirs.to_string().as_bytes())
    })
    .await;
    let jwks = estate.partner.jwks_url();
    estate.write(|text| text.replace(&jwks, &issuer.url()));
    estate.run().await;
    let report = estate.examine().await;
    report.has(
        "warning",
        "clock",
        "issuer partner",
        " s ahead of ours: its fresh tokens are refused",
    );
    report.has_no_other(&["clock"]);
    assert_eq!(report.code, Some(0));

    let idp = raw_idp(&estate.issuer(), keys(""), "401 Unauthorized", date(-300)).await;
    let origin = estate.idp.origin();
    estate.write(|text| text.replace(&origin, &idp.url()));
    let report = estate.examine().await;
    report.has("warning", "clock", "upstream", " s behind ours");
    report.has("ok", "clock", "issuer partner", "agrees with ours");
}

/// A self-signed certificate that is valid up to so many days from now, and its key.
fn certificate(days: u64) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let end = cambio::clock::now().as_secs() + days * 86_400;
    let end = jiff::Timestamp::from_second(i64::try_from(end).unwrap()).unwrap();
    let end = end.to_zoned(jiff::tz::TimeZone::UTC).date();
    let (month, day) = (u8::try_from(end.month()).unwrap(), u8::try_from(end.day()).unwrap());
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(end.year().into(), month, day);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn with_tls(text: &str) -> String {
    let tls = "tls: { certificate: { file: tls.crt }, private_key: { file: tls.key } } }]\nadmin:";
    text.replacen(" }]\nadmin:", &format!(", {tls}"), 1)
}

fn write_certificate(folder: &Path, days: u64) {
    let (certificate, key) = certificate(days);
    write_private(&folder.join("tls.crt"), &certificate);
    write_private(&folder.join("tls.key"), &key);
}

#[tokio::test]
async fn a_listeners_certificate_is_the_configured_one_and_lasts() {
    let mut estate = Estate::new().await;
    let address = estate.clients.address().to_string();
    write_certificate(estate.folder.path(), 400);
    estate.write(|text| with_tls(&text));
    estate.run().await;
    let report = estate.examine().await;
    report.has("ok", "listener", &address, "answers by https");
    report.has("ok", "certificate", &address, "the listener's is valid until ");
    report.has("ok", "token", "", "a freshly minted token verifies");
    // On disk there is another one by now, which also ends soon.
    write_certificate(estate.folder.path(), 20);
    let report = estate.examine().await;
    report.has("fault", "listener", &address, "is not the configured one");
    report.has("warning", "certificate", &address, "the listener's expires at ");
    report.has_no_other(&["listener", "certificate"]);
}

#[tokio::test]
async fn a_store_that_cannot_be_had_is_a_fault() {
    let estate = Estate::new().await;
    let nobody = Reservation::make().unwrap();
    let redis = format!("store: {{ redis: {{ url: \"redis://{}\" }} }}\n", nobody.address());
    estate.write(|text| text + &redis);
    let report = estate.examine().await;
    report.has("fault", "store", "", "the store can't be reached");
    // Somebody else has the folder.
    let folder = estate.folder.path().join("state");
    let held = cambio::store::embedded::Embedded::open(&folder, Duration::ZERO).await.unwrap();
    estate.write(|text| text);
    let report = estate.examine().await;
    report.has("fault", "store", "", "another process holds it");
    cambio::store::Store::close(&held).await;
    let report = estate.examine().await;
    report.has("ok", "store", "", "can be opened, and answers");
}

#[tokio::test]
async fn a_partners_certificate_that_ends_soon_is_told_ahead() {
    for (days, level, said) in [
        (400, "ok", "1 keys in the configuration, certified until "),
        (20, "warning", "its certificate expires at "),
    ] {
        let estate = Estate::new().await;
        let (certificate, _) = certificate(days);
        write_private(&estate.folder.path().join("partner.pem"), &certificate);
        let jwks = format!("jwks_endpoint: {}", estate.partner.jwks_url());
        estate.write(|text| text.replace(&jwks, "certificate: { file: partner.pem }"));
        estate.examine().await.has(level, "issuer", "partner", said);
    }
}

#[tokio::test]
async fn an_issuer_is_discovered_as_it_is_when_serving() {
    let estate = Estate::new().await;
    let jwks = format!("jwks_endpoint: {}", estate.partner.jwks_url());
    estate.write(|text| text.replace(&jwks, "discovery: true"));
    estate.examine().await.has("ok", "issuer", "partner", "1 usable keys at ");
    // The metadata are where they should be, and are not to the byte of this one.
    let partner = estate.partner.issuer();
    estate.write(|text| {
        text.replace(&jwks, "discovery: true")
            .replace(&format!("issuer: {partner},"), &format!("issuer: {partner}/,"))
    });
    let report = estate.examine().await;
    report.has("fault", "issuer", "partner", "the metadata names another issuer");
}
