//! What is known of the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Node, NodeUid, PeerEvent};

/// How this node is told from its peers: by its name where one is given, else by an address that it bears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub name: Option<String>,
    /// The host's addresses.
    pub addresses: Vec<IpAddr>,
}

/// What is known of the cluster: a pure state, moved by events.
///
/// What it tells of a node is what may be acted upon: a prefix or an underlay address that two nodes claim is told of
/// one of them only (the lower [`Node::claimed`], then the lower uid), whatever came first, and is a [`Conflict`].
#[derive(Debug, Clone, Default)]
pub struct View {
    identity: Identity,
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

/// Two nodes claim the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conflict {
    /// What: a prefix or an address.
    pub what: String,
    /// Name of the node that has it.
    pub winner: Arc<str>,
    /// Name of the node that does not.
    pub loser: Arc<str>,
}

impl View {
    /// Nothing known yet.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// Takes an event in, and returns what changed of what may be acted upon, this node's own entry included.
    pub fn apply(&mut self, event: PeerEvent) -> Vec<NodeChange> {
        let _ = event;
        Vec::new()
    }

    /// This node, once the source has told of it.
    pub fn me(&self) -> Option<&Arc<Node>> {
        None
    }

    /// The other nodes, by uid.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::empty()
    }

    /// The node with this uid, be it this one or another.
    pub fn node(&self, uid: &NodeUid) -> Option<&Arc<Node>> {
        let _ = uid;
        None
    }

    /// How this node is told from its peers.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether all that the source knew has been told: only then may something be removed from the kernel.
    pub fn in_sync(&self) -> bool {
        false
    }

    /// Why the source cannot be reached, while it cannot.
    pub fn away(&self) -> Option<&str> {
        None
    }

    /// What the source holds that cannot be used, until it has been mended.
    pub fn rejected(&self) -> Option<&str> {
        None
    }

    /// What two nodes claim.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        std::iter::empty()
    }
}
