//! What is known of the cluster.

mod conflict;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::index::Index;
use super::{Node, NodeUid, PeerEvent};
use conflict::ConflictKey;
use settle::rank;

pub use conflict::Conflict;

/// How this node is told from its peers: by its name where one is given, else by an address that it bears.
///
/// Where several nodes answer to it, the one with the better claim is meant (see [`View`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub name: Option<String>,
    /// The host's addresses.
    pub addresses: Vec<IpAddr>,
}

/// What is known of the cluster: a pure state, moved by events.
///
/// # What may be acted upon
///
/// What it tells of a node is what may be acted upon, and depends on the set of known nodes alone, not on the order in
/// which they became known. The better of two claims is that of the node with the lower [`Node::claimed`], then the lower uid.
/// Each prefix and each address, taken in this order, holds if it does not overlap one of another node that holds; else it is
/// taken out of its node, whole, and is a [`Conflict`]. A node stays in the view when nothing is left of it.
///
/// A prefix that contains another node's address is in conflict with it like any other: packets to that address, the tunnel's
/// own included, would go to the node with the prefix, which may give the address to a pod. By rank, and not always to the
/// address: a node that comes with a wrong address then harms itself, and nobody who was there before. A prefix that contains its
/// own node's underlay address is never acted upon: its route would send the tunnel's packets into the tunnel. Further
/// addresses of a node in its own prefixes harm nothing.
///
/// A hardware address that two nodes were given is in conflict too: the loser's is derived from its uid, here and there.
///
/// # Cost
///
/// A put or a removal costs a search for each of the node's prefixes and addresses, and for what overlaps them, whatever the
/// number of nodes. A reset costs a pass over all nodes. A node that holds what it claims is kept once.
#[derive(Debug, Clone, Default)]
pub struct View {
    identity: Identity,
    numbers: BTreeMap<NodeUid, u32>,
    nodes: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: Index,
    conflicts: BTreeMap<ConflictKey, Conflict>,
    /// Who answers to the identity, the better claim first.
    mine: BTreeSet<(u64, NodeUid)>,
    in_sync: bool,
    away: Option<String>,
    rejected: Option<String>,
}

/// A change of what may be acted upon.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeChange {
    /// Which node.
    pub uid: NodeUid,
    /// What it was; `None` for one that is new.
    pub before: Option<Arc<Node>>,
    /// What it is; `None` for one that has gone.
    pub after: Option<Arc<Node>>,
}

/// A node as the source tells of it, and what of it may be acted upon: mostly the same value.
#[derive(Debug, Clone)]
struct Entry {
    known: Arc<Node>,
    effective: Arc<Node>,
}

/// Nodes that may have changed.
type Touched = BTreeMap<NodeUid, Was>;

/// A node that may have changed: its number if it is still there, and what it was before.
#[derive(Debug)]
struct Was {
    number: Option<u32>,
    before: Option<Arc<Node>>,
}

