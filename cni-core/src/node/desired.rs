//! Pure functions from which a fabric's declaration is made.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::accept;
use crate::cluster::Node;
use crate::error::{Error, ErrorKind};
use crate::fabric::{Census, Facts, Item, NextHopIds, Reach, Uplink, tables};
use crate::host::forwarding::{Entry, Hop, NextHop, PolicyRule, Route, Via};
use crate::host::netlink;
use crate::plan::{Desired, Object, Place};
use crate::spec::NetworkName;

/// Metric of the route that keeps unused addresses of an own prefix from leaving by the default route: the inner
/// attachment's own routes are better.
pub const UNREACHABLE_METRIC: u32 = 4096;

/// Metric of our IPv6 routes to peers: better than the 1024 that an administrator's or a router advertisement's have.
pub const IPV6_METRIC: u32 = 128;

/// Priority of our policy rules: asked before table `main` (32766), after most other programs' rules.
pub const RULE_PRIORITY: u32 = 31_000;

/// The smallest MTU of a link that speaks IPv6 (RFC 8200 section 5).
pub const IPV6_MIN_MTU: u32 = 1280;

/// How routes to peers are expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// Whose they are, an `RTPROT_*` number.
    pub protocol: u8,
    /// By next-hop objects. Without them each route has its next hop inline, and IPv4 routes have a metric for each peer:
    /// the kernel looks next hops up by everything but gateway and encapsulation (`fib_info_hashfn`), so that routes of one
    /// metric on one link cost the square of their number.
    pub objects: bool,
}

impl Routing {
    /// Routes to `destinations`, each in a table, by one next hop.
    pub fn through(
        self,
        id: u32,
        hop: Hop,
        destinations: &[(IpNetwork, u32)],
        items: &mut Vec<Item>,
    ) {
        if destinations.is_empty() {
            return;
        }
        if self.objects {
            items.push(Item::Entry(Entry::NextHop(NextHop {
                id,
                protocol: self.protocol,
                hop: hop.clone(),
            })));
        }
        for &(destination, table) in destinations {
            let metric = match (destination, self.objects) {
                (IpNetwork::V6(_), _) => IPV6_METRIC,
                (IpNetwork::V4(_), true) => 0,
                (IpNetwork::V4(_), false) => id,
            };
            let via = match self.objects {
                true => Via::NextHop(id),
                false => Via::Hop(Box::new(hop.clone())),
            };
            items.push(Item::Entry(Entry::Route(Route {
                destination,
                table,
                metric,
                protocol: self.protocol,
                via,
            })));
        }
    }

    /// Routes to a peer in the same segment: through its underlay address, for each family of its pods. With next-hop
    /// objects IPv4 pods are also reached through an IPv6 address.
    pub fn direct(self, me: &Node, facts: &Facts, ids: &dyn NextHopIds, peer: &Node) -> Reach {
        let (mut items, mut missing) = (Vec::new(), Vec::new());
        let (mut by4, mut by6) = (Vec::new(), Vec::new());
        let (hop4, hop6) = (hop(me, facts, peer, false), hop(me, facts, peer, true));
        for ipv6 in [false, true] {
            let prefixes = prefixes(peer, ipv6).map(|prefix| (prefix, netlink::Route::MAIN));
            let prefixes: Vec<_> = prefixes.filter(|_| facts.ipv6 || !ipv6).collect();
            match (ipv6, &hop4, &hop6) {
                _ if prefixes.is_empty() => {}
                (false, Ok(_), _) => by4 = prefixes,
                (false, Err(_), Ok(_)) if self.objects => by6.extend(prefixes),
                (true, _, Ok(_)) => by6.extend(prefixes),
                (false, Err(reason), _) | (true, _, Err(reason)) => missing.push(reason.clone()),
            }
        }
        if let Ok(hop) = hop4 {
            self.through(ids.id(peer, false), hop, &by4, &mut items);
        }
        if let Ok(hop) = hop6 {
            self.through(ids.id(peer, true), hop, &by6, &mut items);
        }
        missing.dedup();
        Reach { items, missing }
    }
}

/// The next hop to a peer in the same segment.
fn hop(me: &Node, facts: &Facts, peer: &Node, ipv6: bool) -> Result<Hop, String> {
    let name = &peer.name;
    let Some(address) = peer.underlay(ipv6) else {
        return Err(format!(
            "node {name} has no {} address in the underlay",
            family(ipv6)
        ));
    };
    match segment(facts, address) {
        Some(uplink) if uplink.up => Ok(Hop {
            link: uplink.link.clone(),
            gateway: Some(address),
            onlink: false,
            encap: None,
        }),
        Some(uplink) => Err(format!(
            "{}, which leads to {address} of node {name}, is down",
            uplink.link
        )),
        None => Err(format!(
            "{address} of node {name} is not in a segment of this node ({}), and a direct route needs that",
            segments(me, facts, ipv6)
        )),
    }
}

