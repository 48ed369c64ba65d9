//! Refresh tokens (RFC 6749 §6, RFC 9700 §4.14.2): which one counts, and until when.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::exchange::error::{Reason, Refusal};
use cambio::exchange::family::{End, PREFIX};
use cambio::exchange::issued::{AccessToken, Inactive, KeptOfAccess};
use cambio::exchange::refresh::RefreshError;
use cambio::exchange::token_id::JwtId;
use cambio::time::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

use crate::refresh_support::{LIFETIME, Refreshing};
use crate::support::{NOW, OURS};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The token with one octet changed.
fn changed(token: &str, at: usize) -> String {
    let mut octets = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap();
    octets[at] ^= 1;
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))
}

/// Whether the access token with these claims is shown as active.
fn standing(one: &Refreshing, claims: &Value) -> Result<(), Inactive> {
    let token = AccessToken::from_kept(claims.to_string().as_bytes()).unwrap();
    let kept = KeptOfAccess { family: one.family.clone(), ..KeptOfAccess::default() };
    token.standing(&kept, Timestamp::from_secs(one.now))
}

#[test]
fn a_refresh_gives_what_was_granted_under_a_new_token() {
    let mut one = Refreshing::new();
    one.now = NOW + 50;
    let first = one.token.clone();
    let answer = one.refreshed();
    assert_ne!(answer.token, first);
    assert!(answer.token.starts_with(PREFIX));
    for name in ["iss", "sub", "aud", "client_id", "scope"] {
        assert_eq!(answer.claims[name], one.exchanged[name], "{name}");
    }
    assert_eq!((&answer.claims["iss"], &answer.claims["sub"]), (&json!(OURS), &json!("alice")));
    assert_eq!(answer.claims["iat"], NOW + 50);
    assert_eq!((answer.granted.expires_in, &answer.claims["exp"]), (3600, &json!(NOW + 3650)));
    assert_eq!(answer.granted.scope.as_deref(), Some("read write"));
    // RFC 6749 §5.1 has none.
    assert_eq!(answer.granted.issued_token_type, None);
    let id = |claims: &serde_json::Value| JwtId::parse(claims["jti"].as_str().unwrap()).unwrap();
    let (before, after) = (id(&one.exchanged), id(&answer.claims));
    assert_eq!((before.family, after.family), (Some(one.family().id), Some(one.family().id)));
    assert_ne!(before.random, after.random);
    let record = answer.record;
    assert_eq!(record.client.as_deref(), Some("Portal"));
    assert_eq!(record.issuer.as_deref(), Some("partner"));
    assert_eq!(record.subject.as_deref(), Some("alice"));
    assert_eq!(record.family, Some(one.family().id));
    assert_eq!(record.minted.unwrap().jwt_id, answer.claims["jti"].as_str().unwrap());
    // And so on.
    for sequence in 2..10 {
        one.refreshed();
        assert_eq!((one.family().sequence, one.ended()), (sequence, None));
    }
}

#[test]
fn a_refreshed_token_is_bounded_by_its_family_and_not_by_the_subject_token() {
    // The subject token expires after 600 s.
    let mut one = Refreshing::new();
    assert_eq!(one.exchanged["exp"], NOW + 600);
    one.now = NOW + 601;
    assert_eq!(one.refreshed().claims["exp"], NOW + 601 + 3600);
    one.now = NOW + LIFETIME - 1;
    let last = one.refreshed();
    assert_eq!((last.granted.expires_in, &last.claims["exp"]), (1, &json!(NOW + LIFETIME)));
    // Nor is it where the first token could outlive both.
    let mut one = Refreshing::after(|estate| {
        estate.application.access_token.outlive_subject = true;
        estate.application.access_token.lifetime = secs(2 * LIFETIME);
    });
    assert_eq!(one.exchanged["exp"], NOW + 2 * LIFETIME);
    assert_eq!(one.family().kept_until.as_secs(), NOW + 2 * LIFETIME);
    assert_eq!(one.refreshed().claims["exp"], NOW + LIFETIME);
}

