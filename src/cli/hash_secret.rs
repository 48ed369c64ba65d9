//! `cambio hash-secret`: a client secret from standard input, as the configuration takes it.

use std::io::Read as _;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::{Exit, fail, print, warn};
use crate::secret;

/// Shorter secrets can be guessed. They are hashed all the same: whoever has one already would
/// otherwise have to keep it in the clear.
const GOOD_BYTES: usize = 16;
/// Longer ones fit into no form.
const MAX_BYTES: usize = 4096;

/// Reads, hashes with a random salt, prints.
pub fn run() -> Exit {
    let mut input = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 3));
    let limit = MAX_BYTES as u64 + 3;
    if let Err(error) = std::io::stdin().lock().take(limit).read_to_end(&mut input) {
        return fail(&format!("standard input can't be read: {}", error.kind()));
    }
    let secret = input.strip_suffix(b"\n").unwrap_or(&input);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.is_empty() {
        return fail("there is no secret on standard input");
    }
    if secret.len() > MAX_BYTES {
        return fail(&format!("the secret on standard input has more than {MAX_BYTES} bytes"));
    }
    if secret.len() < GOOD_BYTES {
        warn(&format!(
            "the secret has fewer than {GOOD_BYTES} bytes and might be guessed: better generate \
             one, such as with `openssl rand -base64 32`"
        ));
    }
    let mut salt = [0; 16];
    if SystemRandom::new().fill(&mut salt).is_err() {
        return fail("no random numbers are to be had");
    }
    match secret::hash(secret, &salt) {
        Ok(phc) => print(&format!("hash: \"{phc}\"\n")),
        Err(error) => fail(&format!("the hash {error}")),
    }
}
