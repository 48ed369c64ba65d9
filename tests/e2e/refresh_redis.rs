//! Two Cambios on one Redis, and one whose Redis does not answer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cambio::app::App;
use cambio::telemetry::metrics::Metrics;
use serde_json::json;

use crate::refresh_reuse::at_once;
use crate::refresh_support::{
    Client, Estate, UPSTREAMS, claims, furnish, refresh_token, refused, subject_token,
};
use crate::servers::Server;
use crate::support::{Cambio, PATIENCE, Response, folder, get, load, post};

/// What a machine that does much else needs for a command, and more.
const PATIENT: Duration = Duration::from_secs(10);
/// Where Redis does not answer.
const COMMAND: Duration = Duration::from_secs(2);
/// What an answer may take beside the time for one command, on a busy machine.
const BESIDE: Duration = Duration::from_secs(4);
/// What all that needs no store takes, where nothing else is done: less than one command.
const QUICK: Duration = Duration::from_millis(1500);
const STOPPED: Duration = Duration::from_secs(10);

/// `limit` is of a command.
fn on(server: &Server, limit: Duration) -> impl Fn(String) -> String {
    let (url, limit) = (server.url(), limit.as_secs());
    move |lines| {
        format!(
            "{lines}store: {{ redis: {{ url: \"{url}\", \
             timeouts: {{ connect: {limit}s, command: {limit}s }} }} }}\n"
        )
    }
}

/// A Redis and two Cambios on it, with the same configuration and the same keys.
struct Pair {
    one: Estate,
    other: Cambio,
    /// Runs for as long as they do.
    _server: Server,
}

impl Pair {
    async fn start() -> Self {
        let server = Server::start("");
        let one = Estate::with(on(&server, PATIENT)).await;
        let other = folder();
        furnish(other.path(), &one.issuer, &one.once);
        let key = |folder: &Path| folder.join("signing.pem");
        std::fs::copy(key(one.cambio.folder.path()), key(other.path())).unwrap();
        let config = load(other.path(), &one.upstream.url(), &one.lines);
        let running = App::start(config, Arc::new(Metrics::new())).await.unwrap();
        Self { one, other: Cambio { running, folder: other }, _server: server }
    }

    /// The first for even numbers, the second for odd ones.
    fn nth(&self, n: usize) -> &Cambio {
        if n.is_multiple_of(2) { &self.one.cambio } else { &self.other }
    }

