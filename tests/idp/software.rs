//! Other people's software, fetched at fixed versions, and how it is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The folder of the tree.
pub fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fetches what is not there yet.
fn set_up(step: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let status = Command::new(tree().join(".ci/setup"))
        .arg(step)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(
        status.success(),
        "what these tests run against cannot be had (see above); \
         `make test CLIENTS=no` leaves them out"
    );
    target.to_owned()
}

/// Where the clients lie, and the identity provider for Node.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| set_up("clients").join("clients"))
}

/// Programs of Debian's packages, which [`idps`] installs.
pub const GLEWLWYD: &str = "glewlwyd";
pub const APACHE: &str = "/usr/sbin/apache2";
pub const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

pub fn idps() {
    static SET_UP: OnceLock<PathBuf> = OnceLock::new();
    SET_UP.get_or_init(|| set_up("idps"));
}

pub fn node() -> Command {
    Command::new(home().join("node"))
}

fn python() -> Command {
    Command::new(home().join("venv/bin/python"))
}

/// Runs a script of `tests/clients` to its end, and reads the JSON that it prints, a value a line.
pub fn run(script: &str, arguments: &[&str]) -> Vec<Value> {
    let is_python = Path::new(script).extension().is_some_and(|extension| extension == "py");
    let mut command = if is_python { python() } else { node() };
    command.arg(tree().join("tests/clients").join(script)).args(arguments);
    let output = complete(command);
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a command to its end, and returns what it prints. It must succeed.
pub fn complete(mut command: Command) -> String {
    command.stdin(Stdio::null());
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    let errors = String::from_utf8_lossy(&output.stderr);
    let what = command.get_args().next().unwrap_or_default().display();
    assert!(output.status.success(), "{what}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
