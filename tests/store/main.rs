//! The stores: one suite that each of them passes, then what each promises for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod disk;
mod embedded;
mod power;
mod redis;
mod servers;
mod suite;
mod support;
