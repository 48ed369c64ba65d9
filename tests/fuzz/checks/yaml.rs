//! A configuration is taken whole, or every fault is told at a place that there is, in words that
//! have nothing secret and nothing that garbles a terminal.

use std::path::Path;

use cambio::config::{self, Config, Fault, Severity, Surroundings};
use cambio::jwt::key_set::KeySet;
use cambio::jwt::sign::SigningKey;
use cambio::overlay::metadata::Advertised;
use cambio::proxy::route::{Route, Routes};
use cambio::time::Timestamp;
use serde_json::json;

/// In every secret of the environment and, by the corpus, in values of the text.
const CANARY: &str = "canary-7f3a";
/// 2026-07-01T00:00:00Z.
const NOW: u64 = 1_782_864_000;
const MAX_FINDINGS: usize = 1000;

/// What `SIGNING_KEY` holds: the one of the golden exchanges.
const SIGNING_KEY: &str = include_str!("../../spec/golden/ours.pem");

pub fn check(data: &[u8]) -> bool {
    let result = load(data);
    let (Ok((_, findings)) | Err(findings)) = &result;
    let lines = lines(data);
    assert!(findings.len() <= MAX_FINDINGS);
    assert!(findings.is_sorted_by_key(|finding| (finding.line, finding.column)));
    for finding in findings {
        stands_within(finding, &lines);
        is_fit_to_print(finding);
    }
    if !has_key_with_canary(data) {
        let told = format!("{findings:?}");
        assert!(!told.contains(CANARY), "a secret stands in: {told}");
    }
    let has_fault = findings.iter().any(|finding| finding.severity == Severity::Fault);
    assert_eq!(has_fault, result.is_err());
    let again = load(data).map_or_else(|faults| faults, |(_, warnings)| warnings);
    assert_eq!(again, *findings, "read twice, and told differently");
    let Ok((config, _)) = result else { return false };
    assert!(!format!("{config:?}").contains(CANARY), "a secret stands in the configuration");
    holds_together(&config);
    true
}

fn load(text: &[u8]) -> config::Loaded {
    let environment = |name: &str| match name {
        "SIGNING_KEY" => Some(SIGNING_KEY.to_owned()),
        "PORTAL_SECRET" => Some(format!("{CANARY}-in-the-environment")),
        "ADMIN_TOKEN" => Some(format!("{CANARY}-of-the-operators")),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    // No file that a text names relative to this is there.
    let file = Path::new("/nonexistent/cambio.yaml");
    let now = Timestamp::from_secs(NOW);
    config::parse(text, &Surroundings { file, environment: &environment, now })
}

/// How many characters each line has, as YAML tells lines (YAML 1.2.2 §5.4).
fn lines(data: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(data).replace("\r\n", "\n");
    text.split(['\n', '\r']).map(|line| line.chars().count()).collect()
}

/// The place is one of the text, or the one behind its end.
fn stands_within(finding: &Fault, lines: &[usize]) {
    let Fault { line, column, .. } = finding;
    assert!((1..=lines.len()).contains(line), "{finding}: there are {} lines", lines.len());
    let length = lines[line - 1];
    assert!((1..=length + 1).contains(column), "{finding}: the line has {length} characters");
}

fn is_fit_to_print(finding: &Fault) {
    let told = finding.to_string();
    assert!(!told.contains(char::is_control), "{told:?}");
    assert!(told.len() < 4096, "{told}");
    assert!(!finding.message.trim().is_empty());
}

/// Whether the canary stands in a key, which may be quoted, or could: keys that are no text, and
/// texts that a second parser can't read.
fn has_key_with_canary(data: &[u8]) -> bool {
    fn is_in_key(value: &serde_yaml::Value) -> bool {
        use serde_yaml::Value;
        match value {
            Value::Mapping(mapping) => mapping.iter().any(|(key, value)| {
                key.as_str().is_none_or(|key| key.contains(CANARY)) || is_in_key(value)
            }),
            Value::Sequence(items) => items.iter().any(is_in_key),
            Value::Tagged(_) => true,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    let read: Result<serde_yaml::Value, _> = serde_yaml::from_slice(data);
    read.map_or(true, |value| is_in_key(&value))
}

/// What the types of a configuration promise.
fn holds_together(config: &Config) {
    assert!(!config.listen.is_empty() && config.signing_keys.iter().next().is_some());
    assert_eq!(config.own_keys.len(), config.signing_keys.iter().count());
    assert!(!config.endpoints.token.is_empty());
    let routes = Routes::new(&config.endpoints, &[]);
    for path in &config.endpoints.token {
        assert!(path.starts_with('/'));
        assert_eq!(routes.of(path.as_bytes()), Route::Token, "{path}");
    }
    let mut names: Vec<&str> =
        config.trusted_token_issuers.iter().map(|keys| &*keys.issuer.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two issuers have one name");
    // What is published is whole: no private half, and nothing that relying parties can't read.
    let jwks =
        json!({ "keys": config.signing_keys.iter().map(SigningKey::jwk).collect::<Vec<_>>() });
    assert!(
        KeySet::from_jwks(jwks.to_string().as_bytes()).is_ok_and(|(_, skipped)| skipped.is_empty())
    );
    let document = Advertised::of(config).document();
    let metadata: serde_json::Value = serde_json::from_slice(&document).expect("ours is JSON");
    assert_eq!(metadata["issuer"], config.policy.authorization_server());
}
