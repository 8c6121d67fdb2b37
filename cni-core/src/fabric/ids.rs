//! Ids of next hops: derived, so that nothing has to be stored and every process finds the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cluster::{Node, NodeUid};
use crate::spec::names::{hash128, mix};

/// Ids of next hops: a pure function of the cluster's nodes, unique among them, stable for a node (and, where the base says so,
/// its underlay addresses) as far as that goes.
pub trait NextHopIds {
    /// The id for routes of one family through a peer; where one serves both families, `ipv6` is said.
    fn id(&self, peer: &Node, ipv6: bool) -> u32;
}

/// The ids of a set of nodes.
///
/// A node's id is `0x4000_0000` and 30 bits of a hash of protocol, uid, family and perhaps underlay addresses: far from the low
/// numbers that people and the kernel choose, and another one for another network's protocol. Where two nodes' are the same, the one with the
/// lower uid (IPv4 first) keeps it, and the other gets the next that is nobody's: among 10,000 nodes that
/// happens in one cluster of five.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ids {
    from: Source,
    /// What everybody's hash says, sorted; one that two have stands there twice.
    natural: Vec<u32>,
    /// Who has another than that.
    displaced: BTreeMap<(NodeUid, bool), u32>,
    /// Ids that were looked at to find those: whoever comes to or leaves one of them may move somebody. Sorted.
    contested: Vec<u32>,
}

/// What ids are made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Our protocol.
    pub(super) protocol: u8,
    /// Whether a node of other underlay addresses has other ids.
    pub(super) addresses: bool,
    /// The bits that are taken of a hash: at most [`ALL_BITS`].
    pub(super) mask: u32,
}

/// The ids of other nodes are not what they were: everything has to be looked at anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shifted;

/// The bit that all ids have, and none that the kernel gives by itself (they count from 1).
const BASE: u32 = 0x4000_0000;
/// All bits of a hash that an id has room for.
pub(super) const ALL_BITS: u32 = BASE - 1;
const FAMILIES: [bool; 2] = [false, true];

impl Ids {
    /// The ids of these nodes, which come by ascending uid.
    pub(super) fn of<'a, I: Iterator<Item = &'a Node>>(
        from: Source,
        nodes: impl Fn() -> I,
    ) -> Self {
        let mut ids = Self {
            from,
            ..Self::default()
        };
        let all = || nodes().flat_map(|node| FAMILIES.map(|ipv6| (node, ipv6)));
        ids.natural = all().map(|(node, ipv6)| from.natural(node, ipv6)).collect();
        ids.natural.sort_unstable();
        let twice = ids
            .natural
            .windows(2)
            .filter(|pair| pair.first() == pair.last());
        let mut shared: BTreeMap<u32, bool> = twice
            .filter_map(|pair| pair.first())
            .map(|id| (*id, false))
            .collect();
        if shared.is_empty() {
            return ids;
        }
        for (node, ipv6) in all() {
            let id = from.natural(node, ipv6);
            match shared.get_mut(&id) {
                None => {}
                Some(taken) if !*taken => *taken = true,
                Some(_) => ids.displace(&node.uid, ipv6, id),
            }
        }
        ids.contested.sort_unstable();
        ids.contested.dedup();
        ids
    }

    /// Whether this is the id of one of the nodes.
    pub(super) fn holds(&self, id: u32) -> bool {
        let displaced = || self.displaced.values().any(|other| *other == id);
        self.natural.binary_search(&id).is_ok() || displaced()
    }

    /// Whether the node has other ids than it had.
    pub(super) fn differ(&self, before: &Node, after: &Node) -> bool {
        self.from.addresses && before.underlay != after.underlay
    }

    /// A node comes.
    ///
    /// # Errors
    /// Ids are not what they were, and have to be found anew ([`Ids::of`]).
    pub(super) fn add(&mut self, node: &Node) -> Result<(), Shifted> {
        for ipv6 in FAMILIES {
            let id = self.from.natural(node, ipv6);
            let place = self.natural.binary_search(&id);
            match place {
                Err(place) if self.contested.binary_search(&id).is_err() => {
                    self.natural.insert(place, id);
                }
                _ => return Err(Shifted),
            }
        }
        Ok(())
    }

    /// A node goes.
    ///
    /// # Errors
    /// Ids are not what they were, and have to be found anew ([`Ids::of`]).
    pub(super) fn remove(&mut self, node: &Node) -> Result<(), Shifted> {
        for ipv6 in FAMILIES {
            let id = self.from.natural(node, ipv6);
            let place = self.natural.binary_search(&id);
            match place {
                Ok(place) if self.contested.binary_search(&id).is_err() => {
                    self.natural.remove(place);
                }
                _ => return Err(Shifted),
            }
        }
        Ok(())
    }

