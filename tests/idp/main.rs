//! Cambio in front of an identity provider that nobody here wrote, called by clients and believed by
//! resource servers that nobody here wrote.

mod algorithms;
mod clients;
mod passing;
mod provider;
mod software;
mod stage;
