//! The token endpoint: an intercepted request becomes an answer, or goes on to the upstream.

use std::sync::Arc;

use super::answer::Answer;
use crate::config::Config;
use crate::exchange::error::Refusal;
use crate::exchange::request::TokenPathRequest;
use crate::keys::KeyRing;
use crate::telemetry::metrics::Metrics;

/// A buffered request to a token path.
#[derive(Clone, Copy)]
pub struct Intercepted<'a> {
    pub request: TokenPathRequest<'a>,
    /// The value of every `Authorization` field as the client sent it.
    pub authorization: &'a [&'a [u8]],
}

/// What becomes of an intercepted request.
#[derive(Debug)]
pub enum Disposition {
    /// It is the upstream's: replay it as it came.
    Forward,
    Answer(Answer),
}

/// Answers token exchanges.
#[derive(Debug)]
pub struct TokenEndpoint {
    metrics: Arc<Metrics>,
}

impl TokenEndpoint {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    /// Decides, audits and counts.
    pub async fn answer(
        &self,
        config: &Config,
        keys: &KeyRing,
        intercepted: Intercepted<'_>,
    ) -> Disposition {
        let _ = (config, keys, intercepted, &self.metrics);
        todo!()
    }

    /// Answers, audits and counts a refusal that was found before the request was whole: too large,
    /// too slow, too many.
    pub fn refuse(&self, refusal: Refusal) -> Answer {
        let _ = refusal;
        todo!()
    }
}
