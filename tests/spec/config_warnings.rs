//! What can be used, but was hardly meant.

use cambio::config::Severity;

use super::config_support::{BASE, changed, each, load, of};

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
                "issuer: https://partner.example/token",
                "issuer: §https://idp.example.com/oauth2/token",
                "trusted_token_issuers[0].issuer",
                "issuer of minted tokens too",
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
                "has the name of the application on line 30",
            ),
        ],
    );
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
