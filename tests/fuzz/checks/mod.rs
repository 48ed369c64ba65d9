//! What must hold of any bytes: a file for each target, shared by the fuzz targets and by the test
//! that replays their corpora.

pub mod compact;
pub mod forgery;
pub mod form;
pub mod json;
pub mod jwk;
pub mod jwks;
pub mod overlay_keys;
pub mod overlay_metadata;
pub mod pem;
pub mod route;
pub mod yaml;

/// Asserts what must hold of an input. Says whether the code under test took it.
pub type Check = fn(&[u8]) -> bool;

/// Every target.
pub const ALL: [(&str, Check); 10] = [
    ("compact", compact::check),
    ("form", form::check),
    ("json", json::check),
    ("jwk", jwk::check),
    ("jwks", jwks::check),
    ("overlay_keys", overlay_keys::check),
    ("overlay_metadata", overlay_metadata::check),
    ("pem", pem::check),
    ("route", route::check),
    ("yaml", yaml::check),
];
