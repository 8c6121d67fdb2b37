//! Ids of next hops: derived, so that nothing has to be stored and every process finds the same.

use std::collections::BTreeMap;

use crate::cluster::{Node, NodeUid};
use crate::spec::names::hash128;

/// Ids of next hops: a pure function of the cluster's nodes, unique among them, stable for a node as far as that goes.
pub trait NextHopIds {
    /// The id for routes of one family through a peer; where one serves both families, `ipv6` is said.
    fn id(&self, peer: &Node, ipv6: bool) -> u32;
}

/// The ids of a set of nodes.
///
/// A node's id is `0x4000_0000` and 30 bits of a hash of protocol, uid and family: far from the low numbers that people and
/// the kernel choose, and another one for another network's protocol. Where two nodes' are the same, the one with the
/// lower uid (IPv4 first) keeps it, and the other gets the next that is nobody's: among 10,000 nodes that
/// happens in one cluster of five.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ids {
    protocol: u8,
    /// The bits that are taken of a hash.
    mask: u32,
    /// What everybody's hash says, sorted; one that two have stands there twice.
    natural: Vec<u32>,
    /// Who has another than that.
    displaced: BTreeMap<(NodeUid, bool), u32>,
    /// Ids that were looked at to find those: whoever comes to or leaves one of them may move somebody. Sorted.
    contested: Vec<u32>,
}

/// The ids of other nodes are not what they were: everything has to be looked at anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shifted;

/// The bit that all ids have, and none that the kernel gives by itself (they count from 1).
const BASE: u32 = 0x4000_0000;
const FAMILIES: [bool; 2] = [false, true];

impl Ids {
    /// The ids of these nodes, which come by ascending uid.
    pub(super) fn of<'a, I: Iterator<Item = &'a Node>>(
        protocol: u8,
        nodes: impl Fn() -> I,
    ) -> Self {
        Self::with_bits(protocol, BASE - 1, nodes)
    }

    /// Whether this is the id of one of the nodes.
    pub(super) fn holds(&self, id: u32) -> bool {
        let displaced = || self.displaced.values().any(|other| *other == id);
        self.natural.binary_search(&id).is_ok() || displaced()
    }

    pub(super) fn with_bits<'a, I: Iterator<Item = &'a Node>>(
        protocol: u8,
        mask: u32,
        nodes: impl Fn() -> I,
    ) -> Self {
        let mut ids = Self {
            protocol,
            mask,
            ..Self::default()
        };
        let all = || nodes().flat_map(|node| FAMILIES.map(|ipv6| (node, ipv6)));
        ids.natural = all()
            .map(|(node, ipv6)| ids.natural(&node.uid, ipv6))
            .collect();
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
            let id = ids.natural(&node.uid, ipv6);
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

    /// A node comes.
    ///
    /// # Errors
    /// Ids are not what they were, and have to be found anew ([`Ids::of`]).
    pub(super) fn add(&mut self, uid: &NodeUid) -> Result<(), Shifted> {
        for ipv6 in FAMILIES {
            let id = self.natural(uid, ipv6);
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
    pub(super) fn remove(&mut self, uid: &NodeUid) -> Result<(), Shifted> {
        for ipv6 in FAMILIES {
            let id = self.natural(uid, ipv6);
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

    fn natural(&self, uid: &NodeUid, ipv6: bool) -> u32 {
        let mut buffer = [0; 4];
        let protocol = char::from(self.protocol).encode_utf8(&mut buffer);
        let family = if ipv6 { "6" } else { "4" };
        BASE | (hash128(&["next hop", protocol, uid.as_str(), family]) as u32 & self.mask)
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
        self.natural(&peer.uid, ipv6)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn nodes(uids: &BTreeSet<u16>) -> Vec<Node> {
        let node = |uid: &u16| Node::new(NodeUid::new(&format!("{uid:05}")), "n");
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
            let ids = Ids::with_bits(167, (1 << bits) - 1, || nodes.iter());
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
            let mask = (1 << bits) - 1;
            let before = nodes(&uids);
            let mut ids = Ids::with_bits(167, mask, || before.iter());
            let old = all(&ids, &before);
            let uid = NodeUid::new(&format!("{change:05}"));
            let mut after = uids.clone();
            let outcome = if after.remove(&change) {
                ids.remove(&uid)
            } else {
                after.insert(change);
                ids.add(&uid)
            };
            let after = nodes(&after);
            let fresh = Ids::with_bits(167, mask, || after.iter());
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
        let of = |protocol| all(&Ids::of(protocol, || nodes.iter()), &nodes);
        assert_ne!(of(167), of(168));
    }
}
