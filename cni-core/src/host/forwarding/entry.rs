//! The entries, as values.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::host::netlink::MacAddr;

/// The name of a link. Ten thousand entries share one.
pub type LinkName = Arc<str>;

/// Something that connects this node with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Entry {
    /// A next-hop object.
    NextHop(NextHop),
    /// A route.
    Route(Route),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A permanent forwarding entry of a VXLAN device.
    Fdb(FdbEntry),
    /// A policy rule.
    Rule(PolicyRule),
}

/// What kind of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// [`Entry::NextHop`].
    NextHop,
    /// [`Entry::Route`].
    Route,
    /// [`Entry::Neighbour`].
    Neighbour,
    /// [`Entry::Fdb`].
    Fdb,
    /// [`Entry::Rule`].
    Rule,
}

/// What the kernel tells entries of one kind apart by. Two entries of one key cannot both exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Key {
    /// The next hop's id.
    NextHop(u32),
    /// Table, destination and metric.
    Route(u32, IpNetwork, u32),
    /// Link and protocol address.
    Neighbour(LinkName, IpAddr),
    /// Link and hardware address. (A list of remote addresses for one is for flooding, which nobody here does.)
    Fdb(LinkName, MacAddr),
    /// Priority, source prefix and table. (Another protocol may have the same rule once more.)
    Rule(u32, IpNetwork, u32),
}

/// A next-hop object (`ip nexthop`): routes name it by its id, so that to replace it moves all of them at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Id, unique in the namespace; never 0.
    pub id: u32,
    /// Who made it, an `RTPROT_*` number.
    pub protocol: u8,
    /// Where to.
    pub hop: Hop,
}

/// Where a packet goes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The outgoing link.
    pub link: LinkName,
    /// The next hop's address. A next-hop object without one is made for IPv6, whose objects serve routes of both
    /// families (`fib_check_nexthop`), or for IPv4 where the kernel has no IPv6.
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link even where no prefix says so.
    pub onlink: bool,
    /// The tunnel's outer header, where the link takes it from the route (a collect-metadata device).
    pub encap: Option<Encap>,
}

/// The outer header of a tunnelled packet (`LWTUNNEL_ENCAP_IP`, `LWTUNNEL_ENCAP_IP6`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encap {
    /// Tunnel id: the VNI.
    pub id: u32,
    /// Outer destination; its family is the underlay's.
    pub remote: IpAddr,
    /// Outer source, of the same family and never the unspecified address. `None`: what the underlay's route says.
    pub source: Option<IpAddr>,
    /// Outer UDP checksum. Over IPv6 a receiver drops packets without one (`udp6zerocsumrx`).
    pub checksum: bool,
}

/// A route of any table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination prefix.
    pub destination: IpNetwork,
    /// Table; 254 is `main`.
    pub table: u32,
    /// Metric. The kernel turns 0 into 1024 for IPv6: none of ours is 0 there.
    pub metric: u32,
    /// Who made it, an `RTPROT_*` number.
    pub protocol: u8,
    /// Where to.
    pub via: Via,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Via {
    /// To the next-hop object with this id.
    NextHop(u32),
    /// Straight to a next hop. What is on the link itself may have a preferred source, which is not told: so are the routes
    /// that IPv4 addresses bring along.
    Hop(Box<Hop>),
    /// Nowhere, and the sender is told (`unreachable`).
    Unreachable,
    /// Something else that another program made: several next hops, a blackhole, a way with an MTU or a preferred source.
    Other,
}

/// A neighbour that never expires (`NUD_PERMANENT`, `NOARP` excluded).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// Its link.
    pub link: LinkName,
    /// Protocol address.
    pub address: IpAddr,
    /// Hardware address.
    pub mac: MacAddr,
}

/// Behind which outer address a hardware address is (`bridge fdb ... self permanent`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// The VXLAN device.
    pub link: LinkName,
    /// Hardware address of the far VTEP.
    pub mac: MacAddr,
    /// Outer destination.
    pub remote: IpAddr,
}

/// Packets from a prefix are routed by another table (`ip rule`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyRule {
    /// Priority; lower is asked first.
    pub priority: u32,
    /// Source prefix. One of length 0 the kernel takes for any when it looks whether a rule is there, to refuse a second one or
    /// to remove it (`rule_exists`, `rule_find`): no other rule should have its priority, table and protocol.
    pub source: IpNetwork,
    /// The table to look up.
    pub table: u32,
    /// Who made it, an `RTPROT_*` number.
    pub protocol: u8,
}

impl Entry {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NextHop(_) => Kind::NextHop,
            Self::Route(_) => Kind::Route,
            Self::Neighbour(_) => Kind::Neighbour,
            Self::Fdb(_) => Kind::Fdb,
            Self::Rule(_) => Kind::Rule,
        }
    }

    /// What the kernel tells it apart by.
    pub fn key(&self) -> Key {
        match self {
            Self::NextHop(hop) => Key::NextHop(hop.id),
            Self::Route(route) => Key::Route(route.table, route.destination, route.metric),
            Self::Neighbour(neighbour) => Key::Neighbour(neighbour.link.clone(), neighbour.address),
            Self::Fdb(entry) => Key::Fdb(entry.link.clone(), entry.mac),
            Self::Rule(rule) => Key::Rule(rule.priority, rule.source, rule.table),
        }
    }
}
