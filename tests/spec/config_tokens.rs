//! The rules for how long tokens live, what they are to others, and how often they are exchanged.

use std::time::Duration;

use cambio::config::{Config, Severity};
use cambio::exchange::client::Format;
use cambio::exchange::cut_off::LONGEST_LIFE;
use cambio::exchange::family::RefreshTokenSettings;

use super::config_support::{changed, each, each_of, load};

const TOKEN: &str = "access_token: { lifetime: 1h }";
const REVOCATION: &str = "    revocation: /oauth2/revoke\n";
const EXCHANGE: &str = "      - urn:ietf:params:oauth:grant-type:token-exchange\n";
const SKEW: &str = "clock_skew: 30s";

/// The base with the grant that refreshes, and `to` in the place of `access_token`.
fn refreshing(to: &str) -> String {
    let text = changed(EXCHANGE, &format!("{EXCHANGE}      - refresh_token\n"));
    text.replace(TOKEN, to)
}

fn loaded(text: impl AsRef<[u8]>) -> Config {
    let (config, warnings) = load(text).unwrap();
    assert_eq!(warnings, []);
    config
}

#[test]
fn refresh_tokens_have_lifetimes_within_bounds() {
    let seconds = Duration::from_secs;
    let settings = |to: &str| {
        let config = loaded(refreshing(to));
        let portal = config.policy.application("portal").unwrap();
        assert!(portal.gets_refresh_tokens());
        assert!(!config.policy.application("phone").unwrap().may_refresh());
        portal.refresh_token
    };
    let default =
        RefreshTokenSettings { lifetime: seconds(24 * 3600), idle: None, grace: Duration::ZERO };
    assert_eq!(settings(TOKEN), default);
    assert_eq!(settings("refresh_token: {}"), default);
    for (to, expected) in [
        (
            "refresh_token: { lifetime: 1m }",
            RefreshTokenSettings { lifetime: seconds(60), ..default },
        ),
        (
            "refresh_token: { lifetime: 366d }",
            RefreshTokenSettings { lifetime: LONGEST_LIFE, ..default },
        ),
        (
            "refresh_token: { idle: 24h }",
            RefreshTokenSettings { idle: Some(seconds(86400)), ..default },
        ),
        ("refresh_token: { grace: 10s }", RefreshTokenSettings { grace: seconds(10), ..default }),
        (
            "refresh_token: { lifetime: 30d, idle: 1m, grace: 500ms }",
            RefreshTokenSettings {
                lifetime: seconds(30 * 86400),
                idle: Some(seconds(60)),
                grace: Duration::from_millis(500),
            },
        ),
    ] {
        assert_eq!(settings(to), expected, "{to}");
    }
    each_of(
        "    access_token: { lifetime: 1h }",
        "applications[0].refresh_token",
        &[
            ("    refresh_token: { lifetime: §59s }", ".lifetime", "from 1m to 366d"),
            ("    refresh_token: { lifetime: §367d }", ".lifetime", "from 1m to 366d"),
            ("    refresh_token: { lifetime: §24 }", ".lifetime", "with its unit"),
            ("    refresh_token: { idle: §59s }", ".idle", "from 1m to 1d"),
            ("    refresh_token: { idle: §25h }", ".idle", "from 1m to 1d"),
            ("    refresh_token: { lifetime: 2h, idle: §3h }", ".idle", "from 1m to 2h"),
            // What is wrong with the lifetime is told once.
            ("    refresh_token: { lifetime: §1s, idle: 300d }", ".lifetime", "from 1m to 366d"),
            ("    refresh_token: { grace: §11s }", ".grace", "from 0s to 10s"),
            ("    refresh_token: { grace: §true }", ".grace", "a duration such as"),
            ("    refresh_token: { §life_time: 1h }", "", "did you mean `lifetime`?"),
            ("    refresh_token: §1d", "", "with the keys lifetime, idle, grace"),
            ("    §refresh_token:", "", "nothing stands here"),
        ],
    );
}

#[test]
fn refresh_tokens_that_nobody_gets_are_warned_of() {
    each(
        Severity::Warning,
        &[
            (
                TOKEN,
                "access_token: { lifetime: 1h }\n    §refresh_token: { lifetime: 1d }",
                "applications[0].refresh_token",
                "has no effect: `refresh_token` is not among the `allowed_grant_types`",
            ),
            (
                "[client_credentials]",
                "[client_credentials, §refresh_token]",
                "applications[1].allowed_grant_types[1]",
                "gives nothing without token exchange",
            ),
        ],
    );
}

