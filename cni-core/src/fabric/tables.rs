//! The network's nftables table: what is masqueraded, and what may come out of the tunnel.
//!
//! Its rules are constant in number, however many nodes there are. Prefixes are looked up in plain hash sets: the address is
//! masked to each length in use, nearly always one. An interval set would be rebuilt by the kernel for each change
//! (`nft_set_pipapo`), or searched in a tree.
//!
//! ```text
//! table inet cni_fabric_k3x7q2ab {
//!   set nodes4 { type ipv4_addr }                   # every node's own addresses
//!   set pods4_24 { type ipv4_addr }                 # every node's pod prefixes of this length
//!   set peers4 { type ipv4_addr }                   # who may speak to the tunnel
//!   set from44_24 { type ipv4_addr . ipv4_addr }    # peer . pod prefix behind it
//!   set from44_32 { type ipv4_addr . ipv4_addr }    # peer . address of its own
//!   chain postrouting {
//!     type nat hook postrouting priority 100;
//!     ip daddr 224.0.0.0/4 return
//!     ip saddr 10.244.1.0 return                    # the node itself
//!     ip daddr & 255.255.255.0 @pods4_24 return
//!     ip daddr @nodes4 return
//!     ip saddr 10.244.1.0/24 masquerade
//!   }
//!   chain input {
//!     type filter hook input priority -150;
//!     meta l4proto != 17 return
//!     th dport != 8472 return
//!     ip saddr != @peers4 counter drop              # not a peer
//!     @th,96,24 != 0x1 counter drop                 # another VNI
//!     @th,224,16 0x800 ip saddr . @th,336,32 & 255.255.255.0 @from44_24 return
//!     @th,224,16 0x800 ip saddr . @th,336,32 @from44_32 return
//!     counter drop                                  # a source that is not the peer's
//!   }
//! }
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use ipnetwork::IpNetwork;

use crate::cluster::Node;
use crate::host::firewall::{
    Action, ChainKind, ChainSpec, Family, Field, Hook, HookPoint, Match, Rule, SetSpec, Table,
    TableSpec, Value, ValueType,
};
use crate::spec::NetworkName;
use crate::spec::names::{base32, hash128};

use super::{Census, Item, Member};

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

/// The network's table.
pub fn table(network: &NetworkName) -> Table {
    let mut name = String::from("cni_fabric_");
    base32(hash128(&["fabric", network.as_str()]) as u64, 8, &mut name);
    Table {
        family: Family::Inet,
        name,
    }
}

