//! Cambio in front of an identity provider that nobody here wrote, called by clients and believed by
//! resource servers that nobody here wrote.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod algorithms;
mod clients;
mod front;
mod glewlwyd;
mod inquiries;
mod passing;
mod provider;
mod software;
mod stage;
