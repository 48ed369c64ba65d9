//! The table of requirements (`tests/requirements.md`) against the tree: every number stands there
//! once, with tests that exist or a sentence that says why there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Every number that there is.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=118;
/// What fewer words can't say.
const SENTENCE: usize = 5;

/// One row of the table.
#[derive(Debug)]
struct Row<'a> {
    number: u32,
    rule: &'a str,
    /// Tests, each as `path::function`.
    tests: Vec<(&'a str, &'a str)>,
    /// Why the rule means nothing yet.
    inapplicable: Option<&'a str>,
    /// What no test shows yet.
    open: Option<&'a str>,
}

impl<'a> Row<'a> {
    /// `None` where the line is no row with a number.
    fn parse(line: &'a str) -> Option<Result<Self, String>> {
        let cells = line.strip_prefix("| R-")?.strip_suffix('|');
        let cells: Vec<_> = cells.unwrap_or_default().split('|').map(str::trim).collect();
        let [number, rule, told] = cells[..] else {
            return Some(Err(format!("not three cells: {line}")));
        };
        let Ok(number) = number.parse() else { return Some(Err(format!("no number: {line}"))) };
        let quoted = told.split('`').skip(1).step_by(2);
        let tests = quoted.filter_map(|one| one.split_once(".rs::")).collect();
        let after = |mark: &str| told.split_once(mark).map(|(_, rest)| rest.trim());
        let (inapplicable, open) = (told.strip_prefix("Does not apply:"), after("Open:"));
        Some(Ok(Self { number, rule, tests, inapplicable, open }))
    }

    /// What is wrong with it by itself.
    fn faults(&self, is_test: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
        let number = self.number;
        let is_sentence = |text: &str| text.split_whitespace().count() >= SENTENCE;
        let mut faults = Vec::new();
        if !NUMBERS.contains(&number) {
            faults.push(format!("R-{number} is no number of a requirement"));
        }
        if !is_sentence(self.rule) {
            faults.push(format!("R-{number} does not say its rule"));
        }
        for text in self.inapplicable.iter().chain(&self.open) {
            if !is_sentence(text) {
                faults.push(format!("R-{number} does not say what is missing: {text:?}"));
            }
        }
        if self.tests.is_empty() && self.inapplicable.is_none() {
            faults.push(format!("R-{number} has neither a test nor a reason for having none"));
        }
        for (path, name) in &self.tests {
            if !is_test(path, name) {
                faults.push(format!("R-{number}: there is no test {path}.rs::{name}"));
            }
        }
        faults
    }
}

/// The rows of a table, and what is wrong with it.
fn read<'a>(
    table: &'a str,
    is_test: &dyn Fn(&str, &str) -> bool,
) -> (BTreeMap<u32, Row<'a>>, Vec<String>) {
    let (mut rows, mut faults) = (BTreeMap::new(), Vec::new());
    for row in table.lines().filter_map(Row::parse) {
        match row {
            Ok(row) => {
                faults.extend(row.faults(is_test));
                if let Some(other) = rows.insert(row.number, row) {
                    faults.push(format!("R-{} stands there twice", other.number));
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    let missing = NUMBERS.filter(|number| !rows.contains_key(number));
    faults.extend(missing.map(|number| format!("R-{number} is missing")));
    (rows, faults)
}

/// Whether `text` has a function of this name with the attribute of a test.
fn has_test(text: &str, name: &str) -> bool {
    let mut is_marked = false;
    for line in text.lines().map(str::trim) {
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if let Some(function) = function {
            let rest = function.strip_prefix(name);
            if is_marked && rest.is_some_and(|rest| rest.starts_with('(')) {
                return true;
            }
            is_marked = false;
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        }
    }
    false
}

fn is_test(path: &str, name: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{path}.rs"));
    fs::read_to_string(path).is_ok_and(|text| has_test(&text, name))
}

fn table() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requirements.md");
    fs::read_to_string(path).unwrap()
}

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    let table = table();
    let (rows, faults) = read(&table, &is_test);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let tests: usize = rows.values().map(|row| row.tests.len()).sum();
    let inapplicable = rows.values().filter(|row| row.inapplicable.is_some()).count();
    let open: Vec<_> = rows.values().filter_map(|row| Some((row.number, row.open?))).collect();
    let mut told = format!(
        "{} requirements: {inapplicable} do not apply, {tests} mentions of tests, {} open\n",
        rows.len(),
        open.len()
    );
    for (number, what) in open {
        writeln!(told, "  R-{number}: {what}").unwrap();
    }
    // Past the harness, which keeps to itself what passing tests print.
    std::io::stderr().write_all(told.as_bytes()).unwrap();
}

/// The test above is only as good as its reader.
#[test]
fn a_table_that_is_not_whole_is_seen_through() {
    let whole = table();
    let faults = |table: &str| read(table, &is_test).1;
    assert_eq!(faults(&whole), Vec::<String>::new());
    let line = |number: u32| {
        let mut lines = whole.lines();
        lines.find(|line| line.starts_with(&format!("| R-{number} |"))).unwrap().to_owned()
    };
    let rule = "a rule of more than five words";
    let good = "`tests/requirements.rs::a_table_that_is_not_whole_is_seen_through`";
    let with = |told: &str| whole.replace(&line(118), &format!("| R-118 | {rule} | {told} |"));
    assert_eq!(faults(&with(good)), Vec::<String>::new());
    let reason = "Does not apply: there is nothing that it could mean";
    assert_eq!(faults(&with(reason)), Vec::<String>::new());
    for (table, fault) in [
        (whole.replace(&line(7), ""), "R-7 is missing"),
        (whole.replace(&line(7), &line(8)), "R-8 stands there twice"),
        (format!("{whole}\n| R-119 | {rule} | {good} |"), "R-119 is no number of a requirement"),
        (with(""), "R-118 has neither a test nor a reason for having none"),
        (with("Open: this is not tested as yet"), "R-118 has neither a test nor a reason"),
        (with("Does not apply: later"), "R-118 does not say what is missing"),
        (with(&format!("{good} Open: much")), "R-118 does not say what is missing"),
        (
            with("`tests/requirements.rs::nothing`"),
            "there is no test tests/requirements.rs::nothing",
        ),
        (
            with("`tests/requirements.rs::has_test`"),
            "there is no test tests/requirements.rs::has_test",
        ),
        (with("`tests/nowhere.rs::has_test`"), "there is no test tests/nowhere.rs::has_test"),
        (with(&format!("{good} | {good}")), "not three cells"),
        (whole.replace("| R-118 |", "| R-x |"), "no number"),
        (
            whole.replace(&line(118), &format!("| R-118 | short | {good} |")),
            "does not say its rule",
        ),
    ] {
        let found = faults(&table);
        assert!(found.iter().any(|one| one.contains(fault)), "{fault}: {found:?}");
    }
}
