//! Verdicts on client secrets, kept for a while so that a request does not cost an argon2.
