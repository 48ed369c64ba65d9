//! Other people's vectors, which are not part of this tree: where they lie, an environment variable
//! says.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder that the variable names. Where it is unset, that is said, and there is nothing to
/// compare with; where it is set, the folder is there.
pub fn folder(variable: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
        tell(&format!("NOT COMPARED: {variable} names no folder of vectors"));
        return None;
    };
    assert!(folder.is_dir(), "{variable} names {}, which is no folder", folder.display());
    Some(folder)
}

/// Says what was done, past the harness, which keeps to itself what passing tests print.
#[expect(clippy::explicit_write, reason = "the harness keeps to itself what `eprintln` writes")]
pub fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

pub fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
