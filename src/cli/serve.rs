//! `cambio serve`: runs the proxy in the foreground.

use std::path::Path;

use super::{Exit, check, fail};
use crate::config;

/// Loads the configuration and serves it.
pub fn run(path: &Path, _upgrade: bool) -> Exit {
    match config::load(path) {
        Ok(_) => fail("serving is not part of this build"),
        Err(faults) => {
            check::tell(&faults);
            Exit::BadConfiguration
        }
    }
}
