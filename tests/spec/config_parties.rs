//! The rules for issuers and applications, and what is only warned of.

use cambio::config::{KeySource, Severity};
use cambio::secret;
use url::Url;

use super::config_support::{BASE, CANARY, changed, each, load, of};

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

#[test]
fn applications_keep_secrets_as_their_type_says() {
    const SECRET: &str = "client_secret: { env: PORTAL_SECRET }";
    const AT: &str = "applications[0].client_secret";
    const ENV_AT: &str = "applications[0].client_secret.env";
    const FILE_AT: &str = "applications[0].client_secret.file";
    const PHONE: &str = "client_id: phone";
    const ID_AT: &str = "applications[1].client_id";
    const TYPE: &str = "type: mobile";
    each(
        Severity::Fault,
        &[
            (PHONE, "client_id: §portal", ID_AT, "the same `client_id` stands on line 31"),
            (PHONE, "client_id: §téléphone", ID_AT, "printable ASCII"),
            (PHONE, "client_id: §123", ID_AT, "put it in quotes"),
            (PHONE, "client_id: §null", ID_AT, "nothing stands here"),
            (PHONE, "§client_id:", ID_AT, "nothing stands here"),
            (TYPE, "type: §single-page", "applications[1].type", "did you mean `single_page`?"),
            (TYPE, "§type: [mobile]", "applications[1].type", "text is expected"),
            (
                TYPE,
                "type: mobile\n    §client_secret: { env: PORTAL_SECRET }",
                "applications[1].client_secret",
                "is public and can't keep a secret",
            ),
            (
                TYPE,
                "type: single_page\n    §client_secret: { env: PORTAL_SECRET }",
                "applications[1].client_secret",
                "is public and can't keep a secret",
            ),
            (
                "client_id: phone\n    type: mobile",
                "§client_id: phone\n    type: standard_oidc",
                "applications[1]",
                "has no `client_secret`",
            ),
            (SECRET, "client_secret: §canary-7f3a", AT, "never stands in this file itself"),
            (
                SECRET,
                "client_secret: { §canary-7f3a: x, env: PORTAL_SECRET }",
                AT,
                "unknown key; known here: env, file, hash",
            ),
            (SECRET, "§client_secret: {}", AT, "env, file, hash is missing"),
            (
                SECRET,
                "§client_secret: { env: PORTAL_SECRET, file: portal-secret }",
                AT,
                "more than one of",
            ),
            (SECRET, "§client_secret: []", AT, "empty list"),
            (
                SECRET,
                "client_secret: [{ env: PORTAL_SECRET }, §canary-7f3a]",
                "applications[0].client_secret[1]",
                "never stands in this file itself",
            ),
            (SECRET, "client_secret: { env: §UNSET }", ENV_AT, "is not set"),
            (SECRET, "client_secret: { env: §EMPTY }", ENV_AT, "is empty"),
            (SECRET, "client_secret: { env: §canary-7f3a }", ENV_AT, "letters, digits and _"),
            (SECRET, "client_secret: { file: §canary-7f3a }", FILE_AT, "can't be read"),
            (SECRET, "client_secret: { file: §secret-shared }", FILE_AT, "chmod 600"),
            (SECRET, "client_secret: { file: §secret-empty }", FILE_AT, "is empty"),
            (
                SECRET,
                "client_secret: { hash: §canary-7f3a }",
                "applications[0].client_secret.hash",
                "cambio hash-secret",
            ),
        ],
    );
}

