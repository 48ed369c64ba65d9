//! One issuer's place on disk: what is put there, when it counts no more, and what it begins with.
//!
//! Writing may take its time, or never end: it is done aside, one at a time, and nobody waits for it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::issuer::Kept;
use super::last_good::{Label, LastGood, Recalled, Refused};
use super::source::Document;
use super::status::Origin;
use crate::clock;
use crate::time::Timestamp;

/// A document that did not change is given a new date only so often.
const REDATE: Duration = Duration::from_mins(5);
/// What the wall clock and ours may differ by without anybody having set the former back.
const LEEWAY: Duration = Duration::from_mins(1);

/// The place of one issuer's keys.
#[derive(Debug)]
pub(super) struct Keeping {
    name: Arc<str>,
    last_good: Arc<LastGood>,
    label: Label,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// What lies there, as far as we know.
    there: Option<(Timestamp, Arc<[u8]>)>,
    /// Something is being written or removed.
    is_busy: bool,
    /// The last time it could not be.
    failed: bool,
}

impl PartialEq for Keeping {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label && self.last_good == other.last_good
    }
}

impl Keeping {
    pub(super) fn new(name: &Arc<str>, last_good: Arc<LastGood>, label: Label) -> Self {
        Self { name: Arc::clone(name), last_good, label, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier process has kept, read as strictly as if it had just been fetched. It counts
    /// as stale, and its age goes on.
    pub(super) fn recall(&self) -> Option<Kept> {
        let now = clock::now();
        let recalled = self.last_good.recall(&self.label, now).and_then(|recalled| {
            let Some(Recalled { document, confirmed_at }) = recalled else { return Ok(None) };
            Ok(Some((Document::parse(&document, None, None, None)?, confirmed_at)))
        });
        let issuer = &*self.name;
        match recalled {
            Ok(None) => None,
            Ok(Some((document, confirmed_on))) => {
                let age = now.as_secs().saturating_sub(confirmed_on.as_secs());
                let confirmed_at = Instant::now().checked_sub(Duration::from_secs(age))?;
                self.written().there = Some((confirmed_on, Arc::clone(&document.body)));
                let keys = document.keys.len();
                tracing::info!(
                    issuer,
                    keys,
                    age,
                    "the keys of an earlier run serve until the issuer answers"
                );
                let (ttl, origin) = (Duration::ZERO, Origin::Disk);
                Some(Kept { document, confirmed_at, confirmed_on, ttl, origin })
            }
            Err(why) => {
                tracing::warn!(issuer, %why, "what was kept of the issuer's keys is not used");
                if why == Refused::TooOld {
                    // So that it can't come back with a clock that is set back.
                    let _ = self.last_good.forget(&self.label);
                }
                None
            }
        }
    }

    /// Keeps what was just confirmed.
    pub(super) fn keep(self: &Arc<Self>, kept: &Kept) {
        let (confirmed_on, body) = (kept.confirmed_on, Arc::clone(&kept.document.body));
        {
            let mut written = self.written();
            let is_there = written.there.as_ref().is_some_and(|(on, there)| {
                let passed = confirmed_on.as_secs().checked_sub(on.as_secs());
                *there == body && passed.is_some_and(|passed| passed < REDATE.as_secs())
            });
            if is_there || written.is_busy {
                return;
            }
            written.is_busy = true;
        }
        let keeping = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let result = keeping.last_good.keep(&keeping.label, &body, confirmed_on);
            let there = result.is_ok().then_some((confirmed_on, body));
            keeping.done(result, there);
        });
    }

    /// After a failed fetch: what is on disk goes once it can't be used any more, and where its
    /// date would make it younger than it is, as the clock was set back. `usable` is what serves.
    pub(super) fn review(self: &Arc<Self>, usable: Option<&Kept>) {
        {
            let mut written = self.written();
            let Some((confirmed_on, _)) = written.there.as_ref().filter(|_| !written.is_busy)
            else {
                return;
            };
            let by_date = clock::now().as_secs().checked_sub(confirmed_on.as_secs());
            let holds = usable.is_some_and(|kept| {
                let age = kept.confirmed_at.elapsed();
                let by_date = by_date.map(|age| Duration::from_secs(age) + LEEWAY);
                by_date.is_some_and(|by_date| by_date >= age)
            });
            if holds {
                return;
            }
            written.is_busy = true;
        }
        let keeping = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let result = keeping.last_good.forget(&keeping.label);
            let there = result.is_err().then(|| keeping.written().there.clone()).flatten();
            keeping.done(result, there);
        });
    }

    fn done(&self, result: io::Result<()>, there: Option<(Timestamp, Arc<[u8]>)>) {
        let mut written = self.written();
        written.is_busy = false;
        written.there = there;
        let had_failed = std::mem::replace(&mut written.failed, result.is_err());
        drop(written);
        if let Err(error) = result
            && !had_failed
        {
            let issuer = &*self.name;
            tracing::warn!(issuer, %error, "the issuer's keys can't be kept on disk");
        }
    }
}
