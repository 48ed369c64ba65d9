//! Power that fails at any moment: what was answered holds, whatever of the rest is on the disk.
//!
//! A disk remembers what is done to it while families rotate and end, and tokens are revoked and
//! remembered; beside it a ledger says what was answered, and when. Then the power fails after each
//! single operation. What was not synced may be on the disk or not, in any order, torn at any sector.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cambio::clock;
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::{End, Family, Presented, RefreshToken, RefreshTokenSettings};
use cambio::exchange::opaque::OpaqueAccessToken;
use cambio::exchange::subject::Once;
use cambio::exchange::token_id::FamilyId;
use cambio::store::Store;
use cambio::store::embedded::{Embedded, Settings};
use cambio::time::Timestamp;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::disk::{Disk, Op, apply};
use super::support::{HOUR, SETTINGS, entropy, grant, kept, name, opaque, random, tell};

/// What a disk writes all or nothing of.
const SECTOR: usize = 512;

/// In how many ways an image is made of what a disk may hold at one moment, and how many of them in
/// turn are for each moment.
const WAYS: u64 = 12;
const IMAGES: u64 = 8;

/// One after another, always the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// When something was begun and when it was answered, in operations of the disk.
#[derive(Clone, Copy)]
struct Span {
    begun: usize,
    answered: usize,
}

impl Span {
    fn was_answered(self, at: usize) -> bool {
        self.answered <= at
    }

    fn was_begun(self, at: usize) -> bool {
        self.begun < at
    }
}

/// A family, and all that was done to it.
struct History {
    id: FamilyId,
    /// By sequence number: the token that counted, the access token kept with it, and when.
    tokens: Vec<(RefreshToken, OpaqueAccessToken, Span)>,
    revoked: Option<Span>,
}

/// What was done, beside the families.
enum Deed {
    Revoked(String),
    Remembered(Once),
    CutOff(CutOff),
}

#[derive(Default)]
struct Ledger {
    families: Vec<History>,
    deeds: Vec<(Deed, Span)>,
}

/// All that is checked has another day to live.
fn tomorrow() -> Timestamp {
    clock::now().plus(24 * HOUR)
}

/// A clock by which what was to live for minutes is past its time, so that it is swept meanwhile.
fn settings() -> Settings {
    let now = clock::now().plus(2 * HOUR);
    Settings { clock: Arc::new(move || now), sweep_every: Duration::ZERO, ..Settings::default() }
}

const NO_GRACE: RefreshTokenSettings = RefreshTokenSettings { grace: Duration::ZERO, ..SETTINGS };

/// Does things to a store, and writes down what it has been told.
struct Workload {
    disk: Disk,
    store: Embedded,
    ledger: Mutex<Ledger>,
}

impl Workload {
    async fn spanning<T>(&self, work: impl Future<Output = T>) -> (T, Span) {
        let begun = self.disk.position();
        let done = work.await;
        (done, Span { begun, answered: self.disk.position() })
    }

    async fn begin(&self) -> Family {
        let (family, token) = Family::begin(grant(), &NO_GRACE, tomorrow(), &entropy());
        let access = opaque(&family.grant, Some(family.id), tomorrow());
        let kept = kept(Some(&family), Some(&access));
        let (issued, span) = self.spanning(self.store.issue(&kept)).await;
        issued.unwrap();
        let history = History { id: family.id, tokens: vec![(token, access, span)], revoked: None };
        self.ledger.lock().families.push(history);
        family
    }

    async fn rotate(&self, family: &mut Family) {
        let history = |ledger: &Ledger| {
            ledger.families.iter().position(|history| history.id == family.id).unwrap()
        };
        let token = {
            let ledger = self.ledger.lock();
            ledger.families[history(&ledger)].tokens.last().unwrap().0.clone()
        };
        let (rotated, successor) = family.rotated(&token, &NO_GRACE, &entropy(), clock::now());
        let access = opaque(&family.grant, Some(family.id), tomorrow());
        let kept = kept(Some(&rotated), Some(&access));
        let (through, span) = self.spanning(self.store.rotate(&kept)).await;
        assert!(through.unwrap());
        let mut ledger = self.ledger.lock();
        let history = history(&ledger);
        ledger.families[history].tokens.push((successor, access, span));
        *family = rotated;
    }

    async fn end(&self, family: &Family) {
        let (ended, span) = self.spanning(self.store.end_family(family.id, End::Revoked)).await;
        ended.unwrap();
        let mut ledger = self.ledger.lock();
        let history = ledger.families.iter_mut().find(|history| history.id == family.id);
        history.unwrap().revoked = Some(span);
    }

    async fn revoke(&self) {
        let jwt_id = name("jti");
        let work = self.store.revoke_access_token(&jwt_id, tomorrow());
        let (revoked, span) = self.spanning(work).await;
        revoked.unwrap();
        self.ledger.lock().deeds.push((Deed::Revoked(jwt_id), span));
    }

