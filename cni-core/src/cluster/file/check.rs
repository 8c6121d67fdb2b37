//! What concerns several entries: what only one node may have, and where it stands.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::reader::{Fault, Result, quote};
use super::{ClusterFile, line_of};
use crate::cluster::Node;
use crate::cluster::block::{Block, Family};
use crate::cluster::runs::Runs;
use crate::host::netlink::MacAddr;

/// Whether nothing is wrong between two entries. Where they stand is of no interest then, and need not be kept: a file is nearly
/// always as it should be.
pub(super) fn is_sound(file: &ClusterFile) -> bool {
    let nodes = &file.nodes;
    let within = blocks(&file.cluster_prefixes);
    let inside = |node: &Node| {
        let mut prefixes = node.prefixes.iter().copied().map(Block::of_prefix);
        within.is_empty() || prefixes.all(|prefix| is_within(&within, prefix))
    };
    let named = |node: &Node| node.uid.as_str() == &*node.name;
    nodes.iter().all(inside)
        && twice(nodes, |node| &node.name).is_none()
        && (nodes.iter().all(named) || twice(nodes, |node| node.uid.as_str()).is_none())
        // One after the other, which keeps less at a time.
        && [Family::V4, Family::V6, Family::Mac]
            .into_iter()
            .all(|family| clashes(of_family(nodes, family).sorted()).next().is_none())
}

/// What the nodes claim of a family, wherever it stands.
fn of_family(nodes: &[Node], family: Family) -> Runs<Place> {
    let mut runs = Runs::default();
    for (number, node) in (0..).zip(nodes) {
        let prefixes = node
            .prefixes
            .iter()
            .map(|prefix| (Block::of_prefix(*prefix), Role::Prefix));
        let underlay = node
            .underlay
            .iter()
            .map(|address| (Block::of_address(*address), Role::Underlay));
        let further = node
            .addresses
            .iter()
            .map(|address| (Block::of_address(*address), Role::Further));
        let mac = node.vtep_mac.map(|mac| (Block::of_mac(mac), Role::Mac));
        let claims = prefixes.chain(underlay).chain(further).chain(mac);
        for (block, role) in claims.filter(|(block, _)| block.family() == family) {
            let place = Place {
                block,
                role,
                node: number,
                at: 0,
            };
            runs.push(block, place);
        }
    }
    runs
}

/// Where the values of a file stand, as far as others have to be compared with them: for those who want to know.
#[derive(Debug, Default)]
pub(super) struct Places {
    wanted: bool,
    blocks: Runs<Place>,
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
    pub(super) fn wanted() -> Self {
        Self {
            wanted: true,
            ..Self::default()
        }
    }

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
        if self.wanted {
            self.names.push((name_at as u32, uid_at as u32));
        }
    }

    fn add(&mut self, block: Block, role: Role, at: usize) {
        if !self.wanted {
            return;
        }
        let place = Place {
            block,
            role,
            node: self.names.len() as u32,
            at: at as u32,
        };
        self.blocks.push(block, place);
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
        let within = blocks(&file.cluster_prefixes);
        if within.is_empty() {
            return None;
        }
        let outside =
            |place: &&Place| place.role == Role::Prefix && !is_within(&within, place.block);
        let place = self
            .blocks
            .iter()
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

    fn overlaps(&mut self, text: &str, nodes: &[Node]) -> Option<Fault> {
        let pairs = clashes(std::mem::take(&mut self.blocks).sorted()).map(|mut pair| {
            pair.sort_unstable_by_key(|place| place.at);
            pair
        });
        let [earlier, later] = pairs.min_by_key(|[_, later]| later.at)?;
        let sentence = clash(earlier, later, text, nodes);
        Some(Fault::new(later.at as usize, sentence))
    }
}

/// Pairs of which the one contains the other, and must not; where there are any, one of the first is among them. In order, what
/// a block overlaps is what contains it, and stands before it.
fn clashes(places: impl Iterator<Item = Place>) -> impl Iterator<Item = [Place; 2]> {
    let mut around: Vec<Place> = Vec::new();
    places.filter_map(move |place| {
        while around
            .pop_if(|outer| !outer.block.contains(place.block))
            .is_some()
        {}
        let outer = around.last().filter(|outer| !outer.may_contain(place));
        let pair = outer.map(|outer| [*outer, place]);
        around.push(place);
        pair
    })
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

fn blocks(prefixes: &[IpNetwork]) -> Vec<Block> {
    prefixes.iter().copied().map(Block::of_prefix).collect()
}

fn is_within(prefixes: &[Block], block: Block) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(block))
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
