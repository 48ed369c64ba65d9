//! Metadata in, a configuration out: golden files, refusals, and what no document can bring about.

use std::path::Path;

use cambio::config::Config;
use cambio::config::profile::{Offer, Premises, Profile, Unfit};
use cambio::jwt::algorithm::Algorithm;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use url::Url;

use super::config_support::load;
use super::outcomes::golden;

const PLACE: &str = "/realms/x/.well-known/openid-configuration";

fn premises() -> Premises {
    Premises {
        upstream: Url::parse("http://10.0.0.7:9000").unwrap(),
        ca: None,
        public: None,
        metadata: vec![PLACE.to_owned()],
        no_keys: None,
        listen: "127.0.0.1:8080".parse().unwrap(),
        admin: "127.0.0.1:9464".parse().unwrap(),
        signing_key: "signing.pem".to_owned(),
        algorithm: Algorithm::ES256,
    }
}

/// What a whole identity provider says.
fn metadata() -> Map<String, Value> {
    object(&json!({
        "issuer": "https://idp.example/realms/x",
        "token_endpoint": "https://idp.example/realms/x/token",
        "jwks_uri": "https://idp.example/realms/x/jwks",
        "introspection_endpoint": "https://idp.example/realms/x/introspect",
        "revocation_endpoint": "https://idp.example/realms/x/revoke",
        "grant_types_supported": ["authorization_code"],
        "id_token_signing_alg_values_supported": ["RS256", "none"],
    }))
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn with(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    let mut metadata = metadata();
    metadata.insert(name.to_owned(), value.into());
    metadata
}

fn without(names: &[&str]) -> Map<String, Value> {
    let mut metadata = metadata();
    metadata.retain(|name, _| !names.contains(&name.as_str()));
    metadata
}

/// The configuration, which `check` accepts.
fn accepted(text: &str) -> Config {
    load(text).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}")).0
}

#[test]
fn what_is_written_is_the_golden_one_and_holds() {
    let tls = Premises {
        upstream: Url::parse("https://[2001:db8::7]:8443").unwrap(),
        ca: Some("ca.pem".to_owned()),
        public: Some(Url::parse("https://login.example").unwrap()),
        metadata: vec![PLACE.to_owned(), "/.well-known/oauth-authorization-server".to_owned()],
        no_keys: Some("the answer has status 404".to_owned()),
        listen: "[::]:443".parse().unwrap(),
        algorithm: Algorithm::ES256,
        ..premises()
    };
    let mut scattered = with("jwks_uri", "https://cdn.example/keys");
    scattered.insert("token_endpoint".to_owned(), json!("https://login.example/token?p=policy"));
    scattered.insert("revocation_endpoint".to_owned(), json!("https://idp.example/a%20b"));
    scattered.insert("signed_metadata".to_owned(), json!("ey"));
    let mut least = without(&[
        "jwks_uri",
        "introspection_endpoint",
        "revocation_endpoint",
        "grant_types_supported",
        "id_token_signing_alg_values_supported",
    ]);
    least.insert("issuer".to_owned(), json!("http://127.0.0.1:9000"));
    least.insert("token_endpoint".to_owned(), json!("http://127.0.0.1:9000/token"));
    let root =
        Premises { metadata: vec!["/.well-known/openid-configuration".into()], ..premises() };
    for (name, metadata, premises) in
        [("whole", metadata(), premises()), ("scattered", scattered, tls), ("least", least, root)]
    {
        let text = Profile::of(&metadata, premises).unwrap().to_yaml();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/profile");
        golden(&folder.join(name).with_extension("yaml"), &text);
        accepted(&text);
    }
}

#[test]
fn every_value_is_the_one_that_was_meant() {
    let config = accepted(&Profile::of(&metadata(), premises()).unwrap().to_yaml());
    assert!(config.overlay);
    assert_eq!(config.policy.authorization_server(), "https://idp.example/realms/x");
    assert_eq!(config.upstream.url.as_str(), "http://10.0.0.7:9000/");
    assert_eq!(config.listen[0].address.to_string(), "127.0.0.1:8080");
    let endpoints = config.endpoints;
    assert_eq!(endpoints.token, ["/realms/x/token"]);
    assert_eq!(endpoints.metadata, [PLACE]);
    assert_eq!(endpoints.jwks.as_deref(), Some("/realms/x/jwks"));
    assert_eq!(endpoints.introspection.as_deref(), Some("/realms/x/introspect"));
    assert_eq!(endpoints.revocation.as_deref(), Some("/realms/x/revoke"));
}

