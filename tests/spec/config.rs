//! The rules of the configuration: one thing changed, the fault named with its very place.

use std::time::Duration;

use cambio::config::{KeySource, Severity};
use cambio::exchange::policy::UnknownIssuers;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::generate_pem;
use secrecy::ExposeSecret as _;

use super::config_support::{
    BASE, CANARY, changed, each, each_of, file, folder, load, of, unmark, write,
};

#[test]
fn the_base_has_no_fault_and_no_warning() {
    let (config, warnings) = load(BASE).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.listen[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9464");
    assert_eq!(config.admin.metric_labels_max, 200);
    assert!(config.admin.token.is_none());
    assert_eq!(config.upstream.url.as_str(), "https://idp.internal:8443/");
    assert_eq!(config.endpoints.token, ["/oauth2/token"]);
    assert_eq!(config.endpoints.introspection, None);
    assert_eq!(config.policy.unknown_issuers(), UnknownIssuers::Reject);
    assert_eq!(config.limits.connections, 100);
    assert_eq!(config.limits.connections_per_address, None);
    assert_eq!((config.limits.requests, config.limits.forwarded_requests), (1000, 2000));
    assert_eq!(config.limits.header_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.body_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(60));
    let partner = &config.trusted_token_issuers[0].issuer;
    assert_eq!(
        partner.rules.audiences,
        ["https://idp.example.com/oauth2/token", "https://partner.example/our-name"]
    );
    assert!(partner.rules.algorithms.contains(Algorithm::PS256));
    assert!(!partner.rules.algorithms.contains(Algorithm::RS384));
    let KeySource::Fixed(fixed) = &config.trusted_token_issuers[1].source else {
        panic!("a certificate is a fixed key")
    };
    assert_eq!(fixed.not_after.unwrap().as_secs(), 2_082_758_400);
    let portal = config.policy.application("portal").unwrap();
    assert_eq!(&*portal.name, "Portal");
    assert!(
        portal.authentication.secrets()[0]
            .matches(format!("{CANARY}-in-the-environment").as_bytes())
    );
    let phone = config.policy.application("phone").unwrap();
    assert_eq!((&*phone.name, phone.audiences.as_slice()), ("phone", &["phone".to_owned()][..]));
    assert_eq!(phone.access_token.lifetime, Duration::from_secs(3600));
    assert_eq!(config.files, [file(), folder().join("signing.pem"), folder().join("partner.pem")]);
}

#[test]
fn the_network_is_named_plainly() {
    each(
        Severity::Fault,
        &[
            ("127.0.0.1:8080", "§localhost:8080", "listen[0].address", "an IP address and a port"),
            ("127.0.0.1:8080", "§127.0.0.1", "listen[0].address", "an IP address and a port"),
            ("127.0.0.1:8080", "§127.0.0.1:9464", "listen[0].address", "address of `admin`"),
            (
                "127.0.0.1:8080",
                "127.0.0.1:8080\n  - address: §127.0.0.1:8080",
                "listen[1].address",
                "another listener",
            ),
            ("127.0.0.1:9464", "§x", "admin.address", "an IP address and a port"),
            (
                "9464 }",
                "9464, metric_labels_max: §0 }",
                "admin.metric_labels_max",
                "from 1 to 10000",
            ),
            (
                "9464 }",
                "9464, metric_labels_max: §many }",
                "admin.metric_labels_max",
                "whole number",
            ),
            (
                "https://idp.internal:8443",
                "§ftp://idp.internal",
                "upstream.url",
                "begins with http",
            ),
            ("https://idp.internal:8443", "§https://idp.internal/x", "upstream.url", "has a path"),
            ("https://idp.internal:8443", "§https://idp.internal/?x", "upstream.url", "a query"),
            ("https://idp.internal:8443", "§https://idp.internal#x", "upstream.url", "fragment"),
            (
                "https://idp.internal:8443",
                "§https://u:canary-7f3a@idp.internal",
                "upstream.url",
                "a password",
            ),
            (
                "https://idp.internal:8443",
                "§\"https://idp .internal\"",
                "upstream.url",
                "character",
            ),
            ("https://idp.internal:8443", "§https://", "upstream.url", "is not a URL"),
            ("connect: 2s", "connect: §2", "upstream.timeouts.connect", "with its unit"),
            ("connect: 2s", "connect: §0s", "upstream.timeouts.connect", "from 10ms to 1m"),
            ("read: 30s", "read: §2h", "upstream.timeouts.read", "from 10ms to 1h"),
            (
                "  timeouts:",
                "  ca: { file: §nowhere.pem }\n  timeouts:",
                "upstream.ca.file",
                "can't be read",
            ),
            (
                "  timeouts:",
                "  ca: { file: §tls.key }\n  timeouts:",
                "upstream.ca.file",
                "a private key",
            ),
            (
                "  timeouts:",
                "  ca: { file: §token }\n  timeouts:",
                "upstream.ca.file",
                "no certificate in PEM",
            ),
            ("  timeouts:", "  ca: { file: §. }\n  timeouts:", "upstream.ca.file", "regular file"),
            ("  timeouts:", "  ca: { file: §large }\n  timeouts:", "upstream.ca.file", "larger"),
            ("connections: 100", "connections: §0", "limits.connections", "from 1 to 1000000"),
            (
                "connections: 100",
                "connections_per_address: §0",
                "limits.connections_per_address",
                "from 1 to 1000000",
            ),
            ("connections: 100", "requests: §0", "limits.requests", "from 1 to 1000000"),
            (
                "connections: 100",
                "forwarded_requests: §2000000",
                "limits.forwarded_requests",
                "from 1 to 1000000",
            ),
            ("connections: 100", "drain_timeout: §2h", "limits.drain_timeout", "from 0s to 1h"),
        ],
    );
}

#[test]
fn a_listeners_certificate_and_key_belong_together() {
    let tls = "127.0.0.1:8080\n    tls: { certificate: { file: tls.crt }, private_key: { file: tls.key } }";
    let (config, warnings) = load(changed("127.0.0.1:8080", tls)).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.listen[0].tls.as_ref().unwrap().chain.len(), 1);
    for (part, other, path, message) in [
        ("tls.key", "§other.key", "private_key.file", "not that of the first certificate"),
        ("tls.key", "§garbage.pem", "private_key.file", "openssl pkcs8"),
        ("tls.crt", "§tls.key", "certificate.file", "a private key"),
        ("tls.crt", "§garbage.pem", "certificate.file", "no certificate"),
    ] {
        let (text, line, column) =
            unmark(&changed("127.0.0.1:8080", &tls.replacen(part, other, 1)));
        let faults = load(text).unwrap_err();
        let [fault] = faults.as_slice() else { panic!("{faults:#?}") };
        assert_eq!((fault.line, fault.column), (line, column), "{fault}");
        assert_eq!(fault.path, format!("listen[0].tls.{path}"));
        assert!(fault.message.contains(message), "{fault}");
    }
}

