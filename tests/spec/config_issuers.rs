//! The rules for trusted token issuers and their keys.

use std::time::Duration;

use cambio::config::KeySource;
use cambio::exchange::subject::RESERVED_CLAIMS;
use url::Url;

use super::config_support::{CANARY, changed, each_of, load};

const SKEW: &str = "clock_skew: 30s";
const CERTIFICATE: &str = "certificate: { file: partner.pem }";

#[test]
fn issuers_have_names_of_their_own() {
    let batch = "trusted_token_issuers[1]";
    let same = "the same `name` stands on line 20";
    each_of("name: batch", batch, &[("name: §partner", ".name", same)]);
    let same = "the same `issuer` stands on line 21";
    let issuer = ("issuer: §https://partner.example/token", ".issuer", same);
    each_of("issuer: urn:example:batch", batch, &[issuer]);
}

#[test]
fn what_is_asked_of_tokens_is_bounded() {
    each_of(
        SKEW,
        "trusted_token_issuers[0]",
        &[
            ("clock_skew: §121s", ".clock_skew", "from 0s to 2m"),
            ("clock_skew: §-1s", ".clock_skew", "with its unit"),
            ("clock_skew: §30", ".clock_skew", "with its unit"),
            ("§clock_skew: [30s]", ".clock_skew", "a duration such as 30s or 1h30m is expected"),
            ("max_age: §0s", ".max_age", "from 1s to 30d"),
            ("max_lifetime: §400d", ".max_lifetime", "from 1s to 365d"),
            ("§algorithms: []", ".algorithms", "empty list"),
            ("algorithms: [RS256, §none]", ".algorithms[1]", "must be one of RS256"),
            ("algorithms: [§HS256]", ".algorithms[0]", "must be one of RS256"),
            ("algorithms: §RS256", ".algorithms", "a list is expected"),
            ("§token_types: []", ".token_types", "empty list"),
            ("enabled: §yes", ".enabled", "true or false"),
            ("claims: { sub: §email }", ".claims.sub", "set by Cambio itself"),
            ("claims: { a: x, may_act: §y }", ".claims.may_act", "set by Cambio itself"),
            ("claims: { §a: [x] }", ".claims.a", "text is expected"),
            ("claims: { \"\": §x }", ".claims.", "the name of a claim"),
            ("§skew: 30s", "", "unknown key `skew`"),
            ("§clock-skew: 30s", "", "did you mean `clock_skew`?"),
        ],
    );
    let prefix = ("subject_prefix: §\" p\"", ".subject_prefix", "not beginning with a blank");
    each_of("subject_prefix: \"p:\"", "trusted_token_issuers[0]", &[prefix]);
    let alias = ("§alias: []", ".alias", "empty list");
    each_of("alias: https://partner.example/our-name", "trusted_token_issuers[0]", &[alias]);
}

/// RFC 9068 §2.2, RFC 8693 §4: each of them by its name.
#[test]
fn claims_that_are_ours_are_mapped_by_nobody() {
    for name in RESERVED_CLAIMS {
        let (to, end) = (format!("claims: {{ {name}: §email }}"), format!(".claims.{name}"));
        each_of(SKEW, "trusted_token_issuers[0]", &[(&to, &end, "set by Cambio itself")]);
        let free = changed(SKEW, &format!("claims: {{ x_{name}: {name} }}"));
        assert_eq!(load(free).unwrap().1, []);
    }
}

#[test]
fn clocks_may_differ_by_half_a_minute_unless_it_is_said_otherwise() {
    let skew = |to: &str| {
        let (config, warnings) = load(changed(SKEW, to)).unwrap();
        assert_eq!(warnings, [], "{to}");
        config.trusted_token_issuers.iter().map(|one| one.issuer.rules.clock_skew).collect()
    };
    let seconds = |seconds: [u64; 2]| -> Vec<_> { seconds.map(Duration::from_secs).into() };
    // It is each issuer's own, and the second one says nothing.
    for (to, own) in [
        ("enabled: true", 30),
        ("clock_skew: 0s", 0),
        ("clock_skew: 1s", 1),
        ("clock_skew: 120s", 120),
        ("clock_skew: 2m", 120),
    ] {
        let found: Vec<_> = skew(to);
        assert_eq!(found, seconds([own, 30]), "{to}");
    }
    for to in ["clock_skew: §121s", "clock_skew: §2m1s", "clock_skew: §120001ms"] {
        let case = (to, ".clock_skew", "from 0s to 2m");
        each_of(SKEW, "trusted_token_issuers[0]", &[case]);
    }
}

#[test]
fn keys_have_one_source() {
    each_of(
        "name: batch\n    issuer: urn:example:batch\n    certificate: { file: partner.pem }",
        "trusted_token_issuers[1]",
        &[
            ("§name: batch\n    issuer: urn:b", "", "jwks is missing"),
            ("§name: batch\n    issuer: urn:b\n    discovery: false", "", "jwks is missing"),
            (
                "§name: batch\n    issuer: urn:b\n    certificate: { file: partner.pem }\n    \
                 jwks: { file: partner-jwks.json }",
                "",
                "more than one of the keys",
            ),
        ],
    );
}

