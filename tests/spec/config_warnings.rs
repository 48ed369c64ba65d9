//! What can be used, but was hardly meant.

use std::fmt::Write as _;

use cambio::config::Severity;
use cambio::secret;

use super::config_support::{BASE, CANARY, changed, each, load, of, unmark};

#[test]
fn what_was_hardly_meant_is_warned_of() {
    const SECRET: &str = "client_secret: { env: PORTAL_SECRET }";
    const HASHES: &str = "client_secret: [{ hash: \"$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$LzqfpDBXRxTgW1jXmOWBLBOtAZVqKxHkuPg/vjDHnYw\" }, { hash: §\"$argon2id$v=19$m=65536,t=3,p=1$BwcHBwcHBwcHBwcHBwcHBw$LzqfpDBXRxTgW1jXmOWBLBOtAZVqKxHkuPg/vjDHnYw\" }]";
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
                "issuer: https://partner.example/token",
                "issuer: §https://idp.example.com/oauth2/token",
                "trusted_token_issuers[0].issuer",
                "issuer of minted tokens too",
            ),
            (
                SECRET,
                "client_secret: { hash: §\"$argon2id$v=19$m=8,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$LzqfpDBXRxTgW1jXmOWBLBOtAZVqKxHkuPg/vjDHnYw\" }",
                "applications[0].client_secret.hash",
                "so little work",
            ),
            (
                SECRET,
                "client_secret: { file: §secret-shared }",
                "applications[0].client_secret.file",
                "chmod 600 it where that is possible",
            ),
            (
                "127.0.0.1:8080",
                "127.0.0.1:8080\n    tls: { certificate: { file: tls.crt }, private_key: { file: §tls-shared.key } }",
                "listen[0].tls.private_key.file",
                "chmod 600 it where that is possible",
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
                "has the name of the application on line 31",
            ),
        ],
    );
}

/// The base with these prefixes. Where there is none, another key takes its line.
fn with_prefixes(first: Option<&str>, second: Option<&str>) -> String {
    let line = |prefix: Option<&str>| match prefix {
        Some(prefix) => format!("subject_prefix: \"{prefix}\""),
        None => "enabled: true".to_owned(),
    };
    let text = changed("subject_prefix: \"p:\"", &line(first));
    text.replacen("subject_prefix: \"b:\"", &line(second), 1)
}

#[test]
fn issuers_that_can_name_two_people_alike_are_warned_of() {
    const SAME: &str = "its subjects and those of the issuer on line 20 share one name space: give \
                        each a `subject_prefix` of its own";
    const ALIKE: &str = "its subjects and those of the issuer on line 20 can have one name, as the \
                         `subject_prefix` of one begins with that of the other, or one has none: \
                         give each a `subject_prefix` that no other begins with";
    for (first, second, message) in [
        (Some("p:"), Some("p:"), SAME),
        (None, None, SAME),
        (Some(""), None, SAME),
        // `k8s:alice` of whom has no prefix is `alice` of whom has this one.
        (None, Some("k8s:"), ALIKE),
        (Some("k8s:"), None, ALIKE),
        (Some("k8s:"), Some(""), ALIKE),
        (Some("a"), Some("ab"), ALIKE),
        (Some("ab"), Some("a"), ALIKE),
        (Some("p:"), Some("p:q:"), ALIKE),
        (Some("ä"), Some("äö"), ALIKE),
    ] {
        let text = with_prefixes(first, second);
        let (_, warnings) = load(&text).unwrap();
        let [warning] = warnings.as_slice() else { panic!("{first:?} {second:?}: {warnings:#?}") };
        // The later one is named, and the other one in the sentence.
        assert_eq!((warning.line, warning.column), (26, 5), "{warning}");
        assert_eq!(warning.path, "trusted_token_issuers[1]", "{warning}");
        assert_eq!(warning.message, message, "{first:?} {second:?}");
        // One that is disabled names nobody.
        let text = text.replace("    enabled: true\n", "");
        for name in ["partner", "batch"] {
            let from = format!("- name: {name}\n");
            let disabled = text.replacen(&from, &format!("{from}    enabled: false\n"), 1);
            assert_eq!(load(disabled).unwrap().1, [], "{first:?} {second:?}: {name}");
        }
    }
    for (first, second) in [("a:", "b:"), ("a", "b"), ("ab", "ac"), ("a", "ba"), ("ab:", "a:")] {
        let text = with_prefixes(Some(first), Some(second));
        assert_eq!(load(text).unwrap().1, [], "{first} {second}");
    }
}