#[test]
fn a_token_that_the_family_never_had_is_unknown_and_ends_nothing() {
    let mut one = Refreshing::new();
    let good = one.token.clone();
    let before = one.kept();
    // The family's name alone, a secret that somebody made up, a tag that is not the secret's.
    let family = URL_SAFE_NO_PAD.encode([&one.family().id.0[..], &[1; 48]].concat());
    let mut unknown = vec![format!("{PREFIX}{family}"), PREFIX.to_owned(), format!("{PREFIX}x")];
    unknown.push(Refreshing::new().token);
    unknown.extend([0, 15, 16, 47, 48, 63].map(|at| changed(&good, at)));
    unknown.extend([good[..good.len() - 1].to_owned(), format!("{good}A"), format!("{good}=")]);
    unknown.push(format!("{PREFIX}{}", &good.to_uppercase()[PREFIX.len()..]));
    unknown.push(format!("{} {}", &good[..20], &good[20..]));
    for token in unknown {
        one.refuses(&token, Reason::RefreshUnknown);
        assert!(one.kept() == before, "{token}");
    }
    one.refreshed();
    // The same after the family has moved on, where one that it had ends it.
    let spent = good;
    one.refuses(&changed(&spent, 63), Reason::RefreshUnknown);
    one.refreshed();
    let token = one.token.clone();
    one.family = None;
    one.refuses(&token, Reason::RefreshUnknown);
}

#[test]
fn blanks_around_a_token_are_not_part_of_it() {
    let mut one = Refreshing::new();
    let padded = format!(" \t{}\r\n", one.token);
    assert!(one.present(&padded).is_ok());
}

#[test]
fn another_clients_attempt_fails_and_costs_the_rightful_one_nothing() {
    let mut one = Refreshing::new();
    let spent = one.token.clone();
    one.refreshed();
    one.as_other();
    one.refuses_for_now(Reason::RefreshOtherClient);
    let before = one.kept();
    one.refuses(&spent, Reason::RefreshOtherClient);
    assert!(one.kept() == before);
    one.as_rightful();
    one.refreshed();
    // Where the token is none of the family's, it is not said whose the family is.
    one.as_other();
    let made_up = changed(&one.token, 20);
    one.refuses(&made_up, Reason::RefreshUnknown);
}

#[test]
fn a_spent_token_ends_the_family() {
    for rotations in 1..5 {
        for age in 0..rotations {
            let mut one = Refreshing::new();
            let mut tokens = vec![one.token.clone()];
            for _ in 0..rotations {
                one.refreshed();
                tokens.push(one.token.clone());
            }
            let newest = tokens.pop().unwrap();
            one.refuses(&tokens[age], Reason::RefreshReused);
            assert_eq!(one.ended(), Some(End::Revoked));
            one.refuses(&newest, Reason::RefreshRevoked);
            one.refuses(&tokens[age], Reason::RefreshRevoked);
        }
    }
}

#[test]
fn rotations_within_one_second_are_told_apart() {
    // The clock does not move at all.
    let mut one = Refreshing::new();
    one.refreshed();
    let second = one.token.clone();
    one.refreshed();
    one.refreshed();
    one.refuses(&second, Reason::RefreshReused);
    // Nor does it help where it goes backwards.
    let mut one = Refreshing::new();
    let first = one.token.clone();
    for back in [0, 1, 3600] {
        one.now = NOW - back;
        one.refreshed();
    }
    one.refuses(&first, Reason::RefreshReused);
}

#[test]
fn a_revoked_family_refuses_all_its_tokens() {
    let mut one = Refreshing::new();
    let spent = one.token.clone();
    one.refreshed();
    one.end(End::Revoked);
    one.refuses_for_now(Reason::RefreshRevoked);
    one.refuses(&spent, Reason::RefreshRevoked);
    // However late.
    one.now = NOW + 2 * LIFETIME;
    one.refuses_for_now(Reason::RefreshRevoked);
    assert_eq!(one.ended(), Some(End::Revoked));
}

