//! Addresses that are nobody's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// Prefixes that no packet between nodes is sent to or from (IANA's special-purpose registries, RFC 6890; multicast: RFC 5771,
/// RFC 4291), and what is in them.
const SPECIAL: [(IpAddr, u8, &str); 8] = [
    (v4(0, 0, 0, 0), 8, "the unspecified addresses (0.0.0.0/8)"),
    (v4(127, 0, 0, 0), 8, "the loopback addresses (127.0.0.0/8)"),
    (v4(224, 0, 0, 0), 4, "the multicast addresses (224.0.0.0/4)"),
    (
        v4(255, 255, 255, 255),
        32,
        "the broadcast addresses (255.255.255.255/32)",
    ),
    // The unspecified address and the loopback address.
    (
        v6(0, 0),
        127,
        "the unspecified and loopback addresses (::, ::1)",
    ),
    (
        v6(0, 0xffff),
        96,
        "the IPv4 addresses in IPv6 clothing (::ffff:0:0/96)",
    ),
    (v6(0xfe80, 0), 10, "the link-local addresses (fe80::/10)"),
    (v6(0xff00, 0), 8, "the multicast addresses (ff00::/8)"),
];

/// What special addresses a prefix has in it, or is in.
pub(super) fn in_prefix(prefix: IpNetwork) -> Option<&'static str> {
    let overlaps = |(address, length, _): &&(IpAddr, u8, &str)| {
        let shorter = prefix.prefix().min(*length);
        same_start(prefix.ip(), *address, shorter)
    };
    SPECIAL.iter().find(overlaps).map(|(_, _, what)| *what)
}

/// Whether two addresses are of one family and have these first bits in common.
fn same_start(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let different = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => return false,
    };
    different >= u32::from(bits)
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(first: u16, sixth: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, sixth, 0, 0))
}
