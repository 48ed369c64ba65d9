//! `cambio dev`: the whole of it on loopback, between stand-ins.

use super::{Exit, fail};

/// Stays up, or performs one exchange.
pub fn run(_once: bool) -> Exit {
    fail("`dev` is not part of this build")
}
