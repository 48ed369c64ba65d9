//! The stores: one suite that each of them passes, then what each promises for itself.

#![allow(
    clippy::assigning_clones,
    clippy::cast_precision_loss,
    clippy::cloned_ref_to_slice_refs,
    clippy::doc_markdown,
    clippy::explicit_write,
    clippy::format_push_string,
    clippy::items_after_statements,
    clippy::match_wildcard_for_single_variants,
    clippy::single_match_else,
    clippy::too_many_lines,
    reason = "a test reads from top to bottom, and what it costs is of no matter"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on has failed"
)]
#![allow(clippy::similar_names, reason = "a store and what it keeps once are told apart by all")]

mod disk;
mod embedded;
mod embedded_file;
mod power;
mod redis;
mod servers;
mod suite;
mod support;
