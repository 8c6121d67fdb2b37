//! What must exist: pure functions of the configuration, the nodes, and a few facts about the host.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use cni_core::cluster::{Capability, Node};
use cni_core::fabric::tables::{self, Inner, Purpose, Tunnel, Way};
use cni_core::fabric::{self, Base, Census, Fabric, Facts, Item, NextHopIds, Owner, Reach};
use cni_core::host::forwarding::{Encap, Entry, FdbEntry, Hop, Neighbour};
use cni_core::host::netlink::{self, Address, MacAddr, NewLinkKind, Vxlan};
use cni_core::ipnetwork::IpNetwork;
use cni_core::node::desired::{
    self, IPV6_MIN_MTU, Routing, family, prefixes, underlay_mtu, vtep_address, words,
};
use cni_core::plan::{Desired, LinkSpec, Object, Place};
use cni_core::{Error, ErrorKind, Result};

use crate::config::{Underlay, VxlanConfig, default_device};
use crate::exposure::withheld;

/// Nodes connected by VXLAN.
#[derive(Debug, Clone)]
pub struct VxlanFabric {
    config: VxlanConfig,
    device: Arc<str>,
}

impl VxlanFabric {
    /// A fabric as the configuration has it.
    pub fn new(config: VxlanConfig) -> Self {
        Self {
            device: config.device.as_str().into(),
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &VxlanConfig {
        &self.config
    }

    /// What the table is for, with this device.
    fn purpose(&self, vxlan: &Vxlan) -> Purpose {
        let tunnel = Tunnel {
            port: vxlan.port,
            vni: self.config.vni,
            inner: match vxlan.external {
                true => Inner::Ip,
                false => Inner::Ethernet,
            },
        };
        Purpose {
            masquerade: self.config.node.masquerade,
            filter: self.config.filter.then_some(tunnel),
        }
    }

    fn routing(&self, facts: &Facts) -> Routing {
        Routing {
            protocol: self.config.node.protocol,
            objects: self.config.node.next_hop_objects && facts.next_hops,
        }
    }

    /// The data path: as configured, else the flow where the kernel has next-hop objects (Linux 5.3; collect-metadata VXLAN-GPE
    /// is older) and no node says that it cannot do it.
    fn data_path(&self, census: &Census, facts: &Facts) -> Capability {
        let all = census.capabilities.as_ref();
        let flow = self.config.node.next_hop_objects
            && facts.next_hops
            && all.is_none_or(|all| all.contains(&Capability::Flow));
        self.config.data_path.unwrap_or(match flow {
            true => Capability::Flow,
            false => Capability::Classic,
        })
    }

    /// The device, and the addresses that outer packets have: of the classic one exactly one, of the flow's any.
    fn device(&self, me: &Node, census: &Census, facts: &Facts) -> Result<(Vxlan, Vec<IpAddr>)> {
        let data_path = self.data_path(census, facts);
        let port = self.config.port(data_path);
        let usable = me.underlay.iter().copied();
        let usable =
            usable.filter(|own| self.config.underlay.allows(*own) && (facts.ipv6 || own.is_ipv4()));
        let usable: Vec<IpAddr> = usable.collect();
        let no_address = || {
            let message = format!(
                "node {} has no underlay address that \"underlay\": \"{}\" allows: add one to its \"addresses\" in the cluster's file",
                me.name, self.config.underlay
            );
            Error::new(ErrorKind::InvalidConfig, message)
        };
        if data_path == Capability::Flow {
            if usable.is_empty() {
                return Err(no_address());
            }
            let mut vxlan = Vxlan::flow(port);
            vxlan.source_ports = self.config.source_ports;
            return Ok((vxlan, usable));
        }
        let ipv6 = match self.config.underlay {
            Underlay::Ipv4 => false,
            Underlay::Ipv6 => true,
            // Where neither family is everywhere, some are not reached either way.
            Underlay::Auto => {
                !census.all_underlay4 && (census.all_underlay6 || me.underlay(false).is_none())
            }
        };
        let local = usable.into_iter().find(|own| own.is_ipv6() == ipv6);
        let local = local.ok_or_else(no_address)?;
        let mut vxlan = Vxlan::new(self.config.vni, port);
        vxlan.local = Some(local);
        vxlan.lower = self.lower(facts, local);
        vxlan.source_ports = self.config.source_ports;
        Ok((vxlan, vec![local]))
    }

    /// The link that a device which is there is bound to, as Flannel's is to the one with its outer address: the kernel does not
    /// release it, and to make the device anew for that would break what goes through it. A device that we make has none.
    fn lower(&self, facts: &Facts, local: IpAddr) -> Option<String> {
        let lower = facts.bound.get(&self.device)?;
        let bearer = desired::bearer(facts, local)?;
        (bearer.link == *lower).then(|| lower.to_string())
    }

    /// The largest packet that fits in the tunnel, and what was made of the configured one.
    fn mtu(
        &self,
        me: &Node,
        census: &Census,
        facts: &Facts,
        (vxlan, addresses): (&Vxlan, &[IpAddr]),
        choices: &mut Vec<String>,
    ) -> Result<u32> {
        let Some(underlay) = underlay_mtu(addresses, census, facts) else {
            return Err(desired::no_bearer(me, addresses));
        };
        let overhead = overhead(vxlan, self.may_use_ipv6(me, census, facts));
        let room = underlay.saturating_sub(overhead);
        let mtu = self.config.node.mtu.map_or(room, |mtu| mtu.min(room));
        if let Some(asked) = self.config.node.mtu.filter(|asked| *asked > room) {
            choices.push(format!(
                "MTU {mtu} rather than {asked}: the underlay carries {underlay} bytes, of which the tunnel takes {overhead}"
            ));
        } else {
            choices.push(format!("MTU {mtu}"));
        }
        if mtu < IPV6_MIN_MTU && facts.ipv6 && prefixes(me, true).next().is_some() {
            let message = format!(
                "an MTU of {mtu} is less than the {IPV6_MIN_MTU} that IPv6 needs: the underlay carries {underlay} bytes, of \
                 which the tunnel takes {overhead}"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        Ok(mtu)
    }

    /// Whether some outer packet of the flow data path may be IPv6.
    fn may_use_ipv6(&self, me: &Node, census: &Census, facts: &Facts) -> bool {
        match self.config.underlay {
            Underlay::Ipv4 => false,
            Underlay::Ipv6 => true,
            Underlay::Auto => facts.ipv6 && !census.all_underlay4 && me.underlay(true).is_some(),
        }
    }

    /// Device, parameters and addresses.
    fn desired(&self, me: &Node, facts: &Facts, vxlan: Vxlan, mtu: u32) -> Desired {
        let mut desired = Desired::new();
        desired::forwarding(&mut desired, me, facts);
        desired::accepted(&mut desired, &self.config.node.network, me, facts);
        let name = self.config.device.as_str();
        let gpe = vxlan.gpe;
        let mut link = LinkSpec::new(name, Some(NewLinkKind::Vxlan(vxlan)));
        link.mtu = Some(mtu);
        link.mac = (!gpe).then(|| fabric::vtep_mac(me));
        link.alias = Some(self.config.node.network.shared_alias());
        link.ipv6_link_local = false;
        desired.share(Place::Host, Object::Link(link));
        // Loose: while two nodes disagree for a moment on whether they are in one segment, one of them tunnels what the other
        // routes.
        desired::parameter(
            &mut desired,
            &format!("net/ipv4/conf/{name}/rp_filter"),
            "2",
        );
        // Below that the kernel takes IPv6 off the link, parameters included.
        let speaks_ipv6 = facts.ipv6 && mtu >= IPV6_MIN_MTU;
        if speaks_ipv6 {
            desired::parameter(
                &mut desired,
                &format!("net/ipv6/conf/{name}/accept_ra"),
                "0",
            );
        }
        for ipv6 in [false, true] {
            let address = vtep_address(me, ipv6).filter(|_| speaks_ipv6 || !ipv6);
            if let Some(address) = address {
                let address = Address::new(name, IpNetwork::from(address));
                desired.share(Place::Host, Object::Address(address));
            }
        }
        desired
    }

    /// Where traffic for a peer goes: its pods, and where this node has pods of the family its own addresses.
    fn destinations(
        &self,
        me: &Node,
        facts: &Facts,
        peer: &Node,
        ipv6: bool,
    ) -> Vec<(IpNetwork, u32)> {
        if ipv6 && !facts.ipv6 {
            return Vec::new();
        }
        let pods = prefixes(peer, ipv6).map(|prefix| (prefix, netlink::Route::MAIN));
        let has_pods = prefixes(me, ipv6).next().is_some();
        let table = u32::from(self.config.node.protocol);
        let own = peer.own_addresses();
        let own = own.filter(|own| has_pods && own.is_ipv6() == ipv6);
        pods.chain(own.map(|own| (IpNetwork::from(own), table)))
            .collect()
    }

    /// Both ends of the tunnel to a peer: underlay addresses of one family, IPv4 if it can be. The peer chooses the same.
    fn ends(&self, me: &Node, facts: &Facts, peer: &Node) -> Option<(IpAddr, IpAddr)> {
        [false, true].into_iter().find_map(|ipv6| {
            let own = me.underlay(ipv6)?;
            let allowed = self.config.underlay.allows(own) && (facts.ipv6 || !ipv6);
            let remote = peer.underlay(ipv6).filter(|_| allowed)?;
            Some((own, remote))
        })
    }

    /// One encapsulating next hop for all of a peer.
    fn flow(
        &self,
        me: &Node,
        facts: &Facts,
        ids: &dyn NextHopIds,
        peer: &Node,
        items: &mut Vec<Item>,
    ) -> Result<(), String> {
        let Some((own, remote)) = self.ends(me, facts, peer) else {
            return Err(format!(
                "node {} ({}) and this node ({}) have no underlay addresses of one family that \"underlay\": \"{}\" allows",
                peer.name,
                words(&peer.underlay),
                words(&me.underlay),
                self.config.underlay
            ));
        };
        let hop = Hop {
            link: self.device.clone(),
            gateway: None,
            onlink: false,
            encap: Some(Encap {
                id: self.config.vni,
                remote,
                // The peer admits this node's packets by this address; without it the kernel's choice may be another.
                source: Some(own),
                checksum: remote.is_ipv6(),
            }),
        };
        let mut destinations = self.destinations(me, facts, peer, false);
        destinations.extend(self.destinations(me, facts, peer, true));
        let routing = self.routing(facts);
        routing.through(ids.id(peer, true), hop, &destinations, items);
        Ok(())
    }

    /// A forwarding entry, and a neighbour and a next hop for each family.
    fn classic(
        &self,
        me: &Node,
        facts: &Facts,
        ids: &dyn NextHopIds,
        (peer, ipv6_outside): (&Node, bool),
        items: &mut Vec<Item>,
    ) -> Result<(), String> {
        let Some(remote) = peer.underlay(ipv6_outside) else {
            return Err(format!(
                "node {} ({}) has no {} address in the underlay, and the tunnel runs over that",
                peer.name,
                words(&peer.underlay),
                family(ipv6_outside)
            ));
        };
        let mac = fabric::vtep_mac(peer);
        let link = || self.device.clone();
        items.push(Item::Entry(Entry::Fdb(FdbEntry {
            link: link(),
            mac,
            remote,
        })));
        for ipv6 in [false, true] {
            let destinations = self.destinations(me, facts, peer, ipv6);
            // A peer without pods of the family has no VTEP address there: any address of its own names it as well. In IPv6 its
            // device's link-local one names it: the kernel refuses an on-link gateway that a route leads to by another
            // device, as one does to a peer that was routed to directly until now.
            let own = || peer.own_addresses().find(|own| !own.is_ipv6());
            let gateway = match ipv6 {
                true => Some(link_local(mac).into()),
                false => vtep_address(peer, false).or_else(own),
            };
            let Some(gateway) = gateway.filter(|_| !destinations.is_empty()) else {
                continue;
            };
            items.push(Item::Entry(Entry::Neighbour(Neighbour {
                link: link(),
                address: gateway,
                mac,
            })));
            let hop = Hop {
                link: link(),
                gateway: Some(gateway),
                onlink: true,
                encap: None,
            };
            let routing = self.routing(facts);
            routing.through(ids.id(peer, ipv6), hop, &destinations, items);
        }
        Ok(())
    }
}

impl Fabric for VxlanFabric {
    fn owner(&self) -> Owner {
        let network = self.config.node.network.clone();
        let mut devices = vec![self.config.device.clone(), default_device(self.config.vni)];
        devices.dedup();
        Owner {
            table: tables::table(&network),
            network,
            protocol: self.config.node.protocol,
            devices,
        }
    }

    fn base(&self, me: &Node, census: &Census, facts: &Facts) -> Result<Base> {
        let (vxlan, addresses) = self.device(me, census, facts)?;
        let mut choices = vec![match vxlan.local {
            None => format!("data path flow, port {}", vxlan.port),
            Some(local) => format!(
                "data path classic over {}, port {}",
                family(local.is_ipv6()),
                vxlan.port
            ),
        }];
        let hops_by_address = vxlan.local.is_none() && facts.next_hops;
        let mtu = self.mtu(me, census, facts, (&vxlan, &addresses), &mut choices)?;
        let protocol = self.config.node.protocol;
        let mut items = desired::unused_addresses(me, facts, protocol);
        items.extend(desired::rules(me, facts, protocol));
        let (purpose, network) = (self.purpose(&vxlan), &self.config.node.network);
        purpose.own(me, &mut items);
        Ok(Base {
            port: Some(vxlan.port),
            withheld: withheld(&self.config, &vxlan, facts),
            desired: self.desired(me, facts, vxlan, mtu),
            table: purpose.spec(network, &me.prefixes, Some(&self.device), census),
            items,
            device: Some(self.device.clone()),
            hops_by_address,
            mtu,
            choices,
        })
    }

    fn peer(
        &self,
        me: &Node,
        base: &Base,
        facts: &Facts,
        ids: &dyn NextHopIds,
        peer: &Node,
    ) -> Reach {
        let Some(vxlan) = chosen(base) else {
            return Reach {
                missing: vec!["this node has no tunnel".to_owned()],
                ..Reach::default()
            };
        };
        let mut reach = Reach::default();
        // Of every peer: while two nodes disagree for a moment on whether they are in one segment, one of them tunnels.
        let outer = match vxlan.external {
            true => self.ends(me, facts, peer).map(|(_, remote)| remote),
            false => peer.underlay(vxlan.is_ipv6()),
        };
        let purpose = self.purpose(vxlan);
        let known = |direct, items: &mut Vec<Item>| {
            purpose.peer(peer, Way { direct, outer }, items);
        };
        if self.config.direct_routing {
            let routing = self.routing(facts);
            let direct = routing.direct(me, facts, ids, peer);
            let near = |address: &IpAddr| desired::segment(facts, *address).is_some();
            if direct.missing.is_empty() && peer.underlay.iter().any(near) {
                reach.items.extend(direct.items);
                known(true, &mut reach.items);
                return reach;
            }
        }
        let tunnelled = self.tunnelled(me, facts, ids, (peer, vxlan), &mut reach.items);
        // The pods of one that is not reached are not the world outside.
        known(tunnelled.is_err(), &mut reach.items);
        reach.missing.extend(tunnelled.err());
        reach
    }
}

impl VxlanFabric {
    /// What leads to a peer by the tunnel.
    fn tunnelled(
        &self,
        me: &Node,
        facts: &Facts,
        ids: &dyn NextHopIds,
        (peer, vxlan): (&Node, &Vxlan),
        items: &mut Vec<Item>,
    ) -> Result<(), String> {
        let wanted = match vxlan.external {
            true => Capability::Flow,
            false => Capability::Classic,
        };
        if let Some(can) = peer
            .capabilities
            .as_ref()
            .filter(|can| !can.contains(&wanted))
        {
            let can: Vec<&str> = can.iter().map(|can| name(*can)).collect();
            return Err(format!(
                "node {} does not know the data path {} that this node has (it tells: {}): set \"dataPath\" to one that all know",
                peer.name,
                name(wanted),
                can.join(", ")
            ));
        }
        match vxlan.local {
            None => self.flow(me, facts, ids, peer, items),
            Some(local) => self.classic(me, facts, ids, (peer, local.is_ipv6()), items),
        }
    }
}

/// The link-local address that a hardware address makes (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    let id = [pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f)];
    Ipv6Addr::new(0xfe80, 0, 0, 0, id[0], id[1], id[2], id[3])
}

/// The device that the base has.
fn chosen(base: &Base) -> Option<&Vxlan> {
    base.desired
        .items
        .iter()
        .find_map(|declared| match &declared.object {
            Object::Link(LinkSpec {
                create: Some(NewLinkKind::Vxlan(vxlan)),
                ..
            }) => Some(vxlan),
            _ => None,
        })
}

/// A data path's name in the configuration.
fn name(data_path: Capability) -> &'static str {
    match data_path {
        Capability::Classic => "classic",
        Capability::Flow => "flow",
        _ => "another",
    }
}

/// Outer headers in bytes; the flow's device has no family of its own.
fn overhead(vxlan: &Vxlan, may_use_ipv6: bool) -> u32 {
    match vxlan.local {
        None if may_use_ipv6 => vxlan.overhead() + 20,
        _ => vxlan.overhead(),
    }
}

impl Underlay {
    /// Whether an address of this family may be used.
    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Auto => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
