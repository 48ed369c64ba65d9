//! What an identity provider says of itself, as far as a configuration is made of it.
//!
//! The document is somebody else's: whatever stands in it, either the configuration has exactly what
//! was meant, or there is a sentence that says why there is none.

mod yaml;

use std::net::SocketAddr;

use serde_json::{Map, Value};
use thiserror::Error;
use url::{Origin, Url};

use super::check::authorization_server::{are_alike, not_normal};
use super::scalar::MAX_TEXT;
use crate::jwt::algorithm::Algorithm;

/// How much of a foreign text is shown.
const SHOWN: usize = 200;
/// How many names of algorithms are shown.
const MAX_ALGORITHMS: usize = 8;

/// What a configuration is made of beside the metadata.
#[derive(Clone, Debug)]
pub struct Premises {
    /// Scheme, host and port under which Cambio reaches the identity provider.
    pub upstream: Url,
    /// Certificates to trust there instead of the system's roots: a path as it is to be written.
    pub ca: Option<String>,
    /// By which clients call it, where that was told.
    pub public: Option<Url>,
    /// Where metadata that name the same issuer were found: never empty, and the first was read.
    pub metadata: Vec<String>,
    /// Why the upstream has no key set where the metadata name it, if so.
    pub no_keys: Option<String>,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// The path of the signing key, as it is to be written.
    pub signing_key: String,
    pub algorithm: Algorithm,
}

/// Why there is no configuration for what the metadata say.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unfit {
    #[error(
        "its `issuer` is no http or https URL of up to {MAX_TEXT} printable ASCII characters with a host and without \
         a user name: {0}"
    )]
    Issuer(String),
    #[error("it has no `{0}`, without which there is nothing to stand in front of")]
    Missing(&'static str),
    #[error("its `{name}` can't be used, as it {why}: {value}")]
    Endpoint { name: &'static str, why: &'static str, value: String },
    #[error("it lies at {0}, which is no plain path: start from a document that lies at one")]
    Place(String),
    #[error("its `{0}` and its `{1}` have the same path, and each needs its own")]
    SamePath(&'static str, &'static str),
}

/// An endpoint of the identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub path: String,
    url: Url,
    /// Its origin, where that is none under which the identity provider is known.
    pub elsewhere: Option<String>,
    /// The URL has a query, too.
    pub has_query: bool,
}

/// An endpoint that it may do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    At(Endpoint),
    /// The metadata don't name it.
    Unnamed,
    /// They do, but why it can't be used.
    Unusable(String),
}

impl Offer {
    pub const fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::At(endpoint) => Some(endpoint),
            Self::Unnamed | Self::Unusable(_) => None,
        }
    }
}

/// What a configuration says of the identity provider.
#[derive(Clone, Debug)]
pub struct Profile {
    pub issuer: String,
    pub token: Endpoint,
    pub jwks: Option<Endpoint>,
    pub introspection: Offer,
    pub revocation: Offer,
    /// The metadata are signed (RFC 8414 §2.1).
    pub is_signed: bool,
    /// What it says that it signs ID tokens with.
    pub algorithms: Vec<String>,
    premises: Premises,
    issuer_url: Url,
}

