//! Whatever one issuer does, another one's exchanges go on: the real binary, with all of
//! [`chaos_kinds`](crate::chaos_kinds) around it.
//!
//! `make chaos` does the same in a release build, one kind at a time, and prints what it measured.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::clock;
use cambio::jwt::sign::SigningKey;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::chaos_issuer::ChaosIssuer;
use crate::chaos_kinds::{ALL, Expected, Kind};
use crate::issuer::{Issuer, whole};
use crate::process::Process;
use crate::setting::{jwks, key};
use crate::support::{Connection, Response, Upstream, folder, get, post, write};

const OURS: &str = "https://idp.example/oauth2/token";
const GOOD: &str = "https://good.example";
/// What one of them may cost at a moment, whatever it sends.
const MOST_GROWTH_KIB: u64 = 32 * 1024;
/// And each of many: a document, its connection, and what the allocator keeps of them.
const MOST_GROWTH_EACH_KIB: u64 = 2 * 1024;

/// A token of this issuer for us.
fn token(iss: &str, key: &SigningKey) -> String {
    let now = clock::now().as_secs();
    let claims =
        json!({ "iss": iss, "sub": "alice", "aud": OURS, "iat": now - 1, "exp": now + 600 });
    key.sign("JWT", &claims).unwrap()
}

/// One that names a key which nobody has.
fn unknown(iss: &str, nth: usize) -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = encode(json!({ "alg": "ES256", "typ": "JWT", "kid": format!("unknown-{nth}") }));
    let claims = encode(json!({ "iss": iss, "sub": "alice", "aud": OURS }));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64]))
}

fn request(token: &str) -> Vec<u8> {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", "phone")
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("subject_token", token)
        .finish();
    post("/oauth2/token", "", &form)
}

/// A Cambio between one good issuer and many others.
struct Estate {
    _good: Issuer,
    good_key: SigningKey,
    others: Vec<ChaosIssuer>,
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    _upstream: Upstream,
    _folder: TempDir,
}

impl Estate {
    async fn start(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let folder = folder();
        let upstream = Upstream::start().await;
        let good_key = key("good");
        let set = jwks(&[&good_key]);
        let served = set.clone();
        let good = Issuer::start(move |_| whole(served.clone())).await;
        let mut others = Vec::new();
        for kind in kinds {
            others.push(ChaosIssuer::start(kind, &set).await);
        }
        let mut lines = format!(
            "applications:\n  - client_id: phone\n    type: mobile\n    allowed_grant_types: \
             [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n    \
             access_token: {{ lifetime: 1h }}\nauthorization_server:\n  issuer: {OURS}\n  \
             endpoints: {{ token: [/oauth2/token], jwks: /oauth2/jwks }}\n\
             trusted_token_issuers:\n  - {{ name: good, issuer: \"{GOOD}\", \
             jwks_endpoint: \"{}\", subject_prefix: \"good:\" }}\n",
            good.url("/jwks")
        );
        for other in &others {
            lines += &other.lines(folder.path());
        }
        let config = write(folder.path(), &upstream.url(), &lines);
        let (child, address, admin) = Process::start(folder.path(), &config).await.unheard();
        let estate = Self {
            _good: good,
            good_key,
            others,
            child,
            address,
            admin,
            _upstream: upstream,
            _folder: folder,
        };
        estate.until(|issuers| issuers.iter().all(|one| one["state"] == "fresh")).await;
        estate
    }

    /// How the issuers' keys are, in the order of the configuration.
    async fn issuers(&self) -> Vec<Value> {
        let status = Connection::open(self.admin).await.request(get("/status", "")).await.json();
        status["trusted_token_issuers"].as_array().unwrap().clone()
    }

