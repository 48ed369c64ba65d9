//! The architecture as a test: who may use whom, what stays pure, and a few habits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which module of `src/` may name which others. Whatever is not here is not allowed.
const ALLOWED: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "admin",
            "dev",
            "store",
            "telemetry",
            "overlay",
            "config",
            "clock",
            "exchange",
            "jwt",
            "secret",
            "time",
        ],
    ),
    ("dev", &["app", "config", "clock", "jwt", "secret"]),
    (
        "app",
        &[
            "admin",
            "proxy",
            "store",
            "keys",
            "telemetry",
            "overlay",
            "config",
            "clock",
            "count",
            "exchange",
            "jwt",
            "oauth",
            "secret",
            "time",
        ],
    ),
    (
        "admin",
        &[
            "store",
            "keys",
            "telemetry",
            "overlay",
            "config",
            "clock",
            "exchange",
            "jwt",
            "secret",
            "time",
        ],
    ),
    (
        "proxy",
        &[
            "store",
            "keys",
            "telemetry",
            "overlay",
            "config",
            "clock",
            "count",
            "exchange",
            "jwt",
            "oauth",
            "secret",
            "time",
        ],
    ),
    ("store", &["telemetry", "config", "clock", "exchange", "secret", "time"]),
    ("keys", &["telemetry", "config", "clock", "count", "exchange", "jwt", "secret", "time"]),
    ("telemetry", &["config", "clock", "exchange", "jwt", "secret", "time"]),
    ("overlay", &["config", "jwt", "oauth"]),
    ("config", &["clock", "exchange", "jwt", "oauth", "secret", "time"]),
    ("clock", &["time"]),
    ("count", &[]),
    ("exchange", &["jwt", "oauth", "secret", "time"]),
    ("jwt", &["secret", "time"]),
    ("oauth", &[]),
    ("secret", &[]),
    ("time", &[]),
];

/// The modules below the pure line.
const PURE: &[&str] = &["exchange", "jwt", "oauth", "secret", "time"];

/// Words that would let the world into a pure module.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "pingora",
    "tracing",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant",
    "println",
    "eprintln",
];

/// A source file, with comments and literals blanked out.
struct Source {
    /// Relative to the tree.
    path: PathBuf,
    text: String,
    /// `text` up to its unit tests.
    shipped: String,
    /// The unit tests; of a file under `tests/` or `benches/`, all of it.
    tests: String,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(root).unwrap().to_owned();
        let code = blank(&text);
        let at = if path.starts_with("src") {
            code.find("#[cfg(test)]\nmod ").unwrap_or(code.len())
        } else {
            0
        };
        let (shipped, tests) = code.split_at(at);
        Self { shipped: shipped.to_owned(), tests: tests.to_owned(), text, path }
    }

    /// The top-level module that the file belongs to.
    fn module(&self) -> Option<&str> {
        let mut parts = self.path.iter();
        if parts.next()? != "src" {
            return None;
        }
        parts.next()?.to_str().map(|name| name.trim_end_matches(".rs"))
    }

    /// How far below the root of the crate its module stands.
    fn depth(&self) -> usize {
        let is_root = matches!(self.path.file_name().unwrap().to_str(), Some("mod.rs"));
        self.path.components().count() - 1 - usize::from(is_root)
    }
}

/// Every Rust file of the tree.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        let folder = root.join(folder);
        if folder.is_dir() {
            walk(&folder, &mut found);
        }
    }
    found.sort();
    assert!(found.len() > 30, "only {} files were found", found.len());
    found.iter().map(|path| Source::read(root, path)).collect()
}

/// Blanks comments, strings and character literals, so that what is left is code. Line ends stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br")).filter(|tail| {
            let before = out.chars().next_back().unwrap_or(' ');
            !is_word(before) && tail.trim_start_matches('#').starts_with('"')
        });
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(tail) = raw {
            let hashes = tail.len() - tail.trim_start_matches('#').len();
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - tail.len() + hashes + 1;
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if first == '"' {
            1 + quoted(&rest[1..], '"')
        } else if let Some(length) = character(rest) {
            length
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    out
}

/// The length of a literal's rest, its end included.
fn quoted(rest: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        if !escaped && c == end {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// The length of a character literal at the start of `rest`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return Some(1 + quoted(inner, '\''));
    }
    let first = inner.chars().next()?;
    inner[first.len_utf8()..].starts_with('\'').then(|| 2 + first.len_utf8())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `code` has `word`, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word)
    })
}

