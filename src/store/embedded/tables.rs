//! What is kept, and how each change changes it.

use std::time::Duration;

use redb::{
    Error, ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, Value,
    WriteTransaction,
};

use crate::exchange::cut_off::CutOff;
use crate::exchange::family::{End, Family};
use crate::exchange::mint;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::secret::sha256;
use crate::store::StoreError;
use crate::time::Timestamp;

/// Of the tables below. What another version wrote is not read.
pub(super) const VERSION: u64 = 1;

/// One entry, by which a database is known to be ours.
pub(super) const SCHEMA: TableDefinition<&str, u64> = TableDefinition::new("cambio");
pub(super) const SCHEMA_VERSION: &str = "schema";

/// [`Family::to_bytes`] by the family's name.
pub(super) const FAMILIES: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("families");
/// When it expires, and claims, by [`opaque_key`].
pub(super) const OPAQUE: TableDefinition<&[u8; 48], (u64, &[u8])> = TableDefinition::new("opaque");
/// When it expires, by [`revoked_key`].
pub(super) const REVOKED: TableDefinition<&[u8; 32], u64> = TableDefinition::new("revoked");
/// `until` by the key of a [`Once`].
pub(super) const ONCE: TableDefinition<&[u8; 32], u64> = TableDefinition::new("once");
/// `before` by [`Ancestor::key`](crate::exchange::cut_off::Ancestor::key).
pub(super) const CUT_OFFS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("cut_offs");
/// What is past its time when: kind, time, and key in the table of that kind.
pub(super) const EXPIRY: TableDefinition<&[u8], ()> = TableDefinition::new("expiry");

/// How many tokens that come once are remembered. Beyond, none is accepted: to forget one that is
/// not past its time would be to accept it twice.
pub(super) const ONCE_MAX: u64 = 4_000_000;

/// How much of each kind is forgotten at once.
const SWEEP: usize = 256;

/// How long what is past its time is still kept, for a clock that is set back: what was revoked or
/// exchanged must not come back with the time in which it was good.
const SWEEP_AFTER: Duration = Duration::from_secs(3600);

pub(super) fn opaque_key(id: &OpaqueId) -> [u8; 48] {
    let mut key = [0; 48];
    let (locator, hash) = key.split_at_mut(id.locator.len());
    locator.copy_from_slice(&id.locator);
    hash.copy_from_slice(&id.hash);
    key
}

/// Of one length, whatever the `jti`.
pub(super) fn revoked_key(jwt_id: &str) -> [u8; 32] {
    sha256(jwt_id.as_bytes())
}

/// The tables by their expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Family,
    Opaque,
    Revoked,
    Once,
    CutOff,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Family, Self::Opaque, Self::Revoked, Self::Once, Self::CutOff];

    const fn octet(self) -> u8 {
        match self {
            Self::Family => 0,
            Self::Opaque => 1,
            Self::Revoked => 2,
            Self::Once => 3,
            Self::CutOff => 4,
        }
    }

    /// What the entries of this kind begin with that are past their time then.
    fn prefix(self, time: Timestamp) -> [u8; 9] {
        let mut prefix = [self.octet(); 9];
        if let Some(rest) = prefix.last_chunk_mut::<8>() {
            *rest = time.as_secs().to_be_bytes();
        }
        prefix
    }
}

/// What is to be kept of an answer, as it is kept.
pub(super) struct Entries {
    family: Option<FamilyEntry>,
    opaque: Option<OpaqueEntry>,
}

struct FamilyEntry {
    id: FamilyId,
    sequence: u64,
    kept_until: Timestamp,
    bytes: Vec<u8>,
}

struct OpaqueEntry {
    key: [u8; 48],
    expires_at: Timestamp,
    claims: Vec<u8>,
}

impl From<&mint::Kept> for Entries {
    fn from(kept: &mint::Kept) -> Self {
        Self {
            family: kept.family.as_ref().map(|family| FamilyEntry {
                id: family.id,
                sequence: family.sequence,
                kept_until: family.kept_until,
                bytes: family.to_bytes(),
            }),
            opaque: kept.opaque.as_ref().map(|opaque| OpaqueEntry {
                key: opaque_key(&opaque.id),
                expires_at: opaque.expires_at,
                claims: opaque.claims.clone(),
            }),
        }
    }
}

/// Whatever changes what is kept.
pub(super) enum Change {
    Issue(Entries),
    Rotate(Entries),
    EndFamily(FamilyId, End),
    Revoke { key: [u8; 32], expires_at: Timestamp },
    RememberOnce(Once),
    CutOff(CutOff),
}

