//! A store in Redis or Valkey, which several processes may share.

mod connection;
mod count;
mod gate;
mod keys;
mod link;
mod obstacle;
mod script;
mod server;

use std::time::Duration;

use async_trait::async_trait;

use self::keys::Keys;
use self::link::Link;
use self::script::{BEGIN, Call, END, FURTHER, KEEP, ONCE, ROTATE, Script};
use super::{Hit, OpenError, Store, StoreError};
use crate::config::RedisSettings;
use crate::exchange::cut_off::{Ancestor, CutOff};
use crate::exchange::family::{End, Family};
use crate::exchange::mint::Kept;
use crate::exchange::opaque::{OpaqueAccessToken, OpaqueId};
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::time::Timestamp;

/// Of what a family is kept as. What another version has written is not touched.
const VERSION: &str = "1";
/// How much longer an entry is kept than it has to be, for a server whose clock is ahead.
const MARGIN: Duration = Duration::from_secs(300);
/// A store in Redis or Valkey.
#[derive(Debug)]
pub struct RedisStore {
    link: Link,
    keys: Keys,
}

/// Until when an entry is kept that must be kept until `time`.
fn until(time: Timestamp) -> u64 {
    time.plus(MARGIN).as_secs()
}

/// A number that tells one attempt to change something from all others.
fn attempt() -> Result<[u8; 16], StoreError> {
    let mut octets = [0; 16];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| StoreError::Failed)?;
    Ok(octets)
}

impl RedisStore {
    pub async fn open(settings: &RedisSettings) -> Result<Self, OpenError> {
        let link = Link::open(settings).await?;
        Ok(Self { link, keys: Keys::new(&settings.prefix) })
    }

    /// Keeps a family with an opaque access token, by one of the two scripts for that.
    async fn keep(
        &self,
        script: &'static Script,
        family: &Family,
        opaque: Option<&OpaqueAccessToken>,
        before: Option<u64>,
    ) -> Result<bool, StoreError> {
        let mut call = Call::new(script)
            .key(self.keys.family(family.id))
            .arg(VERSION)
            .arg(family.to_bytes())
            .arg(family.sequence)
            .arg(&attempt()?[..])
            .arg(until(family.kept_until))
            .arg(before.map(|before| before.to_string()).unwrap_or_default());
        if let Some(opaque) = opaque {
            call = call.key(self.keys.opaque(&opaque.id));
            call = call.arg(&opaque.claims).arg(until(opaque.expires_at));
        }
        match self.link.script::<i64>(&call).await? {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(StoreError::Foreign),
        }
    }

    async fn keep_opaque(&self, opaque: &OpaqueAccessToken) -> Result<(), StoreError> {
        let call = Call::new(&KEEP).key(self.keys.opaque(&opaque.id));
        let call = call.arg(&opaque.claims).arg(until(opaque.expires_at));
        self.link.script(&call).await
    }

    async fn further(
        &self,
        key: String,
        time: Timestamp,
        kept_until: Timestamp,
    ) -> Result<(), StoreError> {
        let call = Call::new(&FURTHER).key(key).arg(time.as_secs()).arg(until(kept_until));
        match self.link.script::<i64>(&call).await? {
            1 => Ok(()),
            _ => Err(StoreError::Foreign),
        }
    }
}

/// The fields of a family that it is read from.
const FIELDS: [&str; 3] = ["v", "body", "ended"];
type Fields = [Option<Vec<u8>>; 3];

/// The family that is kept as this.
fn family_of(fields: &Fields) -> Result<Option<Family>, StoreError> {
    let [version, body, ended] = fields;
    let (version, body) = match (version, body) {
        (None, None) => return Ok(None),
        (Some(version), Some(body)) => (version, body),
        (Some(_), None) | (None, Some(_)) => return Err(StoreError::Foreign),
    };
    if version != VERSION.as_bytes() {
        return Err(StoreError::Foreign);
    }
    let mut family = Family::from_bytes(body).ok_or(StoreError::Foreign)?;
    family.ended = match ended.as_deref() {
        None => None,
        Some(b"expired") => Some(End::Expired),
        Some(b"revoked") => Some(End::Revoked),
        Some(_) => return Err(StoreError::Foreign),
    };
    Ok(Some(family))
}

#[async_trait]
impl Store for RedisStore {
    async fn issue(&self, kept: &Kept) -> Result<(), StoreError> {
        match (&kept.family, &kept.opaque) {
            (Some(family), opaque) => {
                let is_new = self.keep(&BEGIN, family, opaque.as_ref(), None).await?;
                if is_new { Ok(()) } else { Err(StoreError::Failed) }
            }
            (None, Some(opaque)) => self.keep_opaque(opaque).await,
            (None, None) => self.link.is_open(),
        }
    }

    async fn family(&self, id: FamilyId) -> Result<Option<Family>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.family(id)).arg(&FIELDS);
        family_of(&self.link.run(&command).await?)
    }

    async fn rotate(&self, kept: &Kept) -> Result<bool, StoreError> {
        let Some(family) = &kept.family else {
            return self.issue(kept).await.map(|()| true);
        };
        let before = family.sequence.checked_sub(1);
        self.keep(&ROTATE, family, kept.opaque.as_ref(), before).await
    }

    async fn end_family(&self, id: FamilyId, end: End) -> Result<(), StoreError> {
        let end = match end {
            End::Expired => "expired",
            End::Revoked => "revoked",
        };
        let call = Call::new(&END).key(self.keys.family(id)).arg(VERSION).arg(end);
        match self.link.script::<i64>(&call).await? {
            0 | 1 => Ok(()),
            _ => Err(StoreError::Foreign),
        }
    }

    async fn opaque_claims(&self, id: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError> {
        self.link.run(redis::cmd("GET").arg(self.keys.opaque(id))).await
    }

    async fn revoke_access_token(
        &self,
        jwt_id: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.further(self.keys.revoked(jwt_id), expires_at, expires_at).await
    }

    async fn is_access_token_revoked(&self, jwt_id: &str) -> Result<bool, StoreError> {
        self.link.run(redis::cmd("EXISTS").arg(self.keys.revoked(jwt_id))).await
    }

    async fn remember_once(&self, once: &Once) -> Result<bool, StoreError> {
        let call = Call::new(&ONCE).key(self.keys.once(once)).arg(&attempt()?[..]);
        let call = call.arg(until(once.until));
        self.link.script(&call).await
    }

    async fn cut_off(&self, cut_off: &CutOff, now: Timestamp) -> Result<Hit, StoreError> {
        let key = self.keys.cut_off(&cut_off.ancestor);
        self.further(key, cut_off.before, cut_off.kept_until()).await?;
        count::descendants(&self.link, &self.keys, cut_off, now).await
    }

    async fn cut_off_of(&self, ancestors: &[Ancestor]) -> Result<Option<Timestamp>, StoreError> {
        if ancestors.is_empty() {
            return self.link.is_open().map(|()| None);
        }
        let mut command = redis::cmd("MGET");
        for ancestor in ancestors {
            command.arg(self.keys.cut_off(ancestor));
        }
        let found: Vec<Option<u64>> = self.link.run(&command).await?;
        Ok(found.into_iter().flatten().max().map(Timestamp::from_secs))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.link.run(&redis::cmd("PING")).await
    }

    async fn close(&self) {
        self.link.close().await;
    }
}
