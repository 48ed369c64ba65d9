//! Clients whose secret the upstream knows: what it is asked, what its answer says, and when its yes
//! proves anything.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::client::ClientError;
use super::credentials::{Credentials, Presented, basic_of, basic_with_secret};
use super::error::{Failure, Refusal};
use super::inquiry::Purpose;
use crate::jwt::json;

/// A key under which credentials are hashed before anything is remembered of them. It is made anew in
/// every process, so that what is kept is worth nothing outside.
#[derive(Clone)]
pub struct BindingKey(hmac::Key);

impl BindingKey {
    pub fn from_octets(octets: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, octets))
    }

    /// What may be remembered of a binding.
    pub fn tag(&self, binding: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.0, binding).as_ref());
        tag
    }
}

impl std::fmt::Debug for BindingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BindingKey(…)")
    }
}

/// Credentials as they are tried: as they came, since servers differ in how they decode them.
#[derive(Clone)]
pub struct Attempt {
    unverified_client_id: String,
    secret: Presented,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempt(…)")
    }
}

/// The parts of a request that asks about a token.
pub struct AskedWith {
    /// The value of the `Authorization` field.
    pub authorization: Option<Zeroizing<Vec<u8>>>,
    /// A form.
    pub body: Zeroizing<String>,
}

impl std::fmt::Debug for AskedWith {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AskedWith(…)")
    }
}

impl Attempt {
    /// `None` where there is no secret to be tried, or where it can be read in the name of more than
    /// one client: the upstream could then vouch for another one than we mean.
    pub fn of(credentials: &Credentials) -> Option<Self> {
        let unverified_client_id = credentials.unverified_client_id()?.to_owned();
        let secret = credentials.presented()?.clone();
        Some(Self { unverified_client_id, secret })
    }

    /// A client that nobody has registered. Both texts are random.
    pub fn of_stranger(client_id: &str, secret: &str) -> Self {
        let octets = Zeroizing::new(format!("{client_id}:{secret}"));
        let value = Zeroizing::new(basic_of(octets.as_bytes()).as_bytes().to_vec());
        Self { unverified_client_id: client_id.to_owned(), secret: Presented::Basic(value) }
    }

    pub fn unverified_client_id(&self) -> &str {
        &self.unverified_client_id
    }

    pub(super) fn into_client_id(self) -> String {
        self.unverified_client_id
    }

    /// The same client, shown in the same way, with another secret.
    pub fn with_secret(&self, secret: &str) -> Option<Self> {
        let secret = match &self.secret {
            Presented::Basic(value) => {
                let value = basic_with_secret(value, secret)?;
                Presented::Basic(Zeroizing::new(value.as_bytes().to_vec()))
            }
            Presented::Post(_) => Presented::Post(Zeroizing::new(secret.to_owned())),
        };
        Some(Self { unverified_client_id: self.unverified_client_id.clone(), secret })
    }

    /// The credentials, and nothing else but this token.
    pub fn asking_about(&self, token: &str) -> AskedWith {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token);
        let authorization = match &self.secret {
            Presented::Basic(value) => Some(value.clone()),
            Presented::Post(secret) => {
                form.append_pair("client_id", &self.unverified_client_id);
                form.append_pair("client_secret", secret);
                None
            }
        };
        AskedWith { authorization, body: Zeroizing::new(form.finish()) }
    }

    /// What is remembered of it is bound to this, under a key: it has the secret in it.
    pub fn binding(&self) -> Zeroizing<Vec<u8>> {
        let (way, secret): (_, &[u8]) = match &self.secret {
            // However scheme and padding are written: who is right must not fill with spellings of it
            // what is kept of all.
            Presented::Basic(value) => (b'b', without_scheme(value)),
            Presented::Post(secret) => (b'p', secret.as_bytes()),
        };
        let mut binding = self.binding_of(way);
        binding.extend_from_slice(secret);
        binding
    }

    /// As [`Attempt::binding`], for whatever secret.
    pub fn binding_of_client(&self) -> Zeroizing<Vec<u8>> {
        self.binding_of(match self.secret {
            Presented::Basic(_) => b'B',
            Presented::Post(_) => b'P',
        })
    }

    fn binding_of(&self, way: u8) -> Zeroizing<Vec<u8>> {
        let id = self.unverified_client_id.as_bytes();
        Zeroizing::new([&[way], &(id.len() as u64).to_be_bytes()[..], id].concat())
    }

    /// The receipt for these credentials, if the upstream said yes to them and *then* refused a wrong
    /// secret in the same client's name: one that says yes to anything has said nothing, and one that
    /// began to do so meanwhile is found out.
    pub fn vouched(
        &self,
        answer: Answer,
        (wrong, answer_to_wrong): (&Self, Answer),
        key: &BindingKey,
    ) -> Option<Vouched> {
        let is_wrong = wrong.binding_of_client() == self.binding_of_client()
            && wrong.secret != self.secret
            && answer_to_wrong.is_refusal();
        let is_right = answer == Answer::Yes;
        (is_right && is_wrong).then(|| Vouched { tag: key.tag(&self.binding()) })
    }
}