/// What a change came to, once it is durable.
pub(super) type Verdict = Result<bool, StoreError>;

/// The tables within one transaction.
pub(super) struct Tables<'t> {
    families: Table<'t, &'static [u8; 16], &'static [u8]>,
    opaque: Table<'t, &'static [u8; 48], (u64, &'static [u8])>,
    revoked: Table<'t, &'static [u8; 32], u64>,
    once: Table<'t, &'static [u8; 32], u64>,
    cut_offs: Table<'t, &'static [u8; 32], u64>,
    expiry: Table<'t, &'static [u8], ()>,
    once_max: u64,
    now: Timestamp,
    /// Whether anything is to be committed.
    pub(super) has_changed: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        once_max: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        Ok(Self {
            families: transaction.open_table(FAMILIES)?,
            opaque: transaction.open_table(OPAQUE)?,
            revoked: transaction.open_table(REVOKED)?,
            once: transaction.open_table(ONCE)?,
            cut_offs: transaction.open_table(CUT_OFFS)?,
            expiry: transaction.open_table(EXPIRY)?,
            once_max,
            now,
            has_changed: false,
        })
    }

    /// Applies a change, whole or not at all. The inner error is that of the one change, the outer
    /// one that of the transaction.
    pub(super) fn apply(&mut self, change: &Change) -> Result<Verdict, Error> {
        match change {
            Change::Issue(entries) => self.issue(entries),
            Change::Rotate(entries) => self.rotate(entries),
            Change::EndFamily(id, end) => self.end_family(*id, *end),
            Change::Revoke { key, expires_at } => self.revoke(key, *expires_at),
            Change::RememberOnce(once) => self.remember_once(once),
            Change::CutOff(cut_off) => self.cut_off(cut_off),
        }
    }

    fn issue(&mut self, entries: &Entries) -> Result<Verdict, Error> {
        if let Some(family) = &entries.family {
            // Of 128 random bits none come twice. Were they to, an ended family must not live again.
            if self.families.get(&family.id.0)?.is_some() {
                return Ok(Err(StoreError::Failed));
            }
            self.put_family(family, None)?;
        }
        self.put_opaque(entries)?;
        Ok(Ok(true))
    }

    fn rotate(&mut self, entries: &Entries) -> Result<Verdict, Error> {
        let Some(family) = &entries.family else { return Ok(Ok(false)) };
        let current = match self.family(family.id)? {
            Ok(Some(current)) => current,
            Ok(None) => return Ok(Ok(false)),
            Err(error) => return Ok(Err(error)),
        };
        if current.ended.is_some() || current.sequence.checked_add(1) != Some(family.sequence) {
            return Ok(Ok(false));
        }
        self.put_family(family, Some(current.kept_until))?;
        self.put_opaque(entries)?;
        Ok(Ok(true))
    }

    fn end_family(&mut self, id: FamilyId, end: End) -> Result<Verdict, Error> {
        let mut family = match self.family(id)? {
            Ok(Some(family)) => family,
            Ok(None) => return Ok(Ok(true)),
            Err(error) => return Ok(Err(error)),
        };
        match (family.ended, end) {
            (None, _) | (Some(End::Expired), End::Revoked) => family.ended = Some(end),
            (Some(End::Revoked), _) | (Some(End::Expired), End::Expired) => return Ok(Ok(true)),
        }
        self.families.insert(&id.0, family.to_bytes().as_slice())?;
        self.has_changed = true;
        Ok(Ok(true))
    }

    fn revoke(&mut self, key: &[u8; 32], expires_at: Timestamp) -> Result<Verdict, Error> {
        let old = time(self.revoked.get(key)?);
        if old.is_some_and(|old| old >= expires_at) {
            return Ok(Ok(true));
        }
        self.revoked.insert(key, expires_at.as_secs())?;
        self.schedule(Kind::Revoked, key, old, expires_at)?;
        Ok(Ok(true))
    }

    fn remember_once(&mut self, once: &Once) -> Result<Verdict, Error> {
        if self.once.get(&once.key)?.is_some() {
            return Ok(Ok(false));
        }
        if self.once.len()? >= self.once_max {
            // Under pressure nothing is kept for a clock that is set back.
            self.sweep_kind(Kind::Once, self.now, SWEEP)?;
            if self.once.len()? >= self.once_max {
                return Ok(Err(StoreError::Failed));
            }
        }
        self.once.insert(&once.key, once.until.as_secs())?;
        self.schedule(Kind::Once, &once.key, None, once.until)?;
        Ok(Ok(true))
    }

    fn cut_off(&mut self, cut_off: &CutOff) -> Result<Verdict, Error> {
        let key = cut_off.ancestor.key();
        let old = time(self.cut_offs.get(&key)?);
        if old.is_some_and(|old| old >= cut_off.before) {
            return Ok(Ok(true));
        }
        self.cut_offs.insert(&key, cut_off.before.as_secs())?;
        let old = old.map(|before| CutOff { before, ..cut_off.clone() }.kept_until());
        self.schedule(Kind::CutOff, &key, old, cut_off.kept_until())?;
        Ok(Ok(true))
    }

    fn family(&self, id: FamilyId) -> Result<Result<Option<Family>, StoreError>, Error> {
        let Some(bytes) = self.families.get(&id.0)? else { return Ok(Ok(None)) };
        Ok(Family::from_bytes(bytes.value()).map(Some).ok_or(StoreError::Foreign))
    }

    fn put_family(&mut self, family: &FamilyEntry, old: Option<Timestamp>) -> Result<(), Error> {
        self.families.insert(&family.id.0, family.bytes.as_slice())?;
        self.schedule(Kind::Family, &family.id.0, old, family.kept_until)
    }

    fn put_opaque(&mut self, entries: &Entries) -> Result<(), Error> {
        let Some(opaque) = &entries.opaque else { return Ok(()) };
        let entry = (opaque.expires_at.as_secs(), opaque.claims.as_slice());
        let old = self.opaque.insert(&opaque.key, entry)?;
        let old = old.map(|old| Timestamp::from_secs(old.value().0));
        self.schedule(Kind::Opaque, &opaque.key, old, opaque.expires_at)
    }

    /// Notes when an entry is past its time, in the place of when it was to be.
    fn schedule(
        &mut self,
        kind: Kind,
        key: &[u8],
        old: Option<Timestamp>,
        new: Timestamp,
    ) -> Result<(), Error> {
        self.has_changed = true;
        if old == Some(new) {
            return Ok(());
        }
        if let Some(old) = old {
            self.expiry.remove([&kind.prefix(old)[..], key].concat().as_slice())?;
        }
        self.expiry.insert([&kind.prefix(new)[..], key].concat().as_slice(), ())?;
        Ok(())
    }

    /// Forgets some of what has been past its time for a while. Says how many entries.
    pub(super) fn sweep(&mut self) -> Result<usize, Error> {
        let mut swept = 0;
        for kind in Kind::ALL {
            swept += self.sweep_kind(kind, self.now.minus(SWEEP_AFTER), SWEEP)?;
        }
        Ok(swept)
    }

    /// Forgets at most `limit` entries of a kind that were past their time before `time`.
    fn sweep_kind(&mut self, kind: Kind, time: Timestamp, limit: usize) -> Result<usize, Error> {
        let from = kind.prefix(Timestamp::from_secs(0));
        let until = kind.prefix(time);
        let range = self.expiry.range::<&[u8]>(&from[..]..&until[..])?;
        let mut due: Vec<Vec<u8>> = Vec::new();
        for entry in range.take(limit) {
            due.push(entry?.0.value().to_vec());
        }
        self.has_changed |= !due.is_empty();
        for entry in &due {
            self.expiry.remove(entry.as_slice())?;
            let Some((_, key)) = entry.split_first_chunk::<9>() else { continue };
            match kind {
                Kind::Family => remove(&mut self.families, key)?,
                Kind::Opaque => remove(&mut self.opaque, key)?,
                Kind::Revoked => remove(&mut self.revoked, key)?,
                Kind::Once => remove(&mut self.once, key)?,
                Kind::CutOff => remove(&mut self.cut_offs, key)?,
            }
        }
        Ok(due.len())
    }
}

fn remove<const N: usize, V: Value + 'static>(
    table: &mut Table<'_, &'static [u8; N], V>,
    key: &[u8],
) -> Result<(), Error> {
    let key: Result<&[u8; N], _> = key.try_into();
    if let Ok(key) = key {
        table.remove(key)?;
    }
    Ok(())
}

fn time(entry: Option<redb::AccessGuard<'_, u64>>) -> Option<Timestamp> {
    entry.map(|entry| Timestamp::from_secs(entry.value()))
}
