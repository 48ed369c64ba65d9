//! Answers, and how those of two that made up their own random values are compared.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::RequestBuilder;
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use serde_json::Value;

/// Of the connection alone (RFC 9110 §7.6.1), of the time, or of the length of what is chunked
/// instead.
const OF_THE_CONNECTION: [&str; 5] =
    ["connection", "keep-alive", "transfer-encoding", "date", "via"];
/// Members of tokens that no two tokens have in common.
const FRESH_CLAIMS: [&str; 8] =
    ["iat", "nbf", "exp", "auth_time", "jti", "sid", "at_hash", "nonce"];
/// As long as this, a word in a text is a random one.
const RANDOM: usize = 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub fields: HeaderMap,
    pub text: String,
}

impl Answered {
    pub async fn to(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let fields = answer.headers().clone();
        Self { status, fields, text: answer.text().await.unwrap() }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// The `error` of a refusal.
    #[track_caller]
    pub fn error(&self) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        body["error"].as_str().unwrap_or_default().to_owned()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// All of it but for what is random in it, or of the moment.
    pub fn shape(&self) -> String {
        let mut fields: Vec<String> = self
            .fields
            .iter()
            .filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()))
            .map(|(name, value)| {
                let value = value.to_str().unwrap();
                match *name {
                    SET_COOKIE => format!("{name}: {}", cookie(value)),
                    LOCATION => format!("{name}: {}", masked(value)),
                    _ => format!("{name}: {value}"),
                }
            })
            .collect();
        fields.sort();
        let body = match serde_json::from_str::<Value>(&self.text) {
            Ok(body) if body.is_object() => members(&body),
            _ => masked(&self.text),
        };
        format!("{}\n{}\n\n{body}", self.status, fields.join("\n"))
    }
}

/// What a grant gave.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    #[track_caller]
    pub fn of(answer: &Answered) -> Self {
        let answer = answer.json();
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

/// A part of a JWT, not verified.
pub fn part(token: &str, at: usize) -> Option<Value> {
    let part = token.split('.').nth(at)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn members(body: &Value) -> String {
    let mut text = String::new();
    for (name, value) in body.as_object().unwrap() {
        let value = match (name.as_str(), value.as_str()) {
            ("access_token" | "refresh_token" | "id_token", Some(token)) => shape_of(token),
            ("iat" | "exp" | "nbf" | "jti", _) => "fresh".to_owned(),
            _ => value.to_string(),
        };
        writeln!(text, "{name}: {value}").unwrap();
    }
    text
}

/// What two tokens of one kind have in common.
fn shape_of(token: &str) -> String {
    let (Some(header), Some(mut claims)) = (part(token, 0), part(token, 1)) else {
        return format!("{} characters", token.len());
    };
    for (name, value) in claims.as_object_mut().unwrap() {
        if FRESH_CLAIMS.contains(&name.as_str()) {
            *value = "fresh".into();
        }
    }
    format!("{header}.{claims}, {} characters", token.len())
}

/// A cookie's name and attributes.
fn cookie(value: &str) -> String {
    let mut parts = value.split("; ");
    let pair = parts.next().unwrap();
    let name = pair.split('=').next().unwrap();
    let attributes = parts.filter(|part| !part.to_ascii_lowercase().starts_with("expires="));
    let attributes: Vec<_> = attributes.map(masked).collect();
    format!("{name}; {}", attributes.join("; "))
}

/// A text without its random words.
fn masked(text: &str) -> String {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut masked = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.len() >= RANDOM {
            write!(masked, "({} characters)", word.len()).unwrap();
        } else {
            masked += word;
        }
        let end = after.find(is_inner).unwrap_or(after.len());
        let (between, after) = after.split_at(end);
        masked += between;
        rest = after;
    }
    masked
}
