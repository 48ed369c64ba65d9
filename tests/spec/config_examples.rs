//! The configurations and the schema that are shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cambio::config::{self, Config, KeySource, RedisTopology, StoreSettings, Surroundings};
use cambio::time::Timestamp;
use serde_json::Value;

use super::config_support::{NOW, environment, fill};
use super::outcomes::golden;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// A shipped configuration, beside the files that it names.
fn load(name: &str) -> Config {
    load_text(name, &fs::read_to_string(shipped(name)).unwrap())
}

fn load_text(name: &str, text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let file = folder.path().join(name);
    let now = Timestamp::from_secs(NOW);
    let surroundings = Surroundings { file: &file, environment: &environment, now };
    let (config, warnings) = config::parse(text, &surroundings).unwrap();
    assert_eq!(warnings, []);
    config
}

#[test]
fn the_minimal_configuration_loads() {
    let config = load("minimal.yaml");
    assert!(matches!(config.trusted_token_issuers[0].source, KeySource::Endpoint(_)));
    assert!(config.policy.application("portal").is_some());
    assert!(config.admin.address.ip().is_loopback());
}

/// What the documentation says of settings that are not there.
#[test]
fn what_the_minimal_configuration_does_not_say_is_as_documented() {
    let text = fs::read_to_string(shipped("minimal.yaml")).unwrap();
    assert!(["limits", "timeout", "skew"].iter().all(|word| !text.contains(word)), "{text}");
    let config = load("minimal.yaml");
    let ten_seconds = Duration::from_secs(10);
    assert_eq!(config.limits.header_timeout, ten_seconds);
    assert_eq!(config.limits.body_timeout, ten_seconds);
    let issuer = &config.trusted_token_issuers[0].issuer;
    assert_eq!(issuer.rules.clock_skew, Duration::from_secs(30));
    // And where something else is said of them, that holds.
    let said = load_text("minimal.yaml", &format!("{text}limits: {{ body_timeout: 3s }}\n"));
    assert_eq!(said.limits.body_timeout, Duration::from_secs(3));
    assert_eq!(said.limits.header_timeout, ten_seconds);
}

#[test]
fn the_example_loads() {
    let config = load("example.yaml");
    assert!(config.overlay);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.signing_keys.iter().count(), 2);
    assert_eq!(config.trusted_token_issuers.len(), 5);
    assert_eq!(config.policy.application("portal").unwrap().authentication.secrets().len(), 3);
    assert!(matches!(config.store, StoreSettings::Embedded { .. }));
}

#[test]
fn the_examples_other_store_loads_too() {
    let example = fs::read_to_string(shipped("example.yaml")).unwrap();
    let (before, rest) = example.split_once("  embedded:\n").unwrap();
    let (_, redis) = rest.split_once("  # redis:").unwrap();
    let (redis, after) = redis.split_once("\n\n").unwrap();
    let redis = format!("# redis:{redis}").replace("\n  # ", "\n  ").replacen("# ", "  ", 1);
    let config = load_text("example.yaml", &format!("{before}{redis}\n\n{after}"));
    let StoreSettings::Redis(settings) = config.store else { panic!("{redis}") };
    assert_eq!(settings.urls.len(), 2);
    assert_eq!(settings.topology, RedisTopology::Sentinel { master: "mymaster".to_owned() });
    assert!(settings.password.is_some() && settings.ca.is_some());
}

/// Every key that any shape has.
fn keys(schema: &Value, into: &mut Vec<String>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        into.extend(properties.keys().cloned());
    }
    match schema {
        Value::Object(members) => members.values().for_each(|member| keys(member, into)),
        Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_example_has_every_setting() {
    let example = fs::read_to_string(shipped("example.yaml")).unwrap();
    let mut all = Vec::new();
    keys(&serde_json::to_value(config::schema()).unwrap(), &mut all);
    assert!(all.len() > 60, "{all:?}");
    for key in all {
        let stands = |end: &str| example.contains(&format!("{key}:{end}"));
        assert!(stands(" ") || stands("\n"), "{key}");
    }
}

#[test]
fn the_schema_is_fresh() {
    let schema = serde_json::to_string_pretty(&config::schema()).unwrap();
    golden(&shipped("schema.json"), &format!("{schema}\n"));
}

fn strict(schema: &Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                assert_eq!(members.get("additionalProperties"), Some(&Value::Bool(false)));
            }
            members.values().for_each(strict);
        }
        Value::Array(items) => items.iter().for_each(strict),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_schema_is_strict_and_has_nothing_that_comes_later() {
    let schema = serde_json::to_value(config::schema()).unwrap();
    strict(&schema);
    let text = schema.to_string();
    for later in ["\"tests\"", "null"] {
        assert!(!text.contains(later), "{later}");
    }
    let required: Vec<_> =
        schema["required"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(required, ["listen", "upstream", "authorization_server", "signing_keys"]);
}
