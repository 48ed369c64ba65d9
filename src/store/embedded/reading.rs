//! What is asked of the store: from one state of it that is durable.

use redb::{ReadTransaction, ReadableTable as _};
use thiserror::Error;

use super::tables::{
    CUT_OFFS, FAMILIES, OPAQUE, REVOKED, SCHEMA, SCHEMA_VERSION, VERSION, opaque_key,
};
use crate::exchange::cut_off::{CutOff, Descent};
use crate::exchange::family::Family;
use crate::exchange::issued::AccessToken;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::token_id::FamilyId;
use crate::store::{Hit, StoreError};
use crate::time::Timestamp;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Database(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

pub(super) fn family(transaction: &ReadTransaction, id: FamilyId) -> Result<Option<Family>, Error> {
    let families = transaction.open_table(FAMILIES)?;
    let Some(bytes) = families.get(&id.0)? else { return Ok(None) };
    let family = Family::from_bytes(bytes.value());
    family.map(Some).ok_or(Error::Store(StoreError::Foreign))
}

pub(super) fn opaque_claims(
    transaction: &ReadTransaction,
    id: &OpaqueId,
) -> Result<Option<Vec<u8>>, Error> {
    let opaque = transaction.open_table(OPAQUE)?;
    Ok(opaque.get(&opaque_key(id))?.map(|entry| entry.value().1.to_vec()))
}

pub(super) fn is_revoked(transaction: &ReadTransaction, key: &[u8; 32]) -> Result<bool, Error> {
    Ok(transaction.open_table(REVOKED)?.get(key)?.is_some())
}

pub(super) fn furthest(
    transaction: &ReadTransaction,
    keys: &[[u8; 32]],
) -> Result<Option<Timestamp>, Error> {
    let cut_offs = transaction.open_table(CUT_OFFS)?;
    let mut furthest = None;
    for key in keys {
        let before = cut_offs.get(key)?.map(|before| Timestamp::from_secs(before.value()));
        furthest = furthest.max(before);
    }
    Ok(furthest)
}

/// What of the living a cut-off concerns. It holds for what can't be read, too, but that is not
/// counted.
pub(super) fn hit(
    transaction: &ReadTransaction,
    cut_off: &CutOff,
    now: Timestamp,
) -> Result<Hit, Error> {
    let is_hit = |descent: &Descent| {
        descent.ancestors.contains(&cut_off.ancestor) && descent.is_cut_off(cut_off.before)
    };
    let mut hit = Hit { families: 0, opaque_access_tokens: 0 };
    for entry in transaction.open_table(FAMILIES)?.iter()? {
        let Some(family) = Family::from_bytes(entry?.1.value()) else { continue };
        let lives = family.ended.is_none() && !family.is_expired(now);
        hit.families += u64::from(lives && is_hit(&family.descent()));
    }
    for entry in transaction.open_table(OPAQUE)?.iter()? {
        let Some(token) = AccessToken::from_kept(entry?.1.value().1) else { continue };
        hit.opaque_access_tokens += u64::from(!token.is_expired(now) && is_hit(&token.descent()));
    }
    Ok(hit)
}

pub(super) fn ping(transaction: &ReadTransaction) -> Result<(), Error> {
    let version = transaction.open_table(SCHEMA)?.get(SCHEMA_VERSION)?.map(|found| found.value());
    if version == Some(VERSION) { Ok(()) } else { Err(Error::Store(StoreError::Foreign)) }
}
