//! Tokens by the thousand, no two the same: nothing is kept of them.

use std::io::Write as _;
use std::sync::Arc;

use super::load::{Server, Tokens, alone, configure, each_once, mebibytes};
use super::support::Upstream;

/// `make pressure` takes a million of each, and holds them to 64 MiB.
const COUNT: usize = 3000;
/// Coarse, as buffers of connections and what the allocator keeps make most of it.
const BOUND: u64 = 16 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_and_bad_tokens_leave_nothing_behind() {
    let _alone = alone().await;
    super::support::install_crypto();
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = Arc::new(Tokens::new(folder.path()));
    let listen = "listen: [{ address: 127.0.0.1:0 }]";
    let config = configure(folder.path(), &upstream.url(), listen, "");
    let server = Server::start(folder, &config);
    let idle = server.memory();
    assert_eq!(each_once(&server, &tokens, COUNT, 16, Tokens::good).await, COUNT);
    let good = server.memory();
    assert_eq!(each_once(&server, &tokens, COUNT, 16, Tokens::garbage).await, 0);
    let garbage = server.memory();
    let told = format!(
        "memory: {:.0} MiB idle, {:.0} MiB after {COUNT} good tokens, {:.0} MiB after {COUNT} bad ones",
        mebibytes(idle),
        mebibytes(good),
        mebibytes(garbage)
    );
    writeln!(std::io::stderr(), "{told}").unwrap();
    assert!(good < idle + BOUND && garbage < idle + BOUND, "{told}");
    assert!(upstream.requests().is_empty());
}
