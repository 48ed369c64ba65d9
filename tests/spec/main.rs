//! What the core promises, as pure tests: tables, golden exchanges, properties.

mod client;
mod outcomes;
mod properties;
mod recognise;
mod request;
mod subject_token;
mod support;
