//! The reverse proxy, on pingora.

pub mod answer;
pub mod asking;
pub mod authentication;
pub mod client_probe;
pub mod client_verdicts;
pub mod connection;
pub mod contain;
pub mod document;
pub mod documents;
pub mod forward;
pub mod gateway;
pub mod generation;
pub mod guesses;
pub mod head;
pub mod inquiries;
pub mod intercept;
pub mod noted;
pub mod originals;
pub mod peer;
pub mod reply;
pub mod route;
pub mod screen;
pub mod section;
pub mod switch;
pub mod tls;
pub mod token_endpoint;
