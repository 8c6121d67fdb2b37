//! A fabric that is just large enough for every kind of entry.

use std::net::IpAddr;
use std::sync::Arc;

use cni_core::Result;
use cni_core::cluster::Node;
use cni_core::fabric::tables::{self, Inner, Purpose, Tunnel};
use cni_core::fabric::{Base, Census, Fabric, Facts, Item, NextHopIds, Owner, Reach, vtep_mac};
use cni_core::host::forwarding::*;
use cni_core::host::netlink::{Address, NewLinkKind, Vxlan};
use cni_core::ipnetwork::IpNetwork;
use cni_core::plan::{LinkSpec, Object, Place};

pub(crate) const PROTOCOL: u8 = 167;
pub(crate) const NETWORK: &str = "pods";
const MAIN: u32 = 254;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Forwarding entry, neighbours and next hops by a VXLAN device.
    Classic,
    /// One encapsulating next hop by a collect-metadata device.
    Flow,
    /// Next hops in the uplink's segment.
    HostGateway,
}

pub(crate) const ALL: [Way; 3] = [Way::Classic, Way::Flow, Way::HostGateway];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiny {
    pub(crate) way: Way,
    pub(crate) device: &'static str,
}

impl Tiny {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, device: "vx0" }
    }

    fn purpose(self) -> Purpose {
        let tunnel = match self.way {
            Way::Classic => Some((8472, Inner::Ethernet)),
            Way::Flow => Some((4790, Inner::Ip)),
            Way::HostGateway => None,
        };
        Purpose {
            masquerade: true,
            filter: tunnel.map(|(port, inner)| Tunnel {
                port,
                vni: 1,
                inner,
            }),
        }
    }

    fn link(self) -> LinkName {
        match self.way {
            Way::HostGateway => "eth0".into(),
            _ => self.device.into(),
        }
    }

    fn declare_device(self, me: &Node, base: &mut Base) {
        let mut vxlan = Vxlan::flow(4790);
        if self.way == Way::Classic {
            vxlan = Vxlan::new(1, 8472);
            vxlan.local = me.underlay(false);
        }
        let mut link = LinkSpec::new(self.device, Some(NewLinkKind::Vxlan(vxlan)));
        link.mtu = Some(base.mtu);
        link.mac = (self.way == Way::Classic).then(|| vtep_mac(me));
        link.alias = Some(self.owner().network.shared_alias());
        link.ipv6_link_local = false;
        base.desired.share(Place::Host, Object::Link(link));
        for prefix in &me.prefixes {
            let address = Address::new(self.device, IpNetwork::from(prefix.network()));
            base.desired.share(Place::Host, Object::Address(address));
        }
        base.device = Some(self.device.into());
    }

    fn hop(self, peer: &Node, ipv6: bool) -> Hop {
        let plain = Hop {
            link: self.link(),
            gateway: None,
            onlink: false,
            encap: None,
        };
        match self.way {
            Way::Flow => Hop {
                encap: Some(Encap {
                    id: 1,
                    remote: peer.underlay(false).unwrap(),
                    source: None,
                    checksum: false,
                }),
                ..plain
            },
            Way::Classic => Hop {
                gateway: Some(vtep(peer, ipv6).unwrap()),
                onlink: true,
                ..plain
            },
            Way::HostGateway => Hop {
                gateway: peer.underlay(ipv6),
                ..plain
            },
        }
    }

    fn resolve(self, peer: &Node, ipv6: bool, items: &mut Vec<Item>) {
        if self.way != Way::Classic {
            return;
        }
        let mac = vtep_mac(peer);
        items.push(Item::Entry(Entry::Fdb(FdbEntry {
            link: self.link(),
            mac,
            remote: peer.underlay(false).unwrap(),
        })));
        items.push(Item::Entry(Entry::Neighbour(Neighbour {
            link: self.link(),
            address: vtep(peer, ipv6).unwrap(),
            mac,
        })));
    }
}

impl Fabric for Tiny {
    fn owner(&self) -> Owner {
        Owner {
            network: NETWORK.parse().unwrap(),
            protocol: PROTOCOL,
            devices: vec![self.device.to_owned()],
            table: tables::table(&NETWORK.parse().unwrap()),
        }
    }

    fn base(&self, me: &Node, census: &Census, _facts: &Facts) -> Result<Base> {
        let mut base = Base {
            table: self
                .purpose()
                .spec(&self.owner().network, &me.prefixes, None, census),
            mtu: 1400,
            hops_by_address: self.way != Way::Classic,
            ..Base::default()
        };
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            let (key, value) = (key.to_owned(), "1".to_owned());
            base.desired
                .share(Place::Host, Object::Sysctl { key, value });
        }
        if self.way != Way::HostGateway {
            self.declare_device(me, &mut base);
        }
        for source in me.prefixes.iter().copied() {
            base.items.push(route(source, MAIN, 4096, Via::Unreachable));
            if self.way == Way::HostGateway {
                continue;
            }
            base.items.push(Item::Entry(Entry::Rule(PolicyRule {
                priority: 31_000,
                source,
                table: u32::from(PROTOCOL),
                protocol: PROTOCOL,
            })));
        }
        self.purpose().own(me, &mut base.items);
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
        let mut items = Vec::new();
        let both = tables::Way {
            direct: true,
            outer: peer.underlay(false),
        };
        self.purpose().peer(peer, both, &mut items);
        let mut known = Vec::new();
        for ipv6 in [false, true] {
            let pods = peer
                .prefixes
                .iter()
                .filter(|prefix| prefix.is_ipv6() == ipv6);
            let pods: Vec<IpNetwork> = pods.copied().collect();
            if pods.is_empty() {
                continue;
            }
            self.resolve(peer, ipv6, &mut items);
            let id = ids.id(peer, ipv6 || self.way == Way::Flow);
            if !known.contains(&id) {
                known.push(id);
                items.push(Item::Entry(Entry::NextHop(NextHop {
                    id,
                    protocol: PROTOCOL,
                    hop: self.hop(peer, ipv6),
                })));
            }
            let metric = u32::from(ipv6) * 128;
            let via = || Via::NextHop(id);
            items.extend(
                pods.into_iter()
                    .map(|prefix| route(prefix, MAIN, metric, via())),
            );
            let own = peer.own_addresses().filter(|own| own.is_ipv6() == ipv6);
            if self.way != Way::HostGateway {
                let table = u32::from(PROTOCOL);
                items.extend(own.map(|own| route(own.into(), table, metric, via())));
            }
        }
        Reach {
            items,
            missing: Vec::new(),
        }
    }
}

fn vtep(node: &Node, ipv6: bool) -> Option<IpAddr> {
    let mut prefixes = node.prefixes.iter();
    let first = prefixes.find(|prefix| prefix.is_ipv6() == ipv6)?;
    Some(first.network())
}

fn route(destination: IpNetwork, table: u32, metric: u32, via: Via) -> Item {
    Item::Entry(Entry::Route(Route {
        destination,
        table,
        metric,
        protocol: PROTOCOL,
        via,
    }))
}

/// The fabric as the engine takes it.
pub(crate) fn fabric(tiny: Tiny) -> Arc<dyn Fabric> {
    Arc::new(tiny)
}
