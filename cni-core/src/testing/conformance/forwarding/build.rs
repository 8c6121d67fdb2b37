//! Entries and changes in few words.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::super::netlink::build::{address, flow, pair, up, vxlan};
use crate::host::forwarding::{
    Change, Encap, Entry, FdbEntry, Hop, Neighbour, NextHop, PolicyRule, Route, Via,
};
use crate::host::netlink::NetlinkChange;

/// Who makes the entries, an `RTPROT_*` number.
pub(super) const PROTOCOL: u8 = 77;
pub(super) const MAC: &str = "02:00:00:00:00:07";

/// A change of either kind.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Link(NetlinkChange),
    Entry(Change),
}

impl From<NetlinkChange> for Step {
    fn from(change: NetlinkChange) -> Self {
        Self::Link(change)
    }
}

impl From<Change> for Step {
    fn from(change: Change) -> Self {
        Self::Entry(change)
    }
}

/// An uplink `a` whose far end is `b`, a VXLAN device `v`, and `f`, which takes its outer headers from routes.
pub(super) fn node() -> Vec<NetlinkChange> {
    vec![
        pair("a", "b"),
        up("a"),
        up("b"),
        address("a", "10.0.0.1/24"),
        address("a", "fd00::1/64"),
        vxlan("v", |_| {}),
        up("v"),
        flow("f", |_| {}),
        up("f"),
    ]
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn prefix(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

pub(super) fn hop(link: &str, gateway: Option<&str>) -> Hop {
    Hop {
        link: link.into(),
        gateway: gateway.map(ip),
        onlink: false,
        encap: None,
    }
}

pub(super) fn onlink(link: &str, gateway: &str) -> Hop {
    Hop {
        onlink: true,
        ..hop(link, Some(gateway))
    }
}

pub(super) fn tunnel(remote: &str) -> Hop {
    Hop {
        encap: Some(Encap {
            id: 7,
            remote: ip(remote),
            source: None,
            checksum: false,
        }),
        ..hop("f", None)
    }
}

pub(super) fn inline(hop: Hop) -> Via {
    Via::Hop(Box::new(hop))
}

pub(super) fn next_hop(id: u32, hop: Hop) -> Entry {
    Entry::NextHop(NextHop {
        id,
        protocol: PROTOCOL,
        hop,
    })
}

/// A route of table `main`; metric 128 where it is one of IPv6.
pub(super) fn route(to: &str, via: Via) -> Entry {
    let destination = prefix(to);
    let metric = if destination.is_ipv6() { 128 } else { 0 };
    route_with(to, metric, 254, via)
}

pub(super) fn route_with(to: &str, metric: u32, table: u32, via: Via) -> Entry {
    Entry::Route(Route {
        destination: prefix(to),
        table,
        metric,
        protocol: PROTOCOL,
        via,
    })
}

pub(super) fn neighbour(link: &str, address: &str, mac: &str) -> Entry {
    Entry::Neighbour(Neighbour {
        link: link.into(),
        address: ip(address),
        mac: mac.parse().expect("a hardware address"),
    })
}

pub(super) fn fdb(link: &str, mac: &str, remote: &str) -> Entry {
    Entry::Fdb(FdbEntry {
        link: link.into(),
        mac: mac.parse().expect("a hardware address"),
        remote: ip(remote),
    })
}

pub(super) fn rule(priority: u32, source: &str, table: u32) -> Entry {
    Entry::Rule(PolicyRule {
        priority,
        source: prefix(source),
        table,
        protocol: PROTOCOL,
    })
}
