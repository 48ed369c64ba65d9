//! Arguments in, exit code out.

use std::process::ExitCode;

// Without huge pages: the library reserves large buffers for each connection, and uses little of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else can choose another one. It fails only where one was chosen already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Before a secret is read.
    cambio::cli::core_dumps::forbid();
    cambio::cli::run()
}
