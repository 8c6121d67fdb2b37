//! Changes of nodes that have not been acted upon.

use std::collections::BTreeMap;

use cni_core::cluster::{NodeChange, NodeUid};
use tokio::time::Instant;

/// The changes, one for each node: from what was acted upon last to what is so now.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    changes: BTreeMap<NodeUid, NodeChange>,
    /// When the events came that brought them.
    arrivals: Vec<Instant>,
}

impl Pending {
    /// Adds what an event brought.
    pub(crate) fn add(&mut self, changes: Vec<NodeChange>, now: Instant) {
        if !changes.is_empty() {
            self.arrivals.push(now);
        }
        for change in changes {
            match self.changes.get_mut(&change.uid) {
                None => {
                    self.changes.insert(change.uid.clone(), change);
                }
                Some(earlier) => {
                    earlier.after = change.after;
                    if earlier.before == earlier.after {
                        self.changes.remove(&change.uid);
                    }
                }
            }
        }
    }

    /// Whether there is nothing to be acted upon.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Takes the changes, with the times of their events.
    pub(crate) fn take(&mut self) -> (Vec<NodeChange>, Vec<Instant>) {
        let changes = std::mem::take(&mut self.changes).into_values().collect();
        (changes, std::mem::take(&mut self.arrivals))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cni_core::cluster::Node;

    use super::*;

    fn node(name: &str) -> Arc<Node> {
        Arc::new(Node::new(NodeUid::new("u"), name))
    }

    fn change(before: Option<&str>, after: Option<&str>) -> NodeChange {
        NodeChange {
            uid: NodeUid::new("u"),
            before: before.map(node),
            after: after.map(node),
        }
    }

    #[test]
    fn changes_of_one_node_become_one_and_those_that_lead_back_become_none() {
        let mut pending = Pending::default();
        let now = Instant::now();
        pending.add(vec![change(Some("a"), Some("b"))], now);
        pending.add(vec![change(Some("b"), None)], now);
        pending.add(Vec::new(), now);
        let (changes, arrivals) = pending.take();
        assert_eq!(changes, [change(Some("a"), None)]);
        assert_eq!(arrivals.len(), 2);
        pending.add(vec![change(None, Some("a"))], now);
        pending.add(vec![change(Some("a"), None)], now);
        assert!(pending.is_empty());
    }
}
