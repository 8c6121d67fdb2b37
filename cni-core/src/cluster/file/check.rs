//! What concerns several entries: what only one node may have, and where it stands.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::reader::{Fault, Result, quote};
use super::{ClusterFile, line_of};
use crate::cluster::Node;
use crate::cluster::block::Block;
use crate::host::netlink::MacAddr;

/// Where the values of a file stand, as far as others have to be compared with them.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By family, prefixes apart from addresses: each list of a file in order is in order, and to merge them is little work.
    blocks: [Vec<Place>; 6],
    /// Of each node: where its name stands, and its uid.
    names: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: Block,
    role: Role,
    /// The node's place in the list.
    node: u32,
    /// The value's place in the text, which is shorter than 4 GiB.
    at: u32,
}

/// What a block is to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Prefix,
    Underlay,
    Further,
    Mac,
}

impl Places {
    pub(super) fn prefix(&mut self, prefix: IpNetwork, at: usize) {
        self.add(Block::of_prefix(prefix), Role::Prefix, at);
    }

    pub(super) fn address(&mut self, address: IpAddr, role: Role, at: usize) {
        self.add(Block::of_address(address), role, at);
    }

    pub(super) fn mac(&mut self, mac: MacAddr, at: usize) {
        self.add(Block::of_mac(mac), Role::Mac, at);
    }

    /// What is added from here on is the next node's.
    pub(super) fn end_of_node(&mut self, name_at: usize, uid_at: usize) {
        self.names.push((name_at as u32, uid_at as u32));
    }

    fn add(&mut self, block: Block, role: Role, at: usize) {
        let list = 2 * block.family() as usize + usize::from(role == Role::Prefix);
        if let Some(list) = self.blocks.get_mut(list) {
            list.push(Place {
                block,
                role,
                node: self.names.len() as u32,
                at: at as u32,
            });
        }
    }

    /// The first fault between two entries, at the later of them.
    pub(super) fn check(mut self, text: &str, file: &ClusterFile) -> Result<()> {
        let nodes = &file.nodes;
        let faults = [
            self.same_names(text, nodes),
            self.same_uids(text, nodes),
            self.outside(file),
            self.overlaps(text, nodes),
        ];
        match faults.into_iter().flatten().min_by_key(|fault| fault.at) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn same_names(&self, text: &str, nodes: &[Node]) -> Option<Fault> {
        let place = |index: usize| self.names.get(index).map(|(at, _)| *at as usize);
        let (first, second) = twice(nodes, |node| &node.name)?;
        let name = quote(&nodes.get(second)?.name);
        let line = line_of(text, place(first)?);
        let sentence =
            format!("`name` is {name}, as in line {line}; every node has a name of its own");
        Some(Fault::new(
            place(second)?,
            format!("node number {}: {sentence}", second + 1),
        ))
    }

    fn same_uids(&self, text: &str, nodes: &[Node]) -> Option<Fault> {
        let place = |index: usize| self.names.get(index).map(|(_, at)| *at as usize);
        if self.names.iter().all(|(name, uid)| name == uid) {
            return None;
        }
        let (first, second) = twice(nodes, |node| node.uid.as_str())?;
        let (node, other) = (nodes.get(second)?, nodes.get(first)?);
        if node.name == other.name {
            return None;
        }
        let uid = quote(node.uid.as_str());
        let (label, line) = (other_node(nodes, first), line_of(text, place(first)?));
        let sentence = format!(
            "node `{}`: its uid {uid} is that of {label} in line {line}; every node has one of its own, its name where `uid` is left out",
            node.name
        );
        Some(Fault::new(place(second)?, sentence))
    }

    fn outside(&self, file: &ClusterFile) -> Option<Fault> {
        let within: Vec<Block> = file
            .cluster_prefixes
            .iter()
            .copied()
            .map(Block::of_prefix)
            .collect();
        if within.is_empty() {
            return None;
        }
        let outside = |place: &&Place| {
            place.role == Role::Prefix && !within.iter().any(|prefix| prefix.contains(place.block))
        };
        let place = self
            .blocks
            .iter()
            .flatten()
            .filter(outside)
            .min_by_key(|place| place.at)?;
        let list: Vec<String> = file
            .cluster_prefixes
            .iter()
            .map(ToString::to_string)
            .collect();
        let sentence = format!(
            "{} is in none of the `clusterPrefixes` ({}); take one that is, or add its prefix there",
            place.label(&file.nodes),
            list.join(", ")
        );
        Some(Fault::new(place.at as usize, sentence))
    }

    /// In order, what a block overlaps is what contains it, and stands before it.
    fn overlaps(&mut self, text: &str, nodes: &[Node]) -> Option<Fault> {
        let mut places: Vec<Place> = std::mem::take(&mut self.blocks)
            .into_iter()
            .flatten()
            .collect();
        places.sort();
        let mut around: Vec<Place> = Vec::new();
        let mut found: Option<[Place; 2]> = None;
        for place in &places {
            while around
                .pop_if(|outer| !outer.block.contains(place.block))
                .is_some()
            {}
            if let Some(outer) = around.last()
                && !outer.may_contain(*place)
            {
                let mut pair = [*outer, *place];
                pair.sort_unstable_by_key(|place| place.at);
                let [_, later] = pair;
                if found.is_none_or(|[_, earliest]| later.at < earliest.at) {
                    found = Some(pair);
                }
            }
            around.push(*place);
        }
        let [earlier, later] = found?;
        let sentence = clash(earlier, later, text, nodes);
        Some(Fault::new(later.at as usize, sentence))
    }
}

impl Place {
    /// A node's own further address, its bridge's perhaps, may be in one of its prefixes.
    fn may_contain(self, inner: Self) -> bool {
        self.role == Role::Prefix && inner.role == Role::Further && self.node == inner.node
    }

