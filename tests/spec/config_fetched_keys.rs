//! The rules for what becomes of issuers' keys once they are fetched.

use std::time::Duration;

use cambio::config::{FetchedKeys, Severity};

use super::config_support::{changed, folder, load, of, unmark};

fn with(section: &str) -> String {
    changed("limits: {", &format!("{section}\nlimits: {{"))
}

fn fetched_keys(section: &str) -> FetchedKeys {
    let (config, warnings) = load(with(section)).unwrap();
    assert_eq!(warnings, [], "{section}");
    config.fetched_keys
}

#[test]
fn by_default_keys_serve_for_a_day_and_are_kept_where_the_store_is() {
    let day = Duration::from_hours(24);
    let cache = |path: &str| Some(folder().join(path));
    let expected = |cache| FetchedKeys { max_stale: day, cache };
    assert_eq!(fetched_keys(""), expected(cache("state/issuer-keys")));
    assert_eq!(fetched_keys("fetched_keys: {}"), expected(cache("state/issuer-keys")));
    for (section, cache) in [
        ("fetched_keys: { cache: true }", cache("state/issuer-keys")),
        ("fetched_keys: { cache: false }", None),
        ("fetched_keys: { cache: a/b }", cache("a/b")),
        ("fetched_keys: { cache: /var/lib/x }", cache("/var/lib/x")),
        ("store: { embedded: { path: kept } }", cache("kept/issuer-keys")),
        ("store: { redis: { url: redis://127.0.0.1 } }", cache("state/issuer-keys")),
    ] {
        assert_eq!(fetched_keys(section), expected(cache), "{section}");
    }
    assert!(!folder().join("state").exists());
    for (written, seconds) in [("5m", 300), ("90m", 5400), ("7d", 604_800)] {
        let max_stale =
            fetched_keys(&format!("fetched_keys: {{ max_stale: {written} }}")).max_stale;
        assert_eq!(max_stale, Duration::from_secs(seconds));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let bounds = "must be from 5m to 7d";
    for (marked, path, part) in [
        ("fetched_keys: { max_stale: §299s }", "fetched_keys.max_stale", bounds),
        ("fetched_keys: { max_stale: §8d }", "fetched_keys.max_stale", bounds),
        ("fetched_keys: { max_stale: §0s }", "fetched_keys.max_stale", bounds),
        ("fetched_keys: { cache: §token }", "fetched_keys.cache", "token is no folder"),
        ("fetched_keys: { cache: §7 }", "fetched_keys.cache", "expected here"),
        ("fetched_keys: { §cashe: x }", "fetched_keys", "did you mean `cache`?"),
    ] {
        let (text, line, column) = unmark(&with(marked));
        let findings = load(&text).unwrap_err();
        let faults = of(&findings, Severity::Fault);
        let [found] = faults.as_slice() else { panic!("{marked}: {findings:#?}") };
        assert_eq!((found.line, found.column), (line, column), "{marked}: {found}");
        assert_eq!(found.path, path, "{marked}: {found}");
        assert!(found.message.contains(part), "{marked}: {found}");
    }
}