/// What stands between the scheme with its blanks and the padding (RFC 9110 §11.2).
fn without_scheme(value: &[u8]) -> &[u8] {
    let scheme = value.iter().position(u8::is_ascii_whitespace);
    let mut encoded = scheme.and_then(|end| value.get(end..)).unwrap_or_default().trim_ascii();
    while let [rest @ .., b'='] = encoded {
        encoded = rest;
    }
    encoded
}

/// That the upstream knows some credentials. It says something of these alone.
#[derive(Clone, Debug)]
pub struct Vouched {
    tag: [u8; 32],
}

impl Vouched {
    /// Whether it is about these credentials.
    pub fn is_for(&self, attempt: &Attempt, key: &BindingKey) -> bool {
        self.tag.ct_eq(&key.tag(&attempt.binding())).into()
    }
}

/// What the upstream's answer to credentials with a random token says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    /// 401.
    No,
    /// 400 or 403.
    Refused,
    /// There is no such endpoint.
    NoEndpoint,
    /// Nothing that is understood: another status, or a 200 that is no such answer.
    Other,
    /// It can't say, or not now.
    Down,
}

impl Answer {
    /// RFC 7662 §2.2, RFC 7009 §2.2.
    pub fn of(purpose: Purpose, status: u16, body: &[u8]) -> Self {
        match status {
            200 if is_answer(purpose, body) => Self::Yes,
            400 | 403 => Self::Refused,
            401 => Self::No,
            404 | 405 | 501 => Self::NoEndpoint,
            408 | 425 | 429 | 500.. => Self::Down,
            _ => Self::Other,
        }
    }

    /// Whether somebody looked at the credentials and did not like them. A redirect or a page of HTML
    /// may have come from elsewhere.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::No | Self::Refused)
    }
}

/// Whether the body of a 200 is what such an endpoint answers.
fn is_answer(purpose: Purpose, body: &[u8]) -> bool {
    match (purpose, json::parse_object(body)) {
        (_, Ok(members)) if members.contains_key("error") => false,
        (Purpose::Introspection, Ok(members)) => {
            members.get("active").is_some_and(serde_json::Value::is_boolean)
        }
        (Purpose::Introspection, Err(_)) => false,
        (Purpose::Revocation, Ok(_)) => true,
        (Purpose::Revocation, Err(_)) => body.trim_ascii().is_empty(),
    }
}

/// Why the upstream does not vouch for a caller.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unvouched {
    #[error("too many wrong secrets were tried before this one")]
    Throttled,
    #[error("the upstream says that the credentials are wrong")]
    Wrong,
    #[error("the upstream refuses the credentials")]
    Refused,
    #[error("the upstream takes every secret of this client for right")]
    Unprovable,
    #[error("the upstream does not say whether the credentials are right")]
    Silent,
    #[error("the upstream takes every secret of every client for right")]
    Open,
}

/// Where nothing was learnt the caller may be right, and is told to come back.
impl From<Unvouched> for Refusal {
    fn from(why: Unvouched) -> Self {
        match why {
            Unvouched::Throttled => ClientError::Throttled.into(),
            Unvouched::Wrong | Unvouched::Refused | Unvouched::Unprovable => {
                ClientError::SecretWrong.into()
            }
            Unvouched::Silent | Unvouched::Open => Failure::CallerUnproven.into(),
        }
    }
}

/// How a `client_id` looks to a server that does not mind case, blanks around it, or one coding more.
pub fn folded(client_id: &str) -> String {
    let mut folded = client_id.trim().to_ascii_lowercase();
    for _ in 0..2 {
        let Some(decoded) = crate::oauth::form::decode(folded.as_bytes()) else { break };
        folded = decoded.trim().to_ascii_lowercase();
    }
    folded
}

/// Whether nobody can take a `client_id` for another but for its case: visible ASCII, and nothing that
/// a server could decode.
pub fn is_plain(client_id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'+');
    !client_id.is_empty() && client_id.len() <= 255 && client_id.bytes().all(is_plain)
}