#[test]
fn what_an_operator_has_cut_off_is_revoked() {
    let mut one = Refreshing::new();
    one.is_cut_off = true;
    one.refuses_for_now(Reason::RefreshRevoked);
    one.is_cut_off = false;
    one.refreshed();
    let descent = one.family().descent();
    assert_eq!(descent.granted_at.as_secs(), NOW);
    for (before, is_cut_off) in [(NOW - 1, false), (NOW, true), (NOW + 1, true)] {
        let before = Timestamp::from_secs(before);
        assert_eq!(descent.is_cut_off(before), is_cut_off);
    }
    // Nobody has to be told of a spent one: the operator has ended all that a thief could have.
    let spent = one.token.clone();
    one.refreshed();
    one.is_cut_off = true;
    one.refuses(&spent, Reason::RefreshRevoked);
    assert_eq!(one.ended(), None);
    one.is_cut_off = false;
    one.refuses(&spent, Reason::RefreshReused);
    assert_eq!(one.ended(), Some(End::Revoked));
}

#[test]
fn a_family_expires_and_no_clock_brings_it_back() {
    let mut one = Refreshing::new();
    one.now = NOW + LIFETIME - 1;
    one.refreshed();
    one.now = NOW + LIFETIME;
    let token = one.token.clone();
    one.refuses(&token, Reason::RefreshExpired);
    assert_eq!(one.ended(), Some(End::Expired));
    one.now = NOW + LIFETIME - 3600;
    one.refuses_for_now(Reason::RefreshExpired);
    one.end(End::Revoked);
    one.refuses_for_now(Reason::RefreshRevoked);
}

#[test]
fn rotations_do_not_make_a_family_live_longer() {
    let mut one = Refreshing::new();
    for hour in 1..24 {
        one.now = NOW + hour * 3600;
        one.refreshed();
        assert_eq!(one.family().expires_at.as_secs(), NOW + LIFETIME);
    }
    // Nor does a lifetime that is longer now.
    one.estate.application.refresh_token.lifetime = secs(10 * LIFETIME);
    one.estate.application.access_token.lifetime = secs(2 * 3600);
    assert_eq!(one.refreshed().claims["exp"], NOW + LIFETIME);
    one.now = NOW + LIFETIME;
    let token = one.token.clone();
    one.refuses(&token, Reason::RefreshExpired);
}

#[test]
fn a_token_that_is_left_unused_expires() {
    let idle = |estate: &mut crate::support::Exchange| {
        estate.application.refresh_token.idle = Some(secs(600));
    };
    let mut one = Refreshing::after(idle);
    for _ in 0..4 {
        one.now += 599;
        one.refreshed();
    }
    let token = one.token.clone();
    one.now += 600;
    one.refuses(&token, Reason::RefreshExpired);
    assert_eq!(one.ended(), Some(End::Expired));
    one.now -= 600;
    one.refuses_for_now(Reason::RefreshExpired);
    // Its use does not carry it beyond the end of the family.
    let mut one = Refreshing::after(idle);
    one.estate.application.refresh_token.idle = Some(secs(2 * LIFETIME));
    one.refreshed();
    one.now = NOW + LIFETIME;
    let token = one.token.clone();
    one.refuses(&token, Reason::RefreshExpired);
}

#[test]
fn a_lifetime_that_is_shorter_now_holds_at_once() {
    let mut one = Refreshing::new();
    one.now = NOW + 3000;
    one.estate.application.refresh_token.lifetime = secs(3001);
    let answer = one.refreshed();
    // What it gives ends with it.
    assert_eq!((answer.granted.expires_in, &answer.claims["exp"]), (1, &json!(NOW + 3001)));
    one.estate.application.refresh_token.lifetime = secs(3000);
    one.refuses_for_now(Reason::RefreshExpired);
    one.estate.application.refresh_token.lifetime = secs(LIFETIME);
    one.refreshed();
    // Who has a token that was spent is a thief nevertheless.
    let spent = one.token.clone();
    one.refreshed();
    one.estate.application.refresh_token.lifetime = secs(3000);
    one.refuses(&spent, Reason::RefreshReused);
    assert_eq!(one.ended(), Some(End::Revoked));
}