    async fn remember(&self) {
        let once = Once { key: random(), until: tomorrow() };
        let (first, span) = self.spanning(self.store.remember_once(&once)).await;
        assert!(first.unwrap());
        self.ledger.lock().deeds.push((Deed::Remembered(once), span));
    }

    async fn cut_off(&self) {
        let ancestor = Ancestor::Subject(name("subject"));
        let cut_off = CutOff { ancestor, before: clock::now() };
        let work = self.store.cut_off(&cut_off, clock::now());
        let (hit, span) = self.spanning(work).await;
        hit.unwrap();
        self.ledger.lock().deeds.push((Deed::CutOff(cut_off), span));
    }

    /// What is soon swept, so that pages come to be free and used again.
    async fn litter(&self) {
        let soon = clock::now().plus(Duration::from_secs(60));
        for _ in 0..4 {
            let token = opaque(&grant(), None, soon);
            self.store.issue(&kept(None, Some(&token))).await.unwrap();
        }
    }

    async fn run(&self, dice: &mut Dice) {
        let mut families = Vec::new();
        for _ in 0..6 {
            families.push(self.begin().await);
        }
        for round in 0..60 {
            match dice.below(8) {
                0 => self.revoke().await,
                1 => self.remember().await,
                2 => self.litter().await,
                3 if round % 4 == 0 => self.cut_off().await,
                3 if round > 20 && families.len() > 3 => {
                    self.end(&families.swap_remove(0)).await;
                }
                4 => families.push(self.begin().await),
                // Several at once, in one transaction.
                5 => {
                    let (one, rest) = families.split_first_mut().unwrap();
                    let other = &mut rest[0];
                    tokio::join!(
                        self.rotate(one),
                        self.rotate(other),
                        self.revoke(),
                        self.remember(),
                        self.litter(),
                    );
                }
                _ => {
                    let at = dice.below(families.len());
                    self.rotate(&mut families[at]).await;
                }
            }
        }
    }
}

/// What the disk may hold after the power has failed: `synced`, and something of what came later.
fn torn(synced: &[u8], later: &[Op], variant: u64, dice: &mut Dice) -> Vec<u8> {
    let length_of = |op: &Op| match op {
        Op::Length(length) => usize::try_from(*length).unwrap(),
        Op::Write(..) | Op::Sync => 0,
    };
    let longest = later.iter().map(length_of).max().unwrap_or(0).max(synced.len());
    // Of each sector, and of the length: up to which operation it is on the disk.
    let mut until = |at: usize| match variant {
        1 => later.len(),
        // The header alone, and all but the header.
        2 if at == 0 => later.len(),
        3 if at > 0 => later.len(),
        0 | 2 | 3 => 0,
        4..=6 => [0, later.len()][dice.below(2)],
        7 | 8 => {
            if dice.below(10) == 0 {
                0
            } else {
                later.len()
            }
        }
        9 => {
            if dice.below(10) > 0 {
                0
            } else {
                later.len()
            }
        }
        _ => dice.below(later.len() + 1),
    };
    let sectors: Vec<usize> = (0..longest.div_ceil(SECTOR)).map(&mut until).collect();
    let length_until = until(usize::MAX);

    let mut image = synced.to_vec();
    image.resize(longest, 0);
    let mut length = synced.len();
    for (at, op) in later.iter().enumerate() {
        match op {
            Op::Length(new) => {
                let new = usize::try_from(*new).unwrap();
                if at < length_until {
                    length = new;
                }
                for (sector, until) in sectors.iter().enumerate() {
                    let start = (sector * SECTOR).max(new);
                    let end = ((sector + 1) * SECTOR).min(longest);
                    if at < *until && start < end {
                        image[start..end].fill(0);
                    }
                }
            }
            Op::Write(offset, data) => {
                let offset = usize::try_from(*offset).unwrap();
                let mut done = 0;
                while done < data.len() {
                    let place = offset + done;
                    let size = (SECTOR - place % SECTOR).min(data.len() - done);
                    if at < sectors[place / SECTOR] {
                        image[place..place + size].copy_from_slice(&data[done..done + size]);
                    }
                    done += size;
                }
            }
            Op::Sync => {}
        }
    }
    image.truncate(length);
    image.resize(length, 0);
    image
}

