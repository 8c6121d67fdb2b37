//! Addresses, routes and neighbours as values.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::link::MacAddr;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Address {
    /// Name of the link.
    pub link: String,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// Duplicate address detection has not ended: the address cannot be used yet (IPv6; read only).
    pub tentative: bool,
    /// Duplicate address detection found another owner (IPv6; read only).
    pub dad_failed: bool,
    /// It comes and goes to hide who is behind it (RFC 8981, `use_tempaddr`; IPv6, read only). IPv4 uses the same bit for an
    /// address that is not its prefix's first, which this is not set for.
    pub temporary: bool,
    /// Its preferred lifetime has ended: nothing new is to begin with it (IPv6; read only).
    pub deprecated: bool,
    /// Skip duplicate address detection (IPv6).
    pub no_dad: bool,
    /// Do not make a route for the prefix (`noprefixroute`).
    pub no_prefix_route: bool,
    /// Scope, an `RT_SCOPE_*` number; 0 is global.
    pub scope: u8,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Route {
    /// Destination prefix; a prefix length of 0 is the default route.
    pub destination: IpNetwork,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Name of the outgoing link.
    pub link: Option<String>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric. The kernel turns 0 into 1024 for IPv6.
    pub metric: u32,
    /// Table; 254 is `main`.
    pub table: u32,
    /// Scope, an `RT_SCOPE_*` number; 0 is global, 253 is link. IPv4 only.
    pub scope: u8,
    /// Who made it, an `RTPROT_*` number.
    pub protocol: u8,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// TCP maximum segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// The gateway is on the link even where no prefix says so.
    pub onlink: bool,
    /// Write only: stand before others of the same destination, table and metric rather than be refused with EEXIST
    /// (`ip route prepend`: no `NLM_F_EXCL`). IPv6 makes them one multipath route.
    pub beside_others: bool,
}

/// A neighbour (ARP, ND) or a bridge forwarding entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Neighbour {
    /// Name of the link.
    pub link: String,
    /// The protocol address; `None` for a bridge forwarding entry.
    pub address: Option<IpAddr>,
    /// The hardware address, when resolved.
    pub mac: Option<MacAddr>,
    /// `NUD_*` state bits.
    pub state: u16,
    /// VLAN of a bridge forwarding entry.
    pub vlan: Option<u16>,
}

impl Address {
    /// A global address of `link` that is usable at once (no duplicate address detection).
    pub fn new(link: impl Into<String>, address: IpNetwork) -> Self {
        Self {
            link: link.into(),
            address,
            tentative: false,
            dad_failed: false,
            temporary: false,
            deprecated: false,
            no_dad: address.is_ipv6(),
            no_prefix_route: false,
            scope: 0,
        }
    }
}

impl Route {
    /// Table `main`.
    pub const MAIN: u32 = 254;
    /// `RT_SCOPE_LINK`.
    pub const SCOPE_LINK: u8 = 253;
    /// `RTPROT_BOOT`, what `ip route add` writes.
    pub const PROTOCOL_BOOT: u8 = 3;

    /// A route to `destination` through `link` in table `main`, without a gateway.
    pub fn new(destination: IpNetwork, link: impl Into<String>) -> Self {
        Self {
            destination,
            gateway: None,
            link: Some(link.into()),
            source: None,
            metric: 0,
            table: Self::MAIN,
            scope: 0,
            protocol: Self::PROTOCOL_BOOT,
            mtu: None,
            advmss: None,
            onlink: false,
            beside_others: false,
        }
    }
}
