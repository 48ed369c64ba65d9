//! `cambio doctor`: does what runs fit the configuration, and if not, what is to be done?

use std::fmt::Write as _;
use std::path::Path;

use clap::ValueEnum;
use serde_json::json;

use super::{Exit, check, fail, print};
use crate::app::doctor::{Finding, Level, examine};
use crate::config;

/// How findings are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people: a line for each finding, and below it what to do
    Text,
    /// For programs: one JSON object
    Json,
}

/// Asks, and prints every finding.
pub fn run(path: &Path, format: Format) -> Exit {
    let config = match config::load(path) {
        Ok((config, warnings)) => {
            check::tell(&warnings);
            config
        }
        Err(faults) => {
            check::tell(&faults);
            return Exit::BadConfiguration;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads are to be had: {}", error.kind())),
    };
    let findings = runtime.block_on(examine(&config));
    let printed = print(&match format {
        Format::Text => text(&findings),
        Format::Json => json(&findings),
    });
    let is_fine = count(&findings, Level::Fault) == 0;
    if printed == Exit::Fine && !is_fine { Exit::Failed } else { printed }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { level, check, about, seen, advice } in findings {
        let space = if about.is_empty() { "" } else { " " };
        let _ = writeln!(text, "{:<8} {check}{space}{about}: {seen}", level.as_str());
        if !advice.is_empty() {
            let _ = writeln!(text, "         -> {advice}");
        }
    }
    let [faults, warnings] = [Level::Fault, Level::Warning].map(|level| count(findings, level));
    let _ = writeln!(text, "{} findings: {faults} faults, {warnings} warnings", findings.len());
    text
}

fn json(findings: &[Finding]) -> String {
    let [faults, warnings] = [Level::Fault, Level::Warning].map(|level| count(findings, level));
    let report = json!({ "faults": faults, "warnings": warnings, "findings": findings });
    format!("{report:#}\n")
}
