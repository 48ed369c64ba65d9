//! Secrets that callers try: which are let through to be looked at, and which were right before.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use parking_lot::Mutex;

use crate::exchange::client::ClientError;
use crate::exchange::throttle::{Charge, GuessLimits, Origin, Throttle};
use crate::exchange::vouching::BindingKey;

/// How many credentials are remembered to have been right.
const CAPACITY: u64 = 100_000;
/// For how long. They prove nothing any more by then, and are looked at again: they are merely not
/// taken for guesses.
const KEPT: Duration = Duration::from_hours(24);

/// What is tried, by whom.
#[derive(Clone, Copy, Debug)]
pub struct Guess<'a> {
    pub limits: &'a GuessLimits,
    pub origin: Origin,
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
    /// `None` where it was right before.
    charge: Option<Charge>,
}

/// Counts wrong secrets. Those who were right before are let through whatever others do, so that
/// nobody is locked out by another's guesses.
#[derive(Debug)]
pub struct Guesses {
    pub key: BindingKey,
    throttle: Mutex<Throttle>,
    right: Cache<[u8; 32], ()>,
    began: Instant,
}

impl Guesses {
    /// `None` where the system has no random numbers.
    pub fn new() -> Option<Self> {
        let mut octets = [0; 64];
        aws_lc_rs::rand::fill(&mut octets).ok()?;
        let (binding, throttle) = octets.split_first_chunk::<32>()?;
        Some(Self {
            key: BindingKey::from_octets(binding),
            throttle: Mutex::new(Throttle::new(throttle.first_chunk()?)),
            right: Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build(),
            began: Instant::now(),
        })
    }

    /// Lets an attempt through that has this binding, or not. It is counted until it is known how it
    /// ends: of many at once none is overlooked. Nobody has looked at the secret so far, so the answer
    /// does not depend on it.
    pub fn admit<'a>(
        &self,
        guess: Guess<'_>,
        client_ids: impl IntoIterator<Item = &'a str>,
        tag: [u8; 32],
    ) -> Result<Admitted, ClientError> {
        if self.right.contains_key(&tag) {
            return Ok(Admitted { tag, charge: None });
        }
        let now = self.began.elapsed();
        let charge = self.throttle.lock().take(guess.limits, client_ids, guess.origin, now);
        let charge = Some(charge.ok_or(ClientError::Throttled)?);
        Ok(Admitted { tag, charge })
    }

    /// Notes how an attempt has ended. One that never does, because its caller left, stays counted.
    pub fn conclude(&self, Admitted { tag, charge }: Admitted, shown: Shown) {
        match shown {
            Shown::Right => self.right.insert(tag, ()),
            // What was right once may be wrong by now.
            Shown::Wrong => return self.right.invalidate(&tag),
            Shown::Nothing => {}
        }
        if let Some(charge) = charge {
            self.throttle.lock().give_back(charge);
        }
    }
}
