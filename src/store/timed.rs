//! A store with a clock beside it: how long each operation takes.

use async_trait::async_trait;

use std::sync::Arc;
use std::time::Instant;

use super::{Hit, Store, StoreError};
use crate::exchange::cut_off::{Ancestor, CutOff};
use crate::exchange::family::{End, Family};
use crate::exchange::mint::Kept;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::telemetry::metrics::{Metrics, StoreOperation};
use crate::time::Timestamp;

/// Measures what it passes on.
#[derive(Debug)]
pub(super) struct Timed<S> {
    store: S,
    metrics: Arc<Metrics>,
}

impl<S: Store> Timed<S> {
    pub(super) fn new(store: S, metrics: &Arc<Metrics>) -> Self {
        Self { store, metrics: Arc::clone(metrics) }
    }

    async fn time<T>(&self, operation: StoreOperation, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let result = work.await;
        self.metrics.store_operation(operation, began.elapsed());
        result
    }
}

#[async_trait]
impl<S: Store> Store for Timed<S> {
    async fn issue(&self, kept: &Kept) -> Result<(), StoreError> {
        self.time(StoreOperation::Issue, self.store.issue(kept)).await
    }

    async fn family(&self, id: FamilyId) -> Result<Option<Family>, StoreError> {
        self.time(StoreOperation::Family, self.store.family(id)).await
    }

    async fn rotate(&self, kept: &Kept) -> Result<bool, StoreError> {
        self.time(StoreOperation::Rotate, self.store.rotate(kept)).await
    }

    async fn end_family(&self, id: FamilyId, end: End) -> Result<(), StoreError> {
        self.time(StoreOperation::EndFamily, self.store.end_family(id, end)).await
    }

    async fn opaque_claims(&self, id: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError> {
        self.time(StoreOperation::OpaqueClaims, self.store.opaque_claims(id)).await
    }

    async fn revoke_access_token(
        &self,
        jwt_id: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.time(
            StoreOperation::RevokeAccessToken,
            self.store.revoke_access_token(jwt_id, expires_at),
        )
        .await
    }

    async fn is_access_token_revoked(&self, jwt_id: &str) -> Result<bool, StoreError> {
        self.time(StoreOperation::IsAccessTokenRevoked, self.store.is_access_token_revoked(jwt_id))
            .await
    }

    async fn remember_once(&self, once: &Once) -> Result<bool, StoreError> {
        self.time(StoreOperation::RememberOnce, self.store.remember_once(once)).await
    }

    async fn cut_off(&self, cut_off: &CutOff, now: Timestamp) -> Result<Hit, StoreError> {
        self.time(StoreOperation::CutOff, self.store.cut_off(cut_off, now)).await
    }

    async fn cut_off_of(&self, ancestors: &[Ancestor]) -> Result<Option<Timestamp>, StoreError> {
        self.time(StoreOperation::CutOffOf, self.store.cut_off_of(ancestors)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.time(StoreOperation::Ping, self.store.ping()).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
