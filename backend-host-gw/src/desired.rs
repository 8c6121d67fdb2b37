//! What must exist: pure functions of the configuration, the nodes, and a few facts about the host.

use cni_core::Result;
use cni_core::cluster::Node;
use cni_core::fabric::tables::{self, Purpose, Way};
use cni_core::fabric::{Base, Census, Fabric, Facts, NextHopIds, Owner, Reach};
use cni_core::node::desired::{self, Routing, underlay_mtu};
use cni_core::plan::Desired;

use crate::config::HostGwConfig;

/// Nodes connected by routes through each other's underlay addresses.
#[derive(Debug, Clone)]
pub struct HostGwFabric {
    config: HostGwConfig,
}

impl HostGwFabric {
    /// A fabric as the configuration has it.
    pub fn new(config: HostGwConfig) -> Self {
        Self { config }
    }

    /// The configuration.
    pub fn config(&self) -> &HostGwConfig {
        &self.config
    }

    /// There is no tunnel that would want a filter.
    fn purpose(&self) -> Purpose {
        Purpose {
            masquerade: self.config.node.masquerade,
            filter: None,
        }
    }
}

impl Fabric for HostGwFabric {
    fn owner(&self) -> Owner {
        let network = self.config.node.network.clone();
        Owner {
            table: tables::table(&network),
            network,
            protocol: self.config.node.protocol,
            // What a VXLAN network under the same name would have left.
            devices: vec!["vxlan.1".to_owned()],
        }
    }

    fn base(&self, me: &Node, census: &Census, facts: &Facts) -> Result<Base> {
        let node = &self.config.node;
        let Some(room) = underlay_mtu(&me.underlay, census, facts) else {
            return Err(desired::no_bearer(me, &me.underlay));
        };
        let mtu = node.mtu.map_or(room, |mtu| mtu.min(room));
        let mut choices = vec!["routes through underlay addresses".to_owned()];
        choices.push(match node.mtu {
            Some(asked) if asked > room => {
                format!("MTU {mtu} rather than {asked}: the underlay carries {room} bytes")
            }
            _ => format!("MTU {mtu}"),
        });
        let mut parameters = Desired::new();
        desired::forwarding(&mut parameters, me, facts);
        desired::accepted(&mut parameters, &node.network, me, facts);
        let mut items = desired::unused_addresses(me, facts, node.protocol);
        self.purpose().own(me, &mut items);
        Ok(Base {
            desired: parameters,
            table: self
                .purpose()
                .spec(&node.network, &me.prefixes, None, census),
            items,
            device: None,
            port: None,
            withheld: None,
            hops_by_address: facts.next_hops,
            mtu,
            choices,
        })
    }

    fn peer(
        &self,
        me: &Node,
        _base: &Base,
        facts: &Facts,
        ids: &dyn NextHopIds,
        peer: &Node,
    ) -> Reach {
        let routing = Routing {
            protocol: self.config.node.protocol,
            objects: self.config.node.next_hop_objects && facts.next_hops,
        };
        let mut reach = routing.direct(me, facts, ids, peer);
        if !reach.missing.is_empty() {
            let hint = "a network of type vxlan reaches it";
            reach.missing.push(hint.to_owned());
        }
        // Also of a peer that is not reached: its pods are not the world outside.
        let way = Way {
            direct: true,
            outer: None,
        };
        self.purpose().peer(peer, way, &mut reach.items);
        reach
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
