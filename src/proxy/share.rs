//! What one address may take up of what there is for all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Who shares one share: an IPv4 address, or the network that a holder of IPv6 addresses has at
/// least, a /64 (RFC 6177 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    pub fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(IpAddr::V6(network.into()))
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// How much each address has taken up.
#[derive(Debug, Default)]
pub struct Shares(Arc<Mutex<HashMap<Origin, usize>>>);

/// Taken up until it is dropped.
#[derive(Debug)]
pub struct Share {
    origin: Origin,
    weight: usize,
    by_origin: Arc<Mutex<HashMap<Origin, usize>>>,
}

impl Shares {
    /// `None` where the address has all that it may have. Where that is as much as there is,
    /// `whole`, nothing is counted.
    pub fn enter(
        &self,
        origin: Option<Origin>,
        share: usize,
        whole: usize,
    ) -> Option<Option<Share>> {
        let Some(origin) = origin.filter(|_| share < whole) else { return Some(None) };
        let mut by_origin = self.0.lock();
        let count = by_origin.entry(origin).or_default();
        if *count >= share.max(1) {
            return None;
        }
        *count += 1;
        Some(Some(Share { origin, weight: 1, by_origin: Arc::clone(&self.0) }))
    }

    /// What an address has taken up, and what was taken from it.
    pub fn of(&self, origin: Origin) -> usize {
        self.0.lock().get(&origin).copied().unwrap_or_default()
    }

    /// Takes so much away from an address, whether it has it or not.
    pub fn take(&self, origin: Origin, weight: usize) -> Share {
        *self.0.lock().entry(origin).or_default() += weight;
        Share { origin, weight, by_origin: Arc::clone(&self.0) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut by_origin = self.by_origin.lock();
        match by_origin.get_mut(&self.origin) {
            Some(count) if *count > self.weight => *count -= self.weight,
            Some(_) | None => {
                by_origin.remove(&self.origin);
            }
        }
        // It grew with its addresses, and is not to stay so for ever.
        if by_origin.capacity() > 1024 && by_origin.len() < by_origin.capacity() / 8 {
            by_origin.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(shares: &Shares, address: &str, share: usize) -> Option<Option<Share>> {
        shares.enter(Some(Origin::new(address.parse().unwrap())), share, 10)
    }

    #[test]
    fn what_is_taken_from_an_address_comes_back_to_it() {
        let shares = Shares::default();
        let origin = Origin::new("192.0.2.1".parse().unwrap());
        let held = enter(&shares, "192.0.2.1", 4).unwrap();
        let taken = shares.take(origin, 5);
        assert!(enter(&shares, "192.0.2.1", 4).is_none());
        assert!(enter(&shares, "192.0.2.2", 4).is_some());
        drop(taken);
        assert!(enter(&shares, "192.0.2.1", 4).is_some());
        drop(held);
        assert!(shares.0.lock().is_empty());
    }

    #[test]
    fn an_address_has_one_share_however_it_is_written_and_a_network_of_ipv6_has_one() {
        let shares = Shares::default();
        let held = [
            enter(&shares, "192.0.2.1", 1).unwrap().unwrap(),
            enter(&shares, "2001:db8::1", 1).unwrap().unwrap(),
        ];
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::ffff:ffff:ffff:ffff"] {
            assert!(enter(&shares, address, 1).is_none(), "{address}");
        }
        for address in ["192.0.2.2", "2001:db8:0:1::1"] {
            assert!(enter(&shares, address, 1).is_some(), "{address}");
        }
        assert!(enter(&shares, "192.0.2.1", 10).unwrap().is_none(), "nothing is counted");
        drop(held);
        assert!(shares.0.lock().is_empty(), "nothing is remembered of who has left");
    }
}
