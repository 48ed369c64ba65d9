//! Secrets that callers try: which are let through to be looked at, and which were right before.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use parking_lot::Mutex;

use crate::count::{Count, Counted, Full};
use crate::exchange::client::ClientError;
use crate::exchange::throttle::{Charge, GuessLimits, Origin, Throttle};
use crate::exchange::vouching::BindingKey;

/// How many credentials are remembered to have been right.
const CAPACITY: u64 = 100_000;
/// For how long. They prove nothing any more by then, and are looked at again: they are merely not
/// taken for guesses.
const KEPT: Duration = Duration::from_hours(24);
/// Longer than anybody takes to look at one.
const LONGEST: Duration = Duration::from_mins(1);

/// What is tried, by whom.
#[derive(Clone, Copy, Debug)]
pub struct Guess<'a> {
    pub limits: &'a GuessLimits,
    pub origin: Origin,
    /// How many that were never right may wait until they are looked at.
    pub waiting: usize,
}

/// Where an attempt comes from.
pub fn origin(address: Option<IpAddr>) -> Origin {
    match address {
        None => Origin::UNKNOWN,
        Some(IpAddr::V4(address)) => Origin::from_v4(address.octets()),
        Some(IpAddr::V6(address)) => Origin::from_v6(address.octets()),
    }
}

/// What an attempt showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Right,
    Wrong,
    /// Whoever was asked could not say.
    Nothing,
}

/// An attempt that was let through.
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    tag: [u8; 32],
    seat: [u8; 32],
    was_right: bool,
    /// `None` where it was right before, from there.
    attempt: Option<Arc<Attempt>>,
}

impl Admitted {
    /// Whether the same credentials were right before, from wherever.
    pub const fn was_right(&self) -> bool {
        self.was_right
    }

    /// A place among `most` in the `queue` of those that were never right. The others need none.
    pub fn queue(&self, queue: &Count, most: usize) -> Result<Option<Counted>, Full> {
        if self.was_right { Ok(None) } else { queue.enter(most).ok_or(Full).map(Some) }
    }
}

/// What one guess was counted for, however many callers make it at once.
#[derive(Debug)]
struct Attempt {
    charge: Mutex<Option<Charge>>,
}

/// Counts wrong secrets. What was right before is let through where it was right, whatever is guessed;
/// elsewhere whatever is guessed at other addresses: so nobody is locked out by another's guesses, and
/// an address that has guessed too often learns nothing more, unless it is one that has been right.
#[derive(Debug)]
pub struct Guesses {
    pub key: BindingKey,
    throttle: Mutex<Throttle>,
    right: Cache<[u8; 32], ()>,
    /// By where it was right, too.
    right_there: Cache<[u8; 32], ()>,
    /// What is being looked at, by where it comes from, too. Where one is missing, too much is counted.
    pending: Cache<[u8; 32], Weak<Attempt>>,
    began: Instant,
}

impl Guesses {
    /// `None` where the system has no random numbers.
    pub fn new() -> Option<Self> {
        let mut octets = [0; 64];
        aws_lc_rs::rand::fill(&mut octets).ok()?;
        let (binding, throttle) = octets.split_first_chunk::<32>()?;
        let cache = || Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build();
        Some(Self {
            key: BindingKey::from_octets(binding),
            throttle: Mutex::new(Throttle::new(throttle.first_chunk()?)),
            right: cache(),
            right_there: cache(),
            pending: Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build(),
            began: Instant::now(),
        })
    }

