//! Random clusters, and sequences of them in the five forms in which a source may tell of one and the same history.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use proptest::prelude::*;

use crate::cluster::{Node, NodeUid};

/// The peers, by uid.
pub(super) type Cluster = BTreeMap<NodeUid, Node>;

const NODES: usize = 6;
const PREFIXES: usize = 9;

/// A cluster: each prefix is somebody's or nobody's, and no two nodes have one underlay address.
pub(super) fn cluster() -> impl Strategy<Value = Cluster> {
    let owners = proptest::collection::vec(proptest::option::of(0..NODES), PREFIXES);
    let present = proptest::collection::vec(any::<bool>(), NODES);
    let places = Just((0..NODES as u8 + 2).collect::<Vec<u8>>()).prop_shuffle();
    let macs = proptest::collection::vec(0_u8..2, NODES);
    (owners, present, places, macs).prop_map(|(owners, present, places, macs)| {
        let mut cluster = Cluster::new();
        for index in (0..NODES).filter(|index| present[*index]) {
            let mut node = Node::new(NodeUid::new(&format!("uid-{index}")), &format!("n{index}"));
            let owned = owners
                .iter()
                .enumerate()
                .filter(|(_, owner)| **owner == Some(index));
            node.prefixes = owned.map(|(prefix, _)| pool(prefix)).collect();
            node.underlay = underlay(places[index]);
            if macs[index] > 0 {
                let mac = format!("02:00:00:00:00:{index:02x}").parse().unwrap();
                node.vtep_mac = Some(mac);
            }
            cluster.insert(node.uid.clone(), node);
        }
        cluster
    })
}

/// A history: what the cluster is, one after the other.
pub(super) fn history() -> impl Strategy<Value = Vec<Cluster>> {
    proptest::collection::vec(cluster(), 1..5)
}

/// The history as it is, backwards, with nothing in between, node by node, and only its end.
pub(super) fn forms(history: &[Cluster]) -> Vec<Vec<Cluster>> {
    let reversed = history.iter().rev().cloned().collect();
    let empties = history
        .iter()
        .flat_map(|cluster| [Cluster::new(), cluster.clone()])
        .collect();
    let squashed = history.last().into_iter().cloned().collect();
    vec![
        history.to_vec(),
        reversed,
        empties,
        split(history),
        squashed,
    ]
}

/// One node after the other. What a node that has not changed yet still has, one that has changed does not get yet.
fn split(history: &[Cluster]) -> Vec<Cluster> {
    let mut states = Vec::new();
    let mut now = Cluster::new();
    for next in history {
        let uids: Vec<NodeUid> = now.keys().chain(next.keys()).cloned().collect();
        for uid in uids {
            match next.get(&uid) {
                None => {
                    now.remove(&uid);
                }
                Some(node) => {
                    let mut node = node.clone();
                    let others = now.values().filter(|other| other.uid != uid);
                    for other in others {
                        node.prefixes
                            .retain(|prefix| !other.prefixes.contains(prefix));
                        node.underlay
                            .retain(|address| !other.underlay.contains(address));
                    }
                    now.insert(uid, node);
                }
            }
            states.push(now.clone());
        }
        now = next.clone();
        states.push(next.clone());
    }
    states
}

fn pool(index: usize) -> IpNetwork {
    if index % 3 == 2 {
        let address = Ipv6Addr::new(0xfd00, 0x244, index as u16, 0, 0, 0, 0, 0);
        Ipv6Network::new(address, 64).unwrap().into()
    } else {
        let address = Ipv4Addr::new(10, 244, index as u8, 0);
        Ipv4Network::new(address, 24).unwrap().into()
    }
}

fn underlay(place: u8) -> Vec<IpAddr> {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, u16::from(place));
    vec![Ipv4Addr::new(192, 0, 2, place).into(), v6.into()]
}
