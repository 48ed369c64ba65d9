//! The rules for trusted token issuers and their keys.

use cambio::config::{KeySource, Severity};
use url::Url;

use super::config_support::{CANARY, changed, each, load};

#[test]
fn issuers_are_unique_and_bounded() {
    const ISSUER: &str = "trusted_token_issuers[0]";
    each(
        Severity::Fault,
        &[
            (
                "name: batch",
                "name: §partner",
                "trusted_token_issuers[1].name",
                "the same `name` stands on line 20",
            ),
            (
                "issuer: urn:example:batch",
                "issuer: §https://partner.example/token",
                "trusted_token_issuers[1].issuer",
                "the same `issuer` stands on line 21",
            ),
            (
                "clock_skew: 30s",
                "clock_skew: §121s",
                "trusted_token_issuers[0].clock_skew",
                "from 0s to 2m",
            ),
            (
                "clock_skew: 30s",
                "clock_skew: §-1s",
                "trusted_token_issuers[0].clock_skew",
                "with its unit",
            ),
            (
                "clock_skew: 30s",
                "max_age: §0s",
                "trusted_token_issuers[0].max_age",
                "from 1s to 30d",
            ),
            (
                "clock_skew: 30s",
                "max_lifetime: §400d",
                "trusted_token_issuers[0].max_lifetime",
                "from 1s to 365d",
            ),
            (
                "clock_skew: 30s",
                "§algorithms: []",
                "trusted_token_issuers[0].algorithms",
                "empty list",
            ),
            (
                "clock_skew: 30s",
                "algorithms: [RS256, §none]",
                "trusted_token_issuers[0].algorithms[1]",
                "must be one of RS256",
            ),
            (
                "clock_skew: 30s",
                "algorithms: §RS256",
                "trusted_token_issuers[0].algorithms",
                "a list is expected",
            ),
            (
                "clock_skew: 30s",
                "§token_types: []",
                "trusted_token_issuers[0].token_types",
                "empty list",
            ),
            (
                "clock_skew: 30s",
                "enabled: §yes",
                "trusted_token_issuers[0].enabled",
                "true or false",
            ),
            (
                "clock_skew: 30s",
                "claims: { sub: §email }",
                "trusted_token_issuers[0].claims.sub",
                "set by Cambio itself",
            ),
            (
                "clock_skew: 30s",
                "claims: { a: x, may_act: §y }",
                "trusted_token_issuers[0].claims.may_act",
                "set by Cambio itself",
            ),
            (
                "clock_skew: 30s",
                "claims: { §a: [x] }",
                "trusted_token_issuers[0].claims.a",
                "text is expected",
            ),
            (
                "subject_prefix: \"p:\"",
                "subject_prefix: §\" p\"",
                "trusted_token_issuers[0].subject_prefix",
                "not beginning with a blank",
            ),
            (
                "alias: https://partner.example/our-name",
                "§alias: []",
                "trusted_token_issuers[0].alias",
                "empty list",
            ),
            ("clock_skew: 30s", "§skew: 30s", ISSUER, "unknown key `skew`"),
            ("clock_skew: 30s", "§clock-skew: 30s", ISSUER, "did you mean `clock_skew`?"),
        ],
    );
}

