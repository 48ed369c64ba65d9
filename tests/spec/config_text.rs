//! The text of a configuration: whatever it is, it is read or refused, and nothing else happens.

use std::fmt::Write as _;
use std::time::Duration;

use cambio::config::{Fault, MAX_BYTES, Severity};
use proptest::prelude::*;

use super::config_support::{BASE, CANARY, changed, load, of, unmark};

fn faults(text: impl AsRef<[u8]>) -> Vec<Fault> {
    load(text).unwrap_err()
}

/// The fault alone that stands at the mark.
fn fault(marked: &str) -> Fault {
    let (text, line, column) = unmark(marked);
    let faults = faults(text);
    let [fault] = faults.as_slice() else { panic!("one is expected: {faults:#?}") };
    assert_eq!((fault.line, fault.column), (line, column), "{fault}");
    fault.clone()
}

#[test]
fn a_repeated_key_is_named_at_each_place() {
    let found = fault(&changed("connections: 100", "connections: 100, §connections: 200"));
    assert_eq!(found.path, "limits");
    assert_eq!(
        found.message,
        "the key `connections` stands here again, first on line 44: keep one"
    );
    let found = faults(BASE.replace("limits:", "listen: []\nlisten: []\nlimits:"));
    let told: Vec<_> = found.iter().map(|fault| (fault.line, fault.message.as_str())).collect();
    let message = "the key `listen` stands here again, first on line 1: keep one";
    assert_eq!(told, [(44, message), (45, message)]);
    // A quoted key is the same key.
    fault(&changed("limits:", "§\"listen\": []\nlimits:"));
}

#[test]
fn what_yaml_has_beyond_trees_is_refused() {
    const LIMITS: &str = "limits: { connections: 100 }";
    for (from, to, path, part) in [
        ("127.0.0.1:8080", "§&a 127.0.0.1:8080", "listen[0].address", "anchors"),
        ("127.0.0.1:8080", "§!!str 127.0.0.1:8080", "listen[0].address", "tags"),
        (
            "127.0.0.1:8080\n",
            "&a 127.0.0.1:8080\n  - address: §*a\n",
            "listen[1].address",
            "aliases",
        ),
        ("[read, write]", "§!x [read, write]", "applications[0].scopes", "tags"),
        (LIMITS, "limits: { §? [a] : b }", "limits", "a key must be a single word"),
        (LIMITS, "limits:\n  §<<: { connections: 100 }", "limits", "merge keys"),
    ] {
        let (text, line, _) = unmark(&changed(from, to));
        let faults = faults(text);
        let fault = faults.last().unwrap();
        assert_eq!((fault.line, fault.path.as_str()), (line, path), "{faults:#?}");
        assert!(fault.message.contains(part), "{fault}");
    }
    let found = fault(&format!("{BASE}§---\nlisten: []\n"));
    assert!(found.message.contains("second document"));
    assert_eq!(load(format!("---\n{BASE}")).unwrap().1, []);
    assert_eq!(load(format!("\u{feff}{BASE}")).unwrap().1, []);
    assert_eq!(load(BASE.replace('\n', "\r\n")).unwrap().1, []);
}

