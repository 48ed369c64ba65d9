//! How often wrong secrets may be tried: whom one guesser's limit holds, and whom it does not.

use std::time::Duration;

use cambio::exchange::throttle::{Charge, GuessLimits, Origin, Throttle};

const LIMITS: GuessLimits = GuessLimits { client_and_address: 3, client: 6, address: 12 };
const HERE: Origin = Origin::from_v4([192, 0, 2, 1]);
const MINUTE: Duration = Duration::from_secs(60);

fn throttle() -> Throttle {
    Throttle::new(&[7; 32])
}

fn at(address: u32) -> Origin {
    Origin::from_v4(address.to_be_bytes())
}

fn take(throttle: &mut Throttle, id: &str, origin: Origin, now: Duration) -> Option<Charge> {
    throttle.take(&LIMITS, [id], origin, false, now)
}

/// How many attempts get through at a time.
fn let_through(throttle: &mut Throttle, id: &str, origin: Origin, now: Duration) -> usize {
    (0..100).take_while(|_| take(throttle, id, origin, now).is_some()).count()
}

#[test]
fn each_limit_holds_by_itself_and_comes_back_one_by_one() {
    let mut throttle = throttle();
    let now = Duration::from_secs(5);
    assert_eq!(let_through(&mut throttle, "a", HERE, now), 3);
    // Of the client from elsewhere only what is left of its own limit.
    assert_eq!(let_through(&mut throttle, "a", at(1), now), 3);
    assert_eq!(let_through(&mut throttle, "a", at(2), now), 0);
    // Other clients from here, until the address is used up.
    let here: usize =
        ["b", "c", "d", "e"].iter().map(|id| let_through(&mut throttle, id, HERE, now)).sum();
    assert_eq!(here, 9);
    assert_eq!(let_through(&mut throttle, "b", at(1), now), 3);
    // A third of a minute gives one guess of three back, and a whole minute all.
    assert_eq!(let_through(&mut throttle, "b", HERE, now + MINUTE / 3), 1);
    assert_eq!(let_through(&mut throttle, "a", HERE, now + MINUTE * 2), 3);
    assert_eq!(let_through(&mut throttle, "a", HERE, now + MINUTE * 1000), 3);
}

#[test]
fn what_was_right_before_is_held_to_its_own_address_alone() {
    let mut throttle = throttle();
    let known = |throttle: &mut Throttle, origin| {
        (0..100)
            .take_while(|_| throttle.take(&LIMITS, ["a"], origin, true, MINUTE).is_some())
            .count()
    };
    for origin in [HERE, at(1)] {
        assert_eq!(let_through(&mut throttle, "a", origin, MINUTE), 3);
        // Beyond it nothing is told from what is wrong.
        assert_eq!(known(&mut throttle, origin), 0);
    }
    // Of the client no more may be guessed, from wherever; what was right goes on.
    assert_eq!(let_through(&mut throttle, "a", at(2), MINUTE), 0);
    assert_eq!(known(&mut throttle, at(2)), 3);
    // It takes nothing from those who have yet to be right elsewhere.
    let fresh = &mut self::throttle();
    assert_eq!((known(fresh, HERE), known(fresh, at(1)), known(fresh, at(2))), (3, 3, 3));
    assert_eq!(let_through(fresh, "a", at(3), MINUTE), 3);
    // And it counts for its address, whose limit holds for it, too.
    assert_eq!(let_through(fresh, "a", HERE, MINUTE), 0);
    let others: usize =
        ["b", "c", "d", "e"].iter().map(|id| let_through(fresh, id, at(1), MINUTE)).sum();
    assert_eq!(others, 9);
}