#[test]
fn an_issuers_keys_have_one_source_that_can_be_trusted() {
    const ENDPOINT: &str = "jwks_endpoint: https://partner.example/jwks";
    const CERTIFICATE: &str = "certificate: { file: partner.pem }";
    const BATCH: &str =
        "name: batch\n    issuer: urn:example:batch\n    certificate: { file: partner.pem }";
    const AT: &str = "trusted_token_issuers[0].jwks_endpoint";
    const CERTIFICATE_AT: &str = "trusted_token_issuers[1].certificate";
    each(
        Severity::Fault,
        &[
            (
                ENDPOINT,
                "jwks_endpoint: §http://partner.example/jwks",
                AT,
                "plain http off loopback",
            ),
            (
                ENDPOINT,
                "jwks_endpoint: §http://localhost.example/jwks",
                AT,
                "plain http off loopback",
            ),
            (ENDPOINT, "jwks_endpoint: §https://u:canary-7f3a@partner.example/", AT, "a password"),
            (ENDPOINT, "§jwks_endpoint: [https://partner.example/jwks]", AT, "a text or a mapping"),
            (ENDPOINT, "§jwks_endpoint: {}", AT, "`url` is missing"),
            (
                ENDPOINT,
                "jwks_endpoint: { url: §http://a.example }",
                "trusted_token_issuers[0].jwks_endpoint.url",
                "plain http",
            ),
            (
                ENDPOINT,
                "jwks_endpoint: { url: https://a.example, bearer_token: §canary-7f3a }",
                "trusted_token_issuers[0].jwks_endpoint.bearer_token",
                "never stands in this file itself",
            ),
            (
                ENDPOINT,
                "jwks_endpoint: { url: https://a.example, bearer_token: { env: §GARBAGE } }",
                "trusted_token_issuers[0].jwks_endpoint.bearer_token.env",
                "no bearer token has",
            ),
            (
                BATCH,
                "§name: batch\n    issuer: urn:example:batch",
                "trusted_token_issuers[1]",
                "jwks is missing",
            ),
            (
                BATCH,
                "§name: batch\n    issuer: urn:example:batch\n    discovery: false",
                "trusted_token_issuers[1]",
                "jwks is missing",
            ),
            (
                BATCH,
                "§name: batch\n    issuer: urn:example:batch\n    certificate: { file: partner.pem }\n    jwks: { file: partner-jwks.json }",
                "trusted_token_issuers[1]",
                "more than one",
            ),
            (
                ENDPOINT,
                "discovery: { origins: [§https://a.example/x] }",
                "trusted_token_issuers[0].discovery.origins[0]",
                "has a path",
            ),
            (
                ENDPOINT,
                "discovery: { origins: [§http://a.example] }",
                "trusted_token_issuers[0].discovery.origins[0]",
                "plain http",
            ),
            (
                CERTIFICATE,
                "discovery: §true",
                "trusted_token_issuers[1].discovery",
                "needs an `issuer` that is an https URL",
            ),
            (
                CERTIFICATE,
                "certificate: { file: §tls.key }",
                "trusted_token_issuers[1].certificate.file",
                "private key",
            ),
            (
                CERTIFICATE,
                "certificate: { file: §signing.pem }",
                "trusted_token_issuers[1].certificate.file",
                "private key",
            ),
            (
                CERTIFICATE,
                "certificate: { file: §token }",
                "trusted_token_issuers[1].certificate.file",
                "in PEM",
            ),
            (
                CERTIFICATE,
                "certificate: { pem: §\"-----BEGIN CERTIFICATE-----\" }",
                "trusted_token_issuers[1].certificate.pem",
                "in PEM",
            ),
            (
                CERTIFICATE,
                "certificate: { pem: §\"-----BEGIN PRIVATE KEY-----canary-7f3a\" }",
                "trusted_token_issuers[1].certificate.pem",
                "private key",
            ),
            (
                CERTIFICATE,
                "certificate: §partner.pem",
                CERTIFICATE_AT,
                "a mapping is expected here, with the keys file, pem",
            ),
            (CERTIFICATE, "§certificate: []", CERTIFICATE_AT, "empty list"),
            (
                CERTIFICATE,
                "jwks: { file: §useless-jwks.json }",
                "trusted_token_issuers[1].jwks.file",
                "no key that could verify",
            ),
            (
                CERTIFICATE,
                "jwks: { file: §partner.pem }",
                "trusted_token_issuers[1].jwks.file",
                "not a JWK Set",
            ),
            (
                CERTIFICATE,
                "jwks: { file: §nowhere.json }",
                "trusted_token_issuers[1].jwks.file",
                "nowhere.json can't be read",
            ),
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
