//! What a cluster is to look like, and its address plan.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which IP families something has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

/// A broadcast domain of the underlay: a switch, with the router in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// 192.0.2.0/24 and 2001:db8:a::/64.
    A,
    /// 198.51.100.0/24 and 2001:db8:b::/64.
    B,
}

/// What a cluster is to look like.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) segments: Vec<Segment>,
    pub(super) underlay: Families,
    pub(super) pods: Families,
    pub(super) mtu: u32,
}

/// The router's number in each segment.
pub(super) const ROUTER: u8 = 254;

impl Families {
    /// IPv4 and IPv6, where they are had.
    pub fn each<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Dual => vec![v4, v6],
        }
    }
}

impl Segment {
    /// The addresses of a host in the segment, with their prefix lengths.
    pub(super) fn addresses(self, families: Families, host: u8) -> Vec<(IpAddr, u8)> {
        let (v4, v6) = match self {
            Self::A => ([192, 0, 2], 0xa),
            Self::B => ([198, 51, 100], 0xb),
        };
        addresses(families, v4, v6, host)
    }

    /// The switch's name in the underlay's namespace.
    pub(super) fn switch(self) -> &'static str {
        match self {
            Self::A => "swA",
            Self::B => "swB",
        }
    }
}

impl Layout {
    /// Nodes in segment A, with both families on the underlay and in the pods, and an underlay of 1500 bytes.
    pub fn new(nodes: usize) -> Self {
        assert!(
            (1..200).contains(&nodes),
            "the address plan has room for 199 nodes"
        );
        Self {
            segments: vec![Segment::A; nodes],
            underlay: Families::Dual,
            pods: Families::Dual,
            mtu: 1500,
        }
    }

    /// The families of the nodes' own addresses.
    #[must_use]
    pub fn underlay(mut self, families: Families) -> Self {
        self.underlay = families;
        self
    }

    /// The families of the pods' prefixes.
    #[must_use]
    pub fn pods(mut self, families: Families) -> Self {
        self.pods = families;
        self
    }

    /// Puts these nodes (by position) into segment B, behind the router.
    #[must_use]
    pub fn behind_the_router(mut self, nodes: &[usize]) -> Self {
        for node in nodes {
            self.segments[*node] = Segment::B;
        }
        self
    }

    /// The MTU of all cables of the underlay.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }
}

/// The addresses of the world outside, where only the router and one host are: 203.0.113.0/24 and 2001:db8:f::/64.
pub(super) fn outside(families: Families, host: u8) -> Vec<(IpAddr, u8)> {
    addresses(families, [203, 0, 113], 0xf, host)
}

/// A node's pod prefixes: 10.244.NUMBER.0/24 and fd00:244:NUMBER::/64.
pub(super) fn pod_prefixes(families: Families, number: u8) -> Vec<String> {
    families.each(
        format!("10.244.{number}.0/24"),
        format!(
            "{}/64",
            Ipv6Addr::new(0xfd00, 0x244, number.into(), 0, 0, 0, 0, 0)
        ),
    )
}

fn addresses(families: Families, v4: [u8; 3], v6: u16, host: u8) -> Vec<(IpAddr, u8)> {
    let [a, b, c] = v4;
    families.each(
        (Ipv4Addr::new(a, b, c, host).into(), 24),
        (
            Ipv6Addr::new(0x2001, 0xdb8, v6, 0, 0, 0, 0, host.into()).into(),
            64,
        ),
    )
}
