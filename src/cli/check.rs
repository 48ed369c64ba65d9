//! `cambio check`: is the configuration good, and if not, where and why not?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::{Exit, print};
use crate::config::{self, Config, Fault, Severity};

/// Prints every finding, one a line, then the sum.
pub fn run(path: &Path) -> Exit {
    match config::load(path) {
        Ok((config, warnings)) => print(&format!("{}{}", lines(&warnings), summary(&config, path))),
        Err(findings) => {
            let faults = count(&findings, Severity::Fault);
            let sum = format!("{}: {}\n", path.display(), plural(faults, "fault"));
            let printed = print(&(lines(&findings) + &sum));
            if printed == Exit::Fine { Exit::BadConfiguration } else { printed }
        }
    }
}

/// Writes findings to standard error, as commands do whose product they are not.
pub(super) fn tell(findings: &[Fault]) {
    let _ = std::io::stderr().write_all(lines(findings).as_bytes());
}

fn lines(findings: &[Fault]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        let _ = writeln!(text, "{finding}");
        text
    })
}

fn count(findings: &[Fault], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn summary(config: &Config, path: &Path) -> String {
    format!(
        "{}: ok ({}, {}, {}, {})\n",
        path.display(),
        plural(config.listen.len(), "listener"),
        plural(config.signing_keys.iter().count(), "signing key"),
        plural(config.trusted_token_issuers.len(), "trusted token issuer"),
        plural(config.policy.applications().count(), "application"),
    )
}
