//! Other people's keys: one fetch at a time, at most so often, and keys that serve on.

use std::sync::Arc;
use std::time::Duration;

use cambio::config::{Config, FixedKeys, KeySource};
use cambio::exchange::error::Failure;
use cambio::jwt::sign::SigningKey;
use cambio::keys::{IssuerStatus, KeyRing, KeyState};
use cambio::telemetry::metrics::Metrics;
use tokio::task::JoinSet;

use crate::issuer::{Issuer, status, whole};
use crate::leap::{at_once, leap, settle, timed, until};
use crate::setting::{config, disabled, endpoint, is_granted, issuer, jwks, key, key_set, pending};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// One issuer, `partner`, whose keys are fetched from a server.
struct Estate {
    server: Issuer,
    config: Config,
    metrics: Arc<Metrics>,
    ring: Arc<KeyRing>,
    key: SigningKey,
}

impl Estate {
    /// The server answers with one key, `a`. Nothing is fetched yet.
    async fn begin() -> Self {
        let key = key("a");
        let set = jwks(&[&key]);
        let server = Issuer::start(move |_| whole(set.clone())).await;
        let config = config(vec![issuer("partner", endpoint(server.url("/jwks")))]);
        let metrics = Arc::new(Metrics::new());
        metrics.configure(&config);
        let ring = Arc::new(KeyRing::new(&config, &metrics, None));
        Self { server, config, metrics, ring, key }
    }

    async fn fetched() -> Self {
        let estate = Self::begin().await;
        until(|| estate.state() == KeyState::Fresh).await;
        estate
    }

    fn status(&self) -> IssuerStatus {
        self.ring.status().remove(0)
    }

    fn state(&self) -> KeyState {
        self.status().state
    }

    /// Whether a token signed with `key` is exchanged.
    async fn exchange(&self, key: &SigningKey) -> Result<bool, Failure> {
        let keys = self.ring.resolve(&pending(&self.config, "partner", key)).await?;
        Ok(is_granted(&self.config, pending(&self.config, "partner", key), &keys))
    }

