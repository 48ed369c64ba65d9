//! Cambio: OAuth 2.0 Token Exchange (RFC 8693) in front of identity providers that do not know it.
//!
//! The modules in reading order. Above the pure line there is I/O; below it there are only values.

pub mod app;
pub mod cli;

pub mod admin;
pub mod dev;
pub mod keys;
pub mod proxy;
pub mod store;
pub mod telemetry;

pub mod overlay;

pub mod config;

pub mod clock;
pub mod count;

// The pure line: no async, no I/O, no clock, no log below.
pub mod exchange;
pub mod jwt;
pub mod oauth;

pub mod secret;
pub mod time;
