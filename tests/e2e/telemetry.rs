//! What audit events and logs say, and what they never do.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use cambio::config::{Endpoint, KeySource};
use cambio::exchange::client::ClientError;
use cambio::exchange::error::{Failure, Refusal};
use cambio::exchange::subject::SubjectTokenError;
use cambio::exchange::{MintedRecord, Record};
use cambio::jwt::verify::VerifyError;
use cambio::keys::{KeyRing, KeyState};
use cambio::telemetry::audit::{self, Asked};
use cambio::telemetry::log::{Format, LogError, dispatch};
use cambio::telemetry::metrics::Metrics;
use cambio::time::Timestamp;
use serde_json::{Value, json};
use tracing::dispatcher::{DefaultGuard, Dispatch, set_default};

use crate::issuer::{Issuer, status, whole};
use crate::leap::{leap, until};
use crate::metrics::series;
use crate::setting::{config_of, endpoint, issuer, jwks, key};
use crate::support::hear_libraries;

/// What is logged in this thread.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub fn capture(filter: &str, format: Format) -> (Self, DefaultGuard) {
        // While there is only one subscriber, tracing takes what a thread without one says of an
        // event for what all say. In a process that logs there is one for all threads.
        static SECOND: LazyLock<Dispatch> =
            LazyLock::new(|| dispatch("trace", Format::Json, io::sink).unwrap());
        hear_libraries();
        LazyLock::force(&SECOND);
        let lines = Self::default();
        let writer = lines.clone();
        let dispatch = dispatch(filter, format, move || writer.clone()).unwrap();
        (lines, set_default(&dispatch))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub fn events(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn granted() -> Record {
    Record {
        client: Some("Portal".into()),
        issuer: Some("partner".into()),
        subject: Some("alice@example.org".to_owned()),
        subject_jwt_id: Some("theirs".to_owned()),
        minted: Some(MintedRecord {
            jwt_id: "ours".to_owned(),
            audiences: vec!["https://a.example".to_owned(), "https://b.example".to_owned()],
            scope: Some("read write".to_owned()),
            expires_at: Timestamp::from_secs(1_800_000_000),
            kid: Some("2026".to_owned()),
        }),
        family: None,
    }
}

const EXPIRED: Refusal = Refusal::SubjectToken(SubjectTokenError::Verify(VerifyError::Expired));

#[test]
fn an_audit_event_has_what_is_known_in_a_stable_order() {
    let (lines, _guard) = Lines::capture("info", Format::Json);
    audit::token_request(Asked::Exchange, "d-1", &granted(), None);
    let hash = audit::subject_hash("partner", "alice@example.org");
    let line = lines.text();
    let timestamp = lines.events()[0]["timestamp"].as_str().unwrap().to_owned();
    assert_eq!(
        line,
        format!(
            "{{\"timestamp\":\"{timestamp}\",\"level\":\"INFO\",\"message\":\"exchange\",\
             \"decision\":\"d-1\",\"outcome\":\"granted\",\"reason\":\"none\",\
             \"client\":\"Portal\",\"issuer\":\"partner\",\"sub_hash\":\"{hash}\",\
             \"subject_jti\":\"theirs\",\"jti\":\"ours\",\"kid\":\"2026\",\
             \"audiences\":\"https://a.example https://b.example\",\"scope\":\"read write\",\
             \"exp\":1800000000,\"target\":\"audit\"}}\n"
        )
    );
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
}

#[test]
fn an_audit_event_leaves_out_what_is_not_known() {
    let (lines, _guard) = Lines::capture("info", Format::Json);
    let unknown = Refusal::Client(ClientError::Unknown);
    audit::token_request(Asked::Exchange, "d-1", &Record::default(), Some(unknown));
    let verified = Record { minted: None, ..granted() };
    audit::token_request(
        Asked::Exchange,
        "d-2",
        &verified,
        Some(Refusal::Ours(Failure::KeysUnavailable)),
    );
    audit::token_request(Asked::Exchange, "d-3", &verified, Some(Refusal::Ours(Failure::Internal)));
    let mut events = lines.events();
    for event in &mut events {
        event.as_object_mut().unwrap().remove("timestamp");
    }
    let hash = audit::subject_hash("partner", "alice@example.org");
    let ours = |decision: &str, level: &str, reason: &str| {
        json!({
            "level": level, "target": "audit", "message": "exchange", "decision": decision,
            "outcome": "failed", "reason": reason, "client": "Portal", "issuer": "partner",
            "sub_hash": hash, "subject_jti": "theirs",
        })
    };
    let first = json!({
        "level": "INFO", "target": "audit", "message": "exchange", "decision": "d-1",
        "outcome": "denied", "reason": "client_unknown",
    });
    let expected =
        [first, ours("d-2", "WARN", "keys_unavailable"), ours("d-3", "ERROR", "internal")];
    assert_eq!(events, expected);
}

#[test]
fn a_subject_is_hashed_and_what_somebody_else_chose_is_bounded() {
    let (lines, _guard) = Lines::capture("trace", Format::Json);
    let record = Record { subject_jwt_id: Some("ü\n".repeat(10_000)), ..granted() };
    audit::token_request(Asked::Exchange, "d-1", &record, Some(EXPIRED));
    assert!(!lines.text().contains("alice"));
    assert_eq!(lines.events()[0]["subject_jti"], "ü\n".repeat(64));
    assert_ne!(audit::subject_hash("a", "bc"), audit::subject_hash("ab", "c"));
    assert_ne!(audit::subject_hash("a", "x"), audit::subject_hash("b", "x"));
    // As documented: SHA-256 over lengths and texts.
    let bytes = b"\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\0\x02bc";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let encoded =
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest.as_ref());
    assert_eq!(audit::subject_hash("a", "bc"), encoded);
}

