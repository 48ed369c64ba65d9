//! The rules for the store.

use std::time::Duration;

use cambio::config::{RedisSettings, RedisTopology, Severity, StoreSettings};
use secrecy::ExposeSecret as _;

use super::config_support::{CANARY, changed, folder, load, of, unmark};

fn with(store: &str) -> String {
    changed("limits: {", &format!("{store}\nlimits: {{"))
}

fn store(text: &str) -> StoreSettings {
    let (config, warnings) = load(with(text)).unwrap();
    assert_eq!(warnings, [], "{text}");
    assert_eq!(config.has_named_store, !text.is_empty());
    config.store
}

fn redis(text: &str) -> RedisSettings {
    match store(&format!("store: {{ redis: {{ {text} }} }}")) {
        StoreSettings::Redis(settings) => settings,
        StoreSettings::Embedded { .. } => panic!("{text}"),
    }
}

/// The one finding of that severity stands at the mark.
fn found(severity: Severity, marked: &str, path: &str, part: &str) {
    let (text, line, column) = unmark(&with(marked));
    let (findings, is_loaded) = match load(&text) {
        Ok((_, warnings)) => (warnings, true),
        Err(findings) => (findings, false),
    };
    assert_eq!(is_loaded, severity == Severity::Warning, "{marked}: {findings:#?}");
    let found = of(&findings, severity);
    let [found] = found.as_slice() else { panic!("{marked}: {findings:#?}") };
    assert_eq!((found.line, found.column), (line, column), "{marked}: {found}");
    assert_eq!(found.path, path, "{marked}: {found}");
    assert!(found.message.contains(part), "{marked}: {found}");
}

#[test]
fn by_default_the_store_lies_beside_the_configuration() {
    let embedded = |path: &str| StoreSettings::Embedded { folder: folder().join(path) };
    assert_eq!(store(""), embedded("state"));
    assert_eq!(store("store: { embedded: {} }"), embedded("state"));
    assert_eq!(store("store: { embedded: { path: state/ } }"), embedded("state"));
    assert_eq!(store("store: { embedded: { path: a/b } }"), embedded("a/b"));
    assert_eq!(store("store: { embedded: { path: . } }"), embedded("."));
    assert_eq!(
        store("store: { embedded: { path: /var/lib/cambio } }"),
        embedded("/var/lib/cambio")
    );
    // It is no file of the configuration: a change in it is no reason to reload.
    let (config, _) = load(with("store: { embedded: { path: state } }")).unwrap();
    assert!(!config.files.contains(&folder().join("state")));
}

#[test]
fn a_store_is_one_of_the_two() {
    let fault = |marked, path, part| found(Severity::Fault, marked, path, part);
    fault("§store: {}", "store", "one of the keys embedded, redis is missing");
    fault(
        "§store: { embedded: {}, redis: { url: redis://127.0.0.1 } }",
        "store",
        "has more than one of the keys embedded, redis: keep one",
    );
    fault("store: §state", "store", "with the keys embedded, redis");
    fault("store: { §redes: {}, embedded: {} }", "store", "did you mean `redis`?");
    fault("store: { embedded: §state }", "store.embedded", "with the keys path");
    fault("store: { embedded: { path: §7 } }", "store.embedded.path", "put it in quotes");
    fault("store: { embedded: { path: §\"\" } }", "store.embedded.path", "is empty");
    fault("store: { embedded: { path: §token } }", "store.embedded.path", "token is no folder");
    fault("store: { embedded: { §folder: x } }", "store.embedded", "unknown key `folder`");
}

#[test]
fn a_redis_is_read_with_its_defaults() {
    let settings = redis("url: \"redis://127.0.0.1:6379\"");
    let urls: Vec<_> = settings.urls.iter().map(url::Url::as_str).collect();
    assert_eq!(urls, ["redis://127.0.0.1:6379"]);
    assert_eq!(settings.topology, RedisTopology::Single);
    assert_eq!(settings.username, None);
    assert!(settings.password.is_none() && settings.ca.is_none());
    assert_eq!(settings.connect_timeout, Duration::from_secs(1));
    assert_eq!(settings.command_timeout, Duration::from_secs(1));
    assert_eq!(settings.prefix, "cambio:");
    for url in [
        "redis://localhost",
        "redis://127.9.9.9:1",
        "redis://[::1]:6379/15",
        "rediss://redis.example.com",
        "rediss://redis.example.com:6380/",
        "REDISS://redis.example.com:6380/0",
    ] {
        let settings = redis(&format!("url: \"{url}\""));
        assert_eq!(settings.urls[0], url::Url::parse(url).unwrap());
    }
}

