//! A caller's credentials tried at the upstream, which knows secrets that we do not.
//!
//! They, and nothing else of the request, go to the upstream's introspection endpoint, or else to its
//! revocation endpoint, with a random token. That says something only where a wrong secret is
//! refused: so no client is believed before a random secret was tried in its name.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use moka::future::Cache;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::asking::Asking;
use crate::config::Endpoints;
use crate::exchange::client::{Credentials, Method, basic_with_secret};
use crate::jwt::json;
use crate::oauth::form::Form;
use crate::telemetry::metrics::{Metrics, ProbeOutcome};

/// How many verdicts are kept.
const CAPACITY: u64 = 10_000;
/// The longest that one attempt takes.
const LONGEST: Duration = Duration::from_secs(10);

/// For how long what was found is believed.
#[derive(Clone, Copy, Debug)]
pub struct Belief {
    /// That credentials are right. What the upstream withdraws holds here for so long.
    pub right: Duration,
    /// That the upstream refuses a client's wrong secrets, or that it does not.
    pub trial: Duration,
}

impl Default for Belief {
    fn default() -> Self {
        Self { right: Duration::from_secs(60), trial: Duration::from_secs(300) }
    }
}

/// Credentials as they are tried: as they came, since servers differ in how they decode them.
#[derive(Clone)]
pub struct Attempt {
    unverified_client_id: String,
    secret: Presented,
}

#[derive(Clone)]
enum Presented {
    /// The value of the `Authorization` field.
    Basic(Zeroizing<Vec<u8>>),
    /// `client_secret` in the body.
    Post(Zeroizing<String>),
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempt(…)")
    }
}

impl Attempt {
    /// `None` where there is no secret to be tried, or where it can be read in the name of more than
    /// one client. `credentials` are those of the form and the `Authorization` fields.
    pub fn of(credentials: &Credentials, form: &Form, authorization: &[&[u8]]) -> Option<Self> {
        let unverified_client_id = credentials.unverified_client_id()?.to_owned();
        if !credentials.has_secret() {
            return None;
        }
        let secret = match (credentials.method, authorization) {
            (Method::ClientSecretBasic, [value]) => {
                Presented::Basic(Zeroizing::new(value.to_vec()))
            }
            (Method::ClientSecretPost, []) => {
                Presented::Post(Zeroizing::new(form.get("client_secret")?.to_owned()))
            }
            (Method::ClientSecretBasic | Method::ClientSecretPost | Method::None, _) => {
                return None;
            }
        };
        Some(Self { unverified_client_id, secret })
    }

    /// The same client with a secret that nobody has.
    fn with_random_secret(&self) -> Option<Self> {
        let random = Zeroizing::new(random_text()?);
        let secret = match &self.secret {
            Presented::Basic(value) => {
                let value = basic_with_secret(value, &random)?;
                Presented::Basic(Zeroizing::new(value.as_bytes().to_vec()))
            }
            Presented::Post(_) => Presented::Post(random),
        };
        Some(Self { unverified_client_id: self.unverified_client_id.clone(), secret })
    }

    /// `Authorization` and body of a request about a token that nobody has.
    fn request(&self) -> Option<(Option<HeaderValue>, String)> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", &random_text()?);
        let authorization = match &self.secret {
            Presented::Basic(value) => {
                let mut value = HeaderValue::from_bytes(value).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            Presented::Post(secret) => {
                form.append_pair("client_id", &self.unverified_client_id);
                form.append_pair("client_secret", secret);
                None
            }
        };
        Some((authorization, form.finish()))
    }

    /// What is remembered of it is bound to this, under a key.
    fn binding(&self) -> Zeroizing<Vec<u8>> {
        let (way, secret): (_, &[u8]) = match &self.secret {
            Presented::Basic(value) => (b'b', value),
            Presented::Post(secret) => (b'p', secret.as_bytes()),
        };
        let mut binding = self.binding_of_client(way);
        binding.extend_from_slice(secret);
        binding
    }

    /// As [`Attempt::binding`], for whatever secret.
    fn binding_of_client(&self, way: u8) -> Zeroizing<Vec<u8>> {
        let id = self.unverified_client_id.as_bytes();
        Zeroizing::new([&[way], &(id.len() as u64).to_be_bytes()[..], id].concat())
    }

    fn binding_of_trial(&self) -> Zeroizing<Vec<u8>> {
        self.binding_of_client(match self.secret {
            Presented::Basic(_) => b'B',
            Presented::Post(_) => b'P',
        })
    }
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Accepted,
    /// 401.
    Rejected,
    /// Another refusal.
    Refused,
    /// The upstream could not say.
    Nothing,
    /// There is no such endpoint.
    NoEndpoint,
}

/// Whether a random secret was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Passed,
    Failed,
}