impl Profile {
    /// Reads metadata (OpenID Connect Discovery §3, RFC 8414 §2).
    pub fn of(metadata: &Map<String, Value>, mut premises: Premises) -> Result<Self, Unfit> {
        let (issuer, issuer_url) = issuer(metadata)?;
        let read_at = premises.metadata.first().map(String::as_str).unwrap_or_default();
        if is_unfit(read_at).is_some() {
            return Err(Unfit::Place(printable(read_at)));
        }
        premises.metadata.retain(|path| is_unfit(path).is_none());
        let mut known = vec![issuer_url.origin(), premises.upstream.origin()];
        known.extend(premises.public.as_ref().map(Url::origin));
        let read = |name| endpoint(metadata, name, &known);
        let token = read("token_endpoint")?.ok_or(Unfit::Missing("token_endpoint"))?;
        let jwks = read("jwks_uri")?;
        let mut paths = vec![("token_endpoint", token.path.as_str())];
        paths.extend(premises.metadata.iter().map(|path| ("metadata", path.as_str())));
        let clash = |path: &str, paths: &[(&'static str, &str)]| {
            paths.iter().find(|(_, other)| are_alike(path, other)).map(|(name, _)| *name)
        };
        if let Some(name) = clash(&token.path, paths.get(1..).unwrap_or_default()) {
            return Err(Unfit::SamePath("token_endpoint", name));
        }
        if let Some(jwks) = &jwks {
            if let Some(name) = clash(&jwks.path, &paths) {
                return Err(Unfit::SamePath("jwks_uri", name));
            }
            paths.push(("jwks_uri", &jwks.path));
        }
        let offer = |name, paths: &[(&'static str, &str)]| match read(name) {
            Ok(None) => Offer::Unnamed,
            Err(unfit) => Offer::Unusable(unfit.to_string()),
            Ok(Some(endpoint)) => match clash(&endpoint.path, paths) {
                Some(other) => Offer::Unusable(Unfit::SamePath(name, other).to_string()),
                None => Offer::At(endpoint),
            },
        };
        let introspection = offer("introspection_endpoint", &paths);
        let own = introspection.endpoint().map(|own| ("introspection_endpoint", &*own.path));
        paths.extend(own);
        let revocation = offer("revocation_endpoint", &paths);
        Ok(Self {
            is_signed: metadata.contains_key("signed_metadata"),
            algorithms: algorithms(metadata),
            issuer,
            token,
            jwks,
            introspection,
            revocation,
            premises,
            issuer_url,
        })
    }

    /// The configuration.
    pub fn to_yaml(&self) -> String {
        yaml::render(self)
    }
}

/// What it says that it signs with, as far as it looks like names of algorithms.
fn algorithms(metadata: &Map<String, Value>) -> Vec<String> {
    let list = metadata.get("id_token_signing_alg_values_supported").and_then(Value::as_array);
    let names = list.into_iter().flatten().filter_map(Value::as_str);
    let is_name = |name: &&str| {
        (1..=16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    names.filter(is_name).take(MAX_ALGORITHMS).map(str::to_owned).collect()
}

/// The issuer to the byte. What `check` would refuse, or what has no host that clients could call,
/// is none.
fn issuer(metadata: &Map<String, Value>) -> Result<(String, Url), Unfit> {
    let value = metadata.get("issuer").ok_or(Unfit::Missing("issuer"))?;
    let unfit = || Unfit::Issuer(shown(value));
    let text = value.as_str().ok_or_else(unfit)?;
    let url = web_url(text).ok_or_else(unfit)?;
    Ok((text.to_owned(), url))
}

/// An http or https URL that means one thing to everybody.
fn web_url(text: &str) -> Option<Url> {
    // The URL parser mends blanks and backslashes.
    let is_plain =
        text.len() <= MAX_TEXT && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let url = Url::parse(text).ok().filter(|_| is_plain)?;
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && has_host && is_anonymous).then_some(url)
}

fn endpoint(
    metadata: &Map<String, Value>,
    name: &'static str,
    known: &[Origin],
) -> Result<Option<Endpoint>, Unfit> {
    let Some(value) = metadata.get(name) else { return Ok(None) };
    let unfit = |why| Unfit::Endpoint { name, why, value: shown(value) };
    let url = value.as_str().and_then(web_url);
    let url = url.filter(|url| url.fragment().is_none()).ok_or_else(|| {
        unfit("is no http or https URL with a host and without a user name and a fragment")
    })?;
    if let Some(why) = is_unfit(url.path()) {
        return Err(unfit(why));
    }
    let origin = url.origin();
    let elsewhere = !known.contains(&origin);
    Ok(Some(Endpoint {
        path: url.path().to_owned(),
        has_query: url.query().is_some(),
        elsewhere: elsewhere.then(|| printable(&origin.ascii_serialization())),
        url,
    }))
}

/// Why a path is none that a configuration takes.
fn is_unfit(path: &str) -> Option<&'static str> {
    if path.len() > MAX_TEXT {
        return Some("is too long");
    }
    not_normal(path).map(|_| "has a path that could be spelt in another way (%, ;, // or the like)")
}

fn shown(value: &Value) -> String {
    printable(&value.to_string())
}

/// A foreign text on one line of printable ASCII: for comments and terminals.
pub fn escaped(text: &str) -> String {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic();
    text.chars().fold(String::new(), |mut shown, c| {
        if is_plain(c) {
            shown.push(c)
        } else {
            shown.extend(c.escape_default())
        }
        shown
    })
}

/// As [`escaped`], cut short.
pub fn printable(text: &str) -> String {
    let cut = text.char_indices().nth(SHOWN).map_or(text, |(at, _)| text.split_at(at).0);
    let dots = if cut.len() < text.len() { "..." } else { "" };
    escaped(cut) + dots
}