/// The modules that `code` names as `crate::…`, or as `cambio::…` from outside. A group is told as
/// `{`, since it would hide the names in it.
fn used(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate", "cambio"] {
        for (at, _) in code.match_indices(&format!("{root}::")) {
            if code[..at].ends_with(is_word) {
                continue;
            }
            let name = &code[at + root.len() + 2..];
            let end = name.find(|c| !is_word(c)).unwrap_or(name.len());
            found.push(if end == 0 { "{".to_owned() } else { name[..end].to_owned() });
        }
    }
    found
}

/// The longest chain of `super::` in `code`.
fn climbs(code: &str) -> usize {
    (1..8).take_while(|times| code.contains(&"super::".repeat(*times))).count()
}

fn fail_on(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let path = source.path.display();
        if module == "lib" {
            continue;
        }
        let Some(allowed) = allowed.get(module) else {
            faults.push(format!("{path}: `{module}` is not in the table"));
            continue;
        };
        for name in used(&source.shipped) {
            if name == "{" {
                faults.push(format!("{path}: `crate::{{…}}` hides names; write a `use` for each"));
            } else if name != module && !allowed.contains(&name.as_str()) {
                faults.push(format!("{path}: `{module}` may not use `{name}`"));
            }
        }
        if climbs(&source.shipped) >= source.depth() {
            faults.push(format!("{path}: `super::` leads out of `{module}`; write `crate::`"));
        }
    }
    fail_on(&faults);
}

#[test]
fn below_the_pure_line_there_are_only_values() {
    let mut faults = Vec::new();
    for source in sources() {
        if source.module().is_some_and(|module| PURE.contains(&module)) {
            for word in IMPURE.iter().filter(|word| names(&source.shipped, word)) {
                faults.push(format!("{}: `{word}` below the pure line", source.path.display()));
            }
        }
    }
    fail_on(&faults);
}

#[test]
fn only_proxy_and_app_name_pingora() {
    let mut faults = Vec::new();
    for source in sources() {
        let may = matches!(source.module(), None | Some("proxy" | "app"));
        if !may && names(&source.shipped, "pingora") {
            faults.push(format!("{}: names pingora", source.path.display()));
        }
    }
    fail_on(&faults);
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    let mut faults = Vec::new();
    for source in sources() {
        let may = matches!(source.module(), None | Some("clock"));
        if !may && names(&source.shipped, "SystemTime") {
            faults.push(format!("{}: reads the clock; use `clock::now`", source.path.display()));
        }
    }
    fail_on(&faults);
}

#[test]
fn tokens_are_signed_in_one_place() {
    let may = ["src/exchange/mint.rs", "src/jwt/sign.rs"];
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.to_str().unwrap();
        let is_dev = source.module() == Some("dev");
        // `sign()` without anything to sign ends a MAC.
        let signs = source.shipped.replace(".sign()", "").contains(".sign(");
        if !is_dev && !may.contains(&path) && signs {
            faults.push(format!("{path}: signs, and only what `mint` returns may be signed"));
        }
    }
    fail_on(&faults);
}

#[test]
fn every_file_says_what_it_is() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            faults.push(format!("{}: does not begin with `//!`", source.path.display()));
        }
    }
    fail_on(&faults);
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_skipped_or_sleeps() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let code = format!("{}{}", source.shipped, source.tests);
        for word in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
            if code.contains(word) {
                faults.push(format!("{path}: `{word}`"));
            }
        }
        if names(&source.tests, "sleep") {
            faults.push(format!("{path}: a test sleeps; wait for what it waits for"));
        }
    }
    fail_on(&faults);
}

/// The checks above are only as good as the reader below them.
#[test]
fn code_is_told_from_comments_and_literals() {
    let code = blank("a // todo!\nb /* c */ \"d \\\" e\" 'f' '\\'' &'g h r#\"i \" j\"# k");
    let left: Vec<_> = code.split_whitespace().collect();
    assert_eq!(left, ["a", "b", "&'g", "h", "k"]);
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn names_are_found_wherever_they_stand() {
    assert_eq!(used("use crate::proxy::x; crate::keys::y()"), ["proxy", "keys"]);
    assert_eq!(used("use crate::{a, b}; use my_crate::z"), ["{"]);
    assert_eq!(climbs("use super::super::x; super::y"), 2);
    assert!(names("a.await;", "await") && !names("awaited", "await"));
    assert!(names("use std::fs;", "std::fs") && !names("std::fsx", "std::fs"));
}
