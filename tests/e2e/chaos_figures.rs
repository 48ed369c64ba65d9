//! What issuers that misbehave, and tokens that name keys which nobody has, cost others. `make chaos`
//! measures in full and holds what it measured to the bounds; without `CAMBIO_CHAOS` it is only
//! looked whether anything fails, as times say little on a machine that is busy otherwise.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::chaos_estate::{Estate, GOOD, Measured, request, token, unknown};
use crate::chaos_issuer::ChaosIssuer;
use crate::chaos_kinds::{ALL, Kind};
use crate::issuer::whole;
use crate::setting::{jwks, key};
use crate::support::Connection;

/// What the 99th percentile may move by, in percent.
const MOST_SHIFT: f64 = 10.0;
/// By how much longer a kind is measured anew that seems to move it. Then that figure counts, and not
/// the first one, whichever is better.
const LONGER: usize = 3;
/// Issuers of a kind, of which one is asked in each window in turn: for a cool-down after that it
/// can't be.
const COPIES: usize = 16;
/// On whatever machine, and yet less than waiting for an issuer that hangs takes.
const LONGEST: Duration = Duration::from_secs(4);

/// How many rounds `make chaos` wants.
fn rounds() -> Option<usize> {
    std::env::var("CAMBIO_CHAOS").ok().map(|rounds| rounds.parse().unwrap())
}

/// What was measured with one kind, over rounds of two windows: all issuers are well in one, and
/// misbehave in its neighbour.
#[derive(Default)]
struct Figures {
    exchanges: usize,
    /// How often an issuer was asked that misbehaved.
    asked: usize,
    /// The 99th percentiles of each round, without and with.
    rounds: Vec<[Duration; 2]>,
}

impl Figures {
    /// Measures more rounds. Which window is the first changes from one to the next.
    async fn measure(&mut self, kind: Option<Kind>, rounds: usize, window: Duration) {
        let estate = Estate::start([kind.unwrap_or(Kind::Status500); COPIES]).await;
        let mut measured = Measured::of(&estate).await;
        for round in 0..rounds {
            let mut taken = [Duration::ZERO; 2];
            let order = if round % 2 == 0 { [false, true] } else { [true, false] };
            for is_raging in order {
                for other in &estate.others {
                    other.rage(is_raging && kind.is_some());
                }
                // Nothing of the last window goes on in this one.
                while !is_raging && !estate.others.iter().all(ChaosIssuer::is_calm) {
                    estate.issuers().await;
                }
                let nth = round % COPIES;
                let other = &estate.others[nth];
                let before = other.misbehaved();
                let provoked = is_raging.then(|| estate.provoke(&estate.others[nth..=nth]));
                let began = Instant::now();
                let is_to_be_asked = || is_raging && kind.is_some() && other.misbehaved() == before;
                while began.elapsed() < window || is_to_be_asked() {
                    measured.exchange().await;
                }
                let (count, _, p99) = measured.take();
                self.exchanges += count;
                taken[usize::from(is_raging)] = p99;
                drop(provoked);
            }
            self.rounds.push(taken);
        }
        self.asked += estate.others.iter().map(ChaosIssuer::misbehaved).sum::<usize>();
    }

    /// The median over the windows of one sort.
    fn median(&self, is_raging: bool) -> Duration {
        let mut windows: Vec<_> =
            self.rounds.iter().map(|taken| taken[usize::from(is_raging)]).collect();
        windows.sort_unstable();
        windows[windows.len() / 2]
    }

    /// By how much a window with is more than its neighbour without, in percent: the median over
    /// the rounds, as what else the machine does begins and ends between them.
    fn shift(&self) -> f64 {
        let percent = |[calm, raging]: &[Duration; 2]| {
            (raging.as_secs_f64() / calm.as_secs_f64() - 1.0) * 100.0
        };
        let mut shifts: Vec<f64> = self.rounds.iter().map(percent).collect();
        shifts.sort_by(f64::total_cmp);
        shifts[shifts.len() / 2]
    }