#[test]
fn the_upstreams_keys_come_from_where_nobody_changes_them_and_go_somewhere() {
    const AT: &str = "authorization_server.upstream_jwks";
    let with = |jwks: &str| format!("overlay: true\n  upstream_jwks: {jwks}");
    let loaded = |jwks: &str| load(changed("overlay: false", &with(jwks))).unwrap().0.upstream_jwks;
    let keys = "https://keys.example/jwks";
    assert_eq!(loaded(keys).unwrap().url.as_str(), keys);
    let detailed = loaded("{ url: \"https://keys.example/jwks\", ca: { file: ca.pem } }").unwrap();
    assert_eq!((detailed.url.as_str(), detailed.ca.unwrap().len()), (keys, 1));
    assert!(loaded("http://127.0.0.1:9001/jwks").is_some());
    // Of our own origin another path is another document.
    assert!(loaded("https://idp.example.com/oauth2/other").is_some());
    let own = "is what Cambio itself answers";
    for (to, part) in [
        (with("§http://keys.example/jwks"), "plain http off loopback"),
        (with("§https://idp.example.com/oauth2/jwks"), own),
        (with("§https://idp.example.com:443/oauth2/jwks?x"), own),
        (with("§https://keys.example/jwks").replace("true", "false"), "needs `overlay: true`"),
    ] {
        each_of("overlay: false", AT, &[(&to, "", part)]);
    }
    let (from, to) = (
        "overlay: false\n  endpoints:\n    token: [/oauth2/token]\n    jwks: /oauth2/jwks",
        "overlay: true\n  upstream_jwks: §https://keys.example/jwks\n  endpoints:\n    token: [/oauth2/token]",
    );
    each_of(from, AT, &[(to, "", "needs `endpoints.jwks`")]);
}

