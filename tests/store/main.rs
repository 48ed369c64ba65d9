//! The stores: one suite that each of them passes, then what each promises for itself.

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
