//! What kind of place an IP address is: whether a URL that was learnt may lead there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whom an address reaches (the IANA special-purpose address registries, RFC 6890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Anybody may have it.
    Public,
    /// This machine.
    Loopback,
    /// A network of somebody's own: RFC 1918, RFC 4193, and the shared space of RFC 6598.
    Private,
    /// Credentials of the machine are given out there, to whoever asks.
    InstanceMetadata,
    /// Only the next link, many at once, documentation, or nobody.
    Special,
}

/// Where a connection may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The URL stands in the configuration.
    AsWritten,
    /// The URL was learnt from a document that came from an address of this scope.
    LearntFrom(Scope),
}

impl Reach {
    /// Whether a connection to this address may be made. What was learnt leads to the public, or
    /// to where the document itself came from: an issuer inside may name a place inside, one
    /// outside may not, whatever its name resolves to by then (RFC 9700 §4.4.2.2, RFC 8725 §3.10).
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::AsWritten => true,
            Self::LearntFrom(origin) => {
                let scope = Scope::of(address);
                scope == Scope::Public
                    || scope == origin && matches!(scope, Scope::Loopback | Scope::Private)
            }
        }
    }
}

/// The metadata services of the clouds that do not lie where nothing else does.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

impl Scope {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        if METADATA_V4.contains(&address) {
            return Self::InstanceMetadata;
        }
        match address.octets() {
            [127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            // This network, link-local, protocol assignments, documentation, the former 6to4
            // relays, benchmarks, multicast, and what is reserved.
            [0 | 224..=255, ..]
            | [169, 254, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => Self::Special,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if METADATA_V6.contains(&address) {
            return Self::InstanceMetadata;
        }
        if let Some(address) = embedded(address) {
            return Self::of_v4(address);
        }
        // Within global unicast (RFC 4291 §2.4): Teredo and other protocol assignments (RFC 2928),
        // documentation (RFC 3849, RFC 9637), and 6to4, which is no longer in use (RFC 7526).
        let is_set_aside = matches!(
            address.segments(),
            [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..]
        );
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfc00..=0xfdff, ..] => Self::Private,
            [0x2000..=0x3fff, ..] if !is_set_aside => Self::Public,
            // Link-local, site-local, multicast, what is not assigned, and ways to write an IPv4
            // address that nobody public has: IPv4-compatible (RFC 4291 §2.5.5.1), IPv4-translated
            // (RFC 7915), NAT64 of somebody's own (RFC 8215).
            _ => Self::Special,
        }
    }
}

/// The IPv4 address that answers: IPv4-mapped (RFC 4291 §2.5.5.2), or NAT64 (RFC 6052 §2.1).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let nat64 = match address.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, rest @ ..] => Some(Ipv4Addr::from(rest)),
        _ => None,
    };
    address.to_ipv4_mapped().or(nat64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each address with its scope.
    const TABLE: [(&str, Scope); 66] = [
        ("1.1.1.1", Scope::Public),
        ("9.255.255.255", Scope::Public),
        ("11.0.0.0", Scope::Public),
        ("100.63.255.255", Scope::Public),
        ("100.128.0.0", Scope::Public),
        ("126.255.255.255", Scope::Public),
        ("128.0.0.0", Scope::Public),
        ("169.253.255.255", Scope::Public),
        ("169.255.0.0", Scope::Public),
        ("172.15.255.255", Scope::Public),
        ("172.32.0.0", Scope::Public),
        ("192.0.1.1", Scope::Public),
        ("192.167.255.255", Scope::Public),
        ("192.169.0.0", Scope::Public),
        ("198.17.255.255", Scope::Public),
        ("198.20.0.0", Scope::Public),
        ("223.255.255.255", Scope::Public),
        ("127.0.0.0", Scope::Loopback),
        ("127.0.0.1", Scope::Loopback),
        ("127.255.255.255", Scope::Loopback),
        ("10.0.0.0", Scope::Private),
        ("10.255.255.255", Scope::Private),
        ("172.16.0.0", Scope::Private),
        ("172.31.255.255", Scope::Private),
        ("192.168.0.0", Scope::Private),
        ("192.168.255.255", Scope::Private),
        ("100.64.0.0", Scope::Private),
        ("100.127.255.255", Scope::Private),
        ("169.254.169.254", Scope::InstanceMetadata),
        ("169.254.170.2", Scope::InstanceMetadata),
        ("100.100.100.200", Scope::InstanceMetadata),
        ("192.0.0.192", Scope::InstanceMetadata),
        ("0.0.0.0", Scope::Special),
        ("0.255.255.255", Scope::Special),
        ("169.254.0.1", Scope::Special),
        ("192.0.0.1", Scope::Special),
        ("192.0.2.1", Scope::Special),
        ("192.88.99.1", Scope::Special),
        ("198.18.0.1", Scope::Special),
        ("198.51.100.1", Scope::Special),
        ("203.0.113.1", Scope::Special),
        ("224.0.0.1", Scope::Special),
        ("240.0.0.1", Scope::Special),
        ("255.255.255.255", Scope::Special),
        ("2606:4700:4700::1111", Scope::Public),
        ("2001:4860:4860::8888", Scope::Public),
        ("::1", Scope::Loopback),
        ("::ffff:127.0.0.1", Scope::Loopback),
        ("::ffff:10.0.0.1", Scope::Private),
        ("::ffff:169.254.169.254", Scope::InstanceMetadata),
        ("::ffff:1.1.1.1", Scope::Public),
        ("64:ff9b::1.1.1.1", Scope::Public),
        ("64:ff9b::127.0.0.1", Scope::Loopback),
        ("64:ff9b::a9fe:a9fe", Scope::InstanceMetadata),
        ("64:ff9b:1::1", Scope::Special),
        ("::", Scope::Special),
        ("::127.0.0.1", Scope::Special),
        ("::ffff:0:127.0.0.1", Scope::Special),
        ("2002:7f00:1::", Scope::Special),
        ("2001::1", Scope::Special),
        ("2001:db8::1", Scope::Special),
        ("fc00::1", Scope::Private),
        ("fd00:ec2::254", Scope::InstanceMetadata),
        ("fe80::1", Scope::Special),
        ("fec0::1", Scope::Special),
        ("ff02::1", Scope::Special),
    ];

    #[test]
    fn each_address_has_its_scope() {
        for (address, scope) in TABLE {
            assert_eq!(Scope::of(address.parse().unwrap()), scope, "{address}");
        }
    }

    #[test]
    fn what_was_learnt_leads_to_the_public_or_to_where_it_was_learnt() {
        let outside = Reach::LearntFrom(Scope::Public);
        for (address, scope) in TABLE {
            let ip: IpAddr = address.parse().unwrap();
            assert!(Reach::AsWritten.allows(ip), "{address}");
            assert_eq!(outside.allows(ip), scope == Scope::Public, "{address}");
            for inside in [Scope::Private, Scope::Loopback] {
                let expected = scope == Scope::Public || scope == inside;
                assert_eq!(Reach::LearntFrom(inside).allows(ip), expected, "{address}");
            }
            // Not even a document from there may name such a place.
            for odd in [Scope::InstanceMetadata, Scope::Special] {
                let expected = scope == Scope::Public;
                assert_eq!(Reach::LearntFrom(odd).allows(ip), expected, "{address}");
            }
        }
    }
}