#[test]
fn the_authorization_server_has_a_url_and_plain_paths() {
    each(
        Severity::Fault,
        &[
            (
                "issuer: https://idp.example.com/oauth2/token",
                "issuer: §idp",
                "authorization_server.issuer",
                "must be a URL",
            ),
            (
                "issuer: https://idp.example.com/oauth2/token",
                "issuer: §\"\"",
                "authorization_server.issuer",
                "is empty",
            ),
            (
                "issuer: https://idp.example.com/oauth2/token",
                "issuer: §\"https://idp\\tx\"",
                "authorization_server.issuer",
                "control character",
            ),
            ("overlay: false", "overlay: §\"no\"", "authorization_server.overlay", "true or false"),
            (
                "[/oauth2/token]",
                "[§oauth2/token]",
                "authorization_server.endpoints.token[0]",
                "begins with /",
            ),
            ("[/oauth2/token]", "[§/a//b]", "authorization_server.endpoints.token[0]", "`//`"),
            ("[/oauth2/token]", "[§/a/../b]", "authorization_server.endpoints.token[0]", "`/../`"),
            ("[/oauth2/token]", "[§/a/.]", "authorization_server.endpoints.token[0]", "`/./`"),
            ("[/oauth2/token]", "[§/a;b]", "authorization_server.endpoints.token[0]", "plain path"),
            (
                "[/oauth2/token]",
                "[§/a%62]",
                "authorization_server.endpoints.token[0]",
                "plain path",
            ),
            (
                "[/oauth2/token]",
                "[§\"/a?b\"]",
                "authorization_server.endpoints.token[0]",
                "a query",
            ),
            (
                "[/oauth2/token]",
                "[/x, §/x]",
                "authorization_server.endpoints.token[1]",
                "path of `token` already",
            ),
            (
                "jwks: /oauth2/jwks",
                "jwks: §/OAuth2/token/",
                "authorization_server.endpoints.jwks",
                "path of `token` already, on line 11",
            ),
            (
                "unknown_issuers: reject",
                "unknown_issuers: §forwards",
                "authorization_server.unknown_issuers",
                "did you mean `forward`?",
            ),
        ],
    );
}

#[test]
fn signing_keys_are_private_and_fit_their_algorithm() {
    const FILE: &str = "{ file: signing.pem }";
    const KEY: &str = "private_key: { file: signing.pem }";
    const AT: &str = "signing_keys[0].private_key";
    const FILE_AT: &str = "signing_keys[0].private_key.file";
    const ENV_AT: &str = "signing_keys[0].private_key.env";
    each(
        Severity::Fault,
        &[
            ("ES256\n", "§HS256\n", "signing_keys[0].algorithm", "must be one of ES256, ES384, RS"),
            (FILE, "{ file: §ed25519.pem }", FILE_AT, "algorithm named beside it"),
            (FILE, "{ file: §shared.pem }", FILE_AT, "chmod 600"),
            (FILE, "{ file: §garbage.pem }", FILE_AT, "openssl pkcs8"),
            (FILE, "{ env: §GARBAGE }", ENV_AT, "openssl pkcs8"),
            (FILE, "{ env: §canary-7f3a }", ENV_AT, "letters, digits and _"),
            (FILE, "{ file: §canary-7f3a }", FILE_AT, "can't be read"),
            (KEY, "private_key: §canary-7f3a", AT, "never stands in this file itself"),
            (KEY, "§private_key: {}", AT, "env, file is missing"),
            (KEY, "§private_key: { file: signing.pem, env: B }", AT, "more than one"),
            (KEY, "§private_key: [{ file: a }]", AT, "never stands in this file"),
            (
                KEY,
                "private_key: { file: signing.pem }\n    kid: §\"a b\"",
                "signing_keys[0].kid",
                "printable ASCII",
            ),
            (
                KEY,
                "private_key: { file: signing.pem }\n    kid: §12",
                "signing_keys[0].kid",
                "put it in quotes",
            ),
            (
                KEY,
                "private_key: { file: signing.pem }\n    not_before: §tomorrow",
                "signing_keys[0].not_before",
                "RFC 3339",
            ),
            (
                KEY,
                "private_key: { file: signing.pem }\n    not_before: §2026-12-01",
                "signing_keys[0].not_before",
                "RFC 3339",
            ),
            (
                KEY,
                "private_key: { file: signing.pem }\n  - §algorithm: ES256\n    private_key: { file: signing.pem }",
                "signing_keys[1]",
                "has the `kid` of the key on line 17",
            ),
        ],
    );
}

/// RFC 7518 §3.3.
#[test]
fn a_signing_key_of_rsa_has_2048_bits() {
    const KEY: &str = "ES256\n    private_key: { file: signing.pem }";
    let at = |name: &str| folder().join(name);
    write(&at("rsa-1024.pem"), include_str!("rsa_1024.pem"), 0o600);
    write(&at("rsa-2048.pem"), generate_pem(Algorithm::RS256).unwrap().as_bytes(), 0o600);
    for algorithm in ["RS256", "RS384", "RS512", "PS256"] {
        let with = |file: &str| format!("{algorithm}\n    private_key: {{ file: {file} }}");
        assert_eq!(load(changed(KEY, &with("rsa-2048.pem"))).unwrap().1, [], "{algorithm}");
        let part = "is an RSA key of less than 2048 bits";
        let path = "signing_keys[0].private_key.file";
        each_of(KEY, path, &[(&with("§rsa-1024.pem"), "", part)]);
    }
}