    async fn refresh(&self, n: usize, client: Client, token: &str) -> Response {
        self.nth(n).request(client.refresh(token, &[])).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_issues_the_other_refreshes() {
    let pair = Pair::start().await;
    let mut token = pair.one.family(Client::Portal).await;
    for n in 1..10 {
        let response = pair.refresh(n, Client::Portal, &token).await;
        assert_eq!(claims(&response)["sub"], "p:alice");
        token = refresh_token(&response);
    }
    // Grace reaches across.
    let first = pair.one.family(Client::Other).await;
    let second = refresh_token(&pair.refresh(0, Client::Other, &first).await);
    assert_eq!(refresh_token(&pair.refresh(1, Client::Other, &first).await), second);
    let third = refresh_token(&pair.refresh(1, Client::Other, &second).await);
    refused(&pair.refresh(0, Client::Other, &first).await, "invalid_grant");
    refused(&pair.refresh(1, Client::Other, &third).await, "invalid_grant");
    // A token that comes once comes once to both.
    let once = Client::Portal.exchange(&subject_token(&pair.one.once, |_| {}), &[]);
    refresh_token(&pair.nth(0).request(&once).await);
    refused(&pair.nth(1).request(&once).await, "invalid_request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_at_one_has_ended_at_the_other() {
    let pair = Pair::start().await;
    for n in 0..4 {
        let spent = pair.one.family(Client::Portal).await;
        let newest = refresh_token(&pair.refresh(n, Client::Portal, &spent).await);
        refused(&pair.refresh(n + 1, Client::Portal, &spent).await, "invalid_grant");
        refused(&pair.refresh(n, Client::Portal, &newest).await, "invalid_grant");
        refused(&pair.refresh(n + 1, Client::Portal, &newest).await, "invalid_grant");

        let token = pair.one.family(Client::Portal).await;
        let unharmed = pair.one.family(Client::Portal).await;
        // Another client can't.
        assert_eq!(pair.nth(n).request(Client::Other.revoke(&token)).await.status, 200);
        let token = refresh_token(&pair.refresh(n + 1, Client::Portal, &token).await);
        assert_eq!(pair.nth(n).request(Client::Portal.revoke(&token)).await.status, 200);
        refused(&pair.refresh(n + 1, Client::Portal, &token).await, "invalid_grant");
        refused(&pair.refresh(n, Client::Portal, &token).await, "invalid_grant");
        refresh_token(&pair.refresh(n + 1, Client::Portal, &unharmed).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_race_at_both_one_gets_a_successor() {
    let pair = Pair::start().await;
    let mut connections = Vec::new();
    for n in 0..32 {
        connections.push(pair.nth(n).connect().await);
    }
    for round in 0..100 {
        let token = pair.one.family(Client::Portal).await;
        let responses = at_once(&mut connections, &Client::Portal.refresh(&token, &[])).await;
        let granted = responses.iter().filter(|response| response.status == 200).count();
        assert_eq!(granted, 1, "round {round}");
        for response in responses.iter().filter(|response| response.status != 200) {
            refused(response, "invalid_grant");
        }
    }
    // With grace they all get the same one.
    let mut token = pair.one.family(Client::Other).await;
    for round in 0..100 {
        let responses = at_once(&mut connections, &Client::Other.refresh(&token, &[])).await;
        let successors: Vec<String> = responses.iter().map(refresh_token).collect();
        assert!(successors.iter().all(|one| *one == successors[0]), "round {round}");
        assert_ne!(successors[0], token);
        token.clone_from(&successors[0]);
    }
}

#[track_caller]
fn unavailable(response: &Response) {
    let error = &response.json()["error"];
    assert_eq!((response.status, error), (503, &json!("temporarily_unavailable")));
    assert!(response.header("retry-after").is_some());
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_does_not_answer_what_needs_it_is_told_so_and_all_else_goes_on() {
    let server = Server::start("");
    let estate = Estate::with(on(&server, COMMAND)).await;
    let mut token = refresh_token(&estate.exchange(Client::Portal).await);
    token = refresh_token(&estate.refresh(Client::Portal, &token).await);
    let revoked = estate.family(Client::Portal).await;
    let subject = estate.token();
    let once = subject_token(&estate.once, |_| {});

    server.signal("-STOP");
    let stopped = Instant::now();
    let (mut rounds, mut failed) = (0, 0);
    let (mut slowest, mut quickest) = (Duration::ZERO, Duration::MAX);
    while stopped.elapsed() < STOPPED {
        for request in [
            Client::Portal.refresh(&token, &[]),
            Client::Portal.exchange(&subject, &[]),
            Client::Stateless.exchange(&once, &[]),
            Client::Portal.revoke(&revoked),
        ] {
            let asked = Instant::now();
            let response = estate.cambio.request(&request).await;
            slowest = slowest.max(asked.elapsed());
            unavailable(&response);
            failed += 1;
        }
        // What needs no store does not wait for one.
        let asked = Instant::now();
        let stateless = estate.cambio.request(Client::Stateless.exchange(&subject, &[])).await;
        assert_eq!(claims(&stateless)["sub"], "p:alice");
        assert_eq!(estate.cambio.request(get("/anything", "")).await.body, UPSTREAMS);
        let theirs = post("/oauth2/token", "", "grant_type=refresh_token&refresh_token=theirs");
        assert_eq!(estate.cambio.request(theirs).await.body, UPSTREAMS);
        assert_eq!(estate.cambio.request(get("/oauth2/jwks", "")).await.status, 200);
        // What is refused before the store is asked is refused as ever.
        let wrong = post("/oauth2/token", "", "grant_type=refresh_token&refresh_token=cambio_rt_x");
        assert_eq!(estate.cambio.request(wrong).await.status, 401);
        refused(&estate.refresh(Client::Portal, "cambio_rt_x").await, "invalid_grant");
        quickest = quickest.min(asked.elapsed());
        rounds += 1;
    }
    assert!(slowest < COMMAND + BESIDE, "{slowest:?}");
    // What else the machine does slows one round or another down, but not all of them.
    assert!(quickest < QUICK, "{quickest:?}");
    assert!(rounds >= 2, "{rounds}");
    server.signal("-CONT");

    // By itself, and nothing is lost.
    let back = Instant::now();
    let next = loop {
        let response = estate.refresh(Client::Portal, &token).await;
        if response.status == 200 {
            break refresh_token(&response);
        }
        unavailable(&response);
        assert!(back.elapsed() < PATIENCE, "it does not recover");
    };
    let recovered = back.elapsed();
    refresh_token(&estate.refresh(Client::Portal, &next).await);
    refresh_token(&estate.exchange(Client::Portal).await);
    assert_eq!(estate.cambio.request(Client::Portal.revoke(&revoked)).await.status, 200);
    refused(&estate.refresh(Client::Portal, &revoked).await, "invalid_grant");
    assert!(estate.refreshes("failed", "store_unavailable").await >= rounds);
    let told = format!(
        "Redis stopped for {STOPPED:?}: {failed} answers of 503, the slowest after {slowest:?}; \
         recovered after {recovered:?}\n"
    );
    // Past the harness, which keeps what passing tests print to itself.
    std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_went_away_is_found_again() {
    let mut server = Server::start("appendonly yes\nappendfsync always");
    let estate = Estate::with(on(&server, COMMAND)).await;
    let spent = estate.family(Client::Portal).await;
    let newest = refresh_token(&estate.refresh(Client::Portal, &spent).await);
    let living = estate.family(Client::Portal).await;
    server.kill();
    for _ in 0..3 {
        unavailable(&estate.refresh(Client::Portal, &living).await);
        unavailable(&estate.exchange(Client::Portal).await);
        assert_eq!(estate.exchange(Client::Stateless).await.status, 200);
    }
    assert!(server.run());
    let back = Instant::now();
    loop {
        let response = estate.refresh(Client::Portal, &living).await;
        if response.status == 200 {
            break;
        }
        unavailable(&response);
        assert!(back.elapsed() < PATIENCE, "it does not recover");
    }
    refused(&estate.refresh(Client::Portal, &spent).await, "invalid_grant");
    refused(&estate.refresh(Client::Portal, &newest).await, "invalid_grant");
    assert_eq!(estate.refreshes("denied", "refresh_reused").await, 1);
}
