//! Fabrics that are just large enough: one for each way in which entries depend on each other.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::cluster::Node;
use crate::error::Result;
use crate::fabric::tables::{self, Inner, Purpose, Tunnel};
use crate::fabric::{Base, Census, Fabric, Facts, Item, NextHopIds, Owner, Reach, vtep_mac};
use crate::host::forwarding::{
    Encap, Entry, FdbEntry, Hop, Neighbour, NextHop, PolicyRule, Route, Via,
};
use crate::host::netlink::{NewLinkKind, Vxlan};
use crate::plan::{LinkSpec, Object, Place};

pub(super) const PROTOCOL: u8 = 167;
pub(super) const DEVICE: &str = "vx0";

const PURPOSE: Purpose = Purpose {
    masquerade: true,
    filter: Some(Tunnel {
        port: 8472,
        vni: 1,
        inner: Inner::Ethernet,
    }),
};

/// How peers are reached, and by which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiny {
    way: Way,
    device: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// An encapsulating next hop for each peer, and routes of both families by it.
    Flow,
    /// Forwarding entry, neighbours, next hops, routes.
    Classic,
    /// Routes with the next hop inside, and a metric for each peer.
    Inline,
}

pub(super) const FLOW: Tiny = Tiny::of(Way::Flow);
pub(super) const CLASSIC: Tiny = Tiny::of(Way::Classic);
pub(super) const INLINE: Tiny = Tiny::of(Way::Inline);
pub(super) const ALL: [Tiny; 3] = [FLOW, CLASSIC, INLINE];

impl Tiny {
    const fn of(way: Way) -> Self {
        let device = DEVICE;
        Self { way, device }
    }

    /// The same by a device of another name.
    pub(super) fn elsewhere(self) -> Self {
        let device = "vx9";
        Self { device, ..self }
    }

    pub(super) fn hops_by_address(self) -> bool {
        self.way == Way::Flow
    }
}

impl Fabric for Tiny {
    fn owner(&self) -> Owner {
        Owner {
            network: "pods".parse().unwrap(),
            protocol: PROTOCOL,
            devices: vec![self.device.to_owned()],
            table: tables::table(&"pods".parse().unwrap()),
        }
    }

    fn base(&self, me: &Node, census: &Census, facts: &Facts) -> Result<Base> {
        let network = self.owner().network;
        let mut base = Base {
            table: PURPOSE.spec(&network, &me.prefixes, None, census),
            device: Some(self.device.into()),
            hops_by_address: self.hops_by_address(),
            mtu: 1400,
            choices: vec![format!("IPv6 {}", facts.ipv6)],
            ..Base::default()
        };
        let flow = self.way == Way::Flow;
        let mut vxlan = if flow {
            Vxlan::flow(4790)
        } else {
            Vxlan::new(1, 8472)
        };
        vxlan.local = me.underlay(false).filter(|_| !flow);
        let mut link = LinkSpec::new(self.device, Some(NewLinkKind::Vxlan(vxlan)));
        link.mtu = Some(base.mtu);
        link.alias = Some(network.shared_alias());
        base.desired.share(Place::Host, Object::Link(link));
        base.desired.share(
            Place::Host,
            Object::Sysctl {
                key: "net/ipv4/ip_forward".to_owned(),
                value: "1".to_owned(),
            },
        );
        base.items = me.prefixes.iter().map(|prefix| own(*prefix)).collect();
        let rules = me.prefixes.iter().map(|prefix| {
            Item::Entry(Entry::Rule(PolicyRule {
                priority: 31_000,
                source: *prefix,
                table: u32::from(PROTOCOL),
                protocol: PROTOCOL,
            }))
        });
        base.items.extend(rules);
        PURPOSE.own(me, &mut base.items);
        Ok(base)
    }

    fn peer(
        &self,
        _me: &Node,
        _base: &Base,
        _facts: &Facts,
        ids: &dyn NextHopIds,
        peer: &Node,
    ) -> Reach {
        let Some(underlay) = peer.underlay(false) else {
            return Reach {
                items: Vec::new(),
                missing: vec!["it has no IPv4 underlay address".to_owned()],
            };
        };
        let link: Arc<str> = self.device.into();
        let mut items = Vec::new();
        let both = tables::Way {
            direct: true,
            outer: Some(underlay),
        };
        PURPOSE.peer(peer, both, &mut items);
        if self.way == Way::Classic {
            items.push(Item::Entry(Entry::Fdb(FdbEntry {
                link: link.clone(),
                mac: vtep_mac(peer),
                remote: underlay,
            })));
        }
        if self.way == Way::Flow {
            let hop = Hop {
                link: link.clone(),
                gateway: None,
                onlink: false,
                encap: Some(Encap {
                    id: 1,
                    remote: underlay,
                    source: None,
                    checksum: false,
                }),
            };
            items.push(next_hop(ids.id(peer, true), hop));
        }
        for ipv6 in [false, true] {
            let of_family = |prefix: &&IpNetwork| prefix.is_ipv6() == ipv6;
            let prefixes: Vec<IpNetwork> =
                peer.prefixes.iter().filter(of_family).copied().collect();
            let Some(first) = prefixes.first() else {
                continue;
            };
            if self.way == Way::Classic {
                items.push(Item::Entry(Entry::Neighbour(Neighbour {
                    link: link.clone(),
                    address: first.network(),
                    mac: vtep_mac(peer),
                })));
                items.push(next_hop(ids.id(peer, ipv6), via(&link, first.network())));
            }
            // A route inside takes a gateway of its own family.
            let gateway = if ipv6 { first.network() } else { underlay };
            for prefix in prefixes {
                let (metric, via) = match self.way {
                    Way::Flow => (0, Via::NextHop(ids.id(peer, true))),
                    Way::Classic => (0, Via::NextHop(ids.id(peer, ipv6))),
                    Way::Inline => (ids.id(peer, false), Via::Hop(Box::new(via(&link, gateway)))),
                };
                items.push(route(prefix, metric + u32::from(ipv6) * 128, via));
            }
        }
        Reach {
            items,
            missing: Vec::new(),
        }
    }
}

fn via(link: &Arc<str>, gateway: IpAddr) -> Hop {
    Hop {
        link: link.clone(),
        gateway: Some(gateway),
        onlink: true,
        encap: None,
    }
}

fn next_hop(id: u32, hop: Hop) -> Item {
    Item::Entry(Entry::NextHop(NextHop {
        id,
        protocol: PROTOCOL,
        hop,
    }))
}

pub(super) fn route(destination: IpNetwork, metric: u32, via: Via) -> Item {
    Item::Entry(Entry::Route(Route {
        destination,
        table: 254,
        metric,
        protocol: PROTOCOL,
        via,
    }))
}

fn own(prefix: IpNetwork) -> Item {
    route(prefix, 4096, Via::Unreachable)
}