    fn tell(&self, name: &str) {
        let Self { exchanges, asked, rounds } = self;
        let (calm, raging, shift) = (self.median(false), self.median(true), self.shift());
        println!(
            "{name:<24} {:>3} rounds, {exchanges:>6} exchanges, 0 failed; asked {asked:>3} times; \
             p99 {calm:>8.1?} → {raging:>8.1?}, by round {shift:>+6.1} %",
            rounds.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kind_of_misbehaviour_moves_the_99th_percentile() {
    let Some(rounds) = rounds() else {
        for kind in [Kind::InterimFlood, Kind::HalfAGibibyte, Kind::Hangs] {
            let mut figures = Figures::default();
            figures.measure(Some(kind), 2, Duration::from_millis(200)).await;
            figures.tell(&kind.name());
            assert!(figures.asked >= 2, "{kind:?} was asked {} times", figures.asked);
            let longest = figures.rounds.iter().map(|[_, raging]| *raging).max();
            assert!(longest < Some(LONGEST), "{kind:?}: {longest:?}");
        }
        return;
    };
    let mut moved = Vec::new();
    // All of them, unless some are named.
    let named = std::env::var("CAMBIO_CHAOS_KINDS").unwrap_or_default();
    let is_wanted =
        |kind: &Kind| named.is_empty() || named.split_whitespace().any(|name| name == kind.name());
    let kinds: Vec<_> = ALL.iter().map(|(kind, _)| *kind).filter(is_wanted).collect();
    assert!(!kinds.is_empty(), "no kind is named so: {named}");
    // First without any, to see what the machine itself moves.
    for kind in std::iter::once(None).chain(kinds.iter().copied().map(Some)) {
        let name = kind.map_or_else(|| "(none)".to_owned(), Kind::name);
        // As many rounds as were asked for: who goes on until a figure is good finds it good.
        let mut seems_to_move = true;
        for rounds in [rounds, rounds * LONGER] {
            if seems_to_move {
                let mut figures = Figures::default();
                figures.measure(kind, rounds, Duration::from_millis(400)).await;
                figures.tell(&name);
                assert!(kind.is_none() || figures.asked >= rounds, "{name}: {}", figures.asked);
                seems_to_move = kind.is_some() && figures.shift() >= MOST_SHIFT;
            }
        }
        if seems_to_move {
            moved.push(name);
        }
    }
    println!("{} kinds; moved by {MOST_SHIFT} % or more: {moved:?}", kinds.len());
    assert!(moved.is_empty(), "{moved:?}");
}

/// Tokens that are refused, many a second, over sockets.
struct Flood {
    lanes: JoinSet<usize>,
    began: Instant,
}

impl Flood {
    const RATE: u32 = 5_000;
    const LANES: u32 = 16;

    fn start(estate: &Estate, iss: &'static str, lasts: Duration) -> Self {
        let (began, address) = (Instant::now(), estate.address);
        let mut lanes = JoinSet::new();
        for lane in 0..Self::LANES {
            lanes.spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut due = interval(Duration::from_secs(1) * Self::LANES / Self::RATE);
                due.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut sent = 0;
                while began.elapsed() < lasts {
                    due.tick().await;
                    let token = unknown(iss, lane as usize * 1_000_000 + sent);
                    assert_eq!(connection.request(request(&token)).await.status, 400);
                    sent += 1;
                }
                sent
            });
        }
        Self { lanes, began }
    }

    /// How many were sent, in which time.
    async fn end(self) -> (usize, Duration) {
        (self.lanes.join_all().await.into_iter().sum(), self.began.elapsed())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_over_sockets_is_one_fetch_for_each_cool_down_and_harms_nobody() {
    const COOL_DOWN: Duration = Duration::from_secs(10);
    /// The longest that a new key waits: a cool-down, and the fetch after it.
    const USABLE: Duration = Duration::from_millis(10_500);
    let is_full = rounds().is_some();
    let estate = Estate::start([]).await;
    let mut measured = Measured::of(&estate).await;
    // As many tokens of an issuer that nobody trusts, for which there is nothing to fetch: what other
    // requests take then is what so many requests cost.
    let lasts = Duration::from_secs(if is_full { 10 } else { 1 });
    let others = Flood::start(&estate, "https://unknown.example", lasts);
    while others.began.elapsed() < lasts {
        measured.exchange().await;
    }
    others.end().await;
    let (_, _, before) = measured.take();

    let fetched_before = estate.good.count();
    let lasts = Duration::from_secs(if is_full { 30 } else { 2 });
    let flood = Flood::start(&estate, GOOD, lasts);
    // In full, a new key is published as late as can be: just after a fetch that did not have it.
    let new = key("new");
    let (mut published, mut usable_after) = (None, None);
    while flood.began.elapsed() < lasts {
        measured.exchange().await;
        if is_full && published.is_none() && estate.good.count() > fetched_before {
            estate.issuers().await;
            let set = jwks(&[&estate.good_key, &new]);
            estate.good.answer(move |_| whole(set.clone()));
            published = Some(Instant::now());
        }
        if let (Some(published), None) = (published, usable_after) {
            let answer = estate.exchange(&token(GOOD, &new)).await;
            usable_after = (answer.status == 200).then(|| published.elapsed());
        }
    }
    let (sent, lasted) = flood.end().await;
    let fetches = estate.good.count() - fetched_before;
    let (count, _, p99) = measured.take();
    let rate = sent as f64 / lasted.as_secs_f64();
    println!(
        "{sent} unknown keys in {lasted:.1?} over sockets ({rate:.0} a second): {fetches} fetches; \
         {count} exchanges with a known key, 0 failed, p99 {before:.1?} beside as many tokens of nobody's, \
         {p99:.1?} beside these; a new key was usable after {usable_after:.1?}"
    );
    // One for each cool-down that has begun.
    let cool_downs = lasted.as_nanos().div_ceil(COOL_DOWN.as_nanos());
    assert!((1..=cool_downs).contains(&(fetches as u128)), "{fetches}");
    assert!(sent > 0 && count > 0, "{sent}, {count}");
    if is_full {
        assert!(
            rate > 0.95 * f64::from(Flood::RATE),
            "{rate:.0} a second: this machine is too slow"
        );
        assert!(usable_after.unwrap() < USABLE, "{usable_after:?}");
        assert!(p99 < 2 * before, "{before:?} → {p99:?}");
    } else {
        assert!(p99 < LONGEST, "{p99:?}");
    }
}
