//! One issuer's place on disk: what is put there, when it counts no more, and what it begins with.
//!
//! Writing may take its time, or never end: it is done aside, one at a time, and nobody waits for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
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
    place: Arc<Place>,
    written: Mutex<Written>,
}

/// What those share that follow each other over one file. An earlier one may still be writing when
/// it is replaced, and what it writes must not lie on top of what the later one wrote: under another
/// signing key it could be of no use.
#[derive(Debug, Default)]
struct Place {
    /// Held while something is written or removed.
    writing: Mutex<()>,
    /// Whose turn it is.
    newest: AtomicU64,
}

#[derive(Debug, Default)]
struct Written {
    /// Which of those that follow each other this is; 0 before it has begun.
    turn: u64,
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
        let name = Arc::clone(name);
        Self { name, last_good, label, place: Arc::default(), written: Mutex::default() }
    }

    /// Where `earlier` has the same file, one that can take over from it.
    pub(super) fn after(self, earlier: &Self) -> Self {
        let is_same = self.label == earlier.label && self.last_good.is_where(&earlier.last_good);
        if is_same { Self { place: Arc::clone(&earlier.place), ..self } } else { self }
    }

    /// From here on no earlier one changes anything.
    pub(super) fn take_over(&self) {
        self.written().turn = self.place.newest.fetch_add(1, Ordering::Relaxed) + 1;
    }

    /// It is not needed any more. Where nobody has taken over from it, its configuration has come to
    /// nothing, and the one before goes on.
    pub(super) fn give_back(&self) {
        let own = self.written().turn;
        let (before, order) = (own.saturating_sub(1), Ordering::Relaxed);
        let _ = self.place.newest.compare_exchange(own, before, order, order);
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
            let result = keeping.put(&body, confirmed_on);
            let there = matches!(result, Ok(true)).then_some((confirmed_on, body));
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
            let result = keeping.in_turn(|| keeping.last_good.forget(&keeping.label));
            let there = result.is_err().then(|| keeping.written().there.clone()).flatten();
            keeping.done(result, there);
        });
    }

    fn put(&self, body: &[u8], confirmed_on: Timestamp) -> io::Result<bool> {
        self.in_turn(|| self.last_good.keep(&self.label, body, confirmed_on))
    }

    /// Changes the file, unless a later one has taken over: then that is left to it. Whether it did.
    fn in_turn(&self, change: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let _alone = self.place.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_its_turn = self.place.newest.load(Ordering::Relaxed) == self.written().turn;
        if is_its_turn { change().map(|()| true) } else { Ok(false) }
    }

    fn done(&self, result: io::Result<bool>, there: Option<(Timestamp, Arc<[u8]>)>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::algorithm::Algorithm;
    use crate::jwt::sign::{SigningKey, SigningKeys, generate_pem};

    const DAY: Duration = Duration::from_hours(24);

    fn open(folder: &std::path::Path) -> Arc<LastGood> {
        let pem = generate_pem(Algorithm::ES256).unwrap();
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None);
        let keys = SigningKeys::new(vec![key.unwrap()]);
        Arc::new(LastGood::open(&folder.join("keys"), &keys, DAY).unwrap())
    }

    fn recalled(last_good: &LastGood) -> Result<Vec<u8>, Refused> {
        last_good.recall(&label(), clock::now()).map(|recalled| recalled.unwrap().document)
    }

    fn label() -> Label {
        Label::new([&b"partner"[..]])
    }

    #[test]
    fn what_was_being_written_when_another_took_over_does_not_land() {
        let now = clock::now();
        let folder = tempfile::tempdir().unwrap();
        let name = Arc::from("partner");
        let before = open(folder.path());
        let earlier = Keeping::new(&name, Arc::clone(&before), label());
        earlier.take_over();
        assert!(earlier.put(b"1", now).unwrap());
        assert_eq!(recalled(&before).unwrap(), b"1");

        // One that was made and not used, as its configuration has changed nothing, is in nobody's way.
        let _unused = Keeping::new(&name, Arc::clone(&before), label()).after(&earlier);
        assert!(earlier.put(b"2", now).unwrap());
        assert_eq!(recalled(&before).unwrap(), b"2");

        // A later one, under another signing key: late changes of the earlier one are none.
        let after = open(folder.path());
        let later = Keeping::new(&name, Arc::clone(&after), label()).after(&earlier);
        later.take_over();
        assert!(later.put(b"3", now).unwrap());
        assert!(!earlier.put(b"4", now).unwrap());
        assert!(!earlier.in_turn(|| before.forget(&label())).unwrap());
        assert_eq!(recalled(&before), Err(Refused::Tag));
        assert_eq!(recalled(&after).unwrap(), b"3");

        // Another file has nothing to do with it.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Keeping::new(&name, open(elsewhere.path()), label()).after(&later);
        other.take_over();
        assert!(later.put(b"5", now).unwrap());
        assert_eq!(recalled(&after).unwrap(), b"5");

        // Of a configuration that came to nothing the one before goes on; of one that was replaced
        // nothing does.
        earlier.give_back();
        assert!(!earlier.put(b"6", now).unwrap());
        later.give_back();
        assert!(earlier.put(b"7", now).unwrap());
        assert_eq!(recalled(&before).unwrap(), b"7");
    }
}
