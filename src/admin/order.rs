//! What an operator wants revoked, and what came of it, as both ends of `POST /revoke` write it.

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::time::Timestamp;

/// The longest name of a subject, an issuer or a client.
const MAX_NAME: usize = 2048;

/// Whose descendants are to end.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// `sub` of minted tokens.
    Subject(String),
    /// The name of a trusted token issuer, or its `iss`.
    Issuer(String),
    /// A `client_id`, or the name of an application.
    Client(String),
}

/// Who a subject is stays out of every log.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Subject(_) => "Subject(…)",
            Self::Issuer(_) => "Issuer(…)",
            Self::Client(_) => "Client(…)",
        })
    }
}

/// An operator's revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub target: Target,
    /// What was granted in this second or before is revoked. `None` is now.
    pub before: Option<Timestamp>,
}

/// Why a text is no order.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OrderError {
    #[error(
        "the body must be a JSON object with exactly one of `subject`, `issuer` and `client`, and \
         `before` or nothing else beside it; all of them strings"
    )]
    Form,
    #[error(
        "`subject`, `issuer` and `client` have 1 to {MAX_NAME} bytes and no control characters"
    )]
    Name,
    #[error("`before` must be a time as in 2026-12-01T00:00:00Z (RFC 3339), after 1970")]
    Time,
}

/// The body of a request.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

/// What is there is a string: `null` is not the same as nothing.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

impl Order {
    pub fn parse(body: &[u8]) -> Result<Self, OrderError> {
        let Body { subject, issuer, client, before } =
            serde_json::from_slice(body).map_err(|_| OrderError::Form)?;
        let target = match (subject, issuer, client) {
            (Some(subject), None, None) => Target::Subject(subject),
            (None, Some(issuer), None) => Target::Issuer(issuer),
            (None, None, Some(client)) => Target::Client(client),
            _ => return Err(OrderError::Form),
        };
        let (Target::Subject(name) | Target::Issuer(name) | Target::Client(name)) = &target;
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(OrderError::Name);
        }
        let before = before.map(|text| time(&text).ok_or(OrderError::Time)).transpose()?;
        Ok(Self { target, before })
    }

    /// What [`Order::parse`] reads.
    pub fn to_body(&self) -> String {
        let mut body =
            Body { before: self.before.map(super::status::rfc3339_text), ..Body::default() };
        let (member, name) = match &self.target {
            Target::Subject(name) => (&mut body.subject, name),
            Target::Issuer(name) => (&mut body.issuer, name),
            Target::Client(name) => (&mut body.client, name),
        };
        *member = Some(name.clone());
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// The second of an RFC 3339 time; `None` where this is none, or lies before 1970.
pub fn time(text: &str) -> Option<Timestamp> {
    let seconds = text.parse::<jiff::Timestamp>().ok()?.as_second();
    u64::try_from(seconds).ok().map(Timestamp::from_secs)
}

/// Whose descendants ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Subject,
    Issuer,
    Client,
}

/// What a revocation hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub ancestor: Kind,
    /// The `iss` of an issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The `client_id` of a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What the configuration calls an issuer or a client. Without it, the configuration has none
    /// such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// RFC 3339.
    pub before: String,
    /// Refresh token families that had not ended.
    pub families: u64,
    /// Opaque access tokens that had not expired.
    pub opaque_access_tokens: u64,
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RevokeError {
    #[error("`before` lies in the future: what is granted later can't be revoked yet")]
    Future,
    #[error(
        "the configuration has no trusted token issuer of this name. One that was removed from it \
         is revoked by its `iss`, a URL"
    )]
    UnknownIssuer,
    #[error(
        "several applications of the configuration have this name: say which by its `client_id`"
    )]
    AmbiguousClient,
    #[error(
        "this configuration keeps nothing: it has neither refresh tokens, opaque access tokens nor \
         introspection, so there is nothing that could be revoked"
    )]
    NothingKept,
    #[error("the store does not answer: it is unknown whether anything was revoked; try again")]
    StoreUnavailable,
}

impl RevokeError {
    /// For programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Future => "invalid_time",
            Self::UnknownIssuer => "unknown_issuer",
            Self::AmbiguousClient => "ambiguous_client",
            Self::NothingKept => "nothing_kept",
            Self::StoreUnavailable => "store_unavailable",
        }
    }

    pub const fn status(self) -> StatusCode {
        match self {
            Self::Future | Self::UnknownIssuer | Self::AmbiguousClient => StatusCode::BAD_REQUEST,
            Self::NothingKept => StatusCode::CONFLICT,
            Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// How an order ended, and under which id the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    pub decision: String,
    pub result: Result<Report, RevokeError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        let before = Some(Timestamp::from_secs(1_767_225_600));
        for target in [
            Target::Subject("p:alice \"a\"".to_owned()),
            Target::Issuer("https://issuer.example".to_owned()),
            Target::Client("portal".to_owned()),
        ] {
            for before in [None, before] {
                let order = Order { target: target.clone(), before };
                assert_eq!(Order::parse(order.to_body().as_bytes()), Ok(order));
            }
        }
    }

    #[test]
    fn what_is_not_exactly_one_target_is_no_order() {
        let good = |body: &str| Order::parse(body.as_bytes());
        assert!(good(r#"{"subject":"a"}"#).is_ok());
        assert!(good(r#" {"client":"a","before":"2026-01-01T00:00:00.5+01:00"} "#).is_ok());
        for body in [
            "",
            "{}",
            "[]",
            "null",
            r#""alice""#,
            r#"{"before":"2026-01-01T00:00:00Z"}"#,
            r#"{"subject":"a","issuer":"b"}"#,
            r#"{"subject":"a","client":"b"}"#,
            r#"{"subject":"a","subject":"a"}"#,
            r#"{"subject":"a","issuer":null}"#,
            r#"{"subject":null}"#,
            r#"{"subject":1}"#,
            r#"{"subject":["a"]}"#,
            r#"{"subject":"a","before":1767225600}"#,
            r#"{"subject":"a","before":null}"#,
            r#"{"subject":"a","all":true}"#,
            r#"{"Subject":"a"}"#,
            r#"{"subject":"a"} x"#,
            "subject=a",
        ] {
            assert_eq!(good(body), Err(OrderError::Form), "{body}");
        }
        assert_eq!(Order::parse(b"{\"subject\":\"\xff\"}"), Err(OrderError::Form));
        let long = format!(r#"{{"subject":"{}"}}"#, "a".repeat(MAX_NAME + 1));
        for body in [r#"{"subject":""}"#, r#"{"client":"a\nb"}"#, &long] {
            assert_eq!(good(body), Err(OrderError::Name), "{body}");
        }
        for time in ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z"] {
            let body = format!(r#"{{"subject":"a","before":"{time}"}}"#);
            assert_eq!(good(&body), Err(OrderError::Time), "{body}");
        }
    }

    #[test]
    fn a_time_is_that_of_its_second() {
        let seconds = Some(Timestamp::from_secs(1_767_225_600));
        assert_eq!(time("2026-01-01T00:00:00Z"), seconds);
        assert_eq!(time("2026-01-01T00:00:00.999Z"), seconds);
        assert_eq!(time("2026-01-01T01:00:00+01:00"), seconds);
    }

    #[test]
    fn nobody_is_named_in_a_log() {
        let order = Order { target: Target::Subject("alice".to_owned()), before: None };
        assert!(!format!("{order:?}").contains("alice"));
    }
}
