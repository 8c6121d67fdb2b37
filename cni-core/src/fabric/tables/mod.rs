//! The network's nftables table: what is masqueraded, and what may come out of the tunnel.
//!
//! Its rules are constant in number, however many nodes there are. Prefixes are looked up in plain hash sets: the address is
//! masked to each length in use, nearly always one. An interval set would be rebuilt by the kernel for each change
//! (`nft_set_pipapo`), or searched in a tree.
//!
//! ```text
//! table inet cni_fabric_k3x7q2ab {
//!   set nodes4 { type ipv4_addr }                   # own addresses of nodes that are routed to directly
//!   set pods4_24 { type ipv4_addr }                 # their pod prefixes of this length
//!   set from44_24 { type ipv4_addr . ipv4_addr }    # peer . pod prefix behind it
//!   set from44_32 { type ipv4_addr . ipv4_addr }    # peer . address of its own
//!   chain postrouting {
//!     type nat hook postrouting priority 100;
//!     oifname vxlan.1 return                        # into the tunnel
//!     ip daddr 224.0.0.0/4 return
//!     ip saddr 10.244.1.0 return                    # the node itself
//!     ip daddr & 255.255.255.0 @pods4_24 return
//!     ip daddr @nodes4 return
//!     ip saddr 10.244.1.0/24 masquerade
//!   }
//!   chain untracked-in {
//!     type filter hook prerouting priority -300;
//!     meta l4proto 17 th dport 8472 notrack         # the tunnel itself; the same on the way out
//!   }
//!   chain input {
//!     type filter hook input priority -150;
//!     meta l4proto != 17 return
//!     th dport != 8472 return
//!     @th,224,16 0x800 @th,96,24 0x1 ip saddr . @th,336,32 & 255.255.255.0 @from44_24 return
//!     @th,224,16 0x800 @th,96,24 0x1 ip saddr . @th,336,32 @from44_32 return
//!     @th,96,24 != 0x1 counter                      # another network's, if there is one; the flow's port is its own:
//!     @th,96,24 != 0x1 return                       # there, these two are one `counter drop`
//!     ip saddr . ip saddr != @from44_32 counter drop  # not a peer
//!     counter drop                                  # a source that is not the peer's
//!   }
//! }
//! ```

//! Ten thousand elements are most of what a start costs, so a peer makes as few as can be: who speaks for an address of
//! its own is a peer, what goes into the tunnel is not masqueraded, and only one outer address is admitted.

mod chains;
mod sets;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::cluster::Node;
use crate::host::firewall::{Family, Table, TableSpec, TableState};
use crate::spec::NetworkName;
use crate::spec::names::{base32, hash128};

use super::census::Lengths;
use super::{Census, Item, Member};
use chains::{input, postrouting, untracked};
use sets::{Set, full_length, length_of, peer_sets, pod_sets};

/// The chain that sees to who sends to the tunnel.
pub(super) const FILTER: &str = "input";

/// What a network's table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// What leaves the cluster's pods and nodes gets this node's address.
    pub masquerade: bool,
    /// Only peers may speak to this tunnel, and only for themselves and their pods.
    pub filter: Option<Tunnel>,
}

/// A tunnel, as it is seen in a packet that arrives by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// UDP port.
    pub port: u16,
    /// VXLAN network identifier.
    pub vni: u32,
    /// What is inside.
    pub inner: Inner,
}

/// What is inside of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inner {
    /// Ethernet (VXLAN, RFC 7348).
    Ethernet,
    /// IP (VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe).
    Ip,
}

/// The lengths of pods' prefixes that the sets of a table are for.
pub(super) fn lengths(table: &TableState) -> Lengths {
    let mut lengths = Lengths::default();
    for (ipv6, length) in table.sets.iter().filter_map(|set| length_of(&set.name)) {
        let of_family = if ipv6 {
            &mut lengths.v6
        } else {
            &mut lengths.v4
        };
        of_family.insert(length);
    }
    lengths
}

/// The network's table.
pub fn table(network: &NetworkName) -> Table {
    let mut name = String::from("cni_fabric_");
    base32(hash128(&["fabric", network.as_str()]) as u64, 8, &mut name);
    Table {
        family: Family::Inet,
        name,
    }
}

/// How a peer is reached, and how it reaches this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// Its packets come and go by another link than the tunnel's: then its addresses have to be known.
    pub direct: bool,
    /// The underlay address that its tunnelled packets come from, were it to send some.
    pub outer: Option<IpAddr>,
}

impl Purpose {
    /// The table on a node whose pods have the `own` prefixes, and whose tunnel is this device; `None` where it is for
    /// nothing.
    pub fn spec(
        &self,
        network: &NetworkName,
        own: &[IpNetwork],
        device: Option<&str>,
        census: &Census,
    ) -> Option<TableSpec> {
        let mut spec = TableSpec {
            table: table(network),
            sets: Vec::new(),
            chains: Vec::new(),
        };
        if self.masquerade {
            spec.sets.extend(pod_sets(census));
            spec.chains.push(postrouting(own, device, census));
        }
        if let Some(tunnel) = &self.filter {
            spec.sets.extend(peer_sets(census));
            spec.chains.extend(untracked(tunnel));
            spec.chains.push(input(tunnel, census));
        }
        (!spec.chains.is_empty()).then_some(spec)
    }

    /// The members that this node's own entry makes.
    pub fn own(&self, me: &Node, items: &mut Vec<Item>) {
        if self.masquerade {
            pods(me, items);
        }
    }

    /// The members that a peer makes.
    pub fn peer(&self, peer: &Node, way: Way, items: &mut Vec<Item>) {
        if self.masquerade && way.direct {
            pods(peer, items);
        }
        let Some(outer) = way.outer.filter(|_| self.filter.is_some()) else {
            return;
        };
        for prefix in &peer.prefixes {
            items.push(from(outer, prefix.network(), prefix.prefix()));
        }
        for address in peer.own_addresses() {
            items.push(from(outer, address, full_length(address.is_ipv6())));
        }
    }
}

fn pods(node: &Node, items: &mut Vec<Item>) {
    for prefix in &node.prefixes {
        let set = Set::Pods(prefix.is_ipv6(), prefix.prefix());
        items.push(member(set, prefix.network(), None));
    }
    for address in node.own_addresses() {
        items.push(member(Set::Nodes(address.is_ipv6()), address, None));
    }
}

fn from(outer: IpAddr, inner: IpAddr, length: u8) -> Item {
    let set = Set::From {
        outer: outer.is_ipv6(),
        inner: inner.is_ipv6(),
        length,
    };
    member(set, outer, Some(inner))
}

fn member(set: Set, first: IpAddr, second: Option<IpAddr>) -> Item {
    Item::Member(Member {
        set: set.name(),
        first,
        second,
    })
}
