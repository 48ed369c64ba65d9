//! What metrics, audit events and logs say, and what they never do.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::Duration;

use cambio::config::{Config, Endpoint, FixedKeys, KeySource};
use cambio::exchange::client::ClientError;
use cambio::exchange::error::{Failure, Refusal};
use cambio::exchange::subject::SubjectTokenError;
use cambio::exchange::{MintedRecord, Record};
use cambio::jwt::verify::VerifyError;
use cambio::keys::{KeyRing, KeyState};
use cambio::telemetry::audit;
use cambio::telemetry::log::{Format, LogError, dispatch, forward_libraries};
use cambio::telemetry::metrics::Metrics;
use cambio::time::Timestamp;
use http::Method;
use serde_json::{Value, json};
use tracing::dispatcher::{DefaultGuard, Dispatch, set_default};

use crate::issuer::{Issuer, status, whole};
use crate::leap::{leap, until};
use crate::setting::{application, config_of, endpoint, issuer, jwks, key, key_set};

/// What is logged in this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn capture(filter: &str, format: Format) -> (Self, DefaultGuard) {
        // While there is only one subscriber, tracing takes what a thread without one says of an
        // event for what all say. In a process that logs there is one for all threads.
        static SECOND: LazyLock<Dispatch> =
            LazyLock::new(|| dispatch("trace", Format::Json, io::sink).unwrap());
        static LIBRARIES: Once = Once::new();
        LIBRARIES.call_once(|| forward_libraries().unwrap());
        LazyLock::force(&SECOND);
        let lines = Self::default();
        let writer = lines.clone();
        let dispatch = dispatch(filter, format, move || writer.clone()).unwrap();
        (lines, set_default(&dispatch))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn events(&self) -> Vec<Value> {
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
            kid: "2026".to_owned(),
        }),
    }
}

const EXPIRED: Refusal = Refusal::SubjectToken(SubjectTokenError::Verify(VerifyError::Expired));

#[test]
fn an_audit_event_has_what_is_known_in_a_stable_order() {
    let (lines, _guard) = Lines::capture("info", Format::Json);
    audit::exchange("d-1", &granted(), None);
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
    audit::exchange("d-1", &Record::default(), Some(unknown));
    let verified = Record { minted: None, ..granted() };
    audit::exchange("d-2", &verified, Some(Refusal::Ours(Failure::KeysUnavailable)));
    audit::exchange("d-3", &verified, Some(Refusal::Ours(Failure::Internal)));
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
    audit::exchange("d-1", &record, Some(EXPIRED));
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
        audit::exchange("d-1", &granted(), None);
        assert_eq!(lines.events().len(), lines_written, "{filter}");
    }
}