    fn label(self, nodes: &[Node]) -> String {
        format!("{}: {self}", other_node(nodes, self.node as usize))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.role {
            Role::Prefix => "pod prefix",
            Role::Underlay => "address",
            Role::Further => "further address",
            Role::Mac => "hardware address",
        };
        write!(f, "{what} {}", self.block)
    }
}

fn clash(earlier: Place, later: Place, text: &str, nodes: &[Node]) -> String {
    let label = later.label(nodes);
    let other = other_node(nodes, earlier.node as usize);
    let line = line_of(text, earlier.at as usize);
    let same = earlier.block == later.block;
    match (earlier.role, later.role) {
        (Role::Prefix, Role::Prefix) if same => {
            format!(
                "{label} is also that of {other} in line {line}; a pod prefix is one node's, and stands once"
            )
        }
        (Role::Prefix, Role::Prefix) => format!(
            "{label} overlaps {} of {other} in line {line}; pod prefixes must not overlap",
            earlier.block
        ),
        (Role::Prefix, _) => format!(
            "{label} lies in {earlier} of {other} in line {line}; nodes' addresses are outside of all pod prefixes"
        ),
        (_, Role::Prefix) => format!(
            "{label} contains {earlier} of {other} in line {line}; nodes' addresses are outside of all pod prefixes"
        ),
        _ => format!(
            "{label} is also that of {other} in line {line}; an address is one node's, and stands once"
        ),
    }
}

fn other_node(nodes: &[Node], index: usize) -> String {
    match nodes.get(index) {
        Some(node) => format!("node `{}`", node.name),
        None => format!("node number {}", index + 1),
    }
}

/// The first two nodes that have something in common, by the place of the second.
fn twice<'a>(nodes: &'a [Node], key: impl Fn(&'a Node) -> &'a str) -> Option<(usize, usize)> {
    let mut order: Vec<(&str, usize)> = nodes.iter().map(key).zip(0..).collect();
    // Most files are in order.
    order.sort();
    let pairs = order.windows(2).filter_map(|pair| match pair {
        [(a, first), (b, second)] if a == b => Some((*first, *second)),
        _ => None,
    });
    pairs.min_by_key(|(_, second)| *second)
}
