//! The grant types that Cambio acts on (RFC 6749 §4, RFC 8693 §2.1).

/// RFC 8693 §2.1.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 6749 §6.
pub const REFRESH_TOKEN: &str = "refresh_token";
