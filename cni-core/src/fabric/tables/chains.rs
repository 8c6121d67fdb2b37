//! Chains and their rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::host::firewall::{
    Action, ChainKind, ChainSpec, Field, Hook, HookPoint, Match, Rule, Value,
};

use super::super::Census;
use super::sets::{FAMILIES, Set, from_sets, full_length, lengths};
use super::{FILTER, Inner, Tunnel};

/// `NF_IP_PRI_NAT_SRC`.
const SRCNAT: i32 = 100;
/// `NF_IP_PRI_RAW`: ahead of connection tracking (-200).
const RAW: i32 = -300;
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

pub(super) fn postrouting(own: &[IpNetwork], device: Option<&str>, census: &Census) -> ChainSpec {
    let into = |device: &str| {
        let name = Value::Interface(device.to_owned());
        Rule::new([Match::is(Field::OutputInterface, name)], Action::Return)
    };
    let mut rules: Vec<Rule> = device.map(into).into_iter().collect();
    for ipv6 in FAMILIES {
        let own: Vec<IpNetwork> = own
            .iter()
            .filter(|own| own.is_ipv6() == ipv6)
            .copied()
            .collect();
        if own.is_empty() {
            continue;
        }
        rules.push(Rule::new(
            [Match::within(destination(ipv6), multicast(ipv6))],
            Action::Return,
        ));
        // The node's own packets have these addresses, no pod has: a prefix's first address is nobody's.
        for prefix in &own {
            rules.push(Rule::new(
                [Match::is(source(ipv6), prefix.network().into())],
                Action::Return,
            ));
        }
        for length in lengths(census, ipv6) {
            let masked = masked_destination(ipv6, *length);
            let known = Match::in_set(vec![masked], &*Set::Pods(ipv6, *length).name());
            rules.push(Rule::new([known], Action::Return));
        }
        let node = Match::in_set(vec![destination(ipv6)], &*Set::Nodes(ipv6).name());
        rules.push(Rule::new([node], Action::Return));
        let sources = own
            .iter()
            .map(|prefix| Match::within(source(ipv6), *prefix));
        rules.extend(sources.map(|from| Rule::new([from], Action::Masquerade)));
    }
    let hook = Hook {
        kind: ChainKind::Nat,
        point: HookPoint::Postrouting,
        priority: SRCNAT,
    };
    ChainSpec::base("postrouting", hook, rules)
}

/// What carries the packets of pods is no connection: each of those has a port of its own there, and none has an answer. The
/// packets inside are tracked as any other.
pub(super) fn untracked(tunnel: &Tunnel) -> [ChainSpec; 2] {
    let carriers = || {
        [
            Match::is(Field::Protocol, Value::Protocol(UDP)),
            Match::is(Field::DestinationPort, Value::Port(tunnel.port)),
        ]
    };
    [
        ("untracked-in", HookPoint::Prerouting),
        ("untracked-out", HookPoint::Output),
    ]
    .map(|(name, point)| {
        let rules = vec![Rule::new(carriers(), Action::Notrack)];
        ChainSpec::base(name, filter(point, RAW), rules)
    })
}

pub(super) fn input(tunnel: &Tunnel, census: &Census) -> ChainSpec {
    let drop = || Action::Drop { counter: true };
    let not = |field, value| Match::Is {
        field,
        value,
        negated: true,
    };
    let mut rules = vec![
        Rule::new([not(Field::Protocol, Value::Protocol(UDP))], Action::Return),
        Rule::new(
            [not(Field::DestinationPort, Value::Port(tunnel.port))],
            Action::Return,
        ),
    ];
    // What is admitted is nearly everything, and is asked no more than it has to be.
    rules.extend(from_sets(census).filter_map(|set| admitted(tunnel, set)));
    let another = || [not(VNI, Value::Vni(tunnel.vni))];
    match tunnel.inner {
        // Devices of several networks share a port: Flannel's, or another of ours, whose own chain tells who may speak to it.
        // What is nobody's the kernel drops (`vxlan_vs_find_vni`).
        Inner::Ethernet => rules.extend([
            Rule::new(another(), Action::Count),
            Rule::new(another(), Action::Return),
        ]),
        // This device takes packets of all VNIs, and has its port for itself.
        Inner::Ip => rules.push(Rule::new(another(), drop())),
    }
    for ipv6 in FAMILIES {
        // A peer speaks for itself: its outer address is there as an inner one, too.
        let itself = Set::From {
            outer: ipv6,
            inner: ipv6,
            length: full_length(ipv6),
        };
        let stranger = Match::InSet {
            fields: vec![source(ipv6), source(ipv6)],
            set: itself.name().to_string(),
            negated: true,
        };
        rules.push(Rule::new([stranger], drop()));
    }
    rules.push(Rule::new([], drop()));
    ChainSpec::base(FILTER, filter(HookPoint::Input, EARLY), rules)
}

fn filter(point: HookPoint, priority: i32) -> Hook {
    Hook {
        kind: ChainKind::Filter,
        point,
        priority,
    }
}

/// What a peer sends in this network for itself or for its pods.
fn admitted(tunnel: &Tunnel, set: Set) -> Option<Rule> {
    let Set::From {
        outer,
        inner,
        length,
    } = set
    else {
        return None;
    };
    let inside = tunnel.inner;
    let fields = vec![source(outer), inside.source(inner, length)];
    let from = Match::in_set(fields, &*set.name());
    let network = Match::is(VNI, Value::Vni(tunnel.vni));
    Some(Rule::new(
        [inside.carries(inner), network, from],
        Action::Return,
    ))
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
                Match::is(field, Value::Port(if ipv6 { 0x86dd } else { 0x0800 }))
            }
            // The last byte of the header's first word (`VXLAN_GPE_NP_IPV4`, `_IPV6`).
            Self::Ip => {
                let field = Field::Payload {
                    offset_bits: (8 + 3) * 8,
                    bytes: 1,
                    prefix: 8,
                };
                Match::is(field, Value::Protocol(if ipv6 { 2 } else { 1 }))
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

/// RFC 5771, RFC 4291.
fn multicast(ipv6: bool) -> IpNetwork {
    let (address, length) = match ipv6 {
        true => (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
        false => (Ipv4Addr::new(224, 0, 0, 0).into(), 4),
    };
    IpNetwork::new(address, length).unwrap_or(IpNetwork::from(address))
}
