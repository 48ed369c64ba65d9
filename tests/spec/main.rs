//! What the core promises, as pure tests: tables, golden exchanges, properties.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod client;
mod config;
mod config_examples;
mod config_parties;
mod config_support;
mod config_text;
mod golden;
mod outcomes;
mod properties;
mod recognise;
mod request;
mod subject_token;
mod support;