impl Purpose {
    /// The table on a node whose pods have the `own` prefixes; `None` where it is for nothing.
    pub fn spec(
        &self,
        network: &NetworkName,
        own: &[IpNetwork],
        census: &Census,
    ) -> Option<TableSpec> {
        let mut spec = TableSpec {
            table: table(network),
            sets: Vec::new(),
            chains: Vec::new(),
        };
        if self.masquerade {
            spec.sets.extend(pod_sets(census));
            spec.chains.push(postrouting(own, census));
        }
        if let Some(tunnel) = &self.filter {
            spec.sets.extend(peer_sets(census));
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
    pub fn peer(&self, peer: &Node, items: &mut Vec<Item>) {
        if self.masquerade {
            pods(peer, items);
        }
        if self.filter.is_none() {
            return;
        }
        for outer in peer.underlay.iter().copied() {
            items.push(member(Set::Peers(outer.is_ipv6()), outer, None));
            for prefix in &peer.prefixes {
                items.push(from(outer, prefix.network(), prefix.prefix()));
            }
            for address in peer.own_addresses() {
                items.push(from(outer, address, full_length(address.is_ipv6())));
            }
        }
    }
}

/// The sets of the table. `bool` is whether it is IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Nodes(bool),
    Pods(bool, u8),
    Peers(bool),
    From {
        outer: bool,
        inner: bool,
        length: u8,
    },
}

const FAMILIES: [bool; 2] = [false, true];

/// `NF_IP_PRI_NAT_SRC`.
const SRCNAT: i32 = 100;
/// `NF_IP_PRI_MANGLE`: ahead of the host's own filters (0).
const EARLY: i32 = -150;
const UDP: u8 = 17;

/// Bytes ahead of the inner packet, from the UDP header on: UDP and VXLAN.
const TUNNEL: u16 = 16;
/// Where the VNI is: behind the UDP header, flags and reserved bytes.
const VNI: Field = Field::Payload {
    offset_bits: 96,
    bytes: 3,
    prefix: 24,
};

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

fn pod_sets(census: &Census) -> Vec<SetSpec> {
    let mut sets = Vec::new();
    for ipv6 in FAMILIES {
        let lengths = lengths(census, ipv6).iter();
        sets.extend(lengths.map(|length| Set::Pods(ipv6, *length).spec()));
        sets.push(Set::Nodes(ipv6).spec());
    }
    sets
}

fn peer_sets(census: &Census) -> Vec<SetSpec> {
    let mut sets = FAMILIES.map(|ipv6| Set::Peers(ipv6).spec()).to_vec();
    sets.extend(from_sets(census).map(Set::spec));
    sets
}

fn from_sets(census: &Census) -> impl Iterator<Item = Set> {
    FAMILIES.into_iter().flat_map(move |outer| {
        FAMILIES.into_iter().flat_map(move |inner| {
            let mut lengths = lengths(census, inner).clone();
            lengths.insert(full_length(inner));
            lengths.into_iter().map(move |length| Set::From {
                outer,
                inner,
                length,
            })
        })
    })
}

fn postrouting(own: &[IpNetwork], census: &Census) -> ChainSpec {
    let mut rules = Vec::new();
    for ipv6 in FAMILIES {
        let own: Vec<IpNetwork> = own
            .iter()
            .filter(|own| own.is_ipv6() == ipv6)
            .copied()
            .collect();
        if own.is_empty() {
            continue;
        }
        rules.push(rule(
            within(destination(ipv6), multicast(ipv6)),
            Action::Return,
        ));
        // The node's own packets have these addresses, no pod has: a prefix's first address is nobody's.
        for prefix in &own {
            rules.push(rule(
                is(source(ipv6), address(prefix.network())),
                Action::Return,
            ));
        }
        for length in lengths(census, ipv6) {
            let masked = masked_destination(ipv6, *length);
            let known = Match::InSet {
                fields: vec![masked],
                set: Set::Pods(ipv6, *length).name().to_string(),
                negated: false,
            };
            rules.push(rule(known, Action::Return));
        }
        let node = Match::InSet {
            fields: vec![destination(ipv6)],
            set: Set::Nodes(ipv6).name().to_string(),
            negated: false,
        };
        rules.push(rule(node, Action::Return));
        let sources = own.iter().map(|prefix| within(source(ipv6), *prefix));
        rules.extend(sources.map(|from| rule(from, Action::Masquerade)));
    }
    chain(
        "postrouting",
        ChainKind::Nat,
        HookPoint::Postrouting,
        SRCNAT,
        rules,
    )
}

fn input(tunnel: &Tunnel, census: &Census) -> ChainSpec {
    let drop = || Action::Drop { counter: true };
    let not = |field, value| Match::Is {
        field,
        value,
        negated: true,
    };
    let mut rules = vec![
        rule(not(Field::Protocol, Value::Protocol(UDP)), Action::Return),
        rule(
            not(Field::DestinationPort, Value::Port(tunnel.port)),
            Action::Return,
        ),
    ];
    for ipv6 in FAMILIES {
        let stranger = Match::InSet {
            fields: vec![source(ipv6)],
            set: Set::Peers(ipv6).name().to_string(),
            negated: true,
        };
        rules.push(rule(stranger, drop()));
    }
    rules.push(rule(not(VNI, Value::Vni(tunnel.vni)), drop()));
    rules.extend(from_sets(census).filter_map(|set| admitted(tunnel.inner, set)));
    rules.push(Rule {
        matches: Vec::new(),
        action: drop(),
    });
    chain("input", ChainKind::Filter, HookPoint::Input, EARLY, rules)
}

/// What a peer sends for itself or for its pods.
fn admitted(inside: Inner, set: Set) -> Option<Rule> {
    let Set::From {
        outer,
        inner,
        length,
    } = set
    else {
        return None;
    };
    let from = Match::InSet {
        fields: vec![source(outer), inside.source(inner, length)],
        set: set.name().to_string(),
        negated: false,
    };
    Some(Rule {
        matches: vec![inside.carries(inner), from],
        action: Action::Return,
    })
}

impl Inner {
    /// That an IP packet of this family is inside.
    fn carries(self, ipv6: bool) -> Match {
        match self {
            // Behind both hardware addresses. `ETH_P_IP`, `ETH_P_IPV6`.
            Self::Ethernet => {
                let field = Field::Payload {
                    offset_bits: (TUNNEL + 12) * 8,
                    bytes: 2,
                    prefix: 16,
                };
                is(field, Value::Port(if ipv6 { 0x86dd } else { 0x0800 }))
            }
            // The last byte of the header's first word (`VXLAN_GPE_NP_IPV4`, `_IPV6`).
            Self::Ip => {
                let field = Field::Payload {
                    offset_bits: (8 + 3) * 8,
                    bytes: 1,
                    prefix: 8,
                };
                is(field, Value::Protocol(if ipv6 { 2 } else { 1 }))
            }
        }
    }