#[test]
fn what_an_application_may_have_is_well_formed() {
    const EXCHANGE: &str = "- urn:ietf:params:oauth:grant-type:token-exchange";
    const MEANT: &str = "did you mean `urn:ietf:params:oauth:grant-type:token-exchange`?";
    const GRANT_AT: &str = "applications[0].allowed_grant_types[0]";
    const TOKEN_AT: &str = "applications[0].access_token";
    each(
        Severity::Fault,
        &[
            (
                "type: mobile\n    allowed_grant_types: [client_credentials]",
                "type: single_page\n    §allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]",
                "applications[1].allowed_grant_types",
                "single_page application may not exchange",
            ),
            (EXCHANGE, "- §token-exchange", GRANT_AT, MEANT),
            (EXCHANGE, "- §urn:ietf:params:oauth:grant-type:token_exchange", GRANT_AT, MEANT),
            (
                "allowed_grant_types: [client_credentials]",
                "§allowed_grant_types: []",
                "applications[1].allowed_grant_types",
                "empty list",
            ),
            (
                "[partner]",
                "[partner, §batsh]",
                "applications[0].trusted_token_issuers[1]",
                "did you mean `batch`?",
            ),
            (
                "audiences: [https://api.example.com]",
                "§audiences: []",
                "applications[0].audiences",
                "empty list",
            ),
            (
                "[https://api.example.com]",
                "§https://api.example.com",
                "applications[0].audiences",
                "a list is expected",
            ),
            ("[read, write]", "[read, §\"a b\"]", "applications[0].scopes[1]", "is no scope"),
            (
                "lifetime: 1h }",
                "lifetime: §0s }",
                "applications[0].access_token.lifetime",
                "from 1s to 1d",
            ),
            (
                "lifetime: 1h }",
                "lifetime: §25h }",
                "applications[0].access_token.lifetime",
                "from 1s to 1d",
            ),
            (
                "lifetime: 1h }",
                "lifetime: 1h, outlive_subject: §1 }",
                "applications[0].access_token.outlive_subject",
                "true or false",
            ),
            (
                "lifetime: 1h }",
                "lifetime: 1h, §life_time: 1h }",
                TOKEN_AT,
                "did you mean `lifetime`?",
            ),
        ],
    );
}

#[test]
fn secrets_are_had_from_the_environment_files_and_hashes() {
    let phc = secret::hash(b"of sixteen bytes", &[7; 16]).unwrap();
    let text = changed(
        "client_secret: { env: PORTAL_SECRET }",
        &format!(
            "client_secret: [{{ env: PORTAL_SECRET }}, {{ file: portal-secret }}, {{ hash: \"{phc}\" }}]"
        ),
    );
    let (config, warnings) = load(text).unwrap();
    assert_eq!(warnings, []);
    let secrets = &config.policy.application("portal").unwrap().secrets;
    let (env, file) = (format!("{CANARY}-in-the-environment"), format!("{CANARY}-in-a-file"));
    for (index, secret) in [env.as_str(), file.as_str(), "of sixteen bytes"].iter().enumerate() {
        for (other, stored) in secrets.iter().enumerate() {
            assert_eq!(stored.matches(secret.as_bytes()), index == other);
        }
    }
}

