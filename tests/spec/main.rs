//! What the core promises, as pure tests: tables, golden exchanges, properties.

#![allow(
    clippy::assigning_clones,
    clippy::items_after_statements,
    reason = "a test reads from top to bottom, and what it costs is of no matter"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod bounds;
#[path = "../fuzz/checks/mod.rs"]
mod checks;
mod client;
mod config;
mod config_applications;
mod config_commands;
mod config_examples;
mod config_fetched_keys;
mod config_issuers;
mod config_modes;
mod config_resource_servers;
mod config_store;
mod config_support;
mod config_text;
mod config_tokens;
mod config_warnings;
mod confusion;
mod corpora;
mod golden;
mod guides;
mod inquiry;
mod issued;
mod kinds;
mod mutations;
mod outcomes;
mod own_tokens;
mod pairs;
mod profile;
mod properties;
mod public_key_secrets;
mod recognise;
mod recognise_refresh;
mod refresh;
mod refresh_grace;
mod refresh_policy;
mod refresh_properties;
mod refresh_support;
mod request;
mod rfc_examples;
mod shapes;
mod shown;
mod subject_token;
mod support;
mod throttle;
mod time_edges;
mod vectors;
mod vouching;
mod wycheproof;
mod wycheproof_primitives;