#[test]
fn a_line_for_people_is_no_json_and_has_no_control_characters() {
    let (lines, _guard) = Lines::capture("info", Format::Text);
    let record = Record { subject_jwt_id: Some("a\u{1b}[31m\nb".to_owned()), ..granted() };
    audit::exchange("d-1", &record, None);
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
    leap(Duration::from_secs(300)).await;
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
    let failed = |times: usize| {
        let failed = format!("{{issuer=\"partner\",outcome=\"failed\"}} {times}");
        let metrics = &metrics;
        async move { until(|| series(metrics, "jwks_fetches_total").contains(&failed)).await }
    };
    for fetches in 1..=4 {
        failed(fetches).await;
        leap(Duration::from_secs(30)).await;
    }
    failed(5).await;
    server.answer(|_| whole("<html>"));
    leap(Duration::from_secs(30)).await;
    failed(6).await;
    let set = jwks(&[&key("a")]);
    server.answer(move |_| whole(set.clone()));
    leap(Duration::from_secs(30)).await;
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    let told: Vec<_> = lines
        .events()
        .into_iter()
        .map(|event| (event["level"].clone(), event["error"].clone()))
        .collect();
    let not_a_set = "the document is not a JWK Set: a JSON object with an array `keys`";
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
    leap(Duration::from_secs(300)).await;
    server.asked_times(2).await;
    until(|| ring.status()[0].age_seconds == Some(0)).await;
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

fn fixed(name: &str, not_after: Option<u64>) -> cambio::config::IssuerKeys {
    let keys = key_set(&[&key("a")]);
    let not_after = not_after.map(Timestamp::from_secs);
    issuer(name, KeySource::Fixed(FixedKeys { keys, not_after }))
}

fn of(issuers: &[&str], clients: &[&str], most: usize) -> Config {
    let issuers = issuers.iter().map(|name| fixed(name, None)).collect();
    let clients = clients.iter().map(|name| application(name)).collect();
    let mut config = config_of(issuers, clients);
    config.admin.metric_labels_max = most;
    config
}

/// The series of one metric, without its prefix and name.
fn series(metrics: &Metrics, name: &str) -> Vec<String> {
    let prefix = format!("cambio_{name}");
    let rendered = metrics.render();
    let mut all: Vec<_> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .map(|rest| rest.trim_start().to_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn series_without_a_name_stand_at_0_from_the_start() {
    let metrics = Metrics::new();
    assert_eq!(series(&metrics, "upstream_requests_total").len(), 10 * 6);
    assert!(series(&metrics, "upstream_requests_total").iter().all(|one| one.ends_with("} 0")));
    assert_eq!(
        series(&metrics, "config_reloads_total"),
        ["{outcome=\"applied\"} 0", "{outcome=\"refused\"} 0"]
    );
    assert_eq!(series(&metrics, "config_last_reload_successful"), ["1"]);
    assert_eq!(series(&metrics, "exchange_duration_seconds_count"), ["0"]);
    assert_eq!(series(&metrics, "upstream_duration_seconds_count"), ["0"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(series(&metrics, "build_info"), [format!("{{version=\"{version}\"}} 1")]);
    assert!(series(&metrics, "exchanges_total").is_empty());
}

#[test]
fn what_was_granted_stands_at_0_for_each_name_and_refusals_appear_when_seen() {
    let metrics = Metrics::new();
    metrics.configure(&of(&["a", "b"], &["x"], 200));
    let zero = |issuer| format!("{{issuer=\"{issuer}\",outcome=\"granted\",reason=\"none\"}} 0");
    assert_eq!(series(&metrics, "exchanges_total"), [zero("a"), zero("b")]);
    let clients = series(&metrics, "exchanges_by_client_total");
    assert_eq!(clients, ["{client=\"x\",outcome=\"granted\"} 0"]);

    let record = Record { issuer: Some("a".into()), client: Some("x".into()), ..granted() };
    let took = Duration::from_millis(3);
    metrics.exchange(&record, None, took);
    metrics.exchange(&record, Some(EXPIRED), took);
    metrics.exchange(&record, Some(Refusal::Ours(Failure::KeysUnavailable)), took);
    metrics.exchange(&Record::default(), Some(Refusal::Client(ClientError::Unknown)), took);
    assert_eq!(
        series(&metrics, "exchanges_total"),
        [
            "{issuer=\"a\",outcome=\"denied\",reason=\"expired\"} 1".to_owned(),
            "{issuer=\"a\",outcome=\"failed\",reason=\"keys_unavailable\"} 1".to_owned(),
            "{issuer=\"a\",outcome=\"granted\",reason=\"none\"} 1".to_owned(),
            zero("b"),
            "{issuer=\"unknown\",outcome=\"denied\",reason=\"client_unknown\"} 1".to_owned(),
        ]
    );
    assert_eq!(
        series(&metrics, "exchanges_by_client_total"),
        [
            "{client=\"unknown\",outcome=\"denied\"} 1",
            "{client=\"x\",outcome=\"denied\"} 1",
            "{client=\"x\",outcome=\"failed\"} 1",
            "{client=\"x\",outcome=\"granted\"} 1",
        ]
    );
    assert_eq!(series(&metrics, "exchange_duration_seconds_count"), ["4"]);
}

#[test]
fn names_beyond_the_first_share_a_label() {
    let metrics = Metrics::new();
    let names: Vec<_> = (0..1_000).map(|i| format!("n{i}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut config = of(&[], &names, 3);
    let with_end = |(i, name): (usize, &&str)| fixed(name, Some(5_000 - i as u64));
    config.trusted_token_issuers = names.iter().enumerate().map(with_end).collect();
    metrics.configure(&config);
    for name in &names {
        let record =
            Record { issuer: Some((*name).into()), client: Some((*name).into()), ..granted() };
        metrics.exchange(&record, None, Duration::ZERO);
    }
    // The first of the file, whatever they are called.
    let labelled = |name: &str, count: u32| {
        format!("{{issuer=\"{name}\",outcome=\"granted\",reason=\"none\"}} {count}")
    };
    assert_eq!(
        series(&metrics, "exchanges_total"),
        [labelled("n0", 1), labelled("n1", 1), labelled("n2", 1), labelled("other", 997)]
    );
    assert_eq!(series(&metrics, "exchanges_by_client_total").len(), 4);
    assert_eq!(
        series(&metrics, "certificate_not_after_timestamp_seconds"),
        [
            "{issuer=\"n0\"} 5000",
            "{issuer=\"n1\"} 4999",
            "{issuer=\"n2\"} 4998",
            "{issuer=\"other\"} 4001",
        ]
    );
}

#[test]
fn names_that_are_gone_are_forgotten_and_the_others_go_on_counting() {
    let metrics = Metrics::new();
    metrics.configure(&of(&["stays", "goes"], &["stays", "goes"], 200));
    for name in ["stays", "goes"] {
        let record = Record { issuer: Some(name.into()), client: Some(name.into()), ..granted() };
        metrics.exchange(&record, None, Duration::ZERO);
        metrics.exchange(&record, Some(EXPIRED), Duration::ZERO);
    }
    metrics.exchange(&Record::default(), Some(EXPIRED), Duration::ZERO);
    metrics.configure(&of(&["stays", "new"], &["stays"], 200));
    assert!(!metrics.render().contains("goes"));
    assert_eq!(
        series(&metrics, "exchanges_total"),
        [
            "{issuer=\"new\",outcome=\"granted\",reason=\"none\"} 0",
            "{issuer=\"stays\",outcome=\"denied\",reason=\"expired\"} 1",
            "{issuer=\"stays\",outcome=\"granted\",reason=\"none\"} 1",
            "{issuer=\"unknown\",outcome=\"denied\",reason=\"expired\"} 1",
        ]
    );
    // An exchange that began before the reload has no name any more.
    let late = Record { issuer: Some("goes".into()), client: Some("goes".into()), ..granted() };
    metrics.exchange(&late, None, Duration::ZERO);
    assert!(!metrics.render().contains("goes"));
}

#[test]
fn reloads_and_the_upstream_are_counted() {
    let metrics = Metrics::new();
    metrics.config_reload(false);
    assert_eq!(series(&metrics, "config_last_reload_successful"), ["0"]);
    metrics.config_reload(true);
    metrics.config_reload(true);
    assert_eq!(series(&metrics, "config_last_reload_successful"), ["1"]);
    let reloads = series(&metrics, "config_reloads_total");
    assert_eq!(reloads, ["{outcome=\"applied\"} 2", "{outcome=\"refused\"} 1"]);

    let odd = Method::from_bytes(b"X-CANARY").unwrap();
    metrics.upstream(&Method::GET, Some(200), Duration::from_millis(20));
    metrics.upstream(&Method::POST, None, Duration::ZERO);
    metrics.upstream(&odd, Some(777), Duration::ZERO);
    let counted: Vec<_> = series(&metrics, "upstream_requests_total")
        .into_iter()
        .filter(|one| !one.ends_with(" 0"))
        .collect();
    assert_eq!(
        counted,
        [
            "{method=\"GET\",status_class=\"2xx\"} 1",
            "{method=\"POST\",status_class=\"none\"} 1",
            "{method=\"other\",status_class=\"none\"} 1",
        ]
    );
    assert_eq!(series(&metrics, "upstream_duration_seconds_count"), ["3"]);
    assert!(!metrics.render().contains("CANARY"));
}
