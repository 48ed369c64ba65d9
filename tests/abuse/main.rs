//! What an attacker sends, and how much of it: one well-formed request reaches the upstream or
//! nothing does, memory stays bounded, and others are served meanwhile.
//!
//! These tests load the machine. They stand apart from the others, so that those are not slowed down.

#![allow(
    clippy::cast_precision_loss,
    clippy::doc_markdown,
    clippy::explicit_write,
    clippy::format_push_string,
    clippy::items_after_statements,
    clippy::match_wildcard_for_single_variants,
    clippy::single_match_else,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a test reads from top to bottom, and what it costs is of no matter"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../e2e/authority.rs"]
mod authority;
mod downgrade;
mod frames;
mod http2;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../e2e/leap.rs"]
mod leap;
mod load;
mod memory;
mod pressure;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../e2e/scan.rs"]
mod scan;
mod slow;
mod smuggling;
#[path = "../e2e/strict.rs"]
mod strict;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../e2e/support.rs"]
mod support;
