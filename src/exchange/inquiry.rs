//! Requests about a token that exists already (RFC 7662 introspection, RFC 7009 revocation): which of
//! them concern us, and what the upstream's answer says of who calls.

use std::sync::Arc;

use serde_json::Value;

use super::credentials::Credentials;
use super::issued::{Owned, Suspected};
use super::policy::Policy;
use super::token_id::FamilyId;
use crate::jwt::json;
use crate::jwt::key_set::KeySet;
use crate::oauth::form::{Form, is_form_content_type};

/// What is wanted of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Introspection,
    Revocation,
}

/// What is known of an inquiry so far. All of it is configured, or ours: it may be logged.
#[derive(Clone, Debug, Default)]
pub struct InquiryRecord {
    /// Name of the application that asks, once somebody has vouched for it. An identity provider has
    /// clients that are no applications of ours.
    pub client: Option<Arc<str>>,
    /// Name of the issuer whose token it was minted for.
    pub issuer: Option<Arc<str>>,
    pub jwt_id: Option<String>,
    pub family: Option<FamilyId>,
}

impl InquiryRecord {
    /// Notes who asks.
    pub fn note_client(&mut self, client_id: &str, policy: &Policy) {
        let application = policy.application_of(client_id);
        self.client = application.map(|application| Arc::clone(&application.name));
    }

    /// Notes what the token was found to be.
    pub fn note_token(&mut self, token: &Owned, policy: &Policy) {
        self.issuer = policy.issuer_by_tag(token.issuer()).map(|issuer| Arc::clone(&issuer.name));
        self.family = token.family();
        self.jwt_id = match token {
            Owned::Access(token) => Some(token.jwt_id().to_owned()),
            Owned::Refresh(..) => None,
        };
    }
}

/// A request to one of the two endpoints, as far as it decides whose it is.
#[derive(Clone, Copy)]
pub struct InquiryRequest<'a> {
    pub method: &'a str,
    /// The query as it came, without `?`.
    pub query: Option<&'a [u8]>,
    /// Whether a header field says that another target or method is meant.
    pub is_overridden: bool,
    /// The value of every `Content-Type` field.
    pub content_types: &'a [&'a [u8]],
    /// Whether there is a `Content-Encoding` field other than `identity`.
    pub is_encoded: bool,
    pub body: &'a [u8],
}

impl std::fmt::Debug for InquiryRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InquiryRequest(…)")
    }
}

/// A request about a token that could be ours.
#[derive(Debug)]
pub struct Inquiry {
    pub form: Form,
    pub suspected: Suspected,
}

/// What the upstream decides by. Where a server could read one of these from another place or under
/// another name than we do, its answer would be about another caller or another token than ours.
const DECISIVE: [&str; 7] = [
    "token",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "_method",
    "access_token",
];

impl InquiryRequest<'_> {
    /// `None` where the request is the upstream's alone: about a token that has nothing to do with
    /// us, or written so that servers may differ in what it says.
    pub fn recognise(&self, keys: &KeySet, policy: &Policy) -> Option<Inquiry> {
        let is_form = match self.content_types {
            [one] => is_form_content_type(one),
            _ => false,
        };
        if self.method != "POST" || self.is_overridden || self.is_encoded || !is_form {
            return None;
        }
        let query = Form::parse(self.query.unwrap_or_default()).ok()?;
        if query.names().any(|name| is_decisive(name).is_some()) {
            return None;
        }
        let form = Form::parse(self.body).ok()?;
        let is_plain = |name: &str| is_decisive(name).is_none_or(|own| own == name);
        // By an `access_token` it may know the caller, whatever else stands there (RFC 6750 §2.2).
        let is_others = form.get("_method").or(form.get("access_token")).is_some();
        if is_others || !form.names().all(is_plain) {
            return None;
        }
        let suspected = Suspected::of(form.get("token")?, keys, policy)?;
        Some(Inquiry { form, suspected })
    }
}

/// The decisive parameter that some server may take this one for. Names are told apart without case
/// by some; PHP makes `_` of what it has no use for, drops blanks, and reads `[` as an array.
fn is_decisive(name: &str) -> Option<&'static str> {
    let end = name.find('[').unwrap_or(name.len());
    let folded: String = (name.get(..end).unwrap_or_default().trim_start().chars())
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    DECISIVE.into_iter().find(|own| *own == folded)
}

/// What the upstream's answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Introspection: it does not refuse the caller, and the token is none that counts there.
    Inactive,
    /// Introspection: the token counts there.
    Active,
    /// Revocation: it does not refuse the caller, and the token counts no more, if it ever did.
    Revoked,
    /// RFC 7009 §2.2.1. Some say it of every JWT, to the right caller or to any.
    TokenUnsupported,
    /// There is no such endpoint.
    NoEndpoint,
    /// It can't answer.
    Down,
    /// Whatever it is, it is between the caller and the upstream.
    Other,
}

impl Said {
    pub fn of(purpose: Purpose, status: u16, body: &[u8]) -> Self {
        let member = |name: &str| json::parse_object(body).ok()?.remove(name);
        match status {
            200 if member("error").is_some() || is_page(body) => Self::Other,
            200 if purpose == Purpose::Revocation => Self::Revoked,
            200 => match member("active") {
                Some(Value::Bool(true)) => Self::Active,
                Some(Value::Bool(false)) => Self::Inactive,
                Some(
                    Value::Null
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_),
                )
                | None => Self::Other,
            },
            400 if member("error").is_some_and(|error| error == "unsupported_token_type") => {
                Self::TokenUnsupported
            }
            404 | 405 | 501 => Self::NoEndpoint,
            500.. => Self::Down,
            _ => Self::Other,
        }
    }
}

/// Whether a body is a page for people, such as one to log in at: with a 200 it may be all that a server
/// says to wrong credentials. Otherwise it is of no matter what stands there (RFC 7009 §2.2).
fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().first() == Some(&b'<')
}

/// Who a caller says it is, in the one way that somebody else can prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub unverified_client_id: String,
    /// Without one there is nothing to prove: the `client_id` is all that a public client has.
    pub has_secret: bool,
}

impl Caller {
    /// `None` where the credentials can be read in the name of more than one client.
    pub fn of(credentials: &Credentials) -> Option<Self> {
        let unverified_client_id = credentials.unverified_client_id()?.to_owned();
        Some(Self { unverified_client_id, has_secret: credentials.has_secret() })
    }

    /// The `client_id`, where whoever says that the caller is right has seen a secret.
    pub fn with_secret(&self) -> Option<&str> {
        self.has_secret.then_some(self.unverified_client_id.as_str())
    }

    /// As [`Caller::with_secret`], or that of a client which our own policy knows to be public: it
    /// may end its own tokens by its name alone (RFC 7009 §2.1).
    pub fn with_secret_or_public(&self, policy: &Policy) -> Option<&str> {
        let application = policy.application(&self.unverified_client_id);
        let is_public = application.is_some_and(|one| one.authentication.is_public());
        (self.has_secret || is_public).then_some(self.unverified_client_id.as_str())
    }
}