/// Which issuers are warned of, and because of whom: the first stands on line 20, and so on.
fn sharing(prefixes: &[&str]) -> Vec<(usize, usize)> {
    let mut issuers = String::new();
    for (at, prefix) in prefixes.iter().enumerate() {
        writeln!(
            issuers,
            "  - {{ name: n{at}, issuer: \"urn:{at}\", certificate: {{ file: partner.pem }}, \
             subject_prefix: \"{prefix}\" }}"
        )
        .unwrap();
    }
    let (before, rest) = BASE.split_once("  - name: partner\n").unwrap();
    let (_, after) = rest.split_once("applications:\n").unwrap();
    let after = after.replace("    trusted_token_issuers: [partner]\n", "");
    let (_, warnings) = load(format!("{before}{issuers}applications:\n{after}")).unwrap();
    let other = |message: &str| -> usize {
        let (_, rest) = message.split_once(" of the issuer on line ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    warnings.iter().map(|warning| (warning.line, other(&warning.message))).collect()
}

#[test]
fn each_issuer_is_warned_of_once_and_with_one_other() {
    let nobody: [(usize, usize); 0] = [];
    assert_eq!(sharing(&["a:", "b:", "c:", "d:"]), nobody);
    // Whichever has the shorter prefix, and wherever it stands in their order.
    assert_eq!(sharing(&["b:", "a:", "c:", "b:x"]), [(23, 20)]);
    assert_eq!(sharing(&["b:x", "a:", "c:", "b:"]), [(23, 20)]);
    assert_eq!(sharing(&["a", "c", "b", "bb"]), [(23, 22)]);
    // Of several the one with the shortest.
    assert_eq!(sharing(&["", "a:", "a:b:", "c:"]), [(21, 20), (22, 20), (23, 20)]);
    assert_eq!(sharing(&["a:b:", "a:", "a:b:c:"]), [(21, 20), (22, 21)]);
    // Of those with the same one the first.
    assert_eq!(sharing(&["a:", "b:", "b:", "b:"]), [(22, 21), (23, 21)]);
}

#[test]
fn a_prefix_that_cannot_be_read_is_not_taken_for_none() {
    let findings = load(changed("subject_prefix: \"b:\"", "subject_prefix: [b]")).unwrap_err();
    let [fault] = of(&findings, Severity::Fault)[..] else { panic!("{findings:#?}") };
    assert_eq!(fault.path, "trusted_token_issuers[1].subject_prefix");
    assert!(of(&findings, Severity::Warning).is_empty(), "{findings:#?}");
}

#[test]
fn a_client_secret_that_might_be_guessed_is_warned_of() {
    const SECRET: &str = "client_secret: { env: PORTAL_SECRET }";
    const SHORT: &str = "the secret that is named here has fewer than 16 bytes and might be \
                         guessed: choose a longer one";
    for (to, at, secret) in [
        ("{ env: §OF_15_BYTES }", ".env", "-123"),
        ("{ env: §SHORT }", ".env", ""),
        ("{ file: §secret-short }", ".file", "-123"),
        ("[{ env: PORTAL_SECRET }, { env: §OF_15_BYTES }]", "[1].env", "-123"),
        ("[{ file: §secret-short }, { env: PORTAL_SECRET }]", "[0].file", "-123"),
    ] {
        let (text, line, column) = unmark(&changed(SECRET, &format!("client_secret: {to}")));
        let (config, warnings) = load(text).unwrap();
        let [warning] = warnings.as_slice() else { panic!("{to}: {warnings:#?}") };
        assert_eq!((warning.line, warning.column), (line, column), "{warning}");
        assert_eq!(warning.path, format!("applications[0].client_secret{at}"), "{warning}");
        assert_eq!(warning.message, SHORT, "{to}");
        // It is right nevertheless.
        let secret = format!("{CANARY}{secret}");
        let secrets = config.policy.application("portal").unwrap().authentication.secrets();
        assert!(secrets.iter().any(|stored| stored.matches(secret.as_bytes())), "{to}");
    }
    // How long a secret is can't be told from its hash.
    let hash = format!("{{ hash: \"{}\" }}", secret::hash(b"short", &[7; 16]).unwrap());
    for to in [
        "{ env: OF_16_BYTES }",
        "{ file: secret-of-16 }",
        "[{ env: OF_16_BYTES }, { file: portal-secret }]",
        hash.as_str(),
    ] {
        let text = changed(SECRET, &format!("client_secret: {to}"));
        assert_eq!(load(text).unwrap().1, [], "{to}");
    }
}

#[test]
fn operators_who_cannot_change_anything_are_warned() {
    const ADMIN: &str = "admin: { address: 127.0.0.1:9464 }";
    each(
        Severity::Warning,
        &[
            (ADMIN, "admin: { address: §0.0.0.0:9464 }", "admin.address", "without a `token`"),
            (ADMIN, "admin: { address: §\"[::]:9464\" }", "admin.address", "without a `token`"),
            (
                ADMIN,
                "admin: { token: { env: §SHORT } }",
                "admin.token.env",
                "fewer than 16 characters",
            ),
            (
                ADMIN,
                "admin: { token: { file: §secret-shared } }",
                "admin.token.file",
                "chmod 600 it where that is possible",
            ),
        ],
    );
}

#[test]
fn what_was_meant_is_not_warned_of() {
    for (from, to) in [
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