#[test]
fn aliases_are_refused_before_they_multiply() {
    let mut bomb = String::from("a0: &a0 [lol, lol]\n");
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{below}, {below}, {below}, {below}]").unwrap();
    }
    let begin = time_of_this_thread();
    let found = faults(&bomb);
    assert!(time_of_this_thread().saturating_sub(begin) < Duration::from_secs(5));
    for part in ["aliases", "anchors"] {
        assert!(found.iter().any(|fault| fault.message.contains(part)), "{part}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let begin = time_of_this_thread();
    for piece in ["[", "{a: ", "- ", "? ", "[{a: "] {
        let found = faults(piece.repeat(100_000));
        assert!((1..50).contains(&found.len()), "{piece}: {}", found[0]);
    }
    assert!(time_of_this_thread().saturating_sub(begin) < Duration::from_secs(20));
    let text = format!("limits: {}{}", "[".repeat(33), "]".repeat(33));
    assert!(faults(text).iter().any(|fault| fault.message.contains("too deep")));
}

#[test]
fn what_is_no_text_is_refused() {
    let found = fault(&changed("name: batch", "name: ba§\0tch"));
    assert!(found.message.contains("control character"));
    let found = fault(&changed("name: batch", "name: §\"ba\\0tch\""));
    assert!(found.message.contains("control character"), "{found}");
    let mut text = BASE.as_bytes().to_vec();
    text.extend_from_slice(b"# \xff\xfe");
    let found = faults(text);
    assert_eq!((found.len(), found[0].line, found[0].column), (1, 45, 3));
    assert!(found[0].message.contains("UTF-8"));
    for (text, place) in [("a:\n\0", (2, 1)), ("a:\r\0", (2, 1)), ("a:\r\n\r\n b\0", (3, 3))] {
        let found = faults(text);
        assert_eq!((found[0].line, found[0].column), place, "{text:?}: {}", found[0]);
    }
    for empty in ["", "\n\n", "# nothing\n", "---\n", "x", "12", "[]", "null", "\"\""] {
        let found = faults(empty);
        assert_eq!(found.len(), 1, "{empty:?}: {found:?}");
    }
}

#[test]
fn size_is_bounded() {
    let comment = |bytes: usize| format!("{BASE}#{}", "x".repeat(bytes - BASE.len() - 1));
    assert_eq!(load(comment(MAX_BYTES)).unwrap().1, []);
    for bytes in [MAX_BYTES + 1, 10 * 1024 * 1024] {
        let found = faults(comment(bytes));
        assert!(found.len() == 1 && found[0].message.contains("larger than 1 MiB"), "{found:?}");
    }
    let long = changed("name: batch", &format!("name: §{}", "x".repeat(3000)));
    assert!(fault(&long).message.contains("longer than"));
}

#[test]
fn a_large_file_with_many_faults_is_read_in_time_and_told_in_part() {
    let begin = time_of_this_thread();
    assert_eq!(faults("x: 1\n".repeat(200_000)).len(), 1000);
    let found = faults(format!("limits: {{{}}}", "a, ".repeat(300_000)));
    assert!((1..=1000).contains(&found.len()));
    let taken = time_of_this_thread().saturating_sub(begin);
    assert!(taken < Duration::from_secs(30), "{taken:?}");
}

/// What the processor spent on it, whatever else the machine is doing.
fn time_of_this_thread() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn broken_yaml_is_named_where_it_breaks() {
    for (text, line) in [
        ("listen:\n  - address: 'x\n", 2..=3),
        ("listen: [a, b\nupstream: {}\n", 2..=3),
        ("listen:\n\t- a\n", 2..=2),
        ("a: b: c\n", 1..=1),
        ("limits: *nobody\n", 1..=1),
        ("a: 1\nb: \"\\q\"\n", 2..=2),
    ] {
        let found = faults(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(found[0].message.contains("YAML can't be read"), "{}", found[0]);
        assert!(line.contains(&found[0].line), "{text:?}: {}", found[0]);
    }
}

/// What [`BASE`] does without.
fn extended() -> String {
    BASE.replace("9464 }", "9464, token: { env: ADMIN_TOKEN } }")
        .replace("clock_skew: 30s", "replay: once\n    max_lifetime: 1h")
        .replace(
            "access_token: { lifetime: 1h }",
            "access_token: { format: jwt }\n    refresh_token:\n      lifetime: 1d\n      idle: 1h\n      \
             grace: 5s",
        )
        .replace(
            "limits: {",
            "resource_servers:\n  - client_id: svc\n    audiences: [phone]\nstore:\n  redis:\n    \
             url: redis://127.0.0.1:6379\n    username: cambio\n    password: { env: REDIS_PASSWORD }\n    \
             ca: { file: ca.pem }\n    cluster: false\n    sentinel: { master: main }\n    timeouts:\n      \
             connect: 1s\n      command: 1s\n    prefix: \"cambio:\"\nlimits: {",
        )
}

#[test]
fn secrets_in_any_wrong_place_are_not_told() {
    // `load` looks for the canary in every finding.
    let text = extended();
    assert!(load(&text).is_ok());
    let places: Vec<_> = text.match_indices(": ").map(|(at, _)| at).collect();
    assert!(places.len() > 50);
    for at in places {
        let (before, after) = text.split_at(at + 2);
        let (_, tail) = after.split_once('\n').unwrap();
        // A file is named by its path, which stands in the finding, unless it holds a secret.
        if before.ends_with("certificate: { file: ") || before.ends_with("ca: { file: ") {
            continue;
        }
        for wrong in [
            CANARY.to_owned(),
            format!("[{CANARY}]"),
            format!("\"{CANARY}\\u0001\""),
            format!("*{CANARY}"),
            format!("&{CANARY} x"),
            format!("!{CANARY} x"),
            format!("\"{CANARY}"),
            format!("{{ {CANARY}"),
            format!("https://user:{CANARY}@host/"),
            format!("rediss://user:{CANARY}@host/"),
        ] {
            // Where the value may be any text it is taken: silence is all that is asked.
            let _ = load(format!("{before}{wrong}\n{tail}"));
        }
    }
}

#[test]
fn nothing_is_shown_of_secrets_that_were_read() {
    let source = "jwks_endpoint: { url: https://k.example/x, bearer_token: { file: token } }";
    let (config, _) = load(changed("jwks_endpoint: https://partner.example/jwks", source)).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("portal"));
    assert!(!shown.contains(CANARY));
    let (config, _) = load(extended()).unwrap();
    let shown = format!("{config:?}");
    assert!(config.admin.token.is_some() && shown.contains("RedisSettings"));
    assert!(!shown.contains(CANARY));
}

/// Lines of a configuration and pieces of YAML, torn and mixed.
fn torn() -> impl Strategy<Value = String> {
    let lines: Vec<String> = extended().lines().map(str::to_owned).collect();
    let pieces = vec![
        "- ",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!int ",
        "|",
        ">-",
        "'",
        "\"",
        "---",
        "...",
        "%YAML 1.2",
        "#",
        "\u{feff}",
        "\u{2028}",
        "\t",
        "<<: ",
        "  ",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(lines),
        1 => "[ -~\n\t]{0,12}",
        2 => proptest::sample::select(pieces).prop_map(str::to_owned),
    ];
    proptest::collection::vec((piece, any::<bool>()), 0..40).prop_map(|pieces| {
        pieces.into_iter().map(|(piece, ends)| piece + if ends { "\n" } else { "" }).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = load(bytes);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = load(text);
    }

    #[test]
    fn a_torn_configuration_is_refused_for_a_reason(text in torn()) {
        if let Err(findings) = load(&text) {
            prop_assert!(!of(&findings, Severity::Fault).is_empty());
        }
    }

    #[test]
    fn a_configuration_that_lost_lines_is_survived(lost in proptest::collection::vec(any::<bool>(), 67)) {
        let text = extended();
        assert!(text.lines().count() <= lost.len());
        let kept = text.lines().zip(lost).filter(|(_, lost)| !lost).map(|(line, _)| line);
        let _ = load(kept.collect::<Vec<_>>().join("\n"));
    }
}