    fn fetches(&self, outcome: &str) -> String {
        let wanted =
            format!("cambio_jwks_fetches_total{{issuer=\"partner\",outcome=\"{outcome}\"}} ");
        let rendered = self.metrics.render();
        rendered.lines().find_map(|line| line.strip_prefix(&wanted)).unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_thousand_first_requests_cause_one_fetch() {
    let estate = Estate::begin().await;
    let mut requests = JoinSet::new();
    for _ in 0..1_000 {
        let ring = Arc::clone(&estate.ring);
        let pending = pending(&estate.config, "partner", &estate.key);
        requests.spawn(async move { ring.resolve(&pending).await.map(|keys| keys.len()) });
    }
    for keys in requests.join_all().await {
        assert_eq!(keys, Ok(1));
    }
    assert_eq!(estate.server.count(), 1);
    assert_eq!(estate.exchange(&estate.key).await, Ok(true));
    assert_eq!(estate.fetches("ok"), "1");
}

#[tokio::test]
async fn keys_are_fetched_before_anybody_asks() {
    let estate = Estate::fetched().await;
    assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
    assert_eq!(estate.server.count(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_no_fetch_with_it() {
    let estate = Estate::begin().await;
    estate.server.hang();
    let ring = Arc::clone(&estate.ring);
    let waiting = pending(&estate.config, "partner", &estate.key);
    let caller = tokio::spawn(async move { ring.resolve(&waiting).await.map(|_| ()) });
    estate.server.asked_times(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    estate.server.go_on();
    until(|| estate.state() == KeyState::Fresh).await;
    assert_eq!(estate.server.count(), 1);
}

#[tokio::test]
async fn the_wait_for_an_issuer_that_hangs_is_bounded() {
    let estate = Estate::begin().await;
    estate.server.hang();
    let ring = Arc::clone(&estate.ring);
    let waiting = pending(&estate.config, "partner", &estate.key);
    let caller =
        tokio::spawn(
            async move { timed(async { ring.resolve(&waiting).await.map(|_| ()) }).await },
        );
    estate.server.asked_times(1).await;
    leap(5 * SECOND).await;
    let (keys, took) = caller.await.unwrap();
    assert_eq!(keys, Err(Failure::KeysUnavailable));
    assert!(took < 6 * SECOND, "{took:?}");
    // So is the fetch itself.
    let ((), took) = timed(until(|| estate.state() == KeyState::Unavailable)).await;
    assert!(took < 3 * SECOND, "{took:?}");
    assert_eq!(estate.status().last_error.unwrap(), "no answer in time");
}

#[tokio::test]
async fn keys_serve_on_while_the_issuer_is_down_but_not_for_ever() {
    let estate = Estate::fetched().await;
    estate.server.answer(|_| status(500));
    leap(5 * 60 * SECOND).await;
    until(|| estate.status().last_error.is_some()).await;
    assert_eq!(estate.state(), KeyState::Stale);
    assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
    leap(23 * HOUR).await;
    assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
    assert!(estate.metrics.render().contains("cambio_jwks_age_seconds{issuer=\"partner\"} 83"));
    leap(HOUR).await;
    assert_eq!(estate.exchange(&estate.key).await, Err(Failure::KeysUnavailable));
    assert_eq!(estate.state(), KeyState::Unavailable);
    // …and come back with it.
    let set = jwks(&[&estate.key]);
    estate.server.answer(move |_| whole(set.clone()));
    leap(30 * SECOND).await;
    until(|| estate.state() == KeyState::Fresh).await;
    assert_eq!(estate.exchange(&estate.key).await, Ok(true));
    assert_eq!(estate.status().last_error, None);
}

#[tokio::test]
async fn a_dead_issuer_is_asked_ever_less_often_however_many_ask_for_its_keys() {
    let estate = Estate::begin().await;
    estate.server.answer(|_| status(500));
    assert_eq!(estate.exchange(&estate.key).await, Err(Failure::KeysUnavailable));
    // After 1, 2, 4, 8 and then each 10 seconds, less up to a tenth.
    for (retry, wait) in [1, 2, 4, 8, 10, 10, 10].into_iter().enumerate() {
        until(|| estate.fetches("failed").parse::<usize>().unwrap() > retry).await;
        // The clock goes on while the machine is busy: only the longer waits are sure to hold.
        if wait == 10 {
            for _ in 0..100 {
                let exchanged = at_once(estate.exchange(&estate.key)).await;
                assert_eq!(exchanged, Err(Failure::KeysUnavailable));
            }
            assert_eq!(estate.server.count(), retry + 1);
        }
        leap(SECOND * wait / 2).await;
        if wait >= 8 {
            settle().await;
            assert_eq!(estate.server.count(), retry + 1);
        }
        leap(SECOND * wait / 2).await;
        estate.server.asked_times(retry + 2).await;
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_for_each_cool_down() {
    let estate = Estate::fetched().await;
    let unknown = key("b");
    for round in 0..3 {
        let fetches = 2 + round;
        let mut flood = JoinSet::new();
        for _ in 0..100 {
            let ring = Arc::clone(&estate.ring);
            let pending = pending(&estate.config, "partner", &unknown);
            flood.spawn(async move { ring.resolve(&pending).await.map(|keys| keys.len()) });
        }
        // What is at hand does not fit, which is for the caller to see.
        assert!(flood.join_all().await.into_iter().all(|keys| keys == Ok(1)));
        assert_eq!(estate.server.count(), fetches);
        leap(5 * SECOND).await;
        assert_eq!(at_once(estate.exchange(&unknown)).await, Ok(false));
        settle().await;
        assert_eq!(estate.server.count(), fetches);
        leap(5 * SECOND).await;
    }
}

#[tokio::test]
async fn the_cool_down_holds_whatever_the_fetch_brings() {
    for answer in ["{\"keys\":[]}", "<html>", ""] {
        let estate = Estate::fetched().await;
        estate.server.answer(move |_| whole(answer));
        let unknown = key("b");
        assert_eq!(estate.exchange(&unknown).await, Ok(false));
        assert_eq!(estate.server.count(), 2);
        for _ in 0..20 {
            assert_eq!(at_once(estate.exchange(&unknown)).await, Ok(false));
        }
        // The old set stands.
        assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
        assert_eq!(estate.server.count(), 2);
    }
}

#[tokio::test]
async fn a_new_key_can_be_used_at_once_and_again_after_each_cool_down() {
    let estate = Estate::fetched().await;
    let (second, third) = (key("b"), key("c"));
    let set = jwks(&[&estate.key, &second]);
    estate.server.answer(move |_| whole(set.clone()));
    assert_eq!(estate.exchange(&second).await, Ok(true));
    let set = jwks(&[&second, &third]);
    estate.server.answer(move |_| whole(set.clone()));
    assert_eq!(estate.exchange(&third).await, Ok(false));
    leap(10 * SECOND).await;
    assert_eq!(estate.exchange(&third).await, Ok(true));
    assert_eq!(estate.exchange(&second).await, Ok(true));
    // The first one was withdrawn.
    assert_eq!(estate.exchange(&estate.key).await, Ok(false));
    assert_eq!(estate.server.count(), 3);
}

#[tokio::test]
async fn known_keys_never_wait_for_unknown_ones() {
    let estate = Estate::fetched().await;
    estate.server.hang();
    let ring = Arc::clone(&estate.ring);
    let unknown = pending(&estate.config, "partner", &key("b"));
    let waiting = tokio::spawn(async move { ring.resolve(&unknown).await.map(|keys| keys.len()) });
    estate.server.asked_times(2).await;
    assert!(!waiting.is_finished());
    assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
    leap(5 * SECOND).await;
    assert_eq!(waiting.await.unwrap(), Ok(1));
}

#[tokio::test]
async fn keys_are_fetched_again_before_they_expire_and_nobody_waits() {
    let estate = Estate::begin().await;
    let set = jwks(&[&estate.key]);
    estate.server.answer(move |_| {
        let mut answer = whole(set.clone());
        answer.headers_mut().insert("cache-control", "max-age=1000".parse().unwrap());
        answer
    });
    until(|| estate.state() == KeyState::Fresh).await;
    let next = estate.status().next_fetch_in_seconds.unwrap();
    assert!((790..=900).contains(&next), "{next}");
    leap(795 * SECOND).await;
    settle().await;
    assert_eq!(estate.server.count(), 1);
    estate.server.hang();
    leap(105 * SECOND).await;
    estate.server.asked_times(2).await;
    assert_eq!(estate.state(), KeyState::Fresh);
    assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
    estate.server.go_on();
    until(|| estate.fetches("ok") == "2").await;
    assert!(estate.status().age_seconds.unwrap() < 60);
}

#[tokio::test]
async fn a_set_that_was_not_modified_is_confirmed() {
    let estate = Estate::begin().await;
    let set = jwks(&[&estate.key]);
    estate.server.answer(move |asked| {
        let known = asked.headers.get("if-none-match").is_some_and(|etag| etag == "\"1\"");
        let mut answer = if known { status(304) } else { whole(set.clone()) };
        answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
        answer
    });
    until(|| estate.state() == KeyState::Fresh).await;
    assert!(estate.server.asked()[0].headers.get("if-none-match").is_none());
    leap(300 * SECOND).await;
    until(|| estate.fetches("not_modified") == "1").await;
    assert_eq!(estate.state(), KeyState::Fresh);
    assert!(estate.status().age_seconds.unwrap() < 60);
    assert_eq!(at_once(estate.exchange(&estate.key)).await, Ok(true));
    // The tag goes on being sent, and a new document replaces the old one.
    let replaced = key("b");
    let set = jwks(&[&replaced]);
    estate.server.answer(move |_| whole(set.clone()));
    leap(300 * SECOND).await;
    until(|| estate.fetches("ok") == "2").await;
    assert_eq!(estate.server.asked()[2].headers["if-none-match"], "\"1\"");
    assert_eq!(at_once(estate.exchange(&replaced)).await, Ok(true));
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_else() {
    let (hanging, working) = (key("a"), key("b"));
    let dead = Issuer::start(|_| status(500)).await;
    dead.hang();
    let set = jwks(&[&working]);
    let alive = Issuer::start(move |_| whole(set.clone())).await;
    let mut issuers: Vec<_> =
        (0..50).map(|i| issuer(&format!("dead-{i}"), endpoint(dead.url("/jwks")))).collect();
    issuers.push(issuer("alive", endpoint(alive.url("/jwks"))));
    let config = config(issuers);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    dead.asked_times(50).await;
    let (keys, took) = timed(ring.resolve(&pending(&config, "alive", &working))).await;
    assert!(is_granted(&config, pending(&config, "alive", &working), &keys.unwrap()));
    assert!(took < 2 * SECOND, "{took:?}");
    let states: Vec<_> = ring.status().into_iter().map(|status| status.state).collect();
    assert_eq!(states[0], KeyState::NeverFetched);
    assert_eq!(states[50], KeyState::Fresh);
    drop(hanging);
}

#[tokio::test]
async fn only_issuers_in_use_are_asked() {
    let own = key("a");
    let set = jwks(&[&own]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let fixed = FixedKeys { keys: key_set(&[&own]), not_after: None };
    let config = config(vec![
        disabled(issuer("off", endpoint(server.url("/off")))),
        issuer("fixed", KeySource::Fixed(fixed)),
        issuer("on", endpoint(server.url("/on"))),
    ]);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    let keys = at_once(ring.resolve(&pending(&config, "fixed", &own))).await.unwrap();
    assert!(is_granted(&config, pending(&config, "fixed", &own), &keys));
    until(|| ring.status()[2].state == KeyState::Fresh).await;
    settle().await;
    assert_eq!(server.asked().iter().map(|asked| &*asked.path).collect::<Vec<_>>(), ["/on"]);
    let shown: Vec<_> = ring
        .status()
        .into_iter()
        .map(|status| (status.name.to_string(), status.source, status.state))
        .collect();
    assert_eq!(
        shown,
        [
            ("off".to_owned(), "endpoint", KeyState::Disabled),
            ("fixed".to_owned(), "fixed", KeyState::Fixed),
            ("on".to_owned(), "endpoint", KeyState::Fresh),
        ]
    );
}

#[tokio::test]
async fn keys_of_one_issuer_never_serve_for_another() {
    let (one, other) = (key("same"), key("same"));
    let (set, other_set) = (jwks(&[&one]), jwks(&[&other]));
    let server = Issuer::start(move |asked| {
        whole(if asked.path == "/one" { set.clone() } else { other_set.clone() })
    })
    .await;
    let config = config(vec![
        issuer("one", endpoint(server.url("/one"))),
        issuer("other", endpoint(server.url("/other"))),
    ]);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    for (name, key, granted) in [
        ("one", &one, true),
        ("one", &other, false),
        ("other", &one, false),
        ("other", &other, true),
    ] {
        let keys = ring.resolve(&pending(&config, name, key)).await.unwrap();
        assert_eq!(is_granted(&config, pending(&config, name, key), &keys), granted, "{name}");
    }
}