/// The link in whose segment an address is: by the longest prefix that holds it; of equals one that is up, then the one that
/// has been there longest.
pub fn segment(facts: &Facts, address: IpAddr) -> Option<&Uplink> {
    let holding = facts.uplinks.iter().filter_map(|uplink| {
        let prefixes = uplink
            .on_link
            .iter()
            .filter(|prefix| prefix.contains(address));
        let longest = prefixes.map(IpNetwork::prefix).max()?;
        Some((longest, uplink))
    });
    holding
        .max_by_key(|(longest, uplink)| (*longest, uplink.up, u32::MAX - uplink.index))
        .map(|(_, uplink)| uplink)
}

/// The segments that the node's own underlay addresses are in, for people.
fn segments(me: &Node, facts: &Facts, ipv6: bool) -> String {
    let own = facts
        .uplinks
        .iter()
        .filter(|uplink| me.underlay.iter().any(|own| uplink.addresses.contains(own)));
    let words = own.flat_map(|uplink| {
        let prefixes = uplink
            .on_link
            .iter()
            .filter(|prefix| prefix.is_ipv6() == ipv6);
        prefixes.map(|prefix| format!("{}: {prefix}", uplink.link))
    });
    let words: Vec<String> = words.take(4).collect();
    match words.is_empty() {
        true => format!("none has {} addresses", family(ipv6)),
        false => words.join(", "),
    }
}

/// The link that bears an address.
pub fn bearer(facts: &Facts, address: IpAddr) -> Option<&Uplink> {
    facts
        .uplinks
        .iter()
        .find(|uplink| uplink.addresses.contains(&address))
}

/// What the underlay carries, in bytes: the smallest MTU of the links that bear `addresses`, and of what other nodes tell of
/// theirs. `None` when no link bears one of them.
pub fn underlay_mtu(addresses: &[IpAddr], census: &Census, facts: &Facts) -> Option<u32> {
    let links = addresses.iter().filter_map(|own| bearer(facts, *own));
    let own = links.map(|uplink| uplink.mtu).min()?;
    Some(census.mtu.map_or(own, |mtu| mtu.min(own)))
}

/// The node is not where the cluster has it.
pub fn no_bearer(me: &Node, addresses: &[IpAddr]) -> Error {
    let message = format!(
        "no link of this host bears {}, which the cluster has as the underlay address of node {}: correct the entry, or \
         give the host the address",
        words(addresses),
        me.name
    );
    Error::new(ErrorKind::NotAvailable, message)
}

/// Addresses, for people.
pub fn words(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    match words.is_empty() {
        true => "no address".to_owned(),
        false => words.join(" and "),
    }
}

/// A node's prefixes of one family.
pub fn prefixes(node: &Node, ipv6: bool) -> impl Iterator<Item = IpNetwork> {
    let all = node.prefixes.iter().copied();
    all.filter(move |prefix| prefix.is_ipv6() == ipv6)
}

/// The address of a node's VTEP: the base address of its first prefix of the family, as Flannel has it.
pub fn vtep_address(node: &Node, ipv6: bool) -> Option<IpAddr> {
    prefixes(node, ipv6).next().map(|prefix| prefix.network())
}

/// Declares that all that this node's pods send and are sent passes the host's own rules for forwarded packets ([`accept`]).
pub fn accepted(desired: &mut Desired, network: &NetworkName, me: &Node, facts: &Facts) {
    let mut own: Vec<IpNetwork> = prefixes(me, false).collect();
    own.extend(prefixes(me, true).filter(|_| facts.ipv6));
    accept::declare_prefixes(desired, &tables::table(network), &own);
}

/// The node passes packets on, in each family that its pods have.
pub fn forwarding(desired: &mut Desired, me: &Node, facts: &Facts) {
    if prefixes(me, false).next().is_some() {
        parameter(desired, "net/ipv4/ip_forward", "1");
    }
    if facts.ipv6 && prefixes(me, true).next().is_some() {
        parameter(desired, "net/ipv6/conf/all/forwarding", "1");
    }
}

/// A kernel parameter of the host's.
pub fn parameter(desired: &mut Desired, key: &str, value: &str) {
    let (key, value) = (key.to_owned(), value.to_owned());
    desired.share(Place::Host, Object::Sysctl { key, value });
}

/// An address of an own prefix that no pod has never leaves by the default route.
pub fn unused_addresses(me: &Node, facts: &Facts, protocol: u8) -> Vec<Item> {
    let own = me.prefixes.iter().copied();
    own.filter(|prefix| facts.ipv6 || prefix.is_ipv4())
        .map(|destination| {
            Item::Entry(Entry::Route(Route {
                destination,
                table: netlink::Route::MAIN,
                metric: UNREACHABLE_METRIC,
                protocol,
                via: Via::Unreachable,
            }))
        })
        .collect()
}

/// What this node's pods send to peers' own addresses is looked up in the table of that number first.
pub fn rules(me: &Node, facts: &Facts, protocol: u8) -> Vec<Item> {
    let own = me.prefixes.iter().copied();
    own.filter(|prefix| facts.ipv6 || prefix.is_ipv4())
        .map(|source| {
            Item::Entry(Entry::Rule(PolicyRule {
                priority: RULE_PRIORITY,
                source,
                table: u32::from(protocol),
                protocol,
            }))
        })
        .collect()
}

/// `IPv4` or `IPv6`.
pub fn family(ipv6: bool) -> &'static str {
    match ipv6 {
        false => "IPv4",
        true => "IPv6",
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
