//! `cambio keys`: signing keys.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::{Exit, fail, print};
use crate::jwt::algorithm::Algorithm;
use crate::jwt::sign::{SigningKey, generate_pem};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new private key into a new file, readable for its owner alone, and print its kid
    Generate {
        #[arg(long, value_enum, ignore_case = true)]
        algorithm: KeyAlgorithm,
        /// The file to write. An existing one is never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What Cambio signs with.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum KeyAlgorithm {
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    EdDSA,
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::ES256 => Self::ES256,
            KeyAlgorithm::ES384 => Self::ES384,
            KeyAlgorithm::RS256 => Self::RS256,
            KeyAlgorithm::RS384 => Self::RS384,
            KeyAlgorithm::RS512 => Self::RS512,
            KeyAlgorithm::PS256 => Self::PS256,
            KeyAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Does it.
pub fn run(command: &Command) -> Exit {
    match command {
        Command::Generate { algorithm, out } => generate((*algorithm).into(), out),
    }
}

fn generate(algorithm: Algorithm, out: &Path) -> Exit {
    let Ok(pem) = generate_pem(algorithm) else {
        return fail("the key could not be generated");
    };
    let Ok(key) = SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None) else {
        return fail("the key could not be read back");
    };
    match write_new(out, pem.as_bytes()) {
        Ok(()) => print(&format!("{}\n", key.kid())),
        Err(why) => fail(&why),
    }
}

/// Writes a file that nobody else may read. It must be new, and there is all of it or none.
pub(super) fn write_new(path: &Path, content: &[u8]) -> Result<(), String> {
    let why = |error: std::io::Error| format!("{}: {}", path.display(), why(error.kind()));
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = new.map_err(why)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        why(error)
    })
}

fn why(kind: ErrorKind) -> String {
    if kind == ErrorKind::AlreadyExists {
        "exists already, and is not overwritten".to_owned()
    } else if kind == ErrorKind::NotFound {
        "there is no such folder".to_owned()
    } else {
        format!("can't be written: {kind}")
    }
}
