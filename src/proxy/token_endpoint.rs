//! The token endpoint: an intercepted request becomes an answer, or goes on to the upstream.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::Answer;
use super::authentication::{Authentication, Calling};
use super::client_probe::ClientProbe;
use super::standing;
use crate::clock;
use crate::config::Config;
use crate::count::{Count, Counted, Full};
use crate::exchange::error::{Failure, Refusal};
use crate::exchange::refresh::{self, Refused};
use crate::exchange::request::{Recognised, TokenPathRequest};
use crate::exchange::subject::SubjectTokenError;
use crate::exchange::token_id::Entropy;
use crate::exchange::{self, Granted, Record};
use crate::keys::KeyRing;
use crate::oauth::form::Form;
use crate::store::{Slot, StoreError};
use crate::telemetry::audit::{self, Asked};
use crate::telemetry::metrics::Metrics;

/// How often a refresh is judged that others overtake. The one that is overtaken finds its token
/// spent, or its successor: a second time is enough.
const ATTEMPTS: usize = 3;

/// A buffered request to a token path.
#[derive(Clone, Copy)]
pub struct Intercepted<'a> {
    pub request: TokenPathRequest<'a>,
    pub calling: Calling<'a>,
    /// Where the upstream can be asked about its clients.
    pub probe: Option<&'a ClientProbe>,
}

impl std::fmt::Debug for Intercepted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intercepted(…)")
    }
}

/// What becomes of an intercepted request.
#[derive(Debug)]
pub enum Disposition {
    /// It is the upstream's: replay it as it came.
    Forward,
    Answer(Answer),
}

/// Answers token exchanges, and refreshes of what was minted here.
#[derive(Debug)]
pub struct TokenEndpoint {
    metrics: Arc<Metrics>,
    authentication: Arc<Authentication>,
    store: Arc<Slot>,
    /// Exchanges and refreshes that are being answered, and wait for nobody of whom it is not known
    /// how long they take.
    busy: Count,
    /// Those that wait until it is known whether their secret is right.
    authenticating: Count,
}

impl TokenEndpoint {
    pub fn new(
        metrics: Arc<Metrics>,
        authentication: Arc<Authentication>,
        store: Arc<Slot>,
    ) -> Self {
        Self {
            metrics,
            authentication,
            store,
            busy: Count::default(),
            authenticating: Count::default(),
        }
    }

    /// Decides, audits and counts.
    pub async fn answer(
        &self,
        config: &Config,
        keys: &KeyRing,
        intercepted: Intercepted<'_>,
    ) -> Disposition {
        let began = Instant::now();
        let mut record = Record::default();
        let caller = (intercepted.probe, intercepted.calling);
        let (asked, result) = match intercepted.request.recognise() {
            Ok(Recognised::Other) => return Disposition::Forward,
            Ok(Recognised::Exchange(form)) => {
                if exchange::is_forwarded(&form, &config.policy) {
                    return Disposition::Forward;
                }
                let result = self.exchange(config, keys, &form, caller, &mut record).await;
                (Asked::Exchange, result)
            }
            Ok(Recognised::Refresh(form)) => {
                let result = self.refresh(config, &form, caller, &mut record).await;
                (Asked::Refresh, result)
            }
            Err(error) => (Asked::Exchange, Err(error.into())),
        };
        Disposition::Answer(self.conclude(asked, &record, result, began))
    }

    /// What is beyond the bound is told so at once: it would only make all others wait.
    fn begin(&self, config: &Config) -> Result<Counted, Failure> {
        self.busy.enter(config.limits.requests).ok_or(Failure::Overloaded)
    }

    /// Answers, audits and counts a refusal that was found before the request was whole: too large,
    /// too slow, too many.
    pub fn refuse(&self, refusal: Refusal) -> Answer {
        self.conclude(Asked::Exchange, &Record::default(), Err(refusal), Instant::now())
    }

