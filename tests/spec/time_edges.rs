//! Every bound on a token's times, to the second: before it, on it and after it, under each skew and in
//! each spelling of a number.

use std::time::Duration;

use cambio::exchange::error::Reason;
use serde_json::{Value, json};

use crate::support::{Exchange, NOW};

/// Seconds of `max_age` and `max_lifetime`, where they are set.
const BOUND: i64 = 100;

/// One bound: a claim, the second it lies at, and what becomes of a token whose claim is there less
/// one, just there, and there and one.
struct Edge {
    name: &'static str,
    at: i64,
    ends: [Option<Reason>; 3],
    /// What is set for it.
    with: fn(&mut Exchange),
}

/// The bounds that there are under a skew, relative to now (RFC 7519 §4.1.4 to §4.1.6).
fn edges(skew: i64) -> Vec<Edge> {
    let year_9999 = 253_402_300_799 - i64::try_from(NOW).unwrap();
    let plain = |_: &mut Exchange| {};
    let outlive =
        |exchange: &mut Exchange| exchange.application.access_token.outlive_subject = true;
    let aged = |exchange: &mut Exchange| exchange.issuer.rules.max_age = Some(seconds(BOUND));
    let short = |exchange: &mut Exchange| exchange.issuer.rules.max_lifetime = Some(seconds(BOUND));
    let below = |reason| [Some(reason), Some(reason), None];
    let above = |reason| [None, None, Some(reason)];
    let edge = |name, at, ends, with| Edge { name, at, ends, with };
    vec![
        // It is expired in the very second that it names, plus the skew …
        edge("exp", -skew, below(Reason::Expired), outlive),
        // … and what is minted lives at least a second, whatever the skew.
        edge("exp", 0, below(Reason::Expired), plain),
        edge("exp", BOUND + skew, above(Reason::LifetimeTooLong), short),
        edge("exp", year_9999, above(Reason::LifetimeTooLong), plain),
        edge("nbf", skew, above(Reason::NotYetValid), plain),
        edge("iat", skew, above(Reason::IssuedInFuture), plain),
        edge("iat", -BOUND - skew, [Some(Reason::TooOld), None, None], aged),
        // A token that expires before it begins was never good.
        edge("exp", 10, below(Reason::Expired), |exchange| {
            exchange.claims["iat"] = json!(NOW + 10);
            exchange.issuer.rules.clock_skew = exchange.issuer.rules.clock_skew.max(seconds(10));
        }),
        edge("exp", 10, below(Reason::Expired), |exchange| {
            exchange.claims["nbf"] = json!(NOW + 10);
            exchange.issuer.rules.clock_skew = exchange.issuer.rules.clock_skew.max(seconds(10));
        }),
    ]
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap())
}

#[test]
fn each_bound_holds_to_the_second() {
    let (mut granted, mut refused) = (0, 0);
    for skew in [0, 30, 120] {
        for Edge { name, at, ends, with } in edges(skew) {
            for (step, end) in [-1, 0, 1].into_iter().zip(ends) {
                let date = i64::try_from(NOW).unwrap() + at + step;
                // A fraction is dropped: a token is never taken for fresher than it says.
                for spelling in ["", ".0", ".5", ".999", "e0"] {
                    let written = format!("{date}{spelling}");
                    let exchange = Exchange::new()
                        .with(|exchange| {
                            exchange.issuer.rules.clock_skew = seconds(skew);
                            for past in ["iat", "nbf"] {
                                exchange.claims[past] = json!(NOW - 1000);
                            }
                        })
                        .with(with);
                    let exchange = exchange.with(|exchange| exchange.claims[name] = json!("HERE"));
                    let claims = exchange.claims.to_string().replace("\"HERE\"", &written);
                    assert!(serde_json::from_str::<Value>(&claims).is_ok());
                    let header = exchange.header.to_string();
                    let token = exchange.forge.sign_text(&header, &claims);
                    let actual = exchange.with(|exchange| exchange.token = Some(token)).run();
                    let case = format!("{name} {written} at {at}{step:+}, skew {skew}");
                    assert_eq!(actual.err(), end, "{case}");
                    granted += usize::from(end.is_none());
                    refused += usize::from(end.is_some());
                }
            }
        }
    }
    crate::vectors::tell(&format!(
        "{} tokens: {granted} granted, {refused} refused",
        granted + refused
    ));
    assert_eq!(granted + refused, 3 * 9 * 3 * 5);
}

/// FAPI 2.0 Security Profile §5.3.2.1: a clock that is 8 s ahead is borne, one that is 60 s ahead is not.
#[test]
fn the_default_skew_bears_a_clock_that_is_a_little_ahead() {
    for name in ["iat", "nbf"] {
        let ahead = |seconds: u64| Exchange::new().claim(name, json!(NOW + seconds));
        ahead(8).granted();
        let reason = if name == "iat" { Reason::IssuedInFuture } else { Reason::NotYetValid };
        ahead(61).refused(reason);
    }
}