/// Tries credentials at the upstream, and remembers for a while which are right.
#[derive(Debug)]
pub struct ClientProbe {
    asking: Arc<Asking>,
    metrics: Arc<Metrics>,
    /// Those that may be asked, in order, and whether it is the one for introspection.
    endpoints: Vec<(String, bool)>,
    /// By which clients know us.
    host: Option<HeaderValue>,
    is_tls: bool,
    /// Made anew in every process: what is kept is worth nothing outside.
    key: hmac::Key,
    right: Cache<[u8; 32], ()>,
    trials: Cache<[u8; 32], Trial>,
}

impl ClientProbe {
    /// `issuer` is ours, from which clients know our host. `None` where the system has no random
    /// numbers.
    pub fn new(
        asking: &Arc<Asking>,
        metrics: &Arc<Metrics>,
        endpoints: &Endpoints,
        issuer: &str,
        belief: Belief,
    ) -> Option<Self> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).ok()?;
        let issuer = url::Url::parse(issuer).ok();
        let introspection = endpoints.introspection.iter().map(|path| (path.clone(), true));
        let revocation = endpoints.revocation.iter().map(|path| (path.clone(), false));
        Some(Self {
            asking: Arc::clone(asking),
            metrics: Arc::clone(metrics),
            endpoints: introspection.chain(revocation).collect(),
            host: issuer.as_ref().and_then(super::documents::host),
            is_tls: issuer.is_some_and(|issuer| issuer.scheme() == "https"),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            right: cache(belief.right),
            trials: cache(belief.trial),
        })
    }

    /// Whether the upstream knows these credentials. Callers with the same ones share one attempt.
    pub async fn of(&self, attempt: &Attempt) -> ProbeOutcome {
        let key = self.tag(&attempt.binding());
        match self.right.try_get_with(key, self.probe(attempt)).await {
            Ok(()) => ProbeOutcome::Accepted,
            // Wrong ones are for an attacker to choose, and would push out the others.
            Err(outcome) => *outcome,
        }
    }

    async fn probe(&self, attempt: &Attempt) -> Result<(), ProbeOutcome> {
        let outcome = self.judge(attempt).await;
        self.metrics.client_probe(outcome);
        if outcome == ProbeOutcome::Accepted { Ok(()) } else { Err(outcome) }
    }

    async fn judge(&self, attempt: &Attempt) -> ProbeOutcome {
        let trial = self.tag(&attempt.binding_of_trial());
        if self.trials.get(&trial).await == Some(Trial::Failed) {
            return ProbeOutcome::Unclear;
        }
        match self.attempt(attempt).await {
            Came::Accepted => {}
            Came::Rejected => return ProbeOutcome::Rejected,
            Came::Refused | Came::Nothing | Came::NoEndpoint => return ProbeOutcome::Unclear,
        }
        match self.trials.try_get_with(trial, self.try_random_secret(attempt)).await {
            Ok(Trial::Passed) => ProbeOutcome::Accepted,
            Ok(Trial::Failed) | Err(_) => ProbeOutcome::Unclear,
        }
    }

    /// `Err` where nothing was learnt.
    async fn try_random_secret(&self, attempt: &Attempt) -> Result<Trial, ()> {
        let wrong = attempt.with_random_secret().ok_or(())?;
        match self.attempt(&wrong).await {
            Came::Rejected | Came::Refused => Ok(Trial::Passed),
            Came::Accepted => {
                tracing::warn!(
                    "the upstream takes a wrong secret for right: for a while, none that a client \
                     of this name shows proves anything"
                );
                Ok(Trial::Failed)
            }
            Came::Nothing | Came::NoEndpoint => Err(()),
        }
    }

    async fn attempt(&self, attempt: &Attempt) -> Came {
        for (path, is_introspection) in &self.endpoints {
            let came = self.attempt_at(path, *is_introspection, attempt).await;
            if came.is_none_or(|came| came != Came::NoEndpoint) {
                return came.unwrap_or(Came::Nothing);
            }
        }
        Came::NoEndpoint
    }

    async fn attempt_at(
        &self,
        path: &str,
        is_introspection: bool,
        attempt: &Attempt,
    ) -> Option<Came> {
        let (authorization, body) = attempt.request()?;
        let host = self.host.as_ref();
        let question = self.asking.form(path, host, self.is_tls, authorization, body)?;
        let reply = self.asking.ask(question, Some(LONGEST)).await?;
        Some(match reply.head.status.as_u16() {
            200 if !is_introspection || json::parse_object(&reply.body).is_ok() => Came::Accepted,
            401 => Came::Rejected,
            404 | 405 | 501 => Came::NoEndpoint,
            400 | 403 => Came::Refused,
            _ => Came::Nothing,
        })
    }

    fn tag(&self, binding: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, binding).as_ref());
        tag
    }
}

fn cache<V: Clone + Send + Sync + 'static>(kept: Duration) -> Cache<[u8; 32], V> {
    Cache::builder().max_capacity(CAPACITY).time_to_live(kept).build()
}

/// A token or secret that nobody has. It has the form of none that is understood.
fn random_text() -> Option<String> {
    let mut octets = [0; 32];
    aws_lc_rs::rand::fill(&mut octets).ok()?;
    Some(URL_SAFE_NO_PAD.encode(octets))
}
