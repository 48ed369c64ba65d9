//! What an operator's revocation hits, counted.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use redis::{Pipeline, Value, from_redis_value};

use super::keys::{Keys, Kind};
use super::link::Link;
use super::{FIELDS, family_of};
use crate::exchange::cut_off::{CutOff, Descent};
use crate::exchange::issued::AccessToken;
use crate::store::{Hit, StoreError};
use crate::time::Timestamp;

/// How many entries a server looks at in one go. Others wait meanwhile.
const BATCH: usize = 500;

/// Goes through all that is kept, and counts what lives of the ancestor's descendants.
pub(super) async fn descendants(
    link: &Link,
    keys: &Keys,
    cut_off: &CutOff,
    now: Timestamp,
) -> Result<Hit, StoreError> {
    let mut tally = Tally { cut_off, now, seen: HashSet::new(), hasher: RandomState::new() };
    let mut hit = Hit { families: 0, opaque_access_tokens: 0 };
    for node in link.nodes().await? {
        let mut cursor = 0_u64;
        loop {
            let mut scan = Pipeline::new();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(keys.descendants());
            scan.arg("COUNT").arg(BATCH);
            let [answer] = <[Value; 1]>::try_from(link.pipeline(&node, &scan).await?)
                .map_err(|_| StoreError::Foreign)?;
            let answer = answer.extract_error().map_err(|_| StoreError::Failed)?;
            let (next, names): (u64, Vec<Vec<u8>>) =
                from_redis_value(answer).map_err(|_| StoreError::Foreign)?;
            let found: Vec<_> = names
                .into_iter()
                .filter_map(|name| keys.kind(&name).map(|kind| (kind, name)))
                .collect();
            if !found.is_empty() {
                let answers = link.pipeline(&node, &read(&found)).await?;
                for ((kind, name), answer) in found.iter().zip(answers) {
                    match kind {
                        Kind::Family => hit.families += tally.family(name, answer),
                        Kind::Opaque => hit.opaque_access_tokens += tally.opaque(name, answer),
                    }
                }
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    Ok(hit)
}

fn read(found: &[(Kind, Vec<u8>)]) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for (kind, name) in found {
        match kind {
            Kind::Family => pipeline.cmd("HMGET").arg(name).arg(&FIELDS),
            Kind::Opaque => pipeline.cmd("GET").arg(name),
        };
    }
    pipeline
}

struct Tally<'a> {
    cut_off: &'a CutOff,
    now: Timestamp,
    /// The hashes of names that were counted: a server may tell one twice.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Tally<'_> {
    /// One or none. What has moved elsewhere meanwhile, or is not understood, is not counted.
    fn family(&mut self, name: &[u8], answer: Value) -> u64 {
        let fields = from_redis_value(answer).ok();
        let family = fields.and_then(|fields| family_of(&fields).ok().flatten());
        let lives = family.filter(|one| one.ended.is_none() && !one.is_expired(self.now));
        lives.map_or(0, |family| self.count(name, &family.descent()))
    }

    fn opaque(&mut self, name: &[u8], answer: Value) -> u64 {
        let claims = from_redis_value::<Option<Vec<u8>>>(answer).ok().flatten();
        let token = claims.and_then(|claims| AccessToken::from_kept(&claims));
        let lives = token.filter(|token| !token.is_expired(self.now));
        lives.map_or(0, |token| self.count(name, &token.descent()))
    }

    fn count(&mut self, name: &[u8], descent: &Descent) -> u64 {
        let is_hit = descent.ancestors.contains(&self.cut_off.ancestor)
            && descent.is_cut_off(self.cut_off.before);
        u64::from(is_hit && self.seen.insert(self.hasher.hash_one(name)))
    }
}
