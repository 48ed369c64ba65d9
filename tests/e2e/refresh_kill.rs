//! `kill -9` at random moments, with a ledger outside of what was acknowledged.
//!
//! `CAMBIO_KILLS` says how often (80), `CAMBIO_SEED` with which random numbers; the seed is printed.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::task::{JoinSet, yield_now};

use crate::process::unheard;
use crate::random::{Random, setting};
use crate::refresh_support::{
    Client, furnished, lines, refresh_token, stand_in, subject_token, upstream,
};
use crate::support::{Connection, PATIENCE, Response, write};

/// Who refresh without a pause, each their own family.
const WALKERS: usize = 24;
/// After so many refreshes a walker leaves its family at rest and begins another.
const STAGE: usize = 5;
/// How many families at rest, and how many that are revoked, are looked at after each restart.
const LOOKED_AT: usize = 10;
/// How long a token that was used is good for another answer. Less than the configuration gives, as
/// it counts whole seconds.
const GRACE: Duration = Duration::from_secs(9);

/// A family as those outside know it.
#[derive(Clone)]
struct Known {
    client: Client,
    /// The tokens whose successors were acknowledged, oldest first.
    spent: Vec<String>,
    /// The last that was acknowledged.
    newest: String,
    /// Whether the newest was sent, and no answer came.
    is_in_doubt: bool,
}

/// Sends a request, where the other side may die at any moment.
async fn ask(connection: &mut Connection, request: &[u8]) -> Option<Response> {
    connection.stream.write_all(request).await.ok()?;
    connection.receive().await
}

async fn open(address: SocketAddr) -> Option<Connection> {
    tokio::net::TcpStream::connect(address).await.ok().map(Connection::over)
}

/// What became of an attempt to refresh.
enum Came {
    /// Nothing: the process has died.
    Nothing,
    Granted,
    Refused,
}

impl Known {
    async fn begin(connection: &mut Connection, client: Client, subject: &str) -> Option<Self> {
        let response = ask(connection, &client.exchange(subject, &[])).await?;
        let newest = refresh_token(&response);
        Some(Self { client, spent: Vec::new(), newest, is_in_doubt: false })
    }

    async fn refresh(&mut self, connection: &mut Connection) -> Came {
        let request = self.client.refresh(&self.newest, &[]);
        let Some(response) = ask(connection, &request).await else {
            self.is_in_doubt = true;
            return Came::Nothing;
        };
        if response.status == 400 {
            assert_eq!(response.json()["error"], "invalid_grant");
            return Came::Refused;
        }
        let successor = refresh_token(&response);
        self.spent.push(std::mem::replace(&mut self.newest, successor));
        self.is_in_doubt = false;
        Came::Granted
    }
}

/// Whoever refreshes without a pause, and the family that is theirs.
struct Walker {
    client: Client,
    known: Option<Known>,
    subject: Arc<str>,
    counted: Arc<Counted>,
}

/// What walkers count while they walk.
#[derive(Default)]
struct Counted {
    families: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// What is known of all.
#[derive(Default)]
struct Ledger {
    kills: usize,
    /// Newest tokens without doubt that had to be, and were, accepted after a restart.
    found: usize,
    /// Tokens in doubt: those with grace, which all had to be accepted; of the others those that
    /// were, and those that were spent although the answer was lost.
    regained: usize,
    still_good: usize,
    lost_in_flight: usize,
    /// Spent tokens that were refused right after a restart.
    spent: usize,
    /// Revocations that were acknowledged.
    revocations: usize,
    /// Looks at tokens of revoked families, all in vain.
    looks: usize,
    resting: Vec<Known>,
    revoked: Vec<Known>,
}

impl Ledger {
    /// Asserts that nothing of a family is accepted.
    async fn assert_dead(&mut self, connection: &mut Connection, known: &Known) {
        for token in known.spent.last().into_iter().chain([&known.newest]) {
            let request = known.client.refresh(token, &[]);
            let response = connection.request(&request).await;
            assert_eq!(response.status, 400, "a revoked family was revived");
            self.looks += 1;
        }
    }

