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

/// What part of the peak is got done, at worst, when ten times as many ask and do as they are told.
async fn goodput() -> f64 {
    let (server, tokens) = start("");
    let requests = tokens.requests(2000);
    let with = |server: &Server, clients, comes_back| {
        crowd(Crowd { address: server.address, clients, lasts: LASTS, comes_back }, &requests)
    };
    with(&server, 8, Duration::ZERO).await;
    let mut best = (0, 0.0);
    for clients in [1, 2, 4, 8, 16, 32, 64] {
        let tally = with(&server, clients, Duration::ZERO).await;
        println!("goodput: {clients} clients: {tally}");
        if tally.rate() > best.1 {
            best = (clients, tally.rate());
        }
    }
    let (capacity, peak) = best;
    let clients = capacity * 10;
    let pressed = with(&server, clients, Duration::ZERO).await;
    let of_peak = pressed.rate() / peak;
    println!(
        "goodput: {clients} clients, the usual bound: {pressed}: {:.0} % of the peak",
        of_peak * 100.0
    );
    let mut worst = of_peak;
    drop(server);

    let (server, tokens) = start("limits: { requests: 1 }\n");
    let requests = tokens.requests(2000);
    for (what, comes_back) in [
        ("that come back after a second, as told", Duration::from_secs(1)),
        ("that come back at once", Duration::ZERO),
    ] {
        let crowd =
            crowd(Crowd { address: server.address, clients, lasts: LASTS, comes_back }, &requests);
        let pressed = crowd.await;
        let of_peak = pressed.rate() / peak;
        println!(
            "goodput: {clients} clients {what}, a bound of one: {pressed}: {:.0} % of the peak",
            of_peak * 100.0
        );
        // Whoever does not do as told has the machine answer refusals, and this one ask for them, too.
        if !comes_back.is_zero() {
            worst = worst.min(of_peak);
        }
    }
    worst
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
        let worst = goodput().await;
        memory().await;
        assert!(worst >= 0.9, "less than nine tenths of the peak got done");
    });
}
