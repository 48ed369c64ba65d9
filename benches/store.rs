//! Rotations on the embedded store, with many in flight: how many in a second, how long each takes,
//! and how often the disk is synced for them.
//!
//! The folder is one for temporary files: set `TMPDIR` to a disk whose syncs cost what they do where
//! the store is to be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on has failed"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cambio::clock;
use cambio::exchange::family::{Family, RefreshToken, RefreshTokenSettings};
use cambio::exchange::grant::{CopiedClaim, Grant};
use cambio::exchange::mint::Kept;
use cambio::exchange::token_id::Entropy;
use cambio::oauth::scope::Scope;
use cambio::store::Store;
use cambio::store::embedded::Embedded;
use tokio::task::JoinSet;

/// How many other families there are.
const BYSTANDERS: usize = 20_000;

const MEASURED: Duration = Duration::from_secs(5);

const SETTINGS: RefreshTokenSettings = RefreshTokenSettings {
    lifetime: Duration::from_secs(24 * 3600),
    idle: None,
    grace: Duration::from_secs(5),
};

fn entropy() -> Entropy {
    let mut octets = [0; Entropy::OCTETS];
    aws_lc_rs::rand::fill(&mut octets).unwrap();
    Entropy::from_octets(octets)
}

fn begin() -> (Family, RefreshToken) {
    let granted_at = clock::now();
    let grant = Grant {
        client_id: "portal".to_owned(),
        issuer: "https://third-party-token-issuers.io/oauth2/token".to_owned(),
        subject_of_issuer: "alice".to_owned(),
        subject: "alice".to_owned(),
        audiences: vec!["https://api.example.com".to_owned()],
        scope: Scope::parse("read write").unwrap(),
        claims: vec![CopiedClaim {
            minted: "email".to_owned(),
            subject: "email".to_owned(),
            value: "alice@example.com".into(),
        }],
        granted_at,
    };
    Family::begin(grant, &SETTINGS, granted_at, &entropy())
}

fn kept(family: &Family) -> Kept {
    Kept { family: Some(family.clone()), opaque: None }
}

async fn fill(store: &Arc<Embedded>) {
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for _ in 0..BYSTANDERS / 64 {
                store.issue(&kept(&begin().0)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// Reads the family and rotates it, over and over, as a refresh does. Says how long each took.
async fn client(store: Arc<Embedded>, until: Instant) -> Vec<Duration> {
    let (family, mut token) = begin();
    store.issue(&kept(&family)).await.unwrap();
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let family = store.family(family.id).await.unwrap().unwrap();
        let (rotated, successor) = family.rotated(&token, &SETTINGS, &entropy(), clock::now());
        assert!(store.rotate(&kept(&rotated)).await.unwrap());
        took.push(began.elapsed());
        token = successor;
    }
    took
}

async fn measure(store: &Arc<Embedded>, in_flight: usize) {
    let before = store.counts();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        tasks.spawn(client(Arc::clone(store), began + MEASURED));
    }
    let mut took = tasks.join_all().await.concat();
    let elapsed = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let after = store.counts();
    let (commits, syncs) = (after.commits - before.commits, after.syncs - before.syncs);
    let per_second = |count: u64| Duration::from_secs(count).as_secs_f64() / elapsed;
    println!(
        "{in_flight:4} in flight: {:7.0} rotations/s, {:6.0} commits/s, {:6.0} syncs/s, \
         p50 {:?}, p99 {:?}",
        per_second(took.len() as u64),
        per_second(commits),
        per_second(syncs),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
    );
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(folder.path(), Duration::ZERO).await.unwrap());
    fill(&store).await;
    for in_flight in [1, 8, 64, 256] {
        measure(&store, in_flight).await;
    }
    store.close().await;
    let length = std::fs::metadata(folder.path().join("cambio.redb")).unwrap().len();
    let began = Instant::now();
    let store = Embedded::open(folder.path(), Duration::ZERO).await.unwrap();
    println!("{} KiB, opened and checked in {:?}", length >> 10, began.elapsed());
    store.close().await;
}
