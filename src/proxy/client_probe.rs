//! A caller's credentials tried at the upstream, which knows secrets that we do not.
//!
//! They, and nothing else of the request, go to the upstream's introspection endpoint, or else to its
//! revocation endpoint, with a random token. That says something only where wrong secrets are refused.
//! So an endpoint is asked first for a client that nobody has registered, and again now and then: one
//! that says yes is not used. And each yes counts only after a random secret in the same client's name
//! was refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::asking::Asking;
use super::guesses::{Guess, Guesses, Shown};
use crate::config::Endpoints;
use crate::count::{Count, Full};
use crate::exchange::inquiry::Purpose;
use crate::exchange::vouching::{Answer, AskedWith, Attempt, Unvouched, Vouched};
use crate::telemetry::metrics::{Metrics, ProbeOutcome};

/// How many verdicts are kept.
const CAPACITY: u64 = 10_000;
/// The longest that one attempt takes.
const LONGEST: Duration = Duration::from_secs(10);
/// How many callers are tried at a time, of those that were right before and of all others.
const TURNS: usize = 64;
/// How long a caller waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// For how long what was found is believed.
#[derive(Clone, Copy, Debug)]
pub struct Belief {
    /// That credentials are right. What the upstream withdraws holds here for so long.
    pub right: Duration,
    /// That the upstream refuses wrong secrets, or that it does not.
    pub trial: Duration,
}

impl Default for Belief {
    fn default() -> Self {
        Self { right: Duration::from_secs(60), trial: Duration::from_secs(300) }
    }
}

/// What an endpoint made of a random secret of a client that nobody has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Finding {
    /// It was not asked yet, or did not say.
    Unknown = 0,
    RefusesWrongSecrets,
    /// It proves nothing, and is not used.
    AcceptsWrongSecrets,
    /// There is no such endpoint.
    Missing,
}

/// An endpoint at which credentials may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFinding {
    pub purpose: Purpose,
    pub path: String,
    pub finding: Finding,
}

#[derive(Debug)]
struct Endpoint {
    purpose: Purpose,
    path: String,
    /// A [`Finding`]: the last one, for operators.
    finding: AtomicU8,
}

impl Endpoint {
    fn new(purpose: Purpose, path: &str) -> Self {
        let finding = AtomicU8::new(Finding::Unknown as u8);
        Self { purpose, path: path.to_owned(), finding }
    }

    fn finding(&self) -> Finding {
        let known = [Finding::RefusesWrongSecrets, Finding::AcceptsWrongSecrets, Finding::Missing];
        let finding = self.finding.load(Ordering::Relaxed);
        known.into_iter().find(|one| *one as u8 == finding).unwrap_or(Finding::Unknown)
    }

    /// Tells the operator when it changes, not at each request.
    fn note(&self, finding: Finding) {
        let before = self.finding.swap(finding as u8, Ordering::Relaxed);
        let path = &*self.path;
        if finding == Finding::AcceptsWrongSecrets && before != finding as u8 {
            tracing::error!(
                path,
                "the upstream takes a wrong secret for right here: the endpoint proves nothing, and \
                 no client is authenticated by it"
            );
        }
        if finding == Finding::RefusesWrongSecrets && before == Finding::AcceptsWrongSecrets as u8 {
            tracing::warn!(path, "the upstream refuses wrong secrets here again");
        }
    }
}

/// Whether an endpoint may be used.
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
    guesses: Arc<Guesses>,
    /// Those that may be asked, in order.
    endpoints: Vec<Endpoint>,
    /// By which clients know us.
    host: Option<HeaderValue>,
    is_tls: bool,
    right: Cache<[u8; 32], Vouched>,
    /// By the place of the endpoint.
    trials: Cache<usize, Trial>,
    /// Clients whose every secret is taken for right, as some take those of public clients.
    unprovable: Cache<[u8; 32], ()>,
    known: Semaphore,
    /// Of those that were never right: the others do not wait behind them.
    strangers: Semaphore,
    queue: Count,
}

impl ClientProbe {
    /// `issuer` is ours, from which clients know our host.
    pub fn new(
        asking: &Arc<Asking>,
        metrics: &Arc<Metrics>,
        guesses: &Arc<Guesses>,
        endpoints: &Endpoints,
        issuer: &str,
        belief: Belief,
    ) -> Self {
        let issuer = url::Url::parse(issuer).ok();
        let endpoint = |purpose| move |path: &String| Endpoint::new(purpose, path);
        let introspection = endpoints.introspection.iter().map(endpoint(Purpose::Introspection));
        let revocation = endpoints.revocation.iter().map(endpoint(Purpose::Revocation));
        Self {
            asking: Arc::clone(asking),
            metrics: Arc::clone(metrics),
            guesses: Arc::clone(guesses),
            endpoints: introspection.chain(revocation).collect(),
            host: issuer.as_ref().and_then(super::documents::host),
            is_tls: issuer.is_some_and(|issuer| issuer.scheme() == "https"),
            right: cache(belief.right),
            trials: Cache::builder().max_capacity(CAPACITY).time_to_live(belief.trial).build(),
            unprovable: cache(belief.trial),
            known: Semaphore::new(TURNS),
            strangers: Semaphore::new(TURNS),
            queue: Count::default(),
        }
    }

