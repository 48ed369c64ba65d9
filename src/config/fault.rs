//! What is wrong with a configuration, where, and how to mend it.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many findings are listed. A file with more has one cause, and repeats it.
const MAX_FINDINGS: usize = 1000;

/// Whether the configuration can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration can't be used.
    Fault,
    /// It can, but hardly as it was meant.
    Warning,
}

/// One finding. It never quotes a value of the file, which may be a secret in the wrong place: the
/// place says where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub severity: Severity,
    pub file: Arc<Path>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Such as `applications[0].client_id`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, column, path, message } = self;
        write!(f, "{}:{line}:{column}: ", file.display())?;
        if *severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(message)
    }
}

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Gathers findings, so that all are told in one go.
pub(super) struct Findings {
    file: Arc<Path>,
    list: RefCell<Vec<Fault>>,
}

impl Findings {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: Arc::from(PathBuf::from(file)), list: RefCell::default() }
    }

    pub(super) fn add(&self, severity: Severity, mark: Mark, path: String, message: String) {
        let mut list = self.list.borrow_mut();
        if list.len() < MAX_FINDINGS {
            let Mark { line, column } = mark;
            let file = Arc::clone(&self.file);
            list.push(Fault { severity, file, line, column, path, message });
        }
    }

    pub(super) fn has_fault(&self) -> bool {
        self.list.borrow().iter().any(|finding| finding.severity == Severity::Fault)
    }

    /// All findings in the order of the text.
    pub(super) fn into_sorted(self) -> Vec<Fault> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|finding| (finding.line, finding.column));
        list
    }
}