#[test]
fn a_spent_token_that_comes_back_after_idleness_ends_what_a_thief_has() {
    // The thief has refreshed once and stopped. Whether anybody has seen the end since then or not.
    for is_seen in [false, true] {
        let mut one = Refreshing::after(|estate| {
            estate.application.refresh_token.idle = Some(secs(600));
        });
        let victims = one.token.clone();
        let thiefs = one.refreshed().claims;
        let newest = one.token.clone();
        one.now = NOW + 600;
        if is_seen {
            one.refuses(&newest, Reason::RefreshExpired);
        }
        let end = is_seen.then_some(End::Expired);
        assert_eq!((one.ended(), standing(&one, &thiefs)), (end, Ok(())));
        // Neither what somebody made up nor another client changes anything.
        let before = one.kept();
        one.refuses(&changed(&victims, 20), Reason::RefreshUnknown);
        one.as_other();
        one.refuses(&victims, Reason::RefreshOtherClient);
        one.as_rightful();
        assert!(one.kept() == before);
        one.refuses(&victims, Reason::RefreshReused);
        assert_eq!(one.ended(), Some(End::Revoked));
        assert_eq!(standing(&one, &thiefs), Err(Inactive::Revoked));
        // It is found out once.
        one.refuses(&victims, Reason::RefreshRevoked);
        one.refuses(&newest, Reason::RefreshRevoked);
    }
    // Where nothing spent comes back the family has expired, and what it gave lives on.
    let mut one = Refreshing::after(|estate| {
        estate.application.refresh_token.idle = Some(secs(600));
    });
    one.now = NOW + 599;
    let claims = one.refreshed().claims;
    one.now = NOW + 599 + 600;
    let token = one.token.clone();
    one.refuses(&token, Reason::RefreshExpired);
    one.refuses_for_now(Reason::RefreshExpired);
    assert_eq!((one.ended(), standing(&one, &claims)), (Some(End::Expired), Ok(())));
}

#[test]
fn after_its_end_a_family_is_still_revoked_by_what_was_spent() {
    // The access token of the exchange may outlive the family.
    let outlived = |estate: &mut crate::support::Exchange| {
        estate.application.access_token.outlive_subject = true;
        estate.application.access_token.lifetime = secs(2 * LIFETIME);
    };
    for is_seen in [false, true] {
        let mut one = Refreshing::after(outlived);
        let spent = one.token.clone();
        one.refreshed();
        let newest = one.token.clone();
        one.now = NOW + LIFETIME;
        if is_seen {
            one.refuses(&newest, Reason::RefreshExpired);
            one.refuses_for_now(Reason::RefreshExpired);
        }
        assert_eq!(standing(&one, &one.exchanged), Ok(()));
        one.refuses(&spent, Reason::RefreshReused);
        assert_eq!(one.ended(), Some(End::Revoked));
        assert_eq!(standing(&one, &one.exchanged), Err(Inactive::Revoked));
        one.refuses(&newest, Reason::RefreshRevoked);
    }
}

#[test]
fn every_refusal_of_a_token_looks_the_same_from_outside() {
    let face = |error: RefreshError| {
        let outcome = Refusal::from(error).outcome();
        (outcome.status, outcome.error.as_str(), outcome.description)
    };
    for error in [
        RefreshError::Unknown,
        RefreshError::Expired,
        RefreshError::Reused,
        RefreshError::Revoked,
        RefreshError::OtherClient,
        RefreshError::PolicyWithdrawn,
    ] {
        assert_eq!(face(error), (400, "invalid_grant", "The refresh token is not accepted."));
    }
}
