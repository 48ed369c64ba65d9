//! The public face of every refusal, as a golden file.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use cambio::exchange::error::Refusal;

/// The table as Markdown, a line for each refusal.
fn table() -> String {
    let mut table = String::from(
        "| what is wrong | status | `error` | `error_description` | `reason` | outcome | level |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for refusal in Refusal::all() {
        let outcome = refusal.outcome();
        let (error, reason) = (outcome.error.as_str(), outcome.reason.as_str());
        let (blame, level) = (outcome.blame.as_str(), outcome.level.as_str());
        writeln!(
            table,
            "| {refusal} | {} | `{error}` | {} | `{reason}` | {blame} | {level} |",
            outcome.status, outcome.description,
        )
        .unwrap();
    }
    table
}

/// Compares a file of the project with what it should be, or rewrites it (`make golden`).
pub fn golden(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let actual = std::fs::read_to_string(path).unwrap_or_default();
    assert!(actual == expected, "{} is stale: run `make golden`", path.display());
}

#[test]
fn the_outcome_table_is_the_golden_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    golden(&root.join("tests/spec/outcomes.md"), &table());
}

#[test]
fn the_readme_has_the_outcome_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- outcomes -->\n", "<!-- /outcomes -->");
    let (before, rest) = readme.split_once(begin).expect("the marker of the table");
    let (_, after) = rest.split_once(end).expect("the end marker of the table");
    golden(&path, &format!("{before}{begin}{}{end}{after}", table()));
}

#[test]
fn every_refusal_is_in_the_table_once_and_has_a_standard_face() {
    let all = Refusal::all();
    let distinct: HashSet<String> = all.iter().map(|refusal| format!("{refusal:?}")).collect();
    assert_eq!(distinct.len(), all.len());
    for refusal in all {
        let outcome = refusal.outcome();
        // RFC 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E.
        let allowed = |b: u8| matches!(b, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        assert!(outcome.description.bytes().all(allowed), "{}", outcome.description);
        assert!((400..600).contains(&outcome.status));
        let ours = matches!(refusal, Refusal::Ours(_));
        assert_eq!(ours, outcome.status >= 500, "{refusal}");
    }
}

#[test]
fn clients_cannot_be_told_apart_by_what_they_are_told() {
    use cambio::exchange::client::ClientError;
    let face = |error: ClientError| {
        let outcome = Refusal::from(error).outcome();
        (outcome.status, outcome.error, outcome.description, outcome.level)
    };
    assert_eq!(face(ClientError::Unknown), face(ClientError::SecretWrong));
    assert_eq!(face(ClientError::Unknown), face(ClientError::AuthMissing));
}
