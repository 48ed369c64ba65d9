//! How often wrong secrets may be tried, so that answering is no oracle: a decision over numbers.
//!
//! Failed attempts are counted for a client at an address, for a client, and for an address. Counts
//! are kept in a table of fixed size under a keyed hash, each in several cells; of two that share a
//! cell none is held for the other's, as long as one of its cells is its own. Nothing is ever pushed
//! out of the table: whoever fills it with names makes it count too much, and frees nobody.

use std::time::Duration;

use super::vouching::{BindingKey, folded};

/// How many wrong secrets may be tried within a minute. So many may come at once; after that they
/// come back one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessLimits {
    /// Of one client, from one address.
    pub client_and_address: u32,
    /// Of one client, from wherever.
    pub client: u32,
    /// From one address, of whatever clients.
    pub address: u32,
}

const MINUTE: u64 = 60_000_000;
/// Cells that one count is kept in, each in a row of its own.
const ROWS: usize = 4;
/// Cells of a row.
const WIDTH: usize = 1 << 13;

/// What stands for an address: all that its holder can choose among counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin([u8; 8]);

impl Origin {
    pub const fn octets(&self) -> &[u8; 8] {
        &self.0
    }

    /// One for all who can't be told apart.
    pub const UNKNOWN: Self = Self([0; 8]);

    pub const fn from_v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// By the network: whoever has one has all of its 2⁶⁴ addresses.
    pub fn from_v6(octets: [u8; 16]) -> Self {
        match octets {
            // RFC 4291 §2.5.5.2.
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Self::from_v4([a, b, c, d]),
            _ => octets.first_chunk().map_or(Self::UNKNOWN, |network| Self(*network)),
        }
    }
}

/// Counts of failed attempts.
pub struct Throttle {
    key: BindingKey,
    /// By kind, then by row. Each has the time, in microseconds, at which nothing would be left to
    /// count in it.
    cells: Box<[u64]>,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttle(…)")
    }
}

/// What an attempt was counted for. It may be given back where the attempt was no wrong guess.
#[derive(Debug)]
#[must_use]
pub struct Charge(Vec<Gain>);

/// What was added to one cell: less than was to be, where it was full. No more than that is ever
/// taken back, as the rest is what others have tried.
#[derive(Debug)]
struct Gain {
    cell: usize,
    by: u64,
}

#[derive(Debug)]
struct Count {
    cells: [usize; ROWS],
    /// Between one attempt and the next, once the first ones are used up.
    interval: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    ClientAndAddress,
    Client,
    Address,
}

impl Throttle {
    /// `key` is random.
    pub fn new(key: &[u8; 32]) -> Self {
        let cells = vec![0; 3 * ROWS * WIDTH].into_boxed_slice();
        Self { key: BindingKey::from_octets(key), cells }
    }

    /// Counts one attempt, or says by `None` that there were too many; whoever is told so is not
    /// counted. `client_ids` are all that the attempt can be read for. What `was_right` before is held
    /// to what is tried from its own address, and not to what is tried in its name from elsewhere.
    /// `now` is since any moment that stays the same.
    pub fn take<'a>(
        &mut self,
        limits: &GuessLimits,
        client_ids: impl IntoIterator<Item = &'a str>,
        Origin(origin): Origin,
        was_right: bool,
        now: Duration,
    ) -> Option<Charge> {
        let mut ids: Vec<String> = client_ids.into_iter().map(folded).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut counts = vec![self.count(Kind::Address, &origin, limits.address)];
        for id in ids {
            if !was_right {
                counts.push(self.count(Kind::Client, id.as_bytes(), limits.client));
            }
            let both = [&origin[..], id.as_bytes()].concat();
            counts.push(self.count(Kind::ClientAndAddress, &both, limits.client_and_address));
        }
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        if !counts.iter().all(|count| self.has_room(count, now)) {
            return None;
        }
        let mut gains = Vec::new();
        for Count { cells, interval } in &counts {
            for at in cells {
                if let Some(cell) = self.cells.get_mut(*at) {
                    let before = (*cell).max(now);
                    let next = before.saturating_add(*interval).min(now.saturating_add(MINUTE));
                    *cell = next;
                    gains.push(Gain { cell: *at, by: next.saturating_sub(before) });
                }
            }
        }
        Some(Charge(gains))
    }

    /// Takes back what an attempt was counted for.
    pub fn give_back(&mut self, Charge(gains): Charge) {
        for Gain { cell, by } in gains {
            if let Some(cell) = self.cells.get_mut(cell) {
                *cell = cell.saturating_sub(by);
            }
        }
    }

    fn count(&self, kind: Kind, name: &[u8], limit: u32) -> Count {
        let mut rows = self.key.tag(&[&[kind as u8], name].concat()).into_iter();
        let mut first = kind as usize * ROWS * WIDTH;
        let cells = [(); ROWS].map(|()| {
            let at = rows.by_ref().take(8).fold(0, |all, octet| all << 8 | usize::from(octet));
            let cell = first + at % WIDTH;
            first += WIDTH;
            cell
        });
        Count { cells, interval: (MINUTE / u64::from(limit.max(1))).max(1) }
    }

    /// Whether one of its cells says so: each counts too much, if anything.
    fn has_room(&self, Count { cells, interval }: &Count, now: u64) -> bool {
        let full = now.saturating_add(MINUTE);
        cells
            .iter()
            .filter_map(|cell| self.cells.get(*cell))
            .any(|cell| (*cell).max(now).saturating_add(*interval) <= full)
    }
}