    /// The inner source address, masked to `length` bits.
    fn source(self, ipv6: bool, length: u8) -> Field {
        let header = match self {
            Self::Ethernet => TUNNEL + 14,
            Self::Ip => TUNNEL,
        };
        let (offset, bytes) = if ipv6 { (8, 16) } else { (12, 4) };
        Field::Payload {
            offset_bits: (header + offset) * 8,
            bytes,
            prefix: length,
        }
    }
}

impl Set {
    fn spec(self) -> SetSpec {
        let of = |ipv6| {
            if ipv6 {
                ValueType::Ipv6
            } else {
                ValueType::Ipv4
            }
        };
        let key = match self {
            Self::Nodes(ipv6) | Self::Pods(ipv6, _) | Self::Peers(ipv6) => vec![of(ipv6)],
            Self::From { outer, inner, .. } => vec![of(outer), of(inner)],
        };
        SetSpec {
            name: self.name().to_string(),
            key,
            data: None,
        }
    }

    /// Its name, of which there is one copy in the process: ten thousand members bear it.
    fn name(self) -> Arc<str> {
        static NAMES: [OnceLock<Arc<str>>; Set::PLACES] = [const { OnceLock::new() }; Set::PLACES];
        let text = || -> Arc<str> {
            let digit = |ipv6| if ipv6 { '6' } else { '4' };
            match self {
                Self::Nodes(ipv6) => format!("nodes{}", digit(ipv6)),
                Self::Pods(ipv6, length) => format!("pods{}_{length}", digit(ipv6)),
                Self::Peers(ipv6) => format!("peers{}", digit(ipv6)),
                Self::From {
                    outer,
                    inner,
                    length,
                } => format!("from{}{}_{length}", digit(outer), digit(inner)),
            }
            .into()
        };
        match NAMES.get(self.place()) {
            Some(name) => name.get_or_init(text).clone(),
            None => text(),
        }
    }

    /// A number of its own, below [`Set::PLACES`] for lengths up to 255.
    fn place(self) -> usize {
        let (kind, length) = match self {
            Self::Nodes(ipv6) => (usize::from(ipv6), 0),
            Self::Peers(ipv6) => (usize::from(ipv6), 1),
            Self::Pods(ipv6, length) => (2 + usize::from(ipv6), length),
            Self::From {
                outer,
                inner,
                length,
            } => (4 + 2 * usize::from(outer) + usize::from(inner), length),
        };
        kind << 8 | usize::from(length)
    }