impl View {
    /// Nothing known yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            ..Self::default()
        }
    }

    /// Takes an event in, and returns what changed of what may be acted upon, this node's own entry included, by uid. An event
    /// that says what is known already changes nothing.
    pub fn apply(&mut self, event: PeerEvent) -> Vec<NodeChange> {
        if let PeerEvent::Disconnected(reason) = event {
            self.away = Some(reason);
            return Vec::new();
        }
        self.away = None;
        let changes = match event {
            PeerEvent::Reset(nodes) => {
                self.rejected = None;
                self.difference(nodes)
            }
            PeerEvent::Put(node) => {
                self.rejected = None;
                let same = self.known(&node.uid).is_some_and(|known| **known == node);
                let change = (node.uid.clone(), Some(Arc::new(node)));
                (!same).then_some(change).into_iter().collect()
            }
            PeerEvent::Remove(uid) => {
                let known = self.numbers.contains_key(&uid);
                known.then_some((uid, None)).into_iter().collect()
            }
            PeerEvent::InSync => {
                self.in_sync = true;
                Vec::new()
            }
            PeerEvent::Rejected(sentence) => {
                self.rejected = Some(sentence);
                Vec::new()
            }
            PeerEvent::Disconnected(_) => Vec::new(),
        };
        self.change(changes)
    }

    /// This node, once the source has told of it.
    pub fn me(&self) -> Option<&Arc<Node>> {
        self.node(&self.mine.first()?.1)
    }

    /// The other nodes, by uid.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Node>> {
        let me = self.mine.first().map(|(_, uid)| uid);
        self.nodes().filter(move |node| Some(&node.uid) != me)
    }

    /// All nodes, this one included, by uid.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.numbers
            .values()
            .filter_map(|number| Some(&self.entry(*number)?.effective))
    }

    /// The node with this uid, be it this one or another.
    pub fn node(&self, uid: &NodeUid) -> Option<&Arc<Node>> {
        Some(&self.entry(*self.numbers.get(uid)?)?.effective)
    }

    /// The node with this uid as the source tells of it, with what it claims and does not have.
    pub fn known(&self, uid: &NodeUid) -> Option<&Arc<Node>> {
        Some(&self.entry(*self.numbers.get(uid)?)?.known)
    }

    /// How many nodes there are, this one included.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// How this node is told from its peers.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Tells this node from its peers anew: the host's addresses have changed. No node changes by it, but which is [`View::me`].
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
        let known = self.nodes.iter().flatten().map(|entry| &entry.known);
        self.mine = known
            .filter(|node| self.identity.is(node))
            .map(|node| rank(node))
            .collect();
    }

    /// Whether all that the source knew has been told: only then may something be removed from the kernel. Once so, it stays
    /// so: what is known stays in force while the source is away, and a later reset is complete by itself.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Why the source cannot be reached, while it cannot.
    pub fn away(&self) -> Option<&str> {
        self.away.as_deref()
    }

    /// What the source holds that cannot be used, until it has been mended.
    pub fn rejected(&self) -> Option<&str> {
        self.rejected.as_deref()
    }

    /// What two nodes claim: ordered by family and number, then by the loser's uid.
    pub fn conflicts(&self) -> impl ExactSizeIterator<Item = &Conflict> {
        self.conflicts.values()
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.nodes.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// What has to change for these nodes to be all. The last of several with one uid counts, as if they had been put.
    fn difference(&self, mut nodes: Vec<Node>) -> Vec<(NodeUid, Option<Arc<Node>>)> {
        nodes.sort_by(|a, b| a.uid.cmp(&b.uid));
        let mut changes = Vec::new();
        let mut known = self.numbers.iter().peekable();
        let mut nodes = nodes.into_iter().peekable();
        while let Some(node) = nodes.next() {
            if nodes.peek().is_some_and(|next| next.uid == node.uid) {
                continue;
            }
            while let Some((gone, _)) = known.next_if(|(uid, _)| **uid < node.uid) {
                changes.push((gone.clone(), None));
            }
            let before = known.next_if(|(uid, _)| **uid == node.uid);
            let before = before.and_then(|(_, number)| self.entry(*number));
            if before.is_none_or(|entry| *entry.known != node) {
                changes.push((node.uid.clone(), Some(Arc::new(node))));
            }
        }
        changes.extend(known.map(|(gone, _)| (gone.clone(), None)));
        changes
    }

    /// Makes changes, each of another node and each a real one.
    fn change(&mut self, changes: Vec<(NodeUid, Option<Arc<Node>>)>) -> Vec<NodeChange> {
        if changes.is_empty() {
            return Vec::new();
        }
        let anew = changes.len() > self.len() / 4;
        if self.nodes.is_empty() {
            self.nodes.reserve_exact(changes.len());
        }
        let mut unsettled = BTreeSet::new();
        let mut touched = Vec::with_capacity(changes.len());
        for (uid, node) in changes {
            let number = self.numbers.get(&uid).copied();
            let before = number.and_then(|number| {
                let entry = self.entry(number)?.clone();
                self.mine.remove(&rank(&entry.known));
                if !anew {
                    self.withdraw(number, &entry.known, &mut unsettled);
                }
                Some(entry.effective)
            });
            let number = match node {
                Some(node) => Some(self.store(number, node)),
                None => {
                    self.forget(&uid);
                    None
                }
            };
            touched.push((uid, Was { number, before }));
        }
        let new = touched.iter().filter(|(_, was)| was.before.is_none());
        let new = new.filter_map(|(uid, was)| Some((uid.clone(), was.number?)));
        if anew {
            // All at once: one by one they would leave the tree half empty.
            self.numbers.append(&mut new.collect());
        } else {
            self.numbers.extend(new);
        }
        self.decide(touched.into_iter().collect(), unsettled, anew)
    }

    /// Keeps a node under its number, or under a new one.
    fn store(&mut self, number: Option<u32>, node: Arc<Node>) -> u32 {
        if self.identity.is(&node) {
            self.mine.insert(rank(&node));
        }
        let entry = Entry {
            effective: Arc::clone(&node),
            known: node,
        };
        let number = number.or_else(|| self.free.pop());
        if let Some(number) = number
            && let Some(slot) = self.nodes.get_mut(number as usize)
        {
            *slot = Some(entry);
            return number;
        }
        self.nodes.push(Some(entry));
        self.nodes.len() as u32 - 1
    }

    fn forget(&mut self, uid: &NodeUid) {
        if let Some(number) = self.numbers.remove(uid)
            && let Some(slot) = self.nodes.get_mut(number as usize)
        {
            *slot = None;
            self.free.push(number);
        }
    }
}

impl Identity {
    fn is(&self, node: &Node) -> bool {
        match &self.name {
            Some(name) => **name == *node.name,
            None => node
                .own_addresses()
                .any(|address| self.addresses.contains(&address)),
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