#[test]
fn an_opaque_token_can_be_looked_up_or_is_warned_of() {
    let introspection = format!("{REVOCATION}    introspection: /oauth2/introspect\n");
    let format = |to: &str| {
        let config = loaded(changed(REVOCATION, &introspection).replace(TOKEN, to));
        config.policy.application("portal").unwrap().access_token.format
    };
    assert_eq!(format(TOKEN), Format::Jwt);
    assert_eq!(format("access_token: { format: jwt }"), Format::Jwt);
    assert_eq!(format("access_token: { format: opaque }"), Format::Opaque);
    each(
        Severity::Warning,
        &[(
            TOKEN,
            "access_token: { format: §opaque }",
            "applications[0].access_token.format",
            "add `authorization_server.endpoints.introspection`",
        )],
    );
    each(
        Severity::Fault,
        &[
            (
                TOKEN,
                "access_token: { format: §JWT }",
                "applications[0].access_token.format",
                "must be one of jwt, opaque; did you mean `jwt`?",
            ),
            (
                TOKEN,
                "access_token: { format: §opague }",
                "applications[0].access_token.format",
                "did you mean `opaque`?",
            ),
        ],
    );
    // Whether there is such an endpoint is not known where its section can't be read.
    for (broken, to) in [
        ("issuer: https://idp.example.com/oauth2/token\n", "issuer: 7\n"),
        ("token: [/oauth2/token]", "token: []"),
    ] {
        let text = changed(broken, to).replace(TOKEN, "access_token: { format: opaque }");
        let findings = load(text).unwrap_err();
        assert_eq!(findings.len(), 2, "the missing endpoint is told beside: {findings:#?}");
    }
    for (broken, to) in [
        ("authorization_server:\n  issuer", "authorization_server: 7\nx:\n  issuer"),
        ("endpoints:\n    token", "endpoints: 7\n  x:\n    token"),
    ] {
        let text = changed(broken, to).replace(TOKEN, "access_token: { format: opaque }");
        let findings = load(text).unwrap_err();
        let is_warned = findings.iter().any(|fault| fault.severity == Severity::Warning);
        assert!(!is_warned, "{findings:#?}");
    }
}

#[test]
fn a_token_that_comes_once_is_remembered_for_a_time_that_is_bounded() {
    let once = |to: &str| loaded(changed(SKEW, to)).trusted_token_issuers[0].issuer.once;
    assert!(!once(SKEW));
    assert!(!once("replay: allow"));
    assert!(once("replay: once\n    max_lifetime: 1h"));
    each(
        Severity::Warning,
        &[(SKEW, "replay: §once", "trusted_token_issuers[0].replay", "without `max_lifetime`")],
    );
    each_of(
        SKEW,
        "trusted_token_issuers[0]",
        &[
            ("replay: §never", ".replay", "must be one of allow, once"),
            ("replay: §true", ".replay", "put it in quotes"),
        ],
    );
}

#[test]
fn the_store_is_opened_where_there_is_something_to_keep_or_to_ask() {
    let plain = changed(REVOCATION, "");
    let needs = |from: &str, to: &str| {
        assert_eq!(plain.matches(from).count(), 1, "{from}");
        load(plain.replacen(from, to, 1)).unwrap().0.needs_store()
    };
    assert!(!loaded(&plain).needs_store());
    for (from, to) in [
        ("metadata: []", "revocation: /r"),
        ("metadata: []", "introspection: /i"),
        (SKEW, "replay: once"),
        (TOKEN, "access_token: { format: opaque }"),
        (
            EXCHANGE,
            "      - urn:ietf:params:oauth:grant-type:token-exchange\n      - refresh_token\n",
        ),
        ("limits: {", "store: { embedded: { path: state } }\nlimits: {"),
    ] {
        assert!(needs(from, to), "{to}");
    }
    for (from, to) in [
        ("[client_credentials]", "[refresh_token]"),
        ("[client_credentials]", "[client_credentials]\n    access_token: { format: opaque }"),
        (TOKEN, "refresh_token: { lifetime: 1h }"),
        (SKEW, "replay: allow"),
        ("9464 }", "9464, token: { env: ADMIN_TOKEN } }"),
    ] {
        assert!(!needs(from, to), "{to}");
    }
}
