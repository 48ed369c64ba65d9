//! An answer that Cambio gives itself, before it is written to a connection.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::token_endpoint::decision_id;
use crate::exchange::Granted;
use crate::exchange::error::{Blame, Outcome, Refusal};
use crate::oauth::response::{TokenResponse, error_body};
use crate::oauth::token_type::TokenType;

/// Names the decision in the audit log.
pub const DECISION: HeaderName = HeaderName::from_static("cambio-decision");

/// A whole answer: status, header fields and body. `Content-Length` is set where it is written.
#[derive(Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// A JSON answer that nobody may store (RFC 6749 §5.1, §5.2).
    fn json(status: StatusCode, decision: &str, body: String) -> Self {
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (PRAGMA, HeaderValue::from_static("no-cache")),
        ];
        headers.extend(HeaderValue::from_str(decision).ok().map(|id| (DECISION, id)));
        Self { status, headers, body: body.into() }
    }

    /// A short text, for what is refused outside of the token endpoint.
    pub fn plain(status: StatusCode, text: &str) -> Self {
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        headers.extend(HeaderValue::try_from(decision_id()).ok().map(|id| (DECISION, id)));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            headers.push((http::header::ALLOW, allow));
        }
        Self { status, headers, body: format!("{text}\n").into() }
    }

    /// RFC 6749 §5.1, RFC 8693 §2.2.1.
    pub fn granted(granted: &Granted, decision: &str) -> Self {
        let response = TokenResponse {
            access_token: &granted.access_token,
            issued_token_type: granted.issued_token_type.map(TokenType::as_str),
            token_type: "Bearer",
            expires_in: granted.expires_in,
            scope: granted.scope.as_deref(),
            refresh_token: granted.refresh_token.as_ref().map(|token| token.as_str()),
        };
        serde_json::to_string(&response).map_or_else(
            |_| {
                Self::refused(
                    &Refusal::from(crate::exchange::error::Failure::Internal).outcome(),
                    decision,
                )
            },
            |body| Self::json(StatusCode::OK, decision, body),
        )
    }

    /// RFC 7662 §2.2. `None` is a token that is not active, of which nothing else is told.
    pub fn introspected(token: Option<&Map<String, Value>>, decision: &str) -> Self {
        let body = token.and_then(|token| serde_json::to_string(token).ok());
        let body = body.unwrap_or_else(|| String::from(r#"{"active":false}"#));
        Self::json(StatusCode::OK, decision, body)
    }

    /// RFC 7009 §2.2.
    pub fn revoked(decision: &str) -> Self {
        let mut answer = Self::json(StatusCode::OK, decision, String::new());
        answer.headers.retain(|(name, _)| *name != CONTENT_TYPE);
        answer
    }

    /// RFC 6749 §5.2.
    pub fn refused(outcome: &Outcome, decision: &str) -> Self {
        let status =
            StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = error_body(outcome.error, outcome.description);
        let mut answer = Self::json(status, decision, body);
        let mut add = |name, value| answer.headers.push((name, HeaderValue::from_static(value)));
        match status {
            // RFC 9110 §11.6.1: every 401 has a challenge.
            StatusCode::UNAUTHORIZED => add(WWW_AUTHENTICATE, "Basic realm=\"token\""),
            StatusCode::METHOD_NOT_ALLOWED => add(http::header::ALLOW, "POST"),
            // Within a minute all of what was used up comes back.
            StatusCode::TOO_MANY_REQUESTS => add(RETRY_AFTER, "60"),
            StatusCode::SERVICE_UNAVAILABLE if outcome.blame == Blame::Us => add(RETRY_AFTER, "1"),
            _ => {}
        }
        answer
    }
}