    async fn exchange(
        &self,
        config: &Config,
        keys: &KeyRing,
        form: &Form,
        (probe, calling): (Option<&ClientProbe>, Calling<'_>),
        record: &mut Record,
    ) -> Result<Granted, Refusal> {
        let busy = self.begin(config)?;
        let authenticating = pin!(self.authentication.of(config, probe, form, calling));
        let (client, busy) = aside(config, busy, &self.authenticating, authenticating).await?;
        let pending = exchange::begin(form, client, &config.policy, record)?;
        let waiting = keys.waiting(&pending);
        let (key_set, _busy) = aside(config, busy, waiting, keys.resolve(&pending)).await?;
        let now = clock::now();
        let approved = pending.approve(&key_set, now, record)?;
        if let Some(own) = approved.own_subject(&config.signing_keys, &config.policy) {
            let standing = standing::of_access(self.store.get()?.as_ref(), &own, now).await?;
            standing.map_err(SubjectTokenError::from)?;
        }
        let once = approved.once().copied();
        // A signature takes a fraction of a millisecond (RSA: one); handing it to another thread
        // would cost more than it spares.
        let issued =
            approved.mint(&config.signing_keys, &config.policy, &entropy()?, now, record)?;
        // Last of all that can fail but the store: a token that comes once is not spent in vain.
        if let Some(once) = once
            && !self.store.get()?.remember_once(&once).await?
        {
            return Err(SubjectTokenError::Replayed.into());
        }
        if !issued.kept.is_nothing() {
            self.store.get()?.issue(&issued.kept).await?;
        }
        Ok(issued.granted)
    }

    async fn refresh(
        &self,
        config: &Config,
        form: &Form,
        (probe, calling): (Option<&ClientProbe>, Calling<'_>),
        record: &mut Record,
    ) -> Result<Granted, Refusal> {
        let busy = self.begin(config)?;
        let authenticating = pin!(self.authentication.of(config, probe, form, calling));
        let (client, _busy) = aside(config, busy, &self.authenticating, authenticating).await?;
        let pending = refresh::begin(form, client, record)?;
        let store = self.store.get()?;
        for _ in 0..ATTEMPTS {
            let family = store.family(pending.family()).await?;
            let is_cut_off = match &family {
                None => false,
                Some(family) => {
                    let descent = family.descent();
                    let cut_off = store.cut_off_of(&descent.ancestors).await?;
                    cut_off.is_some_and(|before| descent.is_cut_off(before))
                }
            };
            let now = clock::now();
            let judged = pending.judge(family.as_ref(), is_cut_off, &config.policy, now, record);
            let approved = match judged {
                Ok(approved) => approved,
                Err(Refused { refusal, ends }) => {
                    if let Some(end) = ends {
                        store.end_family(pending.family(), end).await?;
                    }
                    return Err(refusal);
                }
            };
            let issued =
                approved.mint(&config.signing_keys, &config.policy, &entropy()?, now, record)?;
            if issued.kept.family.is_some() {
                if store.rotate(&issued.kept).await? {
                    return Ok(issued.granted);
                }
                // Somebody was faster, so it is to be judged again.
                record.minted = None;
                continue;
            }
            if !issued.kept.is_nothing() {
                store.issue(&issued.kept).await?;
            }
            return Ok(issued.granted);
        }
        Err(Failure::Overloaded.into())
    }

    fn conclude(
        &self,
        asked: Asked,
        record: &Record,
        result: Result<Granted, Refusal>,
        began: Instant,
    ) -> Answer {
        let decision = decision_id();
        let refusal = result.as_ref().err().copied();
        audit::token_request(asked, &decision, record, refusal);
        match asked {
            Asked::Exchange => self.metrics.exchange(record, refusal, began.elapsed()),
            Asked::Refresh => self.metrics.refresh(refusal),
        }
        match result {
            Ok(granted) => Answer::granted(&granted, &decision),
            Err(refusal) => Answer::refused(&refusal.outcome(), &decision),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(_: StoreError) -> Self {
        Failure::StoreUnavailable.into()
    }
}

/// Has something done that may have to wait for somebody else. Meanwhile others go on.
async fn aside<T, E: Into<Refusal>>(
    config: &Config,
    busy: Counted,
    waiting: &Count,
    work: impl Future<Output = Result<T, E>>,
) -> Result<(T, Counted), Refusal> {
    let aside = busy.aside(waiting, config.limits.requests, work).await;
    let (done, busy) = aside.map_err(|Full| Failure::Overloaded)?;
    Ok((done.map_err(Into::into)?, busy))
}

fn entropy() -> Result<Entropy, Failure> {
    random::<{ Entropy::OCTETS }>().map(Entropy::from_octets)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::Internal)?;
    Ok(bytes)
}

/// Names a decision in the answer and in the audit log.
pub fn decision_id() -> String {
    URL_SAFE_NO_PAD.encode(random::<12>().unwrap_or_default())
}