#[test]
fn addresses_are_told_apart_by_their_octets() {
    assert_eq!(HERE.octets(), &[0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    assert_eq!(Origin::UNKNOWN.octets(), &[0; 8]);
}

#[test]
fn what_was_no_wrong_guess_is_given_back() {
    let mut throttle = throttle();
    for _ in 0..100 {
        let charge = take(&mut throttle, "a", HERE, MINUTE).unwrap();
        throttle.give_back(charge);
    }
    // Of many at once each counts while nobody knows.
    let charges: Vec<_> = (0..3).map(|_| take(&mut throttle, "a", HERE, MINUTE).unwrap()).collect();
    assert!(take(&mut throttle, "a", HERE, MINUTE).is_none());
    for charge in charges {
        throttle.give_back(charge);
    }
    assert_eq!(let_through(&mut throttle, "a", HERE, MINUTE), 3);
}

/// A place that two names share counts for both, and only what one of them added to it is taken back.
#[test]
fn what_is_given_back_is_never_what_another_has_tried() {
    let mut throttle = throttle();
    for nth in 0..20_000 {
        // All that was counted so far is over.
        let now = MINUTE * 2 * (nth + 1);
        assert_eq!(let_through(&mut throttle, "victim", HERE, now), 3);
        let name = format!("name-{nth}");
        let charges: Vec<_> =
            (0..3).filter_map(|_| take(&mut throttle, &name, HERE, now)).collect();
        assert_eq!(charges.len(), 3, "{name}");
        for charge in charges {
            throttle.give_back(charge);
        }
        assert!(take(&mut throttle, "victim", HERE, now).is_none(), "{name}");
    }
}

#[test]
fn other_spellings_of_a_name_are_the_same_client() {
    for other in ["A", " a ", "%61", "%2561", "%41", "+a"] {
        let mut throttle = throttle();
        assert_eq!(let_through(&mut throttle, "a", HERE, MINUTE), 3);
        assert!(take(&mut throttle, other, HERE, MINUTE).is_none(), "{other}");
        // And of one that can be read for two, each counts.
        assert!(throttle.take(&LIMITS, ["b", other], HERE, false, MINUTE).is_none(), "{other}");
    }
    let mut throttle = throttle();
    for _ in 0..3 {
        assert!(throttle.take(&LIMITS, ["a", "b"], HERE, false, MINUTE).is_some());
    }
    assert!(take(&mut throttle, "b", HERE, MINUTE).is_none());
    assert!(take(&mut throttle, "c", HERE, MINUTE).is_some());
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let v6 = |text: &str| Origin::from_v6(text.parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
    assert_eq!(v6("::ffff:192.0.2.1"), HERE);
    assert_ne!(v6("::ffff:192.0.2.2"), HERE);
    assert_ne!(HERE, Origin::UNKNOWN);
}

#[test]
fn whoever_fills_the_table_frees_nobody_and_holds_up_nobody_else() {
    let mut throttle = throttle();
    assert_eq!(let_through(&mut throttle, "victim", HERE, MINUTE), 3);
    // A thousand addresses, each with other names, up to its limit.
    for address in 0..1000 {
        for name in 0..20 {
            drop(take(&mut throttle, &format!("{address}-{name}"), at(address), MINUTE));
        }
    }
    assert!(take(&mut throttle, "victim", HERE, MINUTE).is_none());
    let others = (0..1000)
        .filter(|n| take(&mut throttle, &format!("other-{n}"), at(1 << 24 | n), MINUTE).is_some());
    assert!(others.count() >= 990);
}

#[test]
fn times_at_the_end_of_all_times_do_not_wrap() {
    let mut throttle = throttle();
    for now in [Duration::ZERO, Duration::MAX, Duration::ZERO] {
        if let Some(charge) = take(&mut throttle, "a", HERE, now) {
            throttle.give_back(charge);
        }
    }
    let mut throttle = self::throttle();
    let limits = GuessLimits { client_and_address: u32::MAX, client: u32::MAX, address: u32::MAX };
    assert!(throttle.take(&limits, ["b"], HERE, false, MINUTE).is_some());
    let none = GuessLimits { client_and_address: 0, client: 0, address: 0 };
    assert!(throttle.take(&none, ["c"], at(1), false, MINUTE).is_some());
}
