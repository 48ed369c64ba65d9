//! Whatever one issuer does, another one's exchanges go on: the real binary, with all of
//! [`chaos_kinds`](crate::chaos_kinds) around it. What it costs, `make chaos` measures.

use std::time::Duration;

use cambio::jwt::sign::SigningKey;
use serde_json::{Value, json};

use crate::chaos_estate::{Estate, GOOD, Measured, token};
use crate::chaos_kinds::{ALL, Expected, Kind};

/// On whatever machine, and yet less than waiting for an issuer that hangs takes.
const LONGEST: Duration = Duration::from_secs(4);
/// What one of them may cost at a moment, whatever it sends.
const MOST_GROWTH_KIB: u64 = 32 * 1024;
/// And each of many: a document, its connection, and what the allocator keeps of them.
const MOST_GROWTH_EACH_KIB: u64 = 2 * 1024;

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
    let mut provoked = estate.provoke(&estate.others);
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
    assert!(during < LONGEST, "{before:?} → {during:?}");
    assert!(grown < MOST_GROWTH_EACH_KIB * ALL.len() as u64, "{grown} KiB");

    // Each was found out for what it is…
    let issuers = estate.issuers().await;
    for (status, (kind, expected)) in issuers[1..].iter().zip(ALL) {
        assert_eq!(status["name"], json!(kind.name()));
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
        let statuses = estate.provoke(&estate.others).join_all().await;
        assert_eq!(statuses, [400], "{kind:?}");
        assert!(estate.issuers().await[1]["last_error"].is_string(), "{kind:?}");
        measured.exchange().await;
        let grown = estate.memory().1.saturating_sub(memory);
        println!("{}: memory grew by {grown} KiB at most", kind.name());
        assert!(grown < MOST_GROWTH_KIB, "{kind:?}: {grown} KiB");
    }
}