    /// Whether the upstream knows these credentials. Callers with the same ones share one attempt.
    pub async fn of(&self, attempt: &Attempt, guess: Guess<'_>) -> Result<Vouched, Unvouched> {
        self.of_caller(attempt, guess, None).await
    }

    /// As [`ClientProbe::of`], of a caller that has just come to the endpoint for `purpose`: that one
    /// is asked first, as it may be the only one that the upstream lets the client use.
    pub async fn of_caller(
        &self,
        attempt: &Attempt,
        guess: Guess<'_>,
        purpose: Option<Purpose>,
    ) -> Result<Vouched, Unvouched> {
        let key = self.guesses.key.tag(&attempt.binding());
        let admitted = self.guesses.admit(guess, [attempt.unverified_client_id()], key);
        let admitted = admitted.map_err(|_| Unvouched::Throttled)?;
        // Wrong ones are not remembered. They are for an attacker to choose, and would push out the
        // others.
        let result = match self.right.get(&key).await {
            Some(vouched) => Ok(vouched),
            None => match admitted.queue(&self.queue, guess.waiting) {
                Ok(_queued) => self.ask(attempt, admitted.was_right(), purpose, key).await,
                Err(Full) => Err(Unvouched::Silent),
            },
        };
        let shown = match &result {
            Ok(_) => Shown::Right,
            Err(Unvouched::Wrong | Unvouched::Refused) => Shown::Wrong,
            // Where every secret is taken, none is told from another.
            Err(
                Unvouched::Unprovable | Unvouched::Silent | Unvouched::Open | Unvouched::Throttled,
            ) => Shown::Nothing,
        };
        self.guesses.conclude(admitted, shown);
        result
    }

    /// At either endpoint what is right is right. What is not may be at the other one, so that only
    /// those who would ask the same one first share an attempt.
    async fn ask(
        &self,
        attempt: &Attempt,
        is_known: bool,
        purpose: Option<Purpose>,
        key: [u8; 32],
    ) -> Result<Vouched, Unvouched> {
        let first = [purpose.map_or(0, |purpose| purpose as u8 + 1)];
        let shared = self.guesses.key.tag(&[&key[..], &first].concat());
        let asked = async {
            let vouched = self.probe(attempt, is_known, purpose).await?;
            self.right.insert(key, vouched.clone()).await;
            Ok(vouched)
        };
        self.right.try_get_with(shared, asked).await.map_err(|why: Arc<Unvouched>| *why)
    }

