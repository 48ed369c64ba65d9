//! JSON Web Tokens: bytes in, verified claims out; and the other way, claims in, signed bytes out.
//!
//! The order of a verification: [`compact`] → [`unverified`] → [`verify`] with a [`key_set`].

pub mod algorithm;
pub mod certificate;
pub mod claims;
pub mod compact;
pub mod json;
pub mod key_set;
pub mod media_type;
pub mod past_keys;
pub mod sign;
pub mod unverified;
pub mod verify;