    async fn until(&self, holds: impl Fn(&[Value]) -> bool) {
        let began = Instant::now();
        loop {
            let issuers = self.issuers().await;
            if holds(&issuers) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{issuers:#?}");
        }
    }

    async fn exchange(&self, token: &str) -> Response {
        Connection::open(self.address).await.request(request(token)).await
    }

    /// Memory that the process has, and the most that it ever had, in KiB.
    fn memory(&self) -> (u64, u64) {
        let status = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(status).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Tokens that make each of these issuers be asked, now and again; ends when all are answered.
    fn provoke(&self, nth: usize) -> JoinSet<u16> {
        let mut provoked = JoinSet::new();
        for other in &self.others {
            let (address, request) = (self.address, request(&unknown(&other.iss(), nth)));
            provoked.spawn(
                async move { Connection::open(address).await.request(request).await.status },
            );
        }
        provoked
    }
}

/// Exchanges of the good issuer's token, one after another.
struct Measured {
    connection: Connection,
    request: Vec<u8>,
    took: Vec<Duration>,
}

impl Measured {
    async fn of(estate: &Estate) -> Self {
        let connection = Connection::open(estate.address).await;
        let request = request(&token(GOOD, &estate.good_key));
        Self { connection, request, took: Vec::new() }
    }

    /// Not one of them may fail.
    async fn exchange(&mut self) {
        let began = Instant::now();
        let answer = self.connection.request(&self.request).await;
        self.took.push(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What was measured since the last time: how often, the median and the 99th percentile.
    fn take(&mut self) -> (usize, Duration, Duration) {
        let mut took = std::mem::take(&mut self.took);
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        (took.len(), at(50), at(99))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_issuers_can_do_at_once_costs_another_one_nothing() {
    let estate = Estate::start(ALL.map(|(kind, _)| kind)).await;
    let mut measured = Measured::of(&estate).await;
    for _ in 0..300 {
        measured.exchange().await;
    }
    let (count, median, before) = measured.take();
    println!("before: {count} exchanges, p50 {median:.1?}, p99 {before:.1?}");
    let (memory, _) = estate.memory();

    for other in &estate.others {
        other.rage(true);
    }
    let mut provoked = estate.provoke(0);
    let mut known = 0;
    loop {
        // Known keys serve on, be it the good issuer's or another's.
        for (other, (_, expected)) in estate.others.iter().zip(ALL) {
            measured.exchange().await;
            if expected != Expected::Withdrawn {
                let answer = estate.exchange(&token(&other.iss(), &other.known)).await;
                assert_eq!(answer.status, 200, "{:?}: {}", other.kind, answer.text());
                known += 1;
            }
        }
        while let Some(answer) = provoked.try_join_next() {
            // No key is known by that name: the caller's fault, not an outage.
            assert_eq!(answer.unwrap(), 400);
        }
        if provoked.is_empty() {
            break;
        }
    }
    let (count, median, during) = measured.take();
    let (_, most) = estate.memory();
    let grown = most.saturating_sub(memory);
    println!(
        "during {} kinds at once: {count} exchanges, 0 failed, p50 {median:.1?}, p99 {during:.1?}; \
         {known} exchanges with their own known keys, 0 failed; memory grew by {grown} KiB at most",
        ALL.len()
    );
    // A shared machine and an unoptimised build: the figures to quote are those of `make chaos`.
    assert!(during < 4 * before + Duration::from_millis(250), "{before:?} → {during:?}");
    assert!(grown < MOST_GROWTH_EACH_KIB * ALL.len() as u64, "{grown} KiB");

    // Each was found out for what it is…
    let issuers = estate.issuers().await;
    for (status, (kind, expected)) in issuers[1..].iter().zip(ALL) {
        assert_eq!(status["name"], kind.name());
        let error = match expected {
            Expected::Failure(error) => json!(error),
            Expected::Serves | Expected::Withdrawn => Value::Null,
        };
        assert_eq!(status.get("last_error").unwrap_or(&Value::Null), &error, "{status}");
    }
    // …and nothing of what it served wrongly is ever good for a token.
    for (other, (kind, expected)) in estate.others.iter().zip(ALL) {
        let refused = async |iss: &str, key: &SigningKey| {
            let answer = estate.exchange(&token(iss, key)).await;
            assert_eq!(answer.status, 400, "{kind:?}: {}", answer.text());
            assert_eq!(answer.json()["error"], "invalid_request", "{kind:?}");
        };
        refused(&other.iss(), &other.evil).await;
        refused(GOOD, &other.known).await;
        refused(GOOD, &other.evil).await;
        match expected {
            Expected::Withdrawn => refused(&other.iss(), &other.known).await,
            Expected::Failure(_) | Expected::Serves => {
                assert_eq!(estate.exchange(&token(&other.iss(), &other.known)).await.status, 200);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_issuer_sends_is_not_what_is_kept_of_it() {
    for kind in [
        Kind::HalfAGibibyte,
        Kind::GzipBomb,
        Kind::GzipBombUnannounced,
        Kind::TenThousandKeys,
        Kind::WideJson,
        Kind::HeaderFlood,
        Kind::InterimFlood,
    ] {
        let estate = Estate::start([kind]).await;
        let mut measured = Measured::of(&estate).await;
        measured.exchange().await;
        let (memory, _) = estate.memory();
        estate.others[0].rage(true);
        let statuses = estate.provoke(0).join_all().await;
        assert_eq!(statuses, [400], "{kind:?}");
        assert!(estate.issuers().await[1]["last_error"].is_string(), "{kind:?}");
        measured.exchange().await;
        let grown = estate.memory().1.saturating_sub(memory);
        println!("{}: memory grew by {grown} KiB at most", kind.name());
        assert!(grown < MOST_GROWTH_KIB, "{kind:?}: {grown} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_over_sockets_is_one_fetch_and_harms_nobody() {
    let estate = Estate::start([Kind::Status500]).await;
    let other = &estate.others[0];
    let mut measured = Measured::of(&estate).await;
    let lasts = Duration::from_secs(3);
    let began = Instant::now();
    let mut flood = JoinSet::new();
    for lane in 0..8 {
        let (address, iss) = (estate.address, other.iss());
        flood.spawn(async move {
            let (mut connection, mut sent) = (Connection::open(address).await, 0);
            while began.elapsed() < lasts {
                let token = unknown(&iss, lane * 1_000_000 + sent);
                assert_eq!(connection.request(request(&token)).await.status, 400);
                sent += 1;
            }
            sent
        });
    }
    let (mut known, own) = (0, token(&other.iss(), &other.known));
    while began.elapsed() < lasts {
        measured.exchange().await;
        assert_eq!(estate.exchange(&own).await.status, 200);
        known += 1;
    }
    let sent: usize = flood.join_all().await.into_iter().sum();
    let lasted = began.elapsed();
    let (count, _, p99) = measured.take();
    let fetches = other.connections();
    println!(
        "{sent} unknown keys in {lasted:.1?} over sockets ({:.0} a second): {fetches} fetches, the \
         first at the start; {count} + {known} exchanges with known keys, 0 failed, p99 {p99:.1?}",
        sent as f64 / lasted.as_secs_f64()
    );
    // One at the start, and one for each cool-down that has begun.
    let cool_downs = lasted.as_secs() / 10 + 1;
    assert!((2..=1 + cool_downs).contains(&(fetches as u64)), "{fetches}");
    assert!(sent > 100, "{sent}");
}

/// How long each window of `make chaos` lasts.
const WINDOW: Duration = Duration::from_millis(1500);

/// Not a test but a measurement, where `CAMBIO_CHAOS` says how many rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_kind_at_a_time_is_measured() {
    let rounds = std::env::var("CAMBIO_CHAOS").ok().and_then(|rounds| rounds.parse().ok());
    let Some(rounds): Option<usize> = rounds else {
        println!("nothing was measured: `make chaos` does");
        return;
    };
    let mut table = String::new();
    let mut shifts = Vec::new();
    for (kind, _) in ALL {
        let estate = Estate::start([kind]).await;
        let mut measured = Measured::of(&estate).await;
        let (mut calm, mut raging, mut exchanges) = (Vec::new(), Vec::new(), 0);
        let (memory, _) = estate.memory();
        for nth in 0..rounds {
            for is_raging in [false, true] {
                estate.others[0].rage(is_raging);
                let provoked = is_raging.then(|| estate.provoke(nth));
                let began = Instant::now();
                while began.elapsed() < WINDOW {
                    measured.exchange().await;
                }
                let (count, _, p99) = measured.take();
                exchanges += count;
                if is_raging { &mut raging } else { &mut calm }.push(p99);
                drop(provoked);
            }
        }
        // The median over windows: what else the machine did at a moment is not the issuer's doing.
        let median = |windows: &mut Vec<Duration>| {
            windows.sort_unstable();
            windows[windows.len() / 2]
        };
        let (before, during) = (median(&mut calm), median(&mut raging));
        let shift = (during.as_secs_f64() / before.as_secs_f64() - 1.0) * 100.0;
        shifts.push(shift);
        writeln!(
            table,
            "{:<24} {exchanges:>7} exchanges, 0 failed  p99 {before:>9.1?} → {during:>9.1?} \
             {shift:>+7.1} %  memory {:>+6} KiB",
            kind.name(),
            estate.memory().1.saturating_sub(memory)
        )
        .unwrap();
    }
    shifts.sort_by(f64::total_cmp);
    println!("{table}median shift of p99: {:+.1} %", shifts[shifts.len() / 2]);
}