    /// Ends a family, by presenting a token that was spent or at its client's wish, and notes what
    /// was acknowledged.
    async fn revoke(&mut self, connection: &mut Connection, known: Known, random: &mut Random) {
        let spent = match known.client {
            // The one before the newest has grace.
            Client::Other => known.spent.iter().rev().nth(1),
            _ => known.spent.last(),
        };
        let Some(spent) = spent.filter(|_| random.below(3) > 0) else {
            let response = connection.request(known.client.revoke(&known.newest)).await;
            assert_eq!(response.status, 200);
            self.revocations += 1;
            self.revoked.push(known);
            return;
        };
        let response = connection.request(known.client.refresh(spent, &[])).await;
        assert_eq!(response.status, 400, "a spent token was accepted");
        self.spent += 1;
        self.revoked.push(known);
    }

    /// What the walkers knew when the process died is held against what the new one does.
    async fn check(
        &mut self,
        address: SocketAddr,
        walkers: &mut [Walker],
        died: Instant,
        random: &mut Random,
    ) {
        let mut connection = Connection::open(address).await;
        for walker in walkers {
            let Some(known) = walker.known.take() else { continue };
            // Every fourth shows first that what it has spent is spent.
            if random.below(4) == 0 {
                self.revoke(&mut connection, known, random).await;
            } else {
                walker.known = self.go_on(&mut connection, known, died).await;
            }
        }
        for _ in 0..LOOKED_AT.min(self.resting.len()) {
            let at = random.below(self.resting.len());
            let known = self.resting.swap_remove(at);
            let known = self.go_on(&mut connection, known, died).await.expect("it was at rest");
            if random.below(2) == 0 {
                self.revoke(&mut connection, known, random).await;
            } else {
                self.resting.push(known);
            }
        }
        // The latest revocations, and some from long ago.
        let latest = self.revoked.len().saturating_sub(LOOKED_AT);
        for nth in 0..LOOKED_AT.min(self.revoked.len()) {
            let at = if nth % 2 == 0 { latest + nth } else { random.below(self.revoked.len()) };
            let known = self.revoked[at].clone();
            self.assert_dead(&mut connection, &known).await;
        }
    }

    /// Refreshes the newest token of a family. `None` where it is no more, for a good reason.
    async fn go_on(
        &mut self,
        connection: &mut Connection,
        mut known: Known,
        died: Instant,
    ) -> Option<Known> {
        let was_in_doubt = known.is_in_doubt;
        let has_grace = known.client == Client::Other && died.elapsed() < GRACE;
        match known.refresh(connection).await {
            Came::Nothing => panic!("it died on its own"),
            Came::Granted if !was_in_doubt => self.found += 1,
            Came::Granted if has_grace => self.regained += 1,
            Came::Granted => self.still_good += 1,
            Came::Refused => {
                assert!(was_in_doubt, "an acknowledged successor was lost");
                assert!(!has_grace, "an answer was lost in spite of grace");
                self.lost_in_flight += 1;
                self.revoked.push(known);
                return None;
            }
        }
        Some(known)
    }

