//! What the base depends on of all nodes together, counted so that one node's change costs nothing that grows with the
//! cluster.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use crate::cluster::{Capability, Node, View};

/// What the base depends on of all nodes together, this one included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// Lengths of IPv4 pod prefixes.
    pub lengths4: BTreeSet<u8>,
    /// Lengths of IPv6 pod prefixes.
    pub lengths6: BTreeSet<u8>,
    /// What every node that tells of its capabilities can do; `None` when none tells.
    pub capabilities: Option<BTreeSet<Capability>>,
    /// Whether every node has an IPv4 underlay address.
    pub all_underlay4: bool,
    /// Whether every node has an IPv6 underlay address.
    pub all_underlay6: bool,
    /// The smallest MTU of an underlay that a node tells of, in bytes.
    pub mtu: Option<u32>,
}

/// Lengths of prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lengths {
    pub(super) v4: BTreeSet<u8>,
    pub(super) v6: BTreeSet<u8>,
}

/// A census in the making: nodes are counted in and out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tally {
    lengths4: BTreeMap<u8, u32>,
    lengths6: BTreeMap<u8, u32>,
    capabilities: BTreeMap<Capability, u32>,
    telling: u32,
    underlay4: u32,
    underlay6: u32,
    mtus: BTreeMap<u32, u32>,
    nodes: u32,
}

impl Census {
    /// Counts the nodes of a view.
    pub fn of(view: &View) -> Self {
        Tally::of(view).census(&Lengths::default())
    }
}

impl Tally {
    pub(super) fn of(view: &View) -> Self {
        let mut tally = Self::default();
        for node in view.me().into_iter().chain(view.peers()) {
            tally.add(node);
        }
        tally
    }

    pub(super) fn add(&mut self, node: &Node) {
        self.each(node, |map, key| *map.entry(key).or_default() += 1);
        for capability in capabilities(node) {
            *self.capabilities.entry(capability).or_default() += 1;
        }
        if let Some(mtu) = node.mtu {
            *self.mtus.entry(mtu).or_default() += 1;
        }
        self.telling += u32::from(node.capabilities.is_some());
        self.underlay4 += u32::from(node.underlay(false).is_some());
        self.underlay6 += u32::from(node.underlay(true).is_some());
        self.nodes += 1;
    }

    /// Takes a node out that was counted in.
    pub(super) fn remove(&mut self, node: &Node) {
        self.each(node, less);
        for capability in capabilities(node) {
            less(&mut self.capabilities, capability);
        }
        if let Some(mtu) = node.mtu {
            less(&mut self.mtus, mtu);
        }
        let minus = |count: &mut u32, one: bool| *count = count.saturating_sub(u32::from(one));
        minus(&mut self.telling, node.capabilities.is_some());
        minus(&mut self.underlay4, node.underlay(false).is_some());
        minus(&mut self.underlay6, node.underlay(true).is_some());
        minus(&mut self.nodes, true);
    }

    /// What has been counted; `held` are lengths that count as well.
    pub(super) fn census(&self, held: &Lengths) -> Census {
        let common = || {
            let able = self.capabilities.iter();
            able.filter(|(_, count)| **count == self.telling)
                .map(|(capability, _)| *capability)
                .collect()
        };
        Census {
            lengths4: self.lengths4.keys().chain(&held.v4).copied().collect(),
            lengths6: self.lengths6.keys().chain(&held.v6).copied().collect(),
            capabilities: (self.telling > 0).then(common),
            all_underlay4: self.underlay4 == self.nodes,
            all_underlay6: self.underlay6 == self.nodes,
            mtu: self.mtus.keys().next().copied(),
        }
    }

    fn each(&mut self, node: &Node, mut count: impl FnMut(&mut BTreeMap<u8, u32>, u8)) {
        for prefix in &node.prefixes {
            match prefix {
                IpNetwork::V4(prefix) => count(&mut self.lengths4, prefix.prefix()),
                IpNetwork::V6(prefix) => count(&mut self.lengths6, prefix.prefix()),
            }
        }
    }
}

/// Each once, however often the node tells of it.
fn capabilities(node: &Node) -> BTreeSet<Capability> {
    node.capabilities.iter().flatten().copied().collect()
}

fn less<K: Ord>(map: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = map.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            map.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeUid;

    fn node(prefix: &str, mtu: Option<u32>, can: Option<Vec<Capability>>) -> Node {
        let mut node = Node::new(NodeUid::new(prefix), prefix);
        node.prefixes = vec![prefix.parse().unwrap()];
        node.underlay = vec!["192.0.2.1".parse().unwrap()];
        node.mtu = mtu;
        node.capabilities = can;
        node
    }

    fn census(tally: &Tally) -> Census {
        tally.census(&Lengths::default())
    }

    #[test]
    fn what_leaves_is_as_if_it_had_never_been_there() {
        let stays = node("10.1.0.0/24", Some(9000), Some(vec![Capability::Classic]));
        let both = vec![Capability::Classic, Capability::Flow];
        let mut goes = node("fd00::/64", Some(1500), Some(both));
        goes.underlay.clear();
        let mut tally = Tally::default();
        tally.add(&stays);
        let before = tally.clone();
        tally.add(&goes);
        assert_eq!(census(&tally).mtu, Some(1500));
        assert!(!census(&tally).all_underlay4);
        tally.remove(&goes);
        assert_eq!(tally, before);
    }

    #[test]
    fn capabilities_are_those_that_all_who_tell_have() {
        let mut tally = Tally::default();
        tally.add(&node("10.1.0.0/24", None, None));
        assert_eq!(census(&tally).capabilities, None);
        let both = vec![Capability::Classic, Capability::Flow];
        tally.add(&node("10.1.1.0/24", None, Some(both)));
        assert_eq!(census(&tally).capabilities.unwrap().len(), 2);
        tally.add(&node("10.1.2.0/24", None, Some(vec![Capability::Classic])));
        let common = census(&tally).capabilities.unwrap();
        assert_eq!(common, BTreeSet::from([Capability::Classic]));
    }
}