#[test]
fn a_redis_is_read_with_all_that_may_be_said_of_it() {
    let settings = redis(
        "url: [\"rediss://a.example:26379\", \"rediss://b.example:26379\"], username: cambio, \
         password: { env: REDIS_PASSWORD }, ca: { file: ca.pem }, cluster: false, \
         sentinel: { master: main }, timeouts: { connect: 10ms, command: 1m }, \
         prefix: \"eu/cambio-2_x.y:\"",
    );
    assert_eq!(settings.urls.len(), 2);
    assert_eq!(settings.topology, RedisTopology::Sentinel { master: "main".to_owned() });
    assert_eq!(settings.username.as_deref(), Some("cambio"));
    // The line end of a secret is no part of it, and anything else is.
    let password = settings.password.as_ref().unwrap().expose_secret();
    assert_eq!(password, format!("{CANARY}: of Redis"));
    assert_eq!(settings.ca.as_ref().unwrap().len(), 1);
    assert_eq!(settings.connect_timeout, Duration::from_millis(10));
    assert_eq!(settings.command_timeout, Duration::from_secs(60));
    assert_eq!(settings.prefix, "eu/cambio-2_x.y:");
    assert!(!format!("{settings:?}").contains(CANARY));

    let cluster = redis("url: [\"redis://127.0.0.1:1\", \"redis://127.0.0.1:2\"], cluster: true");
    assert_eq!(cluster.topology, RedisTopology::Cluster);
    let one = redis("url: [\"redis://127.0.0.1:1/3\"]");
    assert_eq!((one.urls.len(), one.topology), (1, RedisTopology::Single));
    let file = redis("url: \"redis://127.0.0.1:1\", password: { file: portal-secret }");
    assert_eq!(file.password.unwrap().expose_secret(), format!("{CANARY}-in-a-file"));
}

