//! The program itself: its commands, and a server that runs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long it may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cambio"));
    command.args(arguments).current_dir(folder).env("XDG_RUNTIME_DIR", folder).kill_on_drop(true);
    for name in ["CAMBIO_LOG", "CAMBIO_LOG_FORMAT", "CAMBIO_CONFIG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs a command of the program in a folder. It must succeed.
pub async fn cambio(folder: &Path, arguments: &[&str]) {
    let (is_fine, printed) = outcome(folder, arguments).await;
    assert!(is_fine, "{arguments:?}: {printed}");
}

/// Whether a command of the program succeeds, and what it prints; where that is nothing, what it says
/// to whoever started it.
pub async fn outcome(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = command(folder, arguments).stdout(Stdio::piped()).output().await.unwrap();
    let printed = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (output.status.success(), String::from_utf8(printed).unwrap())
}

/// `cambio serve` as a process. It ends when it is dropped.
#[derive(Debug)]
pub struct Serving {
    process: Child,
}

impl Serving {
    /// Under `cambio.yaml` in a folder. It listens when this returns.
    pub async fn start(folder: &Path) -> Self {
        let mut process = command(folder, &["serve", "--config", "cambio.yaml"]).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        loop {
            let line = timeout(PATIENCE, said.next_line()).await.expect("it says nothing").unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended\n{seen}"));
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            // The last that it says of its listeners.
            if parsed["message"] == "listening for operators" {
                break;
            }
            seen += &line;
            seen.push('\n');
        }
        // A pipe that nobody reads would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Self { process }
    }

    pub async fn end(&mut self) {
        self.process.kill().await.unwrap();
    }
}
