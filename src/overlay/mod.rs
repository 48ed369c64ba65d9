//! Our keys and grants merged into the upstream's own documents: pure, and to the byte in all that
//! is not ours.

pub mod finding;
pub mod keys;
pub mod metadata;
mod object;
pub mod places;

/// Why a document is not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMerged {
    /// It is not such a document: not JSON, not an object, ambiguous, or without what makes it one.
    Unlike,
    /// It is signed (RFC 8414 §2.1): to whoever reads the signed form, what we add would be missing,
    /// and we can't sign for the upstream.
    Signed,
}
