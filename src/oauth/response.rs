//! The two answers of a token endpoint: success (RFC 6749 §5.1, RFC 8693 §2.2.1) and error (RFC 6749 §5.2).

use serde::Serialize;

use super::error_code::ErrorCode;

/// A successful answer. Fields that are absent are left out.
#[derive(Clone, Serialize)]
pub struct TokenResponse<'a> {
    pub access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<&'a str>,
    pub token_type: &'a str,
    /// Seconds.
    pub expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<&'a str>,
}

impl std::fmt::Debug for TokenResponse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenResponse")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// The body of an error answer. Both texts are static: nothing that a caller sent is ever in it.
pub fn error_body(code: ErrorCode, description: &'static str) -> String {
    #[derive(Serialize)]
    struct Body {
        error: &'static str,
        error_description: &'static str,
    }
    serde_json::to_string(&Body { error: code.as_str(), error_description: description })
        .unwrap_or_else(|_| String::from(r#"{"error":"server_error"}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_written_as_rfc_6749_section_5_2_has_it() {
        let body = error_body(ErrorCode::InvalidTarget, "Told \"so\".");
        let expected = r#"{"error":"invalid_target","error_description":"Told \"so\"."}"#;
        assert_eq!(body, expected);
    }
}
