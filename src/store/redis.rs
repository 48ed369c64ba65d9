//! A store in Redis or Valkey, which several processes may share.

use async_trait::async_trait;

use super::{Hit, OpenError, Store, StoreError};
use crate::config::RedisSettings;
use crate::exchange::cut_off::{Ancestor, CutOff};
use crate::exchange::family::{End, Family};
use crate::exchange::mint::Kept;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::time::Timestamp;

#[derive(Debug)]
pub struct RedisStore;

impl RedisStore {
    pub async fn open(_settings: &RedisSettings) -> Result<Self, OpenError> {
        Err(OpenError::Redis { address: String::new(), why: String::new() })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn issue(&self, _kept: &Kept) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn family(&self, _id: FamilyId) -> Result<Option<Family>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn rotate(&self, _kept: &Kept) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }

    async fn end_family(&self, _id: FamilyId, _end: End) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn opaque_claims(&self, _id: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn revoke_access_token(
        &self,
        _jwt_id: &str,
        _expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn is_access_token_revoked(&self, _jwt_id: &str) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }

    async fn remember_once(&self, _once: &Once) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }

    async fn cut_off(&self, _cut_off: &CutOff, _now: Timestamp) -> Result<Hit, StoreError> {
        Err(StoreError::Closed)
    }

    async fn cut_off_of(&self, _ancestors: &[Ancestor]) -> Result<Option<Timestamp>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn close(&self) {}
}