    fn print(&self, counted: &Counted, seed: u64, took: Duration) {
        let Self { kills, found, regained, still_good, lost_in_flight, spent, .. } = self;
        let Self { looks, revocations, .. } = self;
        let acknowledged = counted.acknowledged.load(Ordering::Relaxed);
        let families = counted.families.load(Ordering::Relaxed);
        let told = format!(
            "kill -9, seed {seed}: {kills} kills in {:.0} s, {acknowledged} refreshes of {families} \
             families acknowledged\n  \
             {found} acknowledged successors looked for, all found\n  \
             {regained} tokens without an answer, all regained by grace\n  \
             {} without grace: {still_good} still good, {lost_in_flight} spent in flight\n  \
             {spent} spent tokens presented, all refused\n  \
             {looks} looks at {} revoked families ({revocations} at their clients' wish), all dead",
            took.as_secs_f64(),
            still_good + lost_in_flight,
            self.revoked.len(),
        );
        // Past the harness, which keeps what passing tests print to itself.
        writeln!(std::io::stderr(), "{told}").unwrap();
    }
}

/// What walkers leave behind.
#[derive(Default)]
struct Left {
    resting: Vec<Known>,
    revoked: Vec<Known>,
}

impl Left {
    /// Leaves a family at rest, or revoked: `false` where no answer came to that.
    async fn leave(&mut self, connection: &mut Connection, known: Known) -> bool {
        if self.resting.len() <= self.revoked.len() {
            self.resting.push(known);
            return true;
        }
        let Some(response) = ask(connection, &known.client.revoke(&known.newest)).await else {
            return false;
        };
        assert_eq!(response.status, 200);
        self.revoked.push(known);
        true
    }
}

impl Walker {
    /// Refreshes until the process dies.
    async fn walk(mut self, address: SocketAddr) -> (Self, Left) {
        let mut left = Left::default();
        let Some(mut connection) = open(address).await else { return (self, left) };
        loop {
            let mut walking = match self.known.take() {
                Some(walking) if walking.spent.len() < STAGE => walking,
                tired => {
                    if let Some(known) = tired
                        && !left.leave(&mut connection, known).await
                    {
                        return (self, left);
                    }
                    let begun = Known::begin(&mut connection, self.client, &self.subject).await;
                    let Some(begun) = begun else { return (self, left) };
                    self.counted.families.fetch_add(1, Ordering::Relaxed);
                    begun
                }
            };
            let came = walking.refresh(&mut connection).await;
            self.known = Some(walking);
            match came {
                Came::Granted => drop(self.counted.acknowledged.fetch_add(1, Ordering::Relaxed)),
                Came::Nothing => return (self, left),
                Came::Refused => panic!("a token that counts was refused"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let seed = setting("CAMBIO_SEED", 7);
    let kills = setting("CAMBIO_KILLS", 80);
    let mut random = Random(seed);
    let (issuer, once) = (stand_in().await, stand_in().await);
    let upstream = upstream().await;
    let folder = furnished(&issuer, &once);
    let config = write(folder.path(), &upstream.url(), &lines(&issuer, &once));
    let subject: Arc<str> = subject_token(&issuer, |_| {}).into();

    let began = Instant::now();
    writeln!(std::io::stderr(), "kill -9: seed {seed}").unwrap();
    let mut ledger = Ledger::default();
    let counted = Arc::new(Counted::default());
    let walker = |nth| Walker {
        client: if nth % 2 == 0 { Client::Portal } else { Client::Other },
        known: None,
        subject: Arc::clone(&subject),
        counted: Arc::clone(&counted),
    };
    let mut walkers: Vec<Walker> = (0..WALKERS).map(walker).collect();
    let (mut child, mut address) = unheard(folder.path(), &config).await;
    for _ in 0..kills {
        let mut walking = JoinSet::new();
        let until = counted.acknowledged.load(Ordering::Relaxed) + random.below(150);
        for walker in walkers.drain(..) {
            walking.spawn(walker.walk(address));
        }
        // A random moment: after so many answers, and then some.
        let patience = Instant::now();
        while counted.acknowledged.load(Ordering::Relaxed) < until {
            assert!(patience.elapsed() < PATIENCE, "no progress");
            yield_now().await;
        }
        for _ in 0..random.below(500) {
            yield_now().await;
        }
        child.kill().await.unwrap();
        let died = Instant::now();
        ledger.kills += 1;
        while let Some(walked) = walking.join_next().await {
            let (walker, left) = walked.unwrap();
            ledger.resting.extend(left.resting);
            ledger.revocations += left.revoked.len();
            ledger.revoked.extend(left.revoked);
            walkers.push(walker);
        }
        (child, address) = unheard(folder.path(), &config).await;
        ledger.check(address, &mut walkers, died, &mut random).await;
    }
    // All that is left, once.
    let mut connection = Connection::open(address).await;
    for known in std::mem::take(&mut ledger.resting) {
        assert!(ledger.go_on(&mut connection, known, began).await.is_some());
    }
    for known in ledger.revoked.clone() {
        ledger.assert_dead(&mut connection, &known).await;
    }
    ledger.print(&counted, seed, began.elapsed());
    assert!(ledger.found > 0 && ledger.regained > 0 && ledger.spent > 0 && ledger.looks > 0);
}