/// That what was answered before the power failed at `at` is so, and nothing is half done.
async fn check(store: &Embedded, ledger: &Ledger, at: usize) {
    let now = clock::now();
    for history in &ledger.families {
        let answered = history.tokens.iter().filter(|(.., span)| span.was_answered(at)).count();
        let begun = history.tokens.iter().filter(|(.., span)| span.was_begun(at)).count();
        let family = store.family(history.id).await.unwrap();
        let found = family.as_ref().map_or(0, |family| family.sequence + 1);
        let found = usize::try_from(found).unwrap();
        assert!((answered..=begun).contains(&found), "{answered}..={begun}, but {found}");
        for (number, (token, access, _)) in history.tokens.iter().enumerate() {
            if let Some(family) = &family {
                let expected = match number + 1 {
                    number if number < found => Presented::Spent,
                    number if number == found => Presented::Current,
                    // It was never handed out.
                    _ => Presented::Spent,
                };
                assert_eq!(family.recognise(token, now), expected);
            }
            let claims = store.opaque_claims(&access.id).await.unwrap();
            let expected = (number < found).then_some(&access.claims);
            assert!(claims.as_ref() == expected, "half of an answer is kept");
        }
        let ended = family.and_then(|family| family.ended);
        match history.revoked {
            Some(span) if span.was_answered(at) => assert_eq!(ended, Some(End::Revoked)),
            Some(span) if span.was_begun(at) => {}
            _ => assert_eq!(ended, None),
        }
    }
    for (deed, span) in &ledger.deeds {
        if !span.was_answered(at) {
            continue;
        }
        match deed {
            Deed::Revoked(jwt_id) => {
                assert_eq!(store.is_access_token_revoked(jwt_id).await, Ok(true));
            }
            Deed::Remembered(once) => assert_eq!(store.remember_once(once).await, Ok(false)),
            Deed::CutOff(cut_off) => {
                let found = store.cut_off_of(std::slice::from_ref(&cut_off.ancestor)).await;
                assert_eq!(found, Ok(Some(cut_off.before)));
            }
        }
    }
}

/// That the store still takes something new.
async fn go_on(store: &Embedded) {
    let once = Once { key: random(), until: tomorrow() };
    assert_eq!(store.remember_once(&once).await, Ok(true));
    assert_eq!(store.remember_once(&once).await, Ok(false));
}

/// Where the power fails.
struct Crashes<'a> {
    /// What was on the disk at the beginning.
    image: Vec<u8>,
    ops: Vec<Op>,
    ledger: &'a Ledger,
    /// Since when it is known what was answered; the recovery from a failure adds nothing to it.
    known: Option<usize>,
}

impl Crashes<'_> {
    /// What is synced when the power fails after `at` operations, and what is not.
    fn states(&self) -> impl Iterator<Item = (usize, Arc<Vec<u8>>, &[Op])> {
        let mut synced = Arc::new(self.image.clone());
        let mut from = 0;
        (0..=self.ops.len()).map(move |at| {
            if let Some(Op::Sync) = at.checked_sub(1).map(|last| &self.ops[last]) {
                for op in &self.ops[from..at] {
                    apply(Arc::make_mut(&mut synced), op).unwrap();
                }
                from = at;
            }
            (at, Arc::clone(&synced), &self.ops[from..at])
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Opens what the disk may hold, and checks it. Some of the openings fail in turn.
async fn survive(crashes: &Crashes<'_>, at: usize, image: Vec<u8>, seed: u64) -> usize {
    let disk = Disk::new(image.clone());
    let store = match Embedded::over(disk.source(), settings()).await {
        Ok(store) => store,
        Err(error) => panic!("after {at} operations, seed {seed}: {error}"),
    };
    let recovery = disk.ops();
    let answered = crashes.known.unwrap_or(at);
    check(&store, crashes.ledger, answered).await;
    go_on(&store).await;
    store.close().await;

    if crashes.known.is_some() || !seed.is_multiple_of(41) {
        return 1;
    }
    let again = Crashes { image, ops: recovery, ledger: crashes.ledger, known: Some(answered) };
    let mut dice = Dice(seed);
    let mut points = 1;
    for (at, synced, later) in again.states() {
        let variant = dice.next() % WAYS;
        let image = torn(&synced, later, variant, &mut dice);
        points += Box::pin(survive(&again, at, image, seed)).await;
    }
    points
}

#[test]
fn what_was_answered_outlives_the_power() {
    let (image, ops, ledger) = runtime().block_on(async {
        let disk = Disk::default();
        Embedded::over(disk.source(), settings()).await.unwrap().close().await;
        let disk = Disk::new(disk.image());
        let image = disk.image();
        let store = Embedded::over(disk.source(), settings()).await.unwrap();
        let workload = Workload { disk, store, ledger: Mutex::default() };
        workload.run(&mut Dice(1)).await;
        workload.store.close().await;
        (image, workload.disk.ops(), workload.ledger.into_inner())
    });
    let crashes = Crashes { image, ops, ledger: &ledger, known: None };
    let states: Vec<_> = crashes.states().collect();
    let (next, points) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                runtime().block_on(async {
                    while let Some((at, synced, later)) =
                        states.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        for image in 0..IMAGES {
                            let seed = *at as u64 * IMAGES + image;
                            let image = torn(synced, later, seed % WAYS, &mut Dice(seed));
                            let survived = survive(&crashes, *at, image, seed).await;
                            points.fetch_add(survived, Ordering::Relaxed);
                        }
                    }
                });
            });
        }
    });
    let points = points.into_inner();
    tell(&format!("{points} crash points after {} operations", crashes.ops.len()));
    assert!(points >= 10_000, "only {points}");
}