/// Whoever takes the mark off what is commented out gets what `check` accepts, too.
#[test]
fn the_examples_in_the_comments_hold() {
    let text = Profile::of(&metadata(), premises()).unwrap().to_yaml();
    let uncommented: String = text
        .lines()
        .map(|line| {
            let bare = line.trim_start();
            let indent = &line[..line.len() - bare.len()];
            let Some(rest) = bare.strip_prefix("# ") else { return format!("{line}\n") };
            let key = rest.trim_start().trim_start_matches("- ");
            let is_setting = key.split_once(':').is_some_and(|(key, value)| {
                key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    && (value.is_empty() || value.starts_with(' '))
            });
            // The listener's certificate, and the Redis, are somebody's own.
            let is_own = ["tls:", "store:", "redis:"].iter().any(|own| key.starts_with(own));
            if is_setting && !is_own { format!("{indent}{rest}\n") } else { String::new() }
        })
        .collect();
    let config = accepted(&uncommented);
    assert_eq!(config.trusted_token_issuers.len(), 1, "{uncommented}");
    assert_eq!(config.policy.applications().count(), 2);
    assert!(config.policy.asks_upstream());
    assert!(uncommented.contains("\n  unknown_issuers: forward"), "{uncommented}");
    assert!(uncommented.contains("\nresource_servers:"), "{uncommented}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let refused = |metadata: &Map<String, Value>| Profile::of(metadata, premises()).unwrap_err();
    for issuer in [
        json!(7),
        json!(""),
        json!("idp.example"),
        json!("urn:example:idp"),
        json!("https://"),
        json!("https://user@idp.example"),
        json!("https://idp.example/ä"),
        json!("https://idp.example/\nupstream: { url: https://evil.example }"),
        json!("https://idp.example\\x"),
        json!(format!("https://idp.example/{}", "x".repeat(2048))),
    ] {
        assert!(matches!(refused(&with("issuer", issuer.clone())), Unfit::Issuer(_)), "{issuer}");
    }
    assert_eq!(refused(&without(&["issuer"])), Unfit::Missing("issuer"));
    assert_eq!(refused(&without(&["token_endpoint"])), Unfit::Missing("token_endpoint"));
    for name in ["token_endpoint", "jwks_uri"] {
        for url in [
            json!(null),
            json!("/token"),
            json!("ftp://idp.example/token"),
            json!("https://u:p@idp.example/token"),
            json!("https://idp.example/token#x"),
            json!("https://idp.example/a%2fb"),
            json!("https://idp.example/a;b"),
            json!("https://idp.example//a"),
            json!("https://idp.example/a b"),
        ] {
            let unfit = refused(&with(name, url.clone()));
            assert!(matches!(unfit, Unfit::Endpoint { name: own, .. } if own == name), "{url}");
        }
    }
    assert_eq!(
        refused(&with("jwks_uri", "https://idp.example/realms/x/TOKEN/")),
        Unfit::SamePath("jwks_uri", "token_endpoint")
    );
    assert_eq!(
        refused(&with("token_endpoint", format!("https://idp.example{PLACE}"))),
        Unfit::SamePath("token_endpoint", "metadata")
    );
    let elsewhere = Premises { metadata: vec!["/a%20b".into()], ..premises() };
    assert_eq!(Profile::of(&metadata(), elsewhere).unwrap_err(), Unfit::Place("/a%20b".into()));
    // Another place with such a path is done without.
    let second = Premises { metadata: vec![PLACE.into(), "/a%20b".into()], ..premises() };
    let config = accepted(&Profile::of(&metadata(), second).unwrap().to_yaml());
    assert_eq!(config.endpoints.metadata, [PLACE]);
}

#[test]
fn an_endpoint_that_it_can_do_without_is_left_out_with_the_reason() {
    for (name, url) in [
        ("introspection_endpoint", json!("https://idp.example/realms/x/token/")),
        ("introspection_endpoint", json!(7)),
        ("revocation_endpoint", json!("https://idp.example/%41")),
        ("revocation_endpoint", json!("https://idp.example/realms/x/introspect")),
    ] {
        let profile = Profile::of(&with(name, url.clone()), premises()).unwrap();
        let offer =
            if name.starts_with('i') { &profile.introspection } else { &profile.revocation };
        assert!(matches!(offer, Offer::Unusable(_)), "{url}");
        let text = profile.to_yaml();
        assert!(
            text.contains(&format!("# No {}: its `{name}`", &name[..name.len() - 9])),
            "{text}"
        );
        let endpoints = accepted(&text).endpoints;
        let absent = [endpoints.introspection.is_none(), endpoints.revocation.is_none()];
        assert_eq!(absent, [name.starts_with('i'), name.starts_with('r')], "{url}");
    }
}

/// Texts that try to be something else in YAML, in comments or on a terminal.
fn hostile() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "https://idp.example/",
        "http://[::1]:1/",
        "https://x:80",
        "a",
        "/",
        ":",
        ": ",
        " #",
        "\n",
        "\r",
        "\t",
        "\u{0}",
        "\u{1b}[31m",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "\"",
        "'",
        "\\",
        "}",
        "]",
        "{",
        "[",
        ",",
        "&a",
        "*a",
        "!!str",
        "|",
        ">",
        "%",
        "?",
        "-",
        "---",
        "...",
        "ä",
        "overlay: false",
        "\noverlay: false",
        "null",
        "~",
        "@",
        "`",
        "ATTENTION",
        "..",
        "//",
    ]);
    prop_oneof![
        proptest::collection::vec(parts, 0..8).prop_map(|parts| parts.concat()),
        "https://[a-z]{1,9}\\.example(:[0-9]{1,5})?/[!-~]{0,40}",
        ".{0,60}",
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => hostile().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<u32>().prop_map(Value::from),
        1 => proptest::collection::vec(hostile(), 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn whatever_the_document_says_the_configuration_is_what_was_meant_or_there_is_none(
        issuer in any_value(), token in any_value(), jwks in any_value(), introspection in any_value(),
        revocation in any_value(), algorithms in any_value(), why in hostile(), more in hostile(),
        given in 0..64_u8,
    ) {
        let mut metadata = metadata();
        let fields = [
            ("issuer", issuer), ("token_endpoint", token), ("jwks_uri", jwks),
            ("introspection_endpoint", introspection), ("revocation_endpoint", revocation),
            ("id_token_signing_alg_values_supported", algorithms),
        ];
        // Not all at once, or hardly any would come through.
        for (at, (name, value)) in fields.into_iter().enumerate() {
            if given & (1 << at) != 0 {
                metadata.insert(name.to_owned(), value);
            }
        }
        let premises = Premises {
            metadata: vec![PLACE.to_owned(), format!("/{more}")],
            no_keys: Some(why),
            ..premises()
        };
        match Profile::of(&metadata, premises) {
            Err(unfit) => {
                let told = unfit.to_string();
                prop_assert!(told.bytes().all(|b| (0x20..=0x7e).contains(&b)), "{told:?}");
            }
            Ok(profile) => {
                let text = profile.to_yaml();
                prop_assert!(text.bytes().all(|b| b == b'\n' || (0x20..=0x7e).contains(&b)), "{text:?}");
                let config = accepted(&text);
                prop_assert_eq!(Some(config.policy.authorization_server()), metadata["issuer"].as_str());
                prop_assert!(config.overlay);
                prop_assert_eq!(config.upstream.url.as_str(), "http://10.0.0.7:9000/");
                let path = |name: &str| {
                    let url = Url::parse(metadata.get(name)?.as_str()?).ok()?;
                    Some(url.path().to_owned())
                };
                prop_assert_eq!(&config.endpoints.token, &[path("token_endpoint").unwrap()]);
                prop_assert_eq!(&config.endpoints.jwks, &path("jwks_uri"));
                for (own, name) in [
                    (&config.endpoints.introspection, "introspection_endpoint"),
                    (&config.endpoints.revocation, "revocation_endpoint"),
                ] {
                    prop_assert!(own.is_none() || *own == path(name));
                }
                prop_assert_eq!(config.trusted_token_issuers.len(), 0);
                prop_assert_eq!(config.policy.applications().count(), 0);
            }
        }
    }
}
