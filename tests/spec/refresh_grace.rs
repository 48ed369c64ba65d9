//! The preceding refresh token, while there is grace: for a client that never got its answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::exchange::error::Reason;
use cambio::exchange::family::{End, Family};
use serde_json::{Value, json};

use crate::refresh_support::{LIFETIME, Refreshing};
use crate::support::NOW;

const GRACE: u64 = 5;

/// A family whose first token was refreshed with so many seconds of grace, and that token.
fn rotated_with(grace: u64) -> (Refreshing, String) {
    let mut one = Refreshing::after(|estate| {
        estate.application.refresh_token.grace = Duration::from_secs(grace);
    });
    let first = one.token.clone();
    one.refreshed();
    (one, first)
}

#[test]
fn the_preceding_token_gets_the_same_successor() {
    let (mut one, first) = rotated_with(GRACE);
    let before = one.kept();
    let mut seen = vec![];
    for later in [0, 0, 1, GRACE] {
        one.now = NOW + later;
        let answer = one.present(&first).unwrap();
        assert_eq!(answer.token, one.token);
        assert_eq!(answer.claims["sub"], "alice");
        seen.push(answer.claims["jti"].clone());
        // Nothing forks: what is kept is as it was.
        assert!(one.kept() == before);
    }
    seen.dedup();
    assert_eq!(seen.len(), 4, "an access token was handed out twice");
    // The successor is the one that counts.
    one.refreshed();
    assert_eq!(one.family().sequence, 2);
}

#[test]
fn grace_ends() {
    let (mut one, first) = rotated_with(GRACE);
    one.now = NOW + GRACE + 1;
    one.refuses(&first, Reason::RefreshReused);
    assert_eq!(one.ended(), Some(End::Revoked));
}

#[test]
fn without_grace_there_is_none() {
    let (mut one, first) = rotated_with(0);
    one.refuses(&first, Reason::RefreshReused);
    assert_eq!(one.ended(), Some(End::Revoked));
    // Grace that comes later is not for what was spent before.
    let (mut one, first) = rotated_with(0);
    one.estate.application.refresh_token.grace = Duration::from_secs(GRACE);
    one.refuses(&first, Reason::RefreshReused);
}

#[test]
fn grace_is_for_the_token_just_before_and_for_no_other() {
    let (mut one, first) = rotated_with(GRACE);
    let second = one.token.clone();
    one.refreshed();
    // All within the same second.
    assert_eq!(one.present(&second).unwrap().token, one.token);
    one.refuses(&first, Reason::RefreshReused);
    assert_eq!(one.ended(), Some(End::Revoked));
    one.refuses(&second, Reason::RefreshRevoked);
}

#[test]
fn the_preceding_token_is_held_to_all_that_the_newest_is() {
    let (mut one, first) = rotated_with(GRACE);
    one.as_other();
    one.refuses(&first, Reason::RefreshOtherClient);
    one.as_rightful();
    one.estate.issuer.enabled = false;
    one.refuses(&first, Reason::PolicyWithdrawn);
    one.estate.issuer.enabled = true;
    one.is_cut_off = true;
    one.refuses(&first, Reason::RefreshRevoked);
    one.is_cut_off = false;
    let narrow = one.parameter("scope", "read").present(&first).unwrap();
    assert_eq!(narrow.claims["scope"], "read");
    for end in [End::Expired, End::Revoked] {
        let (mut one, first) = rotated_with(GRACE);
        one.end(end);
        let reason =
            if end == End::Expired { Reason::RefreshExpired } else { Reason::RefreshRevoked };
        one.refuses(&first, reason);
    }
    // Grace does not reach beyond the end of the family.
    let mut one = Refreshing::after(|estate| {
        estate.application.refresh_token.grace = Duration::from_secs(GRACE);
    });
    let first = one.token.clone();
    one.now = NOW + LIFETIME - 1;
    one.refreshed();
    assert!(one.present(&first).is_ok());
    one.now += 1;
    one.refuses(&first, Reason::RefreshExpired);
    // Once its grace is over it is a spent one, also where the family has ended meanwhile.
    assert_eq!(one.ended(), Some(End::Expired));
    one.now = NOW + LIFETIME - 1 + GRACE;
    one.refuses(&first, Reason::RefreshExpired);
    assert_eq!(one.ended(), Some(End::Expired));
    one.now += 1;
    one.refuses(&first, Reason::RefreshReused);
    assert_eq!(one.ended(), Some(End::Revoked));
}

#[test]
fn a_sealed_successor_that_was_tampered_with_is_no_grace() {
    let (one, first) = rotated_with(GRACE);
    let kept: Value = serde_json::from_slice(&one.kept()).unwrap();
    let sealed = URL_SAFE_NO_PAD.decode(kept["preceding"]["sealed"].as_str().unwrap()).unwrap();
    // Nonce, 32 octets of a token, tag.
    assert_eq!(sealed.len(), 12 + 32 + 16);
    let other = rotated_with(GRACE).0.kept();
    let other: Value = serde_json::from_slice(&other).unwrap();
    let mut wrong: Vec<Value> = (0..sealed.len())
        .map(|at| {
            let mut sealed = sealed.clone();
            sealed[at] ^= 1;
            URL_SAFE_NO_PAD.encode(sealed).into()
        })
        .collect();
    wrong.extend([
        json!(""),
        json!("!"),
        URL_SAFE_NO_PAD.encode(&sealed[..sealed.len() - 1]).into(),
        URL_SAFE_NO_PAD.encode(&sealed[..12]).into(),
        other["preceding"]["sealed"].clone(),
    ]);
    let presented = |sealed: Value| {
        let mut kept = kept.clone();
        kept["preceding"]["sealed"] = sealed;
        let (mut one, _) = rotated_with(GRACE);
        one.family = Some(Family::from_bytes(kept.to_string().as_bytes()).unwrap());
        (one.present(&first).map(|answer| answer.token), one.ended())
    };
    assert_eq!(presented(kept["preceding"]["sealed"].clone()), (Ok(one.token.clone()), None));
    for sealed in wrong {
        assert_eq!(presented(sealed), (Err(Reason::RefreshReused), Some(End::Revoked)));
    }
}

#[test]
fn what_is_sealed_opens_in_its_own_family_alone() {
    let (one, first) = rotated_with(GRACE);
    let (other, others_first) = rotated_with(GRACE);
    let (kept, theirs): (Value, Value) = (
        serde_json::from_slice(&one.kept()).unwrap(),
        serde_json::from_slice(&other.kept()).unwrap(),
    );
    // Somebody who writes to the store puts one family's preceding token into another.
    let mut mixed = kept.clone();
    mixed["preceding"] = theirs["preceding"].clone();
    let (mut one, _) = rotated_with(GRACE);
    one.family = Some(Family::from_bytes(mixed.to_string().as_bytes()).unwrap());
    one.refuses(&others_first, Reason::RefreshUnknown);
    one.refuses(&first, Reason::RefreshReused);
}
