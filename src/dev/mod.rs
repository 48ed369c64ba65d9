//! A stand-in issuer and a stand-in identity provider, for `cambio dev` and the tests.
//!
//! Both are real servers on loopback with real keys: what they hand out is signed, what they are
//! asked is checked. Neither is meant to be reached by anybody else.

pub mod idp;
pub mod issuer;
pub mod loopback;
pub mod rehearsal;
pub mod stage;

use thiserror::Error;

use crate::jwt::sign::{SignError, SigningKeyError};

/// Why a stand-in could not do its part.
#[derive(Debug, Error)]
pub enum StandInError {
    #[error("no loopback port could be had: {0}")]
    Port(#[from] std::io::Error),
    #[error("no key could be made: it {0}")]
    Key(#[from] SigningKeyError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the stand-in issuer has no key for the algorithm")]
    NoKey,
}
