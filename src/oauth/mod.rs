//! The vocabulary of the OAuth RFCs: what the words on the wire are. No decisions are taken here.

pub mod error_code;
pub mod form;
pub mod grant_type;
pub mod response;
pub mod scope;
pub mod target;
pub mod token_type;
