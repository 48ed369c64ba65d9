//! What the core promises, as pure tests: tables, golden exchanges, properties.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod client;
mod golden;
mod outcomes;
mod properties;
mod recognise;
mod request;
mod subject_token;
mod support;