#[test]
fn the_audit_is_written_unless_the_filter_names_it() {
    for (filter, lines_written) in
        [("error", 1), ("off", 1), ("cambio=trace", 1), ("trace,audit=off", 0), ("audit=warn", 0)]
    {
        let (lines, _guard) = Lines::capture(filter, Format::Json);
        audit::token_request(Asked::Exchange, "d-1", &granted(), None);
        assert_eq!(lines.events().len(), lines_written, "{filter}");
    }
}

#[test]
fn a_line_for_people_is_no_json_and_has_no_control_characters() {
    let (lines, _guard) = Lines::capture("info", Format::Text);
    let record = Record { subject_jwt_id: Some("a\u{1b}[31m\nb".to_owned()), ..granted() };
    audit::token_request(Asked::Exchange, "d-1", &record, None);
    let text = lines.text();
    assert!(text.contains("audit: exchange decision=\"d-1\" outcome=\"granted\""), "{text}");
    assert_eq!(text.lines().count(), 1);
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn a_filter_that_is_none_is_refused() {
    for bad in ["loud", "cambio=loud", "a=b=c", "inof", "debug,hyper=trace", "cambioo=trace"] {
        let refused = dispatch(bad, Format::Json, io::sink).map(|_| ());
        assert_eq!(refused, Err(LogError::Filter), "{bad}");
    }
}

#[test]
fn what_libraries_say_of_requests_is_withheld_at_any_level() {
    let (lines, _guard) = Lines::capture("trace", Format::Json);
    let say = |module: &str, level, text: &str| {
        let mut record = log::Record::builder();
        record.module_path(Some(module)).target(module).level(level).line(Some(7));
        log::logger().log(&record.args(format_args!("{text}")).build());
    };
    let levels = [
        log::Level::Error,
        log::Level::Warn,
        log::Level::Info,
        log::Level::Debug,
        log::Level::Trace,
    ];
    for level in levels {
        for module in
            ["pingora_proxy", "pingora_core::protocols::http::v1::body", "reqwest::connect"]
        {
            say(module, level, "canary");
        }
        say("pingora_core::serverless", level, "canary");
    }
    tracing::error!(target: "h2::codec", "canary");
    tracing::error!(target: "hyper", "canary");
    tracing::error!(target: "cambiorum", "canary");
    assert!(!lines.text().contains("canary"));
    let events = lines.events();
    assert_eq!(events.len(), 4 * 3);
    assert_eq!(events[0]["target"], "library");
    assert_eq!(events[0]["level"], "DEBUG");
    assert_eq!((&events[0]["module"], &events[0]["line"]), (&json!("pingora_proxy"), &json!(7)));

    say("pingora_core::server", log::Level::Warn, "no requests here");
    say("pingora_core::services::listening", log::Level::Info, "nor here");
    say("pingora_core::services::listening", log::Level::Debug, "canary");
    let events = lines.events();
    assert_eq!(events[12]["message"], "no requests here");
    assert_eq!(events[12]["level"], "WARN");
    assert_eq!(events[13]["message"], "nor here");
    assert_eq!(events.len(), 14);
}

/// A fetch at the most talkative level, with a secret on its way.
#[tokio::test]
async fn a_fetch_leaves_no_secret_in_the_log() {
    let (lines, _guard) = Lines::capture("trace", Format::Json);
    let set = jwks(&[&key("a")]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let source = KeySource::Endpoint(Endpoint {
        url: server.url("/jwks?canary=1"),
        ca: None,
        bearer_token: Some("canary".into()),
    });
    let config = config_of(vec![issuer("partner", source)], Vec::new());
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    server.answer(|_| status(500));
    leap(Duration::from_mins(5)).await;
    until(|| ring.status()[0].last_error.is_some()).await;
    let text = lines.text();
    assert!(text.contains("the issuer's keys are fetched"), "{text}");
    assert!(text.contains("the answer has status 500"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    assert!(!format!("{ring:?}").contains("\"canary\""));
}

#[tokio::test]
async fn an_issuer_that_fails_is_told_once_for_each_change() {
    let (lines, _guard) = Lines::capture("info", Format::Json);
    let server = Issuer::start(|_| status(500)).await;
    let config = config_of(vec![issuer("partner", endpoint(server.url("/")))], Vec::new());
    let metrics = Arc::new(Metrics::new());
    metrics.configure(&config);
    let ring = KeyRing::new(&config, &metrics, None);
    let failures = || {
        let all = series(&metrics, "jwks_fetches_total");
        let failed = |one: &String| {
            one.strip_prefix("{issuer=\"partner\",outcome=\"failed\"} ")?.parse().ok()
        };
        all.iter().find_map(failed).unwrap_or(0_usize)
    };
    for fetches in 1..=4 {
        until(|| failures() >= fetches).await;
        leap(Duration::from_secs(30)).await;
    }
    until(|| failures() >= 5).await;
    server.answer(|_| whole("<html>"));
    leap(Duration::from_secs(30)).await;
    let not_a_set = "the document is not a JWK Set: a JSON object with an array `keys`";
    until(|| ring.status()[0].last_error.as_deref() == Some(not_a_set)).await;
    let set = jwks(&[&key("a")]);
    server.answer(move |_| whole(set.clone()));
    leap(Duration::from_secs(30)).await;
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    let told: Vec<_> = lines
        .events()
        .into_iter()
        .map(|event| (event["level"].clone(), event["error"].clone()))
        .collect();
    let expected = [
        (json!("WARN"), json!("the answer has status 500")),
        (json!("WARN"), json!(not_a_set)),
        (json!("INFO"), Value::Null),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn keys_that_are_passed_over_are_told_and_private_ones_loudly() {
    let (lines, _guard) = Lines::capture("warn", Format::Json);
    let own = serde_json::to_value(key("a").jwk()).unwrap();
    let mut private = serde_json::to_value(key("b").jwk()).unwrap();
    private["d"] = json!("canary");
    let set = json!({ "keys": [private, own, {}] }).to_string();
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let config = config_of(vec![issuer("partner", endpoint(server.url("/")))], Vec::new());
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    // The same again is no news.
    leap(Duration::from_mins(5)).await;
    server.asked_times(2).await;
    until(|| ring.status()[0].age_seconds.unwrap() < 60).await;
    let told: Vec<_> = lines
        .events()
        .into_iter()
        .map(|event| (event["level"].clone(), event["index"].clone(), event["why"].clone()))
        .collect();
    let expected = [
        (json!("ERROR"), json!(0), json!("it has private or symmetric key material")),
        (json!("WARN"), json!(2), json!("it is not a JSON object with a `kty`")),
    ];
    assert_eq!(told, expected);
    assert!(!lines.text().contains("canary"));
}
