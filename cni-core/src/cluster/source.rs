//! Where the nodes are known from.

use std::fmt;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::{Node, NodeUid};

/// Tells of the nodes of a cluster, this one included.
///
/// # Contract
///
/// * The first event that carries nodes is a [`PeerEvent::Reset`]; a source that starts with single puts sends an empty
///   reset first. When all that the source knows has been told, [`PeerEvent::InSync`] says so, for a cluster without nodes too.
/// * After a disconnection it sends what changed meanwhile, by value, or a reset with all nodes; where nothing did,
///   [`PeerEvent::InSync`]. Never a removal, nor an empty reset, because the connection broke.
/// * One record that makes no sense is [`PeerEvent::Rejected`], and the rest goes on. When it has been mended, a reset or a
///   put says so, even if what is known is what it was before.
/// * Two nodes that claim the same are told as they are: a [`View`](super::View) settles that.
/// * Of changes that come faster than they are asked for, only the last state need be told.
/// * `next` may be dropped at any await point, and loses nothing. It returns when there is something new: a source that
///   cannot be reached says so once, and waits.
///
/// `testing::conformance::peer_source` (feature `testing`) tests a source for it.
#[async_trait]
pub trait PeerSource: Send + fmt::Debug {
    /// The next event. A source never ends: one that has nothing more to say waits for ever.
    async fn next(&mut self) -> PeerEvent;

    /// Prefixes that hold all pods of the cluster, as the source told with its last reset; empty where it does not tell.
    fn cluster_prefixes(&self) -> &[IpNetwork] {
        &[]
    }
}

/// What a source tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// These are the nodes, all of them; who is not in the list has gone.
    Reset(Vec<Node>),
    /// This node is so now.
    Put(Node),
    /// This node has gone.
    Remove(NodeUid),
    /// Everything that was known to the source has been told: before that, nothing may be removed from the kernel.
    InSync,
    /// The source cannot be reached, with the reason; what is known stays in force.
    Disconnected(String),
    /// Something that the source holds cannot be used, with the place, the value, the rule and what to do; what worked
    /// stays in force. The next reset or put says that it has been mended.
    Rejected(String),
}
