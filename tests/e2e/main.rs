//! The real proxy on real sockets, with stand-ins on both sides.

#![allow(
    clippy::assigning_clones,
    clippy::cast_precision_loss,
    clippy::cloned_ref_to_slice_refs,
    clippy::doc_markdown,
    clippy::explicit_write,
    clippy::format_collect,
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

mod admin;
mod admin_revoke;
mod authority;
mod chaos;
mod chaos_estate;
mod chaos_figures;
mod chaos_issuer;
mod chaos_kinds;
mod client_probe;
mod client_verdicts;
mod confinement;
mod dev;
mod doctor;
mod documents;
mod documents_codings;
mod documents_elsewhere;
mod documents_findings;
mod documents_hanging;
mod documents_hosts;
mod documents_places;
mod documents_support;
mod exchange;
#[allow(dead_code, reason = "the tests of abuse use all of it")]
#[path = "../abuse/frames.rs"]
mod frames;
mod framing;
mod grants;
mod init;
mod inquiry_decisions;
mod inquiry_proof;
mod inquiry_support;
mod introspection;
mod issuer;
mod keys;
mod keys_discovery;
mod keys_disk;
mod keys_flood;
mod keys_reload;
mod keys_restart;
mod keys_source;
mod keys_unnamed;
mod leap;
mod metrics;
mod operator;
mod operator_command;
mod operator_redis;
mod own_tokens;
mod panics;
mod process;
mod proxy;
mod proxy_answers;
mod proxy_failures;
mod proxy_headers;
mod proxy_intercept;
mod proxy_limits;
mod proxy_streams;
mod random;
mod refresh;
mod refresh_faults;
mod refresh_kill;
mod refresh_race;
mod refresh_redis;
mod refresh_reuse;
mod refresh_support;
mod reload;
mod revocation;
mod scan;
mod secrecy;
#[allow(dead_code, reason = "the tests of the stores use all of it")]
#[path = "../store/servers.rs"]
mod servers;
mod setting;
mod signing_keys;
mod spellings;
mod spellings_forms;
mod spellings_recorder;
mod spellings_ways;
mod store;
mod store_life;
#[allow(dead_code, reason = "the tests of abuse use all of it")]
mod strict;
mod support;
mod telemetry;
mod tls;
mod transparency;
mod transparency_body;
mod transparency_fields;
mod transparency_message;
mod transparency_record;
mod transparency_rules;
mod transparency_streams;
mod transparency_wire;
mod vouched;