    const PLACES: usize = 8 << 8;
}

fn chain(
    name: &str,
    kind: ChainKind,
    point: HookPoint,
    priority: i32,
    rules: Vec<Rule>,
) -> ChainSpec {
    ChainSpec {
        name: name.to_owned(),
        hook: Some(Hook {
            kind,
            point,
            priority,
        }),
        rules,
    }
}

fn rule(condition: Match, action: Action) -> Rule {
    Rule {
        matches: vec![condition],
        action,
    }
}

fn within(field: Field, prefix: IpNetwork) -> Match {
    Match::Prefix {
        field,
        prefix,
        negated: false,
    }
}

fn is(field: Field, value: Value) -> Match {
    Match::Is {
        field,
        value,
        negated: false,
    }
}

fn source(ipv6: bool) -> Field {
    if ipv6 {
        Field::Ipv6Source
    } else {
        Field::Ipv4Source
    }
}

fn destination(ipv6: bool) -> Field {
    if ipv6 {
        Field::Ipv6Destination
    } else {
        Field::Ipv4Destination
    }
}

fn masked_destination(ipv6: bool, length: u8) -> Field {
    if ipv6 {
        Field::Ipv6DestinationNet(length)
    } else {
        Field::Ipv4DestinationNet(length)
    }
}

fn address(address: IpAddr) -> Value {
    match address {
        IpAddr::V4(address) => Value::Ipv4(address),
        IpAddr::V6(address) => Value::Ipv6(address),
    }
}

/// RFC 5771, RFC 4291.
fn multicast(ipv6: bool) -> IpNetwork {
    let (address, length) = match ipv6 {
        true => (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
        false => (Ipv4Addr::new(224, 0, 0, 0).into(), 4),
    };
    IpNetwork::new(address, length).unwrap_or(IpNetwork::from(address))
}

fn lengths(census: &Census, ipv6: bool) -> &BTreeSet<u8> {
    if ipv6 {
        &census.lengths6
    } else {
        &census.lengths4
    }
}

fn full_length(ipv6: bool) -> u8 {
    if ipv6 { 128 } else { 32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeUid;

    fn census() -> Census {
        Census {
            lengths4: [24].into(),
            lengths6: [64].into(),
            ..Census::default()
        }
    }

    fn tunnel(inner: Inner) -> Purpose {
        let filter = Some(Tunnel {
            port: 8472,
            vni: 1,
            inner,
        });
        Purpose {
            masquerade: true,
            filter,
        }
    }

    fn text(purpose: Purpose) -> String {
        let own = ["10.244.1.0/24", "fd00:244:1::/64"].map(|own| own.parse().unwrap());
        let spec = purpose
            .spec(&"pods".parse().unwrap(), &own, &census())
            .unwrap();
        let mut lines = Vec::new();
        for chain in &spec.chains {
            lines.push(chain.name.clone());
            lines.extend(chain.rules.iter().map(|rule| format!("  {rule}")));
        }
        lines.join("\n")
    }

    fn node() -> Node {
        let mut node = Node::new(NodeUid::new("u"), "n2");
        node.prefixes = ["10.244.2.0/24", "fd00:244:2::/64"]
            .map(|own| own.parse().unwrap())
            .into();
        node.underlay = vec!["192.0.2.2".parse().unwrap()];
        node.addresses = vec!["2001:db8::2".parse().unwrap()];
        node
    }

    fn members(add: impl Fn(&mut Vec<Item>)) -> Vec<String> {
        let mut items = Vec::new();
        add(&mut items);
        let words = |item: &Item| match item {
            Item::Member(member) => format!("{} {member}", member.set),
            Item::Entry(entry) => panic!("{entry:?}"),
        };
        items.iter().map(words).collect()
    }

    #[test]
    fn a_peer_may_send_for_its_pods_and_for_itself() {
        let (purpose, node) = (tunnel(Inner::Ethernet), node());
        let pods = [
            "pods4_24 10.244.2.0",
            "pods6_64 fd00:244:2::",
            "nodes4 192.0.2.2",
            "nodes6 2001:db8::2",
        ];
        assert_eq!(members(|items| purpose.own(&node, items)), pods);
        let all = members(|items| purpose.peer(&node, items));
        assert_eq!(all[..4], pods);
        assert_eq!(
            all[4..],
            [
                "peers4 192.0.2.2",
                "from44_24 192.0.2.2 . 10.244.2.0",
                "from46_64 192.0.2.2 . fd00:244:2::",
                "from44_32 192.0.2.2 . 192.0.2.2",
                "from46_128 192.0.2.2 . 2001:db8::2",
            ]
        );
    }

    #[test]
    fn every_member_has_its_set() {
        for inner in [Inner::Ethernet, Inner::Ip] {
            let purpose = tunnel(inner);
            let spec = purpose
                .spec(&"pods".parse().unwrap(), &[], &census())
                .unwrap();
            let mut items = Vec::new();
            purpose.own(&node(), &mut items);
            purpose.peer(&node(), &mut items);
            for item in items {
                let Item::Member(member) = item else { panic!() };
                let found = spec.sets.iter().find(|set| *set.name == *member.set);
                let parts = 1 + usize::from(member.second.is_some());
                assert_eq!(found.map(|set| set.key.len()), Some(parts), "{member:?}");
            }
        }
    }

    #[test]
    fn the_classic_table_reads_inner_sources_behind_an_ethernet_header() {
        insta::assert_snapshot!(text(tunnel(Inner::Ethernet)));
    }

    #[test]
    fn the_flows_table_reads_inner_sources_behind_the_gpe_header() {
        insta::assert_snapshot!(text(tunnel(Inner::Ip)));
    }

    #[test]
    fn a_table_for_nothing_is_none() {
        let purpose = Purpose {
            masquerade: false,
            filter: None,
        };
        assert_eq!(purpose.spec(&"pods".parse().unwrap(), &[], &census()), None);
        assert_eq!(members(|items| purpose.peer(&node(), items)), [""; 0]);
    }

    #[test]
    fn two_networks_have_two_tables() {
        assert_ne!(table(&"a".parse().unwrap()), table(&"b".parse().unwrap()));
    }
}
