//! What operators are shown of an issuer's keys.

use std::sync::Arc;

use serde::Serialize;

/// How an issuer's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Fetched, and within the time that the issuer gave them.
    Fresh,
    /// Fetched, and serving beyond that time because they can't be fetched again.
    Stale,
    /// There are none, or they are too old to be used.
    Unavailable,
    /// The first fetch has not ended.
    NeverFetched,
    /// They stand in the configuration.
    Fixed,
    /// The issuer is not used.
    Disabled,
}

/// Where fetched keys came from last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Their issuer, since this process began.
    Fetched,
    /// What an earlier process fetched and kept.
    Disk,
}

/// The keys of one issuer. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IssuerStatus {
    pub name: Arc<str>,
    /// `endpoint`, `discovery` or `fixed`.
    pub source: &'static str,
    pub state: KeyState,
    /// How many can be used.
    pub keys: usize,
    /// Of keys that are fetched, and at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_from: Option<Origin>,
    /// Since their issuer last confirmed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Why the last fetch failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_fetch_in_seconds: Option<u64>,
}

impl IssuerStatus {
    /// Whether tokens of this issuer can't be checked, or not much longer.
    pub const fn is_degraded(&self) -> bool {
        match self.state {
            KeyState::Stale | KeyState::Unavailable | KeyState::NeverFetched => true,
            KeyState::Fresh | KeyState::Fixed | KeyState::Disabled => false,
        }
    }
}