    /// Lets an attempt through that has this binding, or not. It is counted until it is known how it
    /// ends, once for all who make it at the same time from the same address: of many at once none is
    /// overlooked. Nobody has looked at the secret so far, so that beyond what one address may try the
    /// answer does not depend on it, but where it was right from there.
    pub fn admit<'a>(
        &self,
        guess: Guess<'_>,
        client_ids: impl IntoIterator<Item = &'a str>,
        tag: [u8; 32],
    ) -> Result<Admitted, ClientError> {
        let seat = self.key.tag(&[&tag[..], guess.origin.octets()].concat());
        if self.right_there.contains_key(&seat) {
            return Ok(Admitted { tag, seat, was_right: true, attempt: None });
        }
        let was_right = self.right.contains_key(&tag);
        let mut throttle = self.throttle.lock();
        if let Some(attempt) = self.pending.get(&seat).and_then(|attempt| attempt.upgrade()) {
            return Ok(Admitted { tag, seat, was_right, attempt: Some(attempt) });
        }
        let (limits, now) = (guess.limits, self.began.elapsed());
        let charge = throttle.take(limits, client_ids, guess.origin, was_right, now);
        let charge = Mutex::new(Some(charge.ok_or(ClientError::Throttled)?));
        let attempt = Arc::new(Attempt { charge });
        self.pending.insert(seat, Arc::downgrade(&attempt));
        Ok(Admitted { tag, seat, was_right, attempt: Some(attempt) })
    }

    /// Notes how an attempt has ended. One that never does, because its caller left, stays counted.
    pub fn conclude(&self, admitted: Admitted, shown: Shown) {
        let Admitted { tag, seat, was_right: _, attempt } = admitted;
        match shown {
            Shown::Right => {
                self.right.insert(tag, ());
                self.right_there.insert(seat, ());
            }
            // What was right once may be wrong by now.
            Shown::Wrong => {
                self.right.invalidate(&tag);
                self.right_there.invalidate(&seat);
            }
            Shown::Nothing => {}
        }
        let Some(attempt) = attempt else { return };
        let mut throttle = self.throttle.lock();
        // Others may still find out what this one did not.
        let is_last = Arc::strong_count(&attempt) == 1;
        let ends = shown != Shown::Nothing || is_last;
        let charge = ends.then(|| attempt.charge.lock().take()).flatten();
        if shown != Shown::Nothing {
            self.pending.invalidate(&seat);
        }
        if let Some(charge) = charge.filter(|_| shown != Shown::Wrong) {
            throttle.give_back(charge);
        }
        // Under the lock, so that of two one is the last.
        drop(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GuessLimits = GuessLimits { client_and_address: 3, client: 5, address: 100 };
    const HERE: Origin = Origin::from_v4([192, 0, 2, 1]);
    const THERE: Origin = Origin::from_v4([192, 0, 2, 2]);

    fn admit(guesses: &Guesses, origin: Origin, secret: u8) -> Result<Admitted, ClientError> {
        guesses.admit(Guess { limits: &LIMITS, origin, waiting: 1 }, ["portal"], [secret; 32])
    }

    fn guess(guesses: &Guesses, origin: Origin, secret: u8, shown: Shown) -> bool {
        let admitted = admit(guesses, origin, secret);
        admitted.map(|admitted| guesses.conclude(admitted, shown)).is_ok()
    }

    #[test]
    fn an_address_that_has_guessed_too_often_can_not_tell_what_is_right() {
        const RIGHT: u8 = 0;
        let guesses = Guesses::new().unwrap();
        assert!(guess(&guesses, THERE, RIGHT, Shown::Right));
        for wrong in 1..=3 {
            assert!(guess(&guesses, HERE, wrong, Shown::Wrong));
        }
        for secret in [4, 1, RIGHT] {
            assert!(!guess(&guesses, HERE, secret, Shown::Nothing), "{secret}");
        }
        // Where it was right it goes on, and more may be guessed there.
        assert!(guess(&guesses, THERE, RIGHT, Shown::Right));
        for wrong in [5, 6] {
            assert!(guess(&guesses, THERE, wrong, Shown::Wrong));
        }
        // That is as much as this client may be guessed at, from wherever.
        let elsewhere = Origin::from_v4([192, 0, 2, 3]);
        assert!(!guess(&guesses, elsewhere, 7, Shown::Wrong));
        // What was right goes on elsewhere, too: others' guesses lock nobody out.
        assert!(admit(&guesses, elsewhere, RIGHT).unwrap().was_right());
        assert!(guess(&guesses, elsewhere, RIGHT, Shown::Right));
        // Once it is wrong it is a guess.
        assert!(guess(&guesses, THERE, RIGHT, Shown::Wrong));
        assert!(!guess(&guesses, THERE, RIGHT, Shown::Wrong));
    }

    #[test]
    fn one_guess_that_many_make_at_once_counts_once() {
        let guesses = Guesses::new().unwrap();
        let at_once: Vec<_> = (0..50).map(|_| admit(&guesses, HERE, 1).unwrap()).collect();
        assert!(guess(&guesses, HERE, 2, Shown::Wrong));
        for admitted in at_once {
            guesses.conclude(admitted, Shown::Wrong);
        }
        assert!(guess(&guesses, HERE, 3, Shown::Wrong));
        assert!(!guess(&guesses, HERE, 4, Shown::Wrong), "a fourth");
        // It is not the same guess any more once it is known to be wrong.
        assert!(!guess(&guesses, HERE, 1, Shown::Wrong));
    }

    #[test]
    fn what_came_to_nothing_is_given_back_when_nobody_waits_for_it_any_more() {
        let guesses = Guesses::new().unwrap();
        for _ in 0..10 {
            for admitted in [(); 2].map(|()| admit(&guesses, HERE, 1).unwrap()) {
                guesses.conclude(admitted, Shown::Nothing);
            }
        }
        // One that does find out is counted, though the other did not.
        for wrong in 1..=3 {
            let [one, other] = [(); 2].map(|()| admit(&guesses, HERE, wrong).unwrap());
            guesses.conclude(one, Shown::Nothing);
            guesses.conclude(other, Shown::Wrong);
        }
        assert!(!guess(&guesses, HERE, 4, Shown::Wrong));
        // Whoever leaves has guessed, for all that is known.
        for wrong in 1..=3 {
            drop(admit(&guesses, THERE, wrong));
        }
        assert!(admit(&guesses, THERE, 4).is_err());
    }
}
