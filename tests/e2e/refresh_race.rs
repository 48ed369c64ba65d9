//! Many who have one refresh token, at once.

use std::collections::HashSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::refresh_reuse::at_once;
use crate::refresh_support::{Client, Estate, refresh_token, refused};
use crate::support::Connection;

const CLIENTS: usize = 64;
const ROUNDS: usize = 1000;
const ROUNDS_WITH_GRACE: usize = 250;

/// What the rounds of a race came to.
struct Tally {
    rounds: usize,
    granted: usize,
    refused: usize,
    took: Duration,
}

impl Tally {
    /// Past the harness, which keeps what passing tests print to itself.
    fn print(&self, grace: &str) {
        let Self { rounds, granted, refused, took } = self;
        let per_second = (granted + refused) as f64 / took.as_secs_f64();
        writeln!(
            std::io::stderr(),
            "race, {grace}: {CLIENTS} clients, {rounds} rounds: {granted} granted, {refused} refused \
             in {:.1} s ({per_second:.0}/s)",
            took.as_secs_f64(),
        )
        .unwrap();
    }
}

async fn connected(estate: &Estate) -> Vec<Connection> {
    let mut connections = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        connections.push(estate.connect().await);
    }
    connections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_present_one_token_at_once_one_gets_a_successor() {
    let estate = Estate::start().await;
    let mut connections = connected(&estate).await;
    let (began, mut granted) = (Instant::now(), 0);
    for round in 0..ROUNDS {
        let token = estate.family(Client::Portal).await;
        let responses = at_once(&mut connections, &Client::Portal.refresh(&token, &[])).await;
        let (winners, losers): (Vec<_>, Vec<_>) =
            responses.into_iter().partition(|response| response.status == 200);
        assert_eq!(winners.len(), 1, "round {round}");
        granted += winners.len();
        for response in &losers {
            refused(response, "invalid_grant");
        }
        // Who came second has shown that the token is in wrong hands, so nobody keeps anything.
        let successor = refresh_token(&winners[0]);
        refused(&estate.refresh(Client::Portal, &successor).await, "invalid_grant");
    }
    let refused = ROUNDS * CLIENTS - granted;
    Tally { rounds: ROUNDS, granted, refused, took: began.elapsed() }.print("no grace");
    assert_eq!(granted, ROUNDS);
    assert_eq!(estate.refreshes("granted", "none").await, ROUNDS as u64);
    assert_eq!(estate.refreshes("failed", "overloaded").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_grace_all_get_the_same_successor() {
    let estate = Estate::start().await;
    let mut connections = connected(&estate).await;
    let (began, mut granted) = (Instant::now(), 0);
    let mut token = estate.family(Client::Other).await;
    for round in 0..ROUNDS_WITH_GRACE {
        let responses = at_once(&mut connections, &Client::Other.refresh(&token, &[])).await;
        let successors: HashSet<String> = responses.iter().map(refresh_token).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        granted += responses.len();
        // The family goes on: of all of them there is one line.
        token = successors.into_iter().next().unwrap();
    }
    let rounds = ROUNDS_WITH_GRACE;
    Tally { rounds, granted, refused: 0, took: began.elapsed() }.print("grace");
    assert_eq!(granted, ROUNDS_WITH_GRACE * CLIENTS);
    refresh_token(&estate.refresh(Client::Other, &token).await);
    assert_eq!(estate.metrics().await["cambio_refresh_reuse_detected_total"], "0");
}
