//! What outlives a request: refresh token families, opaque access tokens, revocations, and tokens
//! that may come once only.
//!
//! One trait in the words of the domain. Stores decide nothing about tokens: they keep what the core
//! has decided, and let of two changes to one family only one through.

pub mod embedded;
pub mod redis;
mod slot;
mod timed;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

pub use self::slot::{Slot, Use};

use self::embedded::Embedded;
use self::redis::RedisStore;
use self::timed::Timed;
use crate::config::StoreSettings;
use crate::exchange::cut_off::{Ancestor, CutOff};
use crate::exchange::family::{End, Family};
use crate::exchange::mint::Kept;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::telemetry::metrics::Metrics;
use crate::time::Timestamp;

/// Why a store could not be asked, or does not know whether it did as told. The caller is told
/// nothing that depends on it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    #[error("the store does not answer in time")]
    TimedOut,
    #[error("the store can't be reached")]
    Unreachable,
    #[error("the store has failed")]
    Failed,
    #[error("the store holds what this version does not understand")]
    Foreign,
    #[error("the store is closed")]
    Closed,
}

/// What an operator's revocation hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Refresh token families that had not ended.
    pub families: u64,
    /// Opaque access tokens that had not expired.
    pub opaque_access_tokens: u64,
}

/// Keeps what must not be forgotten. Whatever returns `Ok` is durable: it survives a crash of this
/// process, and as much of one of the machine as the store promises.
///
/// Times are those of the caller's clock. What is past its time may be forgotten at any moment, and
/// may also still be found: whoever asks compares.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Keeps a family that begins, and an opaque access token: all of it or nothing.
    async fn issue(&self, kept: &Kept) -> Result<(), StoreError>;

    async fn family(&self, id: FamilyId) -> Result<Option<Family>, StoreError>;

    /// Puts a family that has rotated in the place of what it was, and keeps an opaque access token
    /// with it. `false`, and nothing is kept, where the family that is kept is not the one with the
    /// sequence number before, or where it has ended.
    async fn rotate(&self, kept: &Kept) -> Result<bool, StoreError>;

    /// Ends a family, if it has not ended. One that is unknown stays so. Never is [`End::Revoked`]
    /// replaced by [`End::Expired`]; the other way round it is.
    async fn end_family(&self, id: FamilyId, end: End) -> Result<(), StoreError>;

    /// The claims that an opaque access token stands for.
    async fn opaque_claims(&self, id: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Revokes the access token with this `jti`, which expires at `expires_at`.
    async fn revoke_access_token(
        &self,
        jwt_id: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError>;

    async fn is_access_token_revoked(&self, jwt_id: &str) -> Result<bool, StoreError>;

    /// `true` for the first that remembers it, `false` for all others.
    async fn remember_once(&self, once: &Once) -> Result<bool, StoreError>;

    /// Keeps a cut-off. One of the same ancestor that reaches further stays. The hit is what is
    /// found of its descendants; `client_id`, `sub` and issuer of the families say whose they are.
    async fn cut_off(&self, cut_off: &CutOff, now: Timestamp) -> Result<Hit, StoreError>;

    /// The furthest cut-off of these ancestors.
    async fn cut_off_of(&self, ancestors: &[Ancestor]) -> Result<Option<Timestamp>, StoreError>;

    /// Asks whether the store can be asked.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Ends: what was begun is finished, and whatever comes later gets [`StoreError::Closed`].
    async fn close(&self);
}

/// Why a store can't be used from the start.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{path} can't be used as a store: {why}", path = .path.display())]
    Embedded { path: PathBuf, why: String },
    #[error("the store at {address} can't be used: {why}")]
    Redis { address: String, why: String },
}

/// Opens the configured store. `patience` is how long another process may still hold it.
pub async fn open(
    settings: &StoreSettings,
    metrics: &Arc<Metrics>,
    patience: Duration,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match settings {
        StoreSettings::Embedded { folder } => {
            let store = Embedded::open(folder, patience).await?;
            Arc::new(Timed::new(store, metrics))
        }
        StoreSettings::Redis(settings) => {
            let store = RedisStore::open(settings).await?;
            Arc::new(Timed::new(store, metrics))
        }
    })
}
