//! What metrics say, and under how many labels at most.

use std::time::Duration;

use cambio::config::{Config, FixedKeys, IssuerKeys, KeySource};
use cambio::exchange::Record;
use cambio::exchange::client::ClientError;
use cambio::exchange::error::{Failure, Refusal};
use cambio::exchange::subject::SubjectTokenError;
use cambio::jwt::verify::VerifyError;
use cambio::telemetry::metrics::Metrics;
use cambio::time::Timestamp;
use http::Method;

use crate::setting::{application, config_of, issuer, key, key_set};

const EXPIRED: Refusal = Refusal::SubjectToken(SubjectTokenError::Verify(VerifyError::Expired));

fn fixed(name: &str, not_after: Option<u64>) -> IssuerKeys {
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
pub fn series(metrics: &Metrics, name: &str) -> Vec<String> {
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
pub fn series_without_a_name_stand_at_0_from_the_start() {
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

    let record = Record { issuer: Some("a".into()), client: Some("x".into()), ..Record::default() };
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
        let record = Record {
            issuer: Some((*name).into()),
            client: Some((*name).into()),
            ..Record::default()
        };
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
        let record =
            Record { issuer: Some(name.into()), client: Some(name.into()), ..Record::default() };
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
    let late =
        Record { issuer: Some("goes".into()), client: Some("goes".into()), ..Record::default() };
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