    /// Tries at every endpoint a client that nobody has registered, unless that was done a while ago.
    pub async fn try_endpoints(&self) {
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            // What is not learnt now is tried again when it is needed.
            let _ = self.trial(place, endpoint).await;
        }
    }

    /// What each endpoint is good for: [`Finding::Unknown`] where it did not say.
    pub async fn findings(&self) -> Vec<EndpointFinding> {
        self.try_endpoints().await;
        self.known_findings()
    }

    /// What was found at every endpoint when it was tried last.
    pub fn known_findings(&self) -> Vec<EndpointFinding> {
        let finding = |endpoint: &Endpoint| EndpointFinding {
            purpose: endpoint.purpose,
            path: endpoint.path.clone(),
            finding: endpoint.finding(),
        };
        self.endpoints.iter().map(finding).collect()
    }

    async fn probe(
        &self,
        attempt: &Attempt,
        is_known: bool,
        purpose: Option<Purpose>,
    ) -> Result<Vouched, Unvouched> {
        let turns = if is_known { &self.known } else { &self.strangers };
        let result = match timeout(PATIENCE, turns.acquire()).await {
            Ok(Ok(_turn)) => self.judge(attempt, purpose).await,
            Ok(Err(_)) | Err(_) => Err(Unvouched::Silent),
        };
        self.metrics.client_probe(match &result {
            Ok(_) => ProbeOutcome::Accepted,
            Err(Unvouched::Wrong) => ProbeOutcome::Rejected,
            Err(
                Unvouched::Refused
                | Unvouched::Unprovable
                | Unvouched::Silent
                | Unvouched::Open
                | Unvouched::Throttled,
            ) => ProbeOutcome::Unclear,
        });
        result
    }

    /// At the first endpoint that there is, and that is good for it: the one for `purpose` first.
    async fn judge(
        &self,
        attempt: &Attempt,
        purpose: Option<Purpose>,
    ) -> Result<Vouched, Unvouched> {
        let mut why = Unvouched::Silent;
        let mut endpoints: Vec<_> = self.endpoints.iter().enumerate().collect();
        endpoints.sort_by_key(|(_, endpoint)| Some(endpoint.purpose) != purpose);
        for (place, endpoint) in endpoints {
            match self.trial(place, endpoint).await? {
                Trial::Passed => {}
                Trial::Failed => {
                    why = Unvouched::Open;
                    continue;
                }
            }
            if let Some(judged) = self.judge_at(place, endpoint, attempt).await {
                return judged;
            }
        }
        Err(why)
    }

    async fn trial(&self, place: usize, endpoint: &Endpoint) -> Result<Trial, Unvouched> {
        let trial = self.trials.try_get_with(place, self.try_stranger(endpoint));
        trial.await.map_err(|why| *why)
    }

    /// `None` where there is no such endpoint.
    async fn judge_at(
        &self,
        place: usize,
        endpoint: &Endpoint,
        attempt: &Attempt,
    ) -> Option<Result<Vouched, Unvouched>> {
        let client = self.guesses.key.tag(&attempt.binding_of_client());
        if self.unprovable.contains_key(&client) {
            return Some(Err(Unvouched::Unprovable));
        }
        let answer = self.attempt_at(endpoint, attempt).await;
        match answer {
            Answer::Yes => {}
            Answer::No => return Some(Err(Unvouched::Wrong)),
            Answer::Refused => return Some(Err(Unvouched::Refused)),
            Answer::Other | Answer::Down => return Some(Err(Unvouched::Silent)),
            Answer::NoEndpoint => return None,
        }
        let Some(wrong) = random_text().and_then(|secret| attempt.with_secret(&secret)) else {
            return Some(Err(Unvouched::Silent));
        };
        let of_wrong = self.attempt_at(endpoint, &wrong).await;
        let vouched = attempt.vouched(answer, (&wrong, of_wrong), &self.guesses.key);
        Some(match (vouched, of_wrong) {
            (Some(vouched), _) => Ok(vouched),
            (None, Answer::Yes) => Err(self.find_out(place, endpoint, client).await),
            (None, _) => Err(Unvouched::Silent),
        })
    }

    /// Finds out whether it is this client alone whose every secret is taken for right.
    async fn find_out(&self, place: usize, endpoint: &Endpoint, client: [u8; 32]) -> Unvouched {
        match self.try_stranger(endpoint).await {
            Ok(Trial::Failed) => {
                self.trials.insert(place, Trial::Failed).await;
                Unvouched::Open
            }
            Ok(Trial::Passed) => {
                self.unprovable.insert(client, ()).await;
                tracing::warn!(
                    "the upstream takes a wrong secret of a client for right: for a while, none that \
                     a client of this name shows proves anything"
                );
                Unvouched::Unprovable
            }
            Err(why) => why,
        }
    }

    /// Asks for a client that nobody has registered. `Err` where nothing was learnt.
    async fn try_stranger(&self, endpoint: &Endpoint) -> Result<Trial, Unvouched> {
        let texts = random_text().zip(random_text());
        let (client_id, secret) = texts.ok_or(Unvouched::Silent)?;
        let stranger = Attempt::of_stranger(&client_id, &secret);
        let (trial, finding) = match self.attempt_at(endpoint, &stranger).await {
            Answer::Yes => (Trial::Failed, Finding::AcceptsWrongSecrets),
            Answer::No | Answer::Refused | Answer::Other => {
                (Trial::Passed, Finding::RefusesWrongSecrets)
            }
            // It may be the client that is not found.
            Answer::NoEndpoint => (Trial::Passed, Finding::Missing),
            Answer::Down => return Err(Unvouched::Silent),
        };
        endpoint.note(finding);
        Ok(trial)
    }

    async fn attempt_at(&self, endpoint: &Endpoint, attempt: &Attempt) -> Answer {
        let Some(question) = random_text().and_then(|token| {
            let AskedWith { authorization, body } = attempt.asking_about(&token);
            let authorization = match authorization {
                None => None,
                Some(value) => {
                    let mut value = HeaderValue::from_bytes(&value).ok()?;
                    value.set_sensitive(true);
                    Some(value)
                }
            };
            let host = self.host.as_ref();
            self.asking.form(&endpoint.path, host, self.is_tls, authorization, (*body).clone())
        }) else {
            return Answer::Down;
        };
        match self.asking.ask(question, Some(LONGEST)).await {
            None => Answer::Down,
            Some(reply) => Answer::of(endpoint.purpose, reply.head.status.as_u16(), &reply.body),
        }
    }
}

fn cache<V: Clone + Send + Sync + 'static>(kept: Duration) -> Cache<[u8; 32], V> {
    Cache::builder().max_capacity(CAPACITY).time_to_live(kept).build()
}

/// A token, a name or a secret that nobody has. It has the form of none that is understood.
fn random_text() -> Option<Zeroizing<String>> {
    let mut octets = [0; 32];
    aws_lc_rs::rand::fill(&mut octets).ok()?;
    Some(Zeroizing::new(URL_SAFE_NO_PAD.encode(octets)))
}
