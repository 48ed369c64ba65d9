//! What is asked for: which requests are exchanges at all, and their parameters (RFC 8693 §2.1).

use thiserror::Error;

use super::{marks, refresh};
use crate::oauth::form::{self, Form, FormError, is_form_content_type};
use crate::oauth::grant_type;
use crate::oauth::scope::Scope;
use crate::oauth::target;
use crate::oauth::token_type::TokenType;

/// Why the parameters of an exchange are refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    #[error("subject_token is missing")]
    SubjectTokenMissing,
    #[error("subject_token_type is missing")]
    SubjectTokenTypeMissing,
    #[error("subject_token_type is not supported")]
    SubjectTokenType,
    #[error("requested_token_type is not supported")]
    RequestedTokenType,
    #[error("actor tokens are not supported")]
    ActorToken,
    #[error("resource is not an absolute URI without a fragment")]
    Resource,
    #[error("scope is not well-formed")]
    Scope,
}

/// A request to a token path, as far as it decides whose it is.
#[derive(Clone, Copy)]
pub struct TokenPathRequest<'a> {
    pub method: &'a str,
    /// The query as it came, without `?`.
    pub query: Option<&'a [u8]>,
    /// The value of every `Content-Type` field.
    pub content_types: &'a [&'a [u8]],
    /// Whether there is a `Content-Encoding` field other than `identity`.
    pub is_encoded: bool,
    pub body: &'a [u8],
}

/// Whose a request to a token path is.
#[derive(Debug)]
pub enum Recognised {
    /// An exchange, for us to answer.
    Exchange(Form),
    /// The refresh of a token that we minted, for us to answer.
    Refresh(Form),
    /// Something that has nothing to do with us, for the upstream.
    Other,
}

impl std::fmt::Debug for TokenPathRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenPathRequest(…)")
    }
}

impl TokenPathRequest<'_> {
    /// Decides whose the request is. One that bears the marks of an exchange in any spelling is
    /// ours: well-formed it is an exchange, otherwise it is refused, and never the upstream's.
    pub fn recognise(&self) -> Result<Recognised, FormError> {
        if self.method != "POST" {
            // A body on a method that has none is read by some and not by others.
            let ambiguous = matches!(self.method, "GET" | "HEAD") && !self.body.is_empty();
            return if ambiguous || self.is_opaque() || self.bears_marks() {
                Err(FormError::NotPost)
            } else {
                Ok(Recognised::Other)
            };
        }
        if self.is_encoded && !self.body.is_empty() {
            return Err(FormError::ContentCoding);
        }
        if self.query.is_some_and(marks::stand_in) {
            return Err(FormError::InQuery);
        }
        let is_form = match self.content_types {
            [one] => is_form_content_type(one),
            _ => false,
        };
        if !is_form {
            return if self.is_opaque() || marks::stand_in(self.body) {
                Err(FormError::ContentType)
            } else {
                Ok(Recognised::Other)
            };
        }
        match Form::parse(self.body) {
            Ok(form) if form.get("grant_type") == Some(grant_type::TOKEN_EXCHANGE) => {
                if self.query.is_some_and(names_credentials) {
                    return Err(FormError::InQuery);
                }
                Ok(Recognised::Exchange(form))
            }
            Ok(form)
                if form.get("grant_type") == Some(grant_type::REFRESH_TOKEN)
                    && form.get("refresh_token").is_some_and(refresh::is_ours)
                    && form.get("subject_token").is_none() =>
            {
                if self.query.is_some_and(names_credentials) {
                    return Err(FormError::InQuery);
                }
                Ok(Recognised::Refresh(form))
            }
            Ok(_) if marks::stand_in(self.body) => Err(FormError::Malformed),
            Err(error) if marks::stand_in(self.body) => Err(error),
            Ok(_) | Err(_) => Ok(Recognised::Other),
        }
    }

    /// Whether nobody can tell what it says. Some read the query in the charset of the body.
    fn is_opaque(&self) -> bool {
        let is_empty = self.body.is_empty() && self.query.is_none_or(<[u8]>::is_empty);
        let is_encoded = self.is_encoded && !self.body.is_empty();
        let is_readable = |value: &&[u8]| marks::can_read(value);
        !is_empty
            && (is_encoded
                || !self.content_types.iter().all(is_readable)
                || !marks::charsets_are_ascii(self.body))
    }

    fn bears_marks(&self) -> bool {
        marks::stand_in(self.body) || self.query.is_some_and(marks::stand_in)
    }
}

/// Whether a grant type or client credentials stand in a query (RFC 6749 §2.3.1, §3.2).
fn names_credentials(query: &[u8]) -> bool {
    let barred = ["grant_type", "client_id", "client_secret", "client_assertion"];
    query.split(|b| *b == b'&').any(|pair| {
        let name = pair.split(|b| *b == b'=').next().and_then(form::decode);
        name.is_some_and(|name| barred.contains(&name.as_str()))
    })
}

/// The parameters of an exchange, each well-formed by itself.
#[derive(Clone)]
pub struct ExchangeRequest {
    pub(super) subject_token: String,
    /// Values of `audience` and `resource`, in the order in which they came.
    pub(super) targets: Vec<String>,
    pub(super) scope: Scope,
    pub(super) requested: TokenType,
}

impl std::fmt::Debug for ExchangeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExchangeRequest(…)")
    }
}

impl ExchangeRequest {
    /// Reads the parameters. `may_refresh` is whether the application may use refresh tokens.
    pub fn parse(form: &Form, may_refresh: bool) -> Result<Self, RequestError> {
        // An empty value counts as omitted (RFC 6749 §3.2); blanks around the token come with it
        // from files and shells.
        let subject_token = form
            .get("subject_token")
            .map(|token| token.trim_matches([' ', '\t', '\r', '\n']))
            .filter(|token| !token.is_empty())
            .ok_or(RequestError::SubjectTokenMissing)?
            .to_owned();
        let of_type =
            form.get("subject_token_type").ok_or(RequestError::SubjectTokenTypeMissing)?;
        match TokenType::parse(of_type) {
            Some(TokenType::Jwt | TokenType::AccessToken | TokenType::IdToken) => {}
            Some(TokenType::RefreshToken | TokenType::Saml1 | TokenType::Saml2) | None => {
                return Err(RequestError::SubjectTokenType);
            }
        }
        // Refused, never ignored: a token minted without the actor would say less than was asked.
        if form.get("actor_token").or(form.get("actor_token_type")).is_some() {
            return Err(RequestError::ActorToken);
        }
        let requested = match form.get("requested_token_type").map(TokenType::parse) {
            None | Some(Some(TokenType::AccessToken)) => TokenType::AccessToken,
            Some(Some(TokenType::Jwt)) => TokenType::Jwt,
            Some(Some(TokenType::RefreshToken)) if may_refresh => TokenType::AccessToken,
            Some(
                Some(
                    TokenType::RefreshToken
                    | TokenType::IdToken
                    | TokenType::Saml1
                    | TokenType::Saml2,
                )
                | None,
            ) => return Err(RequestError::RequestedTokenType),
        };
        if !form.all("resource").all(target::is_resource) {
            return Err(RequestError::Resource);
        }
        let targets = form.all("audience").chain(form.all("resource")).map(str::to_owned).collect();
        let scope =
            Scope::parse(form.get("scope").unwrap_or_default()).ok_or(RequestError::Scope)?;
        Ok(Self { subject_token, targets, scope, requested })
    }
}
