//! The rules for who may introspect what.

use cambio::config::Severity;
use cambio::exchange::policy::ResourceServer;

use super::config_support::{changed, load, of, unmark};

/// The base with an endpoint to ask, and these resource servers before `limits`.
fn with(servers: &str) -> String {
    let text = changed(
        "    revocation: /oauth2/revoke\n",
        "    revocation: /oauth2/revoke\n    introspection: /oauth2/introspect\n",
    );
    text.replace("limits: {", &format!("{servers}\nlimits: {{"))
}

#[test]
fn resource_servers_are_named_with_what_they_may_ask_for() {
    let servers = |text: &str| {
        let (config, warnings) = load(with(text)).unwrap();
        assert_eq!(warnings, [], "{text}");
        config.policy.resource_servers().to_vec()
    };
    assert_eq!(servers(""), []);
    let server = |client_id: &str, audiences: &[&str]| ResourceServer {
        client_id: client_id.to_owned(),
        audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
    };
    assert_eq!(
        servers(
            "resource_servers:\n  - { client_id: svc1, audiences: [https://api.example.com] }\n  \
             - client_id: portal\n    audiences: [phone, https://api.example.com]"
        ),
        [
            server("svc1", &["https://api.example.com"]),
            // What an application may ask for by default is its own `client_id`.
            server("portal", &["phone", "https://api.example.com"]),
        ]
    );
}

#[test]
fn what_is_wrong_with_resource_servers_is_told_where_it_stands() {
    for (servers, path, severity, part) in [
        ("§resource_servers: []", "", Severity::Fault, "empty list"),
        ("resource_servers: §svc1", "", Severity::Fault, "a list is expected"),
        ("resource_servers: [§svc1]", "[0]", Severity::Fault, "with the keys client_id, audiences"),
        (
            "resource_servers: [§{ audiences: [phone] }]",
            "[0]",
            Severity::Fault,
            "the key `client_id` is missing",
        ),
        (
            "resource_servers: [§{ client_id: svc1 }]",
            "[0]",
            Severity::Fault,
            "the key `audiences` is missing",
        ),
        (
            "resource_servers: [{ client_id: svc1, §audiences: [] }]",
            "[0].audiences",
            Severity::Fault,
            "empty list",
        ),
        (
            "resource_servers: [{ client_id: svc1, audiences: §phone }]",
            "[0].audiences",
            Severity::Fault,
            "a list is expected",
        ),
        (
            "resource_servers: [{ client_id: §sérvice, audiences: [phone] }]",
            "[0].client_id",
            Severity::Fault,
            "printable ASCII",
        ),
        (
            "resource_servers: [{ client_id: §\"*\", audiences: [phone] }]",
            "[0].client_id",
            Severity::Fault,
            "name each client",
        ),
        (
            "resource_servers:\n  - { client_id: svc1, audiences: [phone] }\n  \
             - { client_id: §svc1, audiences: [phone] }",
            "[1].client_id",
            Severity::Fault,
            "the same `client_id` stands on line 46",
        ),
        (
            "resource_servers: [{ client_id: svc1, §audience: phone, audiences: [phone] }]",
            "[0]",
            Severity::Fault,
            "unknown key `audience`; did you mean `audiences`?",
        ),
        (
            "resource_servers: [{ client_id: svc1, audiences: [phone, §https://api.example.org] }]",
            "[0].audiences[1]",
            Severity::Warning,
            "no application may ask for this audience; did you mean `https://api.example.com`?",
        ),
        (
            "resource_servers: [{ client_id: svc1, audiences: [§urn:nobody] }]",
            "[0].audiences[0]",
            Severity::Warning,
            "no application may ask for this audience",
        ),
    ] {
        let (text, line, column) = unmark(&with(servers));
        let findings = match load(&text) {
            Ok((_, warnings)) => {
                assert_eq!(severity, Severity::Warning, "{servers}");
                warnings
            }
            Err(findings) => findings,
        };
        let found = of(&findings, severity);
        let [found] = found.as_slice() else { panic!("{servers}: {findings:#?}") };
        assert_eq!(found.path, format!("resource_servers{path}"), "{found}");
        assert!(found.message.contains(part), "{found}");
        assert_eq!((found.line, found.column), (line, column), "{servers}: {found}");
    }
}

#[test]
fn without_an_endpoint_resource_servers_have_no_effect() {
    let text = "resource_servers: [{ client_id: svc1, audiences: [phone] }]\nlimits: {";
    let (_, warnings) = load(changed("limits: {", text)).unwrap();
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_eq!((warning.line, warning.path.as_str()), (44, "resource_servers"));
    assert!(warning.message.contains("has no effect without `authorization_server.endpoints"));
}

#[test]
fn an_audience_is_not_missed_where_those_that_there_are_could_not_be_read() {
    let servers = "resource_servers: [{ client_id: svc1, audiences: [urn:nobody] }]";
    for (from, to) in [
        ("audiences: [https://api.example.com]", "audiences: 7"),
        ("audiences: [https://api.example.com]", "audiences: [7]"),
        ("client_id: phone", "client_id: 7"),
        ("- client_id: phone\n    type: mobile", "- 7\n  - type: mobile"),
    ] {
        let findings = load(with(servers).replace(from, to)).unwrap_err();
        let warnings = of(&findings, Severity::Warning);
        assert!(warnings.is_empty(), "{to}: {warnings:#?}");
    }
}