#[test]
fn what_was_hardly_meant_is_warned_of() {
    const SECRET: &str = "client_secret: { env: PORTAL_SECRET }";
    const HASHES: &str = "client_secret: [{ hash: \"$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$LzqfpDBXRxTgW1jXmOWBLBOtAZVqKxHkuPg/vjDHnYw\" }, { hash: §\"$argon2id$v=19$m=4096,t=3,p=1$BwcHBwcHBwcHBwcHBwcHBw$LzqfpDBXRxTgW1jXmOWBLBOtAZVqKxHkuPg/vjDHnYw\" }]";
    const CERTIFICATE: &str = "certificate: { file: partner.pem }";
    const CERTIFICATE_AT: &str = "trusted_token_issuers[1].certificate.file";
    const ISSUER: &str = "issuer: https://idp.example.com/oauth2/token";
    const ISSUER_AT: &str = "authorization_server.issuer";
    const UPSTREAM: &str = "url: https://idp.internal:8443";
    each(
        Severity::Warning,
        &[
            (UPSTREAM, "url: §http://idp.internal", "upstream.url", "plain http off loopback"),
            (
                UPSTREAM,
                "url: http://127.0.0.1:9\n  §ca: { file: ca.pem }",
                "upstream.ca",
                "no effect",
            ),
            (ISSUER, "issuer: §http://idp.example.com", ISSUER_AT, "https URL"),
            (ISSUER, "issuer: §urn:example:idp", ISSUER_AT, "https URL"),
            (ISSUER, "issuer: §https://idp.example.com?x", ISSUER_AT, "RFC 8414"),
            (
                "endpoints:\n    token: [/oauth2/token]\n    jwks: /oauth2/jwks",
                "§endpoints:\n    token: /oauth2/token",
                "authorization_server.endpoints",
                "no `jwks`",
            ),
            (
                "signing_keys:\n  - algorithm: ES256",
                "§signing_keys:\n  - algorithm: ES256\n    not_before: 2027-01-01T00:00:00Z",
                "signing_keys",
                "no key may sign yet",
            ),
            (
                "name: batch",
                "§subject_prefix: \"p:\"\n    name: batch",
                "trusted_token_issuers[1]",
                "on line 20 share one name space",
            ),
            (
                CERTIFICATE,
                "certificate: { file: §expired.pem }",
                CERTIFICATE_AT,
                "expired on 2026-01-01",
            ),
            (
                CERTIFICATE,
                "certificate: { file: §future.pem }",
                CERTIFICATE_AT,
                "not valid before 2027-01-01",
            ),
            (
                CERTIFICATE,
                "algorithms: [RS256]\n    certificate: { file: §partner.pem }",
                CERTIFICATE_AT,
                "none of the issuer's `algorithms`",
            ),
            (
                CERTIFICATE,
                "jwks: { file: §half-jwks.json }",
                "trusted_token_issuers[1].jwks.file",
                "keys[0] of the file is passed over",
            ),
            (SECRET, HASHES, "applications[0].client_secret[1].hash", "other parameters"),
            (
                "client_id: phone",
                "§name: Portal\n    client_id: phone",
                "applications[1]",
                "has the name of the application on line 30",
            ),
        ],
    );
}

#[test]
fn what_was_meant_is_not_warned_of() {
    for (from, to) in [
        ("name: batch", "name: batch\n    subject_prefix: \"b:\""),
        ("name: batch", "name: batch\n    subject_prefix: \"p:\"\n    enabled: false"),
        ("algorithm: ES256", "algorithm: ES256\n    not_before: 2026-01-01T00:00:00Z"),
        ("https://idp.internal:8443", "http://127.0.0.1:9000"),
    ] {
        assert_eq!(load(changed(from, to)).unwrap().1, [], "{to}");
    }
}

#[test]
fn without_issuers_or_applications_nothing_can_be_exchanged() {
    let (before, rest) = BASE.split_once("trusted_token_issuers:\n").unwrap();
    let (issuers, rest) = rest.split_once("applications:\n").unwrap();
    let (_, after) = rest.split_once("limits:").unwrap();
    let told = |middle: &str| {
        let warnings = load(format!("{before}{middle}limits:{after}")).unwrap().1;
        warnings.into_iter().map(|warning| (warning.line, warning.message)).collect::<Vec<_>>()
    };
    let both = told("");
    assert!(matches!(both.as_slice(), [(1, _), (1, _)]), "{both:?}");
    let both = told("trusted_token_issuers: []\napplications: []\n");
    assert_eq!(both.len(), 2, "{both:?}");
    let one = told(&format!("trusted_token_issuers:\n{issuers}"));
    let [(1, message)] = one.as_slice() else { panic!("{one:?}") };
    assert!(message.contains("no application may exchange"));
    // There are applications, but for other things.
    let other = "- client_credentials";
    let text = changed("- urn:ietf:params:oauth:grant-type:token-exchange", other);
    let (_, warnings) = load(text).unwrap();
    assert_eq!(of(&warnings, Severity::Warning).len(), 1);
}
