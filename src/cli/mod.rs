//! The command line: one file a command.

pub mod check;
pub mod core_dumps;
pub mod dev;
pub mod doctor;
pub mod hash_secret;
pub mod init;
pub mod keys;
pub mod revoke;
pub mod schema;
pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::log::told_of;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Fine = 0,
    /// Something failed at run time.
    Failed = 1,
    /// The command line is wrong. Also clap's own.
    Usage = 2,
    /// The configuration can't be used: `EX_CONFIG` of sysexits.
    BadConfiguration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Gives an identity provider that does not know it the token-exchange grant of RFC 8693, as a
/// proxy in front of it.
#[derive(Debug, Parser)]
#[command(name = "cambio", version, propagate_version = false, arg_required_else_help = true)]
struct Cambio {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy in the foreground
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Take the listening sockets over from the process that runs now
        #[arg(long)]
        upgrade: bool,
    },
    /// Write a configuration for an identity provider, by its metadata
    Init(init::Arguments),
    /// Run on loopback between a stand-in identity provider and a stand-in token issuer
    Dev {
        /// Perform one exchange, print both tokens decoded, and exit
        #[arg(long)]
        once: bool,
    },
    /// Load the configuration, without network, and print every fault with its place
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Ask the estate that runs whether it fits the configuration
    Doctor {
        #[command(flatten)]
        config: ConfigFile,
        #[arg(long, value_enum, default_value = "text")]
        format: doctor::Format,
    },
    /// End what was granted for a subject, by an issuer's tokens or to a client
    Revoke {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        revocation: revoke::Revocation,
    },
    /// Signing keys
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Read a client secret from standard input and print what the configuration takes
    HashSecret,
    /// Print the JSON Schema of the configuration
    Schema,
}

#[derive(Args, Debug)]
struct ConfigFile {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE", env = "CAMBIO_CONFIG")]
    path: PathBuf,
}

/// Runs what the arguments of this process ask for.
pub fn run() -> ExitCode {
    // A command that logs has it told in its log.
    std::panic::set_hook(Box::new(|panic| {
        fail(&format!("a panic at {}", told_of(panic)));
    }));
    let Cambio { command } = Cambio::parse();
    let exit = match command {
        Command::Serve { config, upgrade } => serve::run(&config.path, upgrade),
        Command::Init(arguments) => init::run(&arguments),
        Command::Dev { once } => dev::run(once),
        Command::Check { config } => check::run(&config.path),
        Command::Doctor { config, format } => doctor::run(&config.path, format),
        Command::Revoke { config, revocation } => revoke::run(&config.path, revocation),
        Command::Keys { command } => keys::run(&command),
        Command::HashSecret => hash_secret::run(),
        Command::Schema => schema::run(),
    };
    exit.into()
}

/// Writes to standard output. A reader that has gone away is no fault of ours.
fn print(text: &str) -> Exit {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Fine,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => fail(&format!("standard output: {}", error.kind())),
    }
}

/// Says on standard error why a command ends.
fn fail(message: &str) -> Exit {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "cambio: {message}");
    Exit::Failed
}

/// Says on standard error what is done, but had better not be.
fn warn(message: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "cambio: warning: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        Cambio::command().debug_assert();
    }
}
