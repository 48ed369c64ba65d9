//! Keeps the memory of this process, which holds keys and secrets, out of files and from others.

use rustix::io::Result;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::warn;

/// Switches core dumps off, for this process and those that it may start.
///
/// On Linux the process is made undumpable too: a limit does not hold where the system pipes dumps
/// into a program (core(5)), and nobody but root may then read `/proc/PID/environ` and
/// `/proc/PID/mem` or attach a debugger. Where either is not to be had, that is told and no more:
/// the identity provider behind us has to be reached.
pub fn forbid() {
    for (what, done) in [
        ("core dumps can't be switched off", no_core_file()),
        ("its memory can't be kept from other processes of this user", undumpable()),
    ] {
        if let Err(error) = done {
            warn(&format!("{what}: {error}"));
        }
    }
}

fn no_core_file() -> Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}

#[cfg(target_os = "linux")]
fn undumpable() -> Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
fn undumpable() -> Result<()> {
    Ok(())
}