#[test]
fn keys_are_fetched_from_where_nobody_can_change_them() {
    each_of(
        "jwks_endpoint: https://partner.example/jwks",
        "trusted_token_issuers[0]",
        &[
            ("jwks_endpoint: §http://partner.example/", ".jwks_endpoint", "http off loopback"),
            ("jwks_endpoint: §http://localhost.example/", ".jwks_endpoint", "http off loopback"),
            ("jwks_endpoint: §http://127.0.0.1.example/", ".jwks_endpoint", "http off loopback"),
            ("jwks_endpoint: §https://u:canary-7f3a@a.example/", ".jwks_endpoint", "a password"),
            ("§jwks_endpoint: [https://a.example]", ".jwks_endpoint", "a text or a mapping"),
            ("§jwks_endpoint: {}", ".jwks_endpoint", "`url` is missing"),
            ("jwks_endpoint: { url: §http://a.example }", ".jwks_endpoint.url", "plain http"),
            (
                "jwks_endpoint: { url: https://a.example, bearer_token: §canary-7f3a }",
                ".jwks_endpoint.bearer_token",
                "never stands in this file itself",
            ),
            (
                "jwks_endpoint: { url: https://a.example, bearer_token: { env: §GARBAGE } }",
                ".jwks_endpoint.bearer_token.env",
                "no bearer token has",
            ),
            ("discovery: { origins: [§https://a.example/x] }", ".discovery.origins[0]", "a path"),
            ("discovery: { origins: [§http://a.example] }", ".discovery.origins[0]", "plain http"),
        ],
    );
}

#[test]
fn keys_that_stand_here_can_be_used_and_are_public() {
    each_of(
        CERTIFICATE,
        "trusted_token_issuers[1]",
        &[
            ("discovery: §true", ".discovery", "needs an `issuer` that is an https URL"),
            ("certificate: { file: §tls.key }", ".certificate.file", "private key"),
            ("certificate: { file: §signing.pem }", ".certificate.file", "private key"),
            ("certificate: { file: §token }", ".certificate.file", "in PEM"),
            (
                "certificate: { pem: §\"-----BEGIN CERTIFICATE-----\" }",
                ".certificate.pem",
                "in PEM",
            ),
            (
                "certificate: { pem: §\"-----BEGIN PRIVATE KEY-----canary-7f3a\" }",
                ".certificate.pem",
                "private key",
            ),
            ("certificate: §partner.pem", ".certificate", "with the keys file, pem"),
            ("§certificate: []", ".certificate", "empty list"),
            ("jwks: { file: §useless-jwks.json }", ".jwks.file", "no key that could verify"),
            ("jwks: { file: §partner.pem }", ".jwks.file", "not a JWK Set"),
            ("jwks: { file: §nowhere.json }", ".jwks.file", "nowhere.json can't be read"),
        ],
    );
}

#[test]
fn every_source_of_keys_is_read() {
    let source = |to: &str| {
        let text = changed("jwks_endpoint: https://partner.example/jwks", to);
        let (config, warnings) = load(text).unwrap();
        assert_eq!(warnings, []);
        config.trusted_token_issuers[0].source.clone()
    };
    let urls = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>();
    for local in
        ["http://127.0.0.1:1/x", "http://[::1]:1/x", "http://localhost:1/x", "http://127.9.9.9/x"]
    {
        let KeySource::Endpoint(endpoint) = source(&format!("jwks_endpoint: {local}")) else {
            panic!("{local}")
        };
        assert_eq!(endpoint.url.as_str(), local);
        assert!(endpoint.bearer_token.is_none() && endpoint.ca.is_none());
    }
    let KeySource::Endpoint(endpoint) = source(
        "jwks_endpoint: { url: https://k.example/x, ca: { file: ca.pem }, bearer_token: { file: token } }",
    ) else {
        panic!("an endpoint is expected")
    };
    assert_eq!(endpoint.ca.unwrap().len(), 1);
    let token = secrecy::ExposeSecret::expose_secret(endpoint.bearer_token.as_ref().unwrap());
    assert_eq!(token, format!("{CANARY}-token"));
    for (discovery, origins) in
        [("discovery: true", 0), ("discovery: { origins: [https://keys.example] }", 1)]
    {
        let KeySource::Discovery(discovery) = source(discovery) else { panic!("{discovery}") };
        assert_eq!(
            urls(&discovery.metadata),
            [
                "https://partner.example/token/.well-known/openid-configuration",
                "https://partner.example/.well-known/oauth-authorization-server/token",
            ]
        );
        assert_eq!(discovery.issuer, "https://partner.example/token");
        assert_eq!(discovery.origins.len(), origins);
    }
    for (fixed, count) in [
        ("jwks: { file: partner-jwks.json }", 1),
        ("certificate: [{ file: partner.pem }, { file: ca.pem }]", 2),
    ] {
        let KeySource::Fixed(keys) = source(fixed) else { panic!("{fixed}") };
        assert_eq!(keys.keys.len(), count);
    }
}
