//! Which claims hold, and what that makes of the nodes.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::conflict::{Conflict, contradictions};
use super::{Entry, NodeChange, Touched, View};
use crate::cluster::block::{self, Block};
use crate::cluster::index::Claim;
use crate::cluster::{Node, NodeUid};

impl View {
    /// Takes what a node claims out, and notes what may hold without it.
    pub(super) fn withdraw(
        &mut self,
        uid: &NodeUid,
        from_index: bool,
        unsettled: &mut BTreeSet<Claim>,
    ) {
        let Some(number) = self.numbers.get(uid).copied() else {
            return;
        };
        let Some(known) = self.entry(number).map(|entry| Arc::clone(&entry.known)) else {
            return;
        };
        self.mine.remove(&rank(&known));
        if !from_index {
            return;
        }
        let mut blocks = Vec::new();
        block::claims(&known, &mut blocks);
        for block in blocks {
            self.index.remove((block, number));
            self.conflicts.remove(&(block, uid.clone(), false));
            unsettled.extend(
                self.index
                    .overlapping((block, number))
                    .map(|(claim, _)| claim),
            );
        }
        for prefix in &known.prefixes {
            self.conflicts
                .remove(&(Block::of_prefix(*prefix), uid.clone(), true));
        }
    }

    /// Puts what a node claims in.
    pub(super) fn claim(&mut self, uid: &NodeUid, unsettled: &mut BTreeSet<Claim>) {
        let Some(number) = self.numbers.get(uid).copied() else {
            return;
        };
        let Some(known) = self.entry(number).map(|entry| Arc::clone(&entry.known)) else {
            return;
        };
        let mut blocks = Vec::new();
        block::claims(&known, &mut blocks);
        for block in blocks {
            self.index.add((block, number));
            unsettled.insert((block, number));
        }
        self.conflicts.extend(contradictions(&known));
    }

    /// Puts in what all nodes claim: cheaper than one by one where much has changed.
    pub(super) fn rebuild(&mut self, touched: &mut Touched, unsettled: &mut BTreeSet<Claim>) {
        self.conflicts.clear();
        let mut claims = Vec::new();
        let mut blocks = Vec::new();
        for (uid, number) in &self.numbers {
            let Some(entry) = self.nodes.get(*number as usize).and_then(Option::as_ref) else {
                continue;
            };
            block::claims(&entry.known, &mut blocks);
            claims.extend(blocks.drain(..).map(|block| (block, *number)));
            self.conflicts.extend(contradictions(&entry.known));
            if !Arc::ptr_eq(&entry.known, &entry.effective) {
                touch(touched, uid, entry);
            }
        }
        unsettled.extend(self.index.rebuild(claims));
        for (_, number) in unsettled.iter() {
            if let Some(entry) = self.entry(*number) {
                touch(touched, &entry.known.uid, entry);
            }
        }
    }

    /// Decides which claims hold, the better first: what was decided is never in question again.
    pub(super) fn settle(&mut self, unsettled: BTreeSet<Claim>, touched: &mut Touched) {
        let mut work: BTreeSet<((u64, NodeUid), Claim)> = unsettled
            .into_iter()
            .filter_map(|claim| Some((rank(&self.entry(claim.1)?.known), claim)))
            .collect();
        while let Some((rank, claim)) = work.pop_first() {
            let Some(held) = self.index.holds(claim) else {
                continue;
            };
            let winner = self.winner(claim);
            let holds = winner.is_none();
            let key = (claim.0, rank.1.clone(), false);
            match winner {
                Some(conflict) => self.conflicts.insert(key, conflict),
                None => self.conflicts.remove(&key),
            };
            if holds == held {
                continue;
            }
            self.index.set(claim, holds);
            if let Some(entry) = self.entry(claim.1) {
                touch(touched, &rank.1, entry);
            }
            for (other, _) in self.index.overlapping(claim) {
                if let Some(entry) = self.entry(other.1)
                    && compare(&entry.known, &rank).is_gt()
                {
                    work.insert((self::rank(&entry.known), other));
                }
            }
        }
    }

    /// Who has what this claim asks for: the best of those that hold something that overlaps it.
    fn winner(&self, claim: Claim) -> Option<Conflict> {
        let loser = &self.entry(claim.1)?.known;
        let better = self
            .index
            .overlapping(claim)
            .filter(|(_, holds)| *holds)
            .filter_map(|(other, _)| Some((&self.entry(other.1)?.known, other.0)))
            .filter(|(node, _)| order(node) < order(loser));
        let (winner, against) = better.min_by(|a, b| (order(a.0), a.1).cmp(&(order(b.0), b.1)))?;
        Some(Conflict::new(claim.0, loser, against, winner))
    }

    /// Makes what may be acted upon of what holds, and tells what that changed.
    pub(super) fn conclude(&mut self, touched: Touched) -> Vec<NodeChange> {
        let mut changes = Vec::new();
        for (uid, before) in touched {
            let after = self.numbers.get(&uid).copied().and_then(|number| {
                let known = Arc::clone(&self.entry(number)?.known);
                let holds = |block| self.index.holds((block, number)) == Some(true);
                let after = block::reduced(&known, holds).map_or(known, Arc::new);
                self.entry_mut(number)?.effective = Arc::clone(&after);
                Some(after)
            });
            if before != after {
                changes.push(NodeChange { uid, before, after });
            }
        }
        changes
    }
}

/// Notes what a node was before the first of its changes.
fn touch(touched: &mut Touched, uid: &NodeUid, entry: &Entry) {
    if !touched.contains_key(uid) {
        touched.insert(uid.clone(), Some(Arc::clone(&entry.effective)));
    }
}

/// How good a node's claims are: the lower, the better.
pub(super) fn rank(node: &Node) -> (u64, NodeUid) {
    (node.claimed, node.uid.clone())
}

fn order(node: &Node) -> (u64, &NodeUid) {
    (node.claimed, &node.uid)
}

fn compare(node: &Node, rank: &(u64, NodeUid)) -> Ordering {
    order(node).cmp(&(rank.0, &rank.1))
}