#[test]
fn what_is_wrong_with_a_redis_is_told_where_it_stands() {
    const LOCAL: &str = "url: \"redis://127.0.0.1:6379\"";
    let fault = |marked: &str, path: &str, part: &str| {
        let path = format!("store.redis{path}");
        // A mapping is named at its key.
        let marked = match marked.strip_prefix('§') {
            Some(mapping) if mapping.starts_with('{') => format!("§redis: {mapping}"),
            _ => format!("redis: {marked}"),
        };
        found(Severity::Fault, &format!("store: {{ {marked} }}"), &path, part);
    };
    fault("§{}", "", "the key `url` is missing");
    fault("§redis://127.0.0.1", "", "with the keys url, username");
    for (url, part) in [
        ("§127.0.0.1:6379", "begins with rediss:// (or redis://)"),
        ("§https://redis.example.com", "begins with rediss:// (or redis://)"),
        ("§unix:///run/redis", "begins with rediss:// (or redis://)"),
        ("§redis+tls://redis.example.com", "begins with rediss:// (or redis://)"),
        ("§redis://", "is not a URL: write it as rediss://host.example:6379"),
        ("§redis:///0", "is not a URL"),
        ("§rediss://redis.example.com:99999", "is not a URL"),
        ("§rediss://user@redis.example.com", "name them beside it, as `username` and `password`"),
        ("§rediss://:canary-7f3a@redis.example.com", "has a user name or a password in it"),
        ("§rediss://u:canary-7f3a@redis.example.com/0", "has a user name or a password in it"),
        ("§rediss://redis.example.com#x", "fragment"),
        ("§rediss://redis.example.com?db=1", "or a query"),
        ("§rediss://redis.example.com/0?x", "or a query"),
        ("§rediss://redis.example.com/main", "not the number of a database"),
        ("§rediss://redis.example.com/0/1", "not the number of a database"),
        ("§rediss://redis.example.com/12345", "not the number of a database"),
        ("§rediss://redis.example.com /0", "character that no URL has"),
    ] {
        let url = url.replacen('§', "§\"", 1);
        fault(&format!("{{ url: {url}\" }}"), ".url", part);
    }
    fault("{ §url: [] }", ".url", "empty list");
    let two = "[\"redis://127.0.0.1:1\", \"redis://127.0.0.1:2\"]";
    fault(&format!("{{ §url: {two} }}"), ".url", "add `cluster: true` or `sentinel`");
    fault(&format!("{{ §url: {two}, cluster: false }}"), ".url", "add `cluster: true`");
    fault(
        "{ url: [\"rediss://127.0.0.1:1\", §\"redis://127.0.0.1:2\"], cluster: true }",
        ".url[1]",
        "differs in its scheme from the one on line 44",
    );
    fault(
        "{ url: §\"redis://127.0.0.1:1/1\", cluster: true }",
        ".url",
        "has a database, which only a single Redis takes",
    );
    fault(
        "{ url: [\"redis://127.0.0.1:1\", §\"redis://127.0.0.1:2/1\"], sentinel: { master: m } }",
        ".url[1]",
        "has a database",
    );
    fault(
        &format!("§{{ {LOCAL}, cluster: true, sentinel: {{ master: m }} }}"),
        "",
        "has both `cluster` and `sentinel`",
    );
    fault(&format!("{{ {LOCAL}, §sentinel: {{}} }}"), ".sentinel", "the key `master` is missing");
    fault(&format!("{{ {LOCAL}, sentinel: §m }}"), ".sentinel", "with the keys master");
    fault(&format!("{{ {LOCAL}, cluster: §1 }}"), ".cluster", "true or false");
    fault(&format!("{{ {LOCAL}, password: §canary-7f3a }}"), ".password", "never stands in this");
    fault(&format!("{{ {LOCAL}, password: {{ env: §UNSET }} }}"), ".password.env", "is not set");
    fault(&format!("{{ {LOCAL}, password: {{ env: §EMPTY }} }}"), ".password.env", "is empty");
    fault(&format!("{{ {LOCAL}, password: {{ file: §binary }} }}"), ".password.file", "not UTF-8");
    fault(&format!("{{ {LOCAL}, username: §cambio }}"), ".username", "without a `password`");
    fault(&format!("{{ {LOCAL}, ca: {{ file: §token }} }}"), ".ca.file", "no certificate in PEM");
    for (prefix, part) in [
        ("{cambio}:", "letters, digits and"),
        ("cambio*", "letters, digits and"),
        ("cambio tokens", "letters, digits and"),
        ("câmbio:", "letters, digits and"),
        (&"x".repeat(65), "up to 64"),
        ("", "is empty"),
    ] {
        fault(&format!("{{ {LOCAL}, prefix: §\"{prefix}\" }}"), ".prefix", part);
    }
    for (timeouts, path, part) in [
        ("{ connect: §9ms }", ".timeouts.connect", "from 10ms to 1m"),
        ("{ command: §61s }", ".timeouts.command", "from 10ms to 1m"),
        ("{ §read: 1s }", ".timeouts", "known here: connect, command"),
    ] {
        fault(&format!("{{ {LOCAL}, timeouts: {timeouts} }}"), path, part);
    }
    assert_eq!(redis(&format!("{LOCAL}, prefix: \"{}\"", "x".repeat(64))).prefix.len(), 64);
}

#[test]
fn a_redis_that_others_can_listen_to_is_warned_of() {
    let warning = |marked: &str, path: &str, part: &str| {
        let path = format!("store.redis{path}");
        found(Severity::Warning, &format!("store: {{ redis: {{ {marked} }} }}"), &path, part);
    };
    let clear = "go there in the clear";
    warning("url: §\"redis://redis.example.com\", password: { env: SHORT }", ".url", clear);
    warning("url: §\"redis://10.0.0.1\"", ".url", clear);
    warning("url: §\"redis://localhost.example.com\"", ".url", clear);
    warning("url: §\"redis://127.0.0.1.example.com\"", ".url", clear);
    // Once for all of them.
    warning(
        "url: [\"redis://127.0.0.1\", §\"redis://10.0.0.1\", \"redis://10.0.0.2\"], cluster: true",
        ".url[1]",
        clear,
    );
    warning("url: \"redis://127.0.0.1\", §ca: { file: ca.pem }", ".ca", "has no effect");
    warning(
        "url: \"redis://127.0.0.1\", password: { file: §secret-shared }",
        ".password.file",
        "chmod 600 it where that is possible",
    );
}
