//! How much is got done when ten times as many ask as can be served, and what memory is left taken by
//! tokens of which no two are the same.
//!
//! The real binary in a process of its own, and the clients in another. `CAMBIO_TOKENS` says how many
//! good and how many bad tokens there are (100000 of each).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on has failed"
)]

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/abuse/load.rs"]
mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::load::{Crowd, Server, Tokens, configure, crowd, each_once, mebibytes};

const LASTS: Duration = Duration::from_secs(5);
const LISTEN: &str = "listen: [{ address: 127.0.0.1:0 }]";

fn start(more: &str) -> (Server, Arc<Tokens>) {
    // Exchanges do not go there.
    let upstream = "http://127.0.0.1:9";
    let folder = tempfile::tempdir().unwrap();
    let tokens = Arc::new(Tokens::new(folder.path()));
    let config = configure(folder.path(), upstream, LISTEN, more);
    (Server::start(folder, &config), tokens)
}

/// What part of the peak is got done when ten times as many clients ask as it takes to reach it.
/// Whoever is told to come back does so after `comes_back`.
async fn goodput(what: &str, more: &str, comes_back: Duration) -> f64 {
    let (server, tokens) = start(more);
    let requests = tokens.requests(2000);
    let with = |clients| {
        crowd(Crowd { address: server.address, clients, lasts: LASTS, comes_back }, &requests)
    };
    with(8).await;
    let (mut capacity, mut peak) = (0, 0.0);
    for clients in [1, 2, 4, 8, 16, 32, 64] {
        let tally = with(clients).await;
        println!("goodput, {what}: {clients} clients: {tally}");
        if tally.rate() > peak {
            (capacity, peak) = (clients, tally.rate());
        }
    }
    // By turns, as a machine is not equally busy all the time.
    let (mut usual, mut pressed) = (0.0, 0.0);
    for _ in 0..3 {
        usual += with(capacity).await.rate();
        let tally = with(capacity * 10).await;
        println!("goodput, {what}: {} clients: {tally}", capacity * 10);
        pressed += tally.rate();
    }
    let part = pressed / usual;
    println!("goodput, {what}: at ten times the capacity {:.0} % of the peak", part * 100.0);
    part
}

async fn memory() {
    let count = std::env::var("CAMBIO_TOKENS").map_or(100_000, |count| count.parse().unwrap());
    let (server, tokens) = start("");
    let idle = mebibytes(server.memory());
    println!("memory: {idle:.0} MiB idle");
    for (what, make) in [("good", Tokens::good as fn(&Tokens) -> _), ("bad", Tokens::garbage)] {
        let began = Instant::now();
        let granted = each_once(&server, &tokens, count, 64, make).await;
        let after = mebibytes(server.memory());
        let took = began.elapsed();
        println!(
            "memory: {after:.0} MiB after {count} {what} tokens, {granted} granted, in {took:.0?}"
        );
        assert!(after < idle + 64.0, "more than 64 MiB were not given back");
    }
}

fn main() {
    // Compiled with the tests, and not to be run by them.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // An exchange waits for nothing here, so that no other bound than one is ever reached.
        let one = "limits: { requests: 1 }\n";
        let usual = goodput("the usual bound", "", Duration::ZERO).await;
        let told = goodput("a bound of one", one, Duration::from_secs(1)).await;
        let deaf =
            goodput("a bound of one, and clients that come back at once", one, Duration::ZERO);
        let deaf = deaf.await;
        memory().await;
        assert!(usual.min(told).min(deaf) >= 0.9, "less than nine tenths of the peak got done");
    });
}
