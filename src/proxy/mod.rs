//! The reverse proxy, on pingora.

pub mod answer;
pub mod client_verdicts;
pub mod token_endpoint;