    fn displace(&mut self, uid: &NodeUid, ipv6: bool, id: u32) {
        let mut next = id;
        self.contested.push(id);
        let taken = |ids: &Self, id| {
            ids.natural.binary_search(&id).is_ok()
                || ids.displaced.values().any(|other| *other == id)
        };
        while taken(self, next) {
            next = BASE | (next.wrapping_add(1) & (BASE - 1));
            self.contested.push(next);
        }
        self.displaced.insert((uid.clone(), ipv6), next);
    }
}

impl NextHopIds for Ids {
    fn id(&self, peer: &Node, ipv6: bool) -> u32 {
        if !self.displaced.is_empty()
            && let Some(id) = self.displaced.get(&(peer.uid.clone(), ipv6))
        {
            return *id;
        }
        self.from.natural(peer, ipv6)
    }
}

impl Source {
    fn natural(self, node: &Node, ipv6: bool) -> u32 {
        let mut buffer = [0; 4];
        let protocol = char::from(self.protocol).encode_utf8(&mut buffer);
        let family = if ipv6 { "6" } else { "4" };
        let mut hash = hash128(&["next hop", protocol, node.uid.as_str(), family]) as u64;
        if self.addresses {
            for address in &node.underlay {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => *address,
                };
                let bits = u128::from(address);
                hash = mix(mix(hash ^ bits as u64) ^ (bits >> 64) as u64);
            }
        }
        BASE | (hash as u32 & self.mask)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn source(protocol: u8, bits: u32) -> Source {
        Source {
            protocol,
            addresses: true,
            mask: (1 << bits) - 1,
        }
    }

    fn nodes(uids: &BTreeSet<u16>) -> Vec<Node> {
        let node = |uid: &u16| {
            let mut node = Node::new(NodeUid::new(&format!("{uid:05}")), "n");
            let [high, low] = uid.to_be_bytes();
            node.underlay = vec![[10, 0, high, low].into(), "2001:db8::1".parse().unwrap()];
            node
        };
        uids.iter().map(node).collect()
    }

    fn all(ids: &Ids, nodes: &[Node]) -> Vec<u32> {
        let both = nodes
            .iter()
            .flat_map(|node| FAMILIES.map(|v6| ids.id(node, v6)));
        both.collect()
    }

    proptest! {
        #[test]
        fn ids_are_unique_however_many_hashes_are_the_same(
            uids in proptest::collection::btree_set(0_u16..500, 0..60),
            bits in 2_u32..10,
        ) {
            let nodes = nodes(&uids);
            let ids = Ids::of(source(167, bits), || nodes.iter());
            let given = all(&ids, &nodes);
            let distinct: BTreeSet<u32> = given.iter().copied().collect();
            prop_assert_eq!(distinct.len(), nodes.len() * 2);
            prop_assert!(given.iter().all(|id| *id & BASE != 0 && *id < 2 * BASE));
        }

        #[test]
        fn a_change_that_moves_nobody_ends_as_a_fresh_start_and_others_say_so(
            uids in proptest::collection::btree_set(0_u16..500, 1..40),
            change in 0_u16..500,
            bits in 4_u32..12,
        ) {
            let before = nodes(&uids);
            let mut ids = Ids::of(source(167, bits), || before.iter());
            let old = all(&ids, &before);
            let changed = &nodes(&BTreeSet::from([change]))[0];
            let mut after = uids.clone();
            let outcome = if after.remove(&change) {
                ids.remove(changed)
            } else {
                after.insert(change);
                ids.add(changed)
            };
            let after = nodes(&after);
            let fresh = Ids::of(source(167, bits), || after.iter());
            if outcome.is_ok() {
                prop_assert_eq!(&ids, &fresh);
                for (node, id) in before.iter().zip(old.chunks(2)) {
                    if after.contains(node) {
                        prop_assert_eq!(FAMILIES.map(|v6| fresh.id(node, v6)).to_vec(), id);
                    }
                }
            }
        }
    }

    #[test]
    fn another_networks_protocol_has_other_ids() {
        let nodes = nodes(&BTreeSet::from([1]));
        let of = |protocol| all(&Ids::of(source(protocol, 30), || nodes.iter()), &nodes);
        assert_ne!(of(167), of(168));
    }

    #[test]
    fn a_node_of_other_addresses_has_other_ids_where_they_follow_from_those() {
        let nodes = nodes(&BTreeSet::from([1]));
        let mut moved = nodes.clone();
        moved[0].underlay = vec!["192.0.2.2".parse().unwrap()];
        for addresses in [false, true] {
            let from = Source {
                addresses,
                ..source(167, 30)
            };
            let ids = Ids::of(from, || nodes.iter());
            let of = |nodes: &[Node]| all(&Ids::of(from, || nodes.iter()), nodes);
            assert_eq!(of(&nodes) != of(&moved), addresses);
            assert_eq!(ids.differ(&nodes[0], &moved[0]), addresses);
        }
    }
}