#[test]
fn what_is_required_is_missed_where_it_should_be() {
    for (from, to, path, line, key) in [
        ("listen:\n  - address: 127.0.0.1:8080\n", "", "", 1, "listen"),
        ("- address: 127.0.0.1:8080", "- {}", "listen[0]", 2, "address"),
        ("  url: https://idp.internal:8443\n", "", "upstream", 4, "url"),
        (
            "  issuer: https://idp.example.com/oauth2/token\n",
            "",
            "authorization_server",
            7,
            "issuer",
        ),
        ("    token: [/oauth2/token]\n", "", "authorization_server.endpoints", 10, "token"),
        ("- algorithm: ES256\n    private", "- private", "signing_keys[0]", 17, "algorithm"),
        ("    private_key: { file: signing.pem }\n", "", "signing_keys[0]", 17, "private_key"),
        ("- name: batch\n    issuer", "- issuer", "trusted_token_issuers[1]", 26, "name"),
        ("    issuer: urn:example:batch\n", "", "trusted_token_issuers[1]", 26, "issuer"),
        ("- client_id: phone\n    type", "- type", "applications[1]", 41, "client_id"),
        ("    type: mobile\n", "", "applications[1]", 41, "type"),
        (
            "    allowed_grant_types: [client_credentials]\n",
            "",
            "applications[1]",
            41,
            "allowed_grant_types",
        ),
    ] {
        let faults = load(changed(from, to)).unwrap_err();
        let [fault] = of(&faults, Severity::Fault)[..] else { panic!("{key}: {faults:#?}") };
        assert_eq!((fault.path.as_str(), fault.line), (path, line), "{fault}");
        let begin = format!("the key `{key}` is missing: add it, ");
        assert!(fault.message.starts_with(&begin), "{fault}");
    }
}

#[test]
fn what_comes_later_says_so() {
    let part = "not available in this version";
    each(Severity::Fault, &[("limits: {", "§tests: []\nlimits: {", "tests", part)]);
}

#[test]
fn operators_show_a_token_that_fits_into_a_header_field() {
    const AT: &str = "admin.token";
    each_of(
        "9464 }",
        AT,
        &[
            ("9464, token: §canary-7f3a }", "", "never stands in this file itself"),
            ("9464, §token: {} }", "", "env, file is missing"),
            ("9464, §token: { env: ADMIN_TOKEN, file: token } }", "", "more than one of"),
            ("9464, token: { env: §UNSET } }", ".env", "is not set"),
            ("9464, token: { env: §EMPTY } }", ".env", "is empty"),
            ("9464, token: { env: §GARBAGE } }", ".env", "no bearer token has"),
            ("9464, token: { file: §binary } }", ".file", "no bearer token has"),
            ("9464, token: { file: §canary-7f3a } }", ".file", "can't be read"),
        ],
    );
    let token = |to: &str| {
        let (config, warnings) = load(changed("127.0.0.1:9464 }", to)).unwrap();
        assert_eq!(warnings, [], "{to}");
        config.admin.token.map(|token| token.expose_secret().to_owned())
    };
    let theirs = format!("{CANARY}-of-the-operators");
    assert_eq!(token("127.0.0.1:9464 }"), None);
    assert_eq!(token("127.0.0.1:9464, token: { env: ADMIN_TOKEN } }"), Some(theirs.clone()));
    assert_eq!(token("0.0.0.0:9464, token: { env: ADMIN_TOKEN } }"), Some(theirs));
    let file = token("127.0.0.1:9464, token: { file: portal-secret } }");
    assert_eq!(file, Some(format!("{CANARY}-in-a-file")));
}

#[test]
fn five_faults_are_named_in_one_go_with_their_lines() {
    let text = BASE
        .replace("127.0.0.1:8080", "nowhere")
        .replace("clock_skew: 30s", "clock_skew: 3m")
        .replace("[partner]", "[partner, bach]")
        .replace("type: mobile", "typ: mobile")
        .replace("connections: 100", "connections: 100, connections: 200");
    let faults = load(text).unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| (fault.line, fault.path.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "listen[0].address"),
            (24, "trusted_token_issuers[0].clock_skew"),
            (37, "applications[0].trusted_token_issuers[1]"),
            // `type` is missing, and `typ` is unknown.
            (41, "applications[1]"),
            (42, "applications[1]"),
            (44, "limits"),
        ]
    );
    assert_eq!(
        faults[2].to_string(),
        format!(
            "{}:37:38: applications[0].trusted_token_issuers[1]: no trusted token issuer has this \
             `name`: correct it or add one; did you mean `batch`?",
            file().display()
        )
    );
}
