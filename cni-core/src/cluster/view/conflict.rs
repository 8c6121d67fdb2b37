//! What two nodes claim.

use std::fmt;
use std::sync::Arc;

use crate::cluster::block::{self, Block};
use crate::cluster::{Node, NodeUid};

/// Two nodes claim the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conflict {
    /// What is not acted upon: a prefix, an address or a hardware address.
    pub what: String,
    /// What it overlaps: the same, or what contains it or is in it.
    pub against: String,
    /// Name of the node that has it.
    pub winner: Arc<str>,
    /// Uid of the node that has it.
    pub winner_uid: NodeUid,
    /// Name of the node that does not; the same node where a prefix contains its own underlay address.
    pub loser: Arc<str>,
    /// Uid of the node that does not.
    pub loser_uid: NodeUid,
}

/// What is in conflict, of which node, and whether with the node itself.
pub(super) type ConflictKey = (Block, NodeUid, bool);

impl Conflict {
    pub(super) fn new(what: Block, loser: &Node, against: Block, winner: &Node) -> Self {
        Self {
            what: what.to_string(),
            against: against.to_string(),
            winner: Arc::clone(&winner.name),
            winner_uid: winner.uid.clone(),
            loser: Arc::clone(&loser.name),
            loser_uid: loser.uid.clone(),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            against,
            winner,
            loser,
            ..
        } = self;
        if self.winner_uid == self.loser_uid {
            return write!(
                f,
                "{what} of node `{loser}` is not used: it contains {against}, the node's own address in the underlay"
            );
        }
        write!(f, "{what} of node `{loser}` is not used: ")?;
        match what == against {
            true => write!(f, "node `{winner}` has the better claim to it"),
            false => write!(
                f,
                "it overlaps {against} of node `{winner}`, which has the better claim"
            ),
        }
    }
}

/// A node's conflicts with itself.
pub(super) fn contradictions(node: &Node) -> impl Iterator<Item = (ConflictKey, Conflict)> {
    node.prefixes.iter().filter_map(move |prefix| {
        let against = block::contradiction(node, *prefix)?;
        let what = Block::of_prefix(*prefix);
        let conflict = Conflict::new(what, node, against, node);
        Some(((what, node.uid.clone(), true), conflict))
    })
}
