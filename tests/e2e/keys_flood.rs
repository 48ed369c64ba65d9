//! Many at once: tokens with keys that nobody knows, issuers that hang, and an hour without an
//! issuer. Time is claimed, not waited for.

use std::sync::Arc;
use std::time::Duration;

use cambio::config::Config;
use cambio::exchange::Pending;
use cambio::exchange::error::Failure;
use cambio::jwt::sign::SigningKey;
use cambio::keys::{KeyRing, KeyState};
use cambio::telemetry::metrics::Metrics;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::issuer::{Issuer, status, whole};
use crate::leap::{at_once, leap, settle, until};
use crate::setting::{config, endpoint, forged, is_granted, issuer, jwks, key, pending};

const SECOND: Duration = Duration::from_secs(1);
const COOL_DOWN: Duration = Duration::from_secs(10);
const RATE: usize = 5_000;

async fn exchange(ring: &KeyRing, config: &Config, key: &SigningKey) -> Result<bool, Failure> {
    let keys = ring.resolve(&pending(config, "partner", key)).await?;
    Ok(is_granted(config, pending(config, "partner", key), &keys))
}

#[tokio::test]
async fn five_thousand_unknown_keys_a_second_cause_one_fetch_for_each_cool_down() {
    const ROUNDS: usize = 30;
    const PUBLISHED: usize = 12;
    let (known, new) = (key("known"), key("new"));
    let set = jwks(&[&known]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let config = config(vec![issuer("partner", endpoint(server.url("/jwks")))]);
    let ring = Arc::new(KeyRing::new(&config, &Arc::new(Metrics::new()), None));
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    let unknown: Vec<Arc<Pending>> =
        (0..RATE).map(|i| Arc::new(forged(&config, "partner", &format!("unknown-{i}")))).collect();

    let began = Instant::now();
    // In which rounds: how long one takes is the machine's affair.
    let (mut fetched_in, mut usable_in, mut exchanges) = (Vec::new(), None, 0);
    for round in 0..ROUNDS {
        let round_began = Instant::now();
        if round == PUBLISHED {
            let set = jwks(&[&known, &new]);
            server.answer(move |_| whole(set.clone()));
        }
        let before = server.count();
        let mut flood = JoinSet::new();
        for pending in &unknown {
            let (asked, pending) = (Arc::clone(&ring), Arc::clone(pending));
            flood.spawn(async move {
                let keys = asked.resolve(&pending).await.unwrap();
                assert!(!pending.has_key_in(&keys));
            });
            // Whoever has a key that is known waits for nobody.
            if flood.len().is_multiple_of(500) {
                assert_eq!(at_once(exchange(&ring, &config, &known)).await, Ok(true));
                exchanges += 1;
            }
        }
        flood.join_all().await;
        let came = server.count() - before;
        assert!(came <= 1, "{came} in one round");
        fetched_in.extend((came == 1).then_some(round));
        if round >= PUBLISHED && usable_in.is_none() {
            let granted = exchange(&ring, &config, &new).await.unwrap();
            usable_in = granted.then_some(round);
        }
        // A second a round, or as long as the machine takes by itself.
        leap(SECOND.saturating_sub(round_began.elapsed())).await;
    }
    let lasted = began.elapsed();
    println!(
        "{} unknown keys in {lasted:.0?}: {} fetches, in the rounds {fetched_in:?} of {ROUNDS}; \
         {exchanges} exchanges with a known key, none of which waited; a key that was published \
         before round {PUBLISHED} was usable in round {usable_in:?}",
        RATE * ROUNDS,
        fetched_in.len(),
    );
    // One for each cool-down that has begun, and in each but the last there was one.
    let cool_downs = lasted.as_secs().div_ceil(COOL_DOWN.as_secs());
    let fetches = fetched_in.len() as u64;
    assert!(fetches <= cool_downs && fetches + 2 >= cool_downs, "{fetches} in {lasted:?}");
    assert_eq!(exchanges, ROUNDS * RATE / 500);
    // By the first fetch that was claimed once it was published, which is within a cool-down. Where
    // nothing was claimed in the same round, its own exchange has done so.
    let first = fetched_in.iter().copied().find(|round| *round >= PUBLISHED);
    let usable = usable_in.expect("it never was");
    assert!(first.is_none_or(|first| usable <= first), "{usable}, {fetched_in:?}");
    assert!((usable - PUBLISHED) as u64 <= COOL_DOWN.as_secs(), "{usable}");
}

#[tokio::test]
async fn an_hour_without_the_issuer_costs_no_exchange_with_a_known_key() {
    let known = [key("a"), key("b"), key("c")];
    let set = jwks(&[&known[0], &known[1], &known[2]]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let config = config(vec![issuer("partner", endpoint(server.url("/jwks")))]);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    server.answer(|_| status(503));
    let (mut exchanges, unknown) = (0, key("unknown"));
    for minute in 0..60 {
        leap(60 * SECOND).await;
        for key in &known {
            assert_eq!(at_once(exchange(&ring, &config, key)).await, Ok(true), "{minute}");
            exchanges += 1;
        }
        // These wait, and are refused for what they are: no key, not no service.
        assert_eq!(exchange(&ring, &config, &unknown).await, Ok(false), "{minute}");
    }
    assert_eq!(ring.status()[0].state, KeyState::Stale);
    println!("{exchanges} exchanges in an hour of outage, 0 failed; {} fetches", server.count());
    // Beyond the bound nobody is granted anything, nor told that the token was wrong.
    leap(24 * 60 * 60 * SECOND).await;
    for key in &known {
        assert_eq!(exchange(&ring, &config, key).await, Err(Failure::KeysUnavailable));
    }
    let outcome = cambio::exchange::error::Refusal::from(Failure::KeysUnavailable).outcome();
    assert_eq!(outcome.status, 503);
    assert_eq!(outcome.reason.as_str(), "keys_unavailable");
}

#[tokio::test]
async fn issuers_that_hang_are_bounded_and_hold_up_nobody_who_answers() {
    const HANGING: usize = 150;
    let (working, next) = (key("a"), key("b"));
    let dead = Issuer::start(|_| status(500)).await;
    dead.hang();
    let set = jwks(&[&working]);
    let alive = Issuer::start(move |_| whole(set.clone())).await;
    let mut issuers = vec![issuer("partner", endpoint(alive.url("/jwks")))];
    issuers.extend((0..HANGING).map(|i| issuer(&format!("dead-{i}"), endpoint(dead.url("/jwks")))));
    let config = config(issuers);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status()[0].state == KeyState::Fresh).await;
    until(|| dead.open() == 64).await;
    settle().await;
    assert_eq!(dead.open(), 64);
    let failed = || ring.status().iter().filter(|one| one.last_error.is_some()).count();
    for _ in 0..20 {
        if failed() == HANGING {
            break;
        }
        leap(6 * SECOND).await;
        settle().await;
    }
    assert_eq!(failed(), HANGING);
    // From now on they wait for one another.
    leap(6 * SECOND).await;
    until(|| dead.open() == 16).await;
    settle().await;
    assert_eq!((dead.open(), dead.most_open() <= 64 + 16), (16, true));
    // And the one that answers is asked at once when a new key comes.
    let set = jwks(&[&working, &next]);
    alive.answer(move |_| whole(set.clone()));
    assert_eq!(exchange(&ring, &config, &next).await, Ok(true));
}
