//! Which claims hold, and what that makes of the nodes.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::conflict::{Conflict, contradictions};
use super::{Entry, NodeChange, Touched, View, Was};
use crate::cluster::block;
use crate::cluster::index::Claim;
use crate::cluster::runs::Runs;
use crate::cluster::{Node, NodeUid};

impl View {
    /// Takes what a node claims out, and notes what may hold without it.
    pub(super) fn withdraw(&mut self, number: u32, known: &Node, unsettled: &mut BTreeSet<Claim>) {
        let mut blocks = Vec::new();
        block::claims(known, &mut blocks);
        for block in blocks {
            self.index.remove((block, number));
            self.conflicts.remove(&(block, known.uid.clone(), false));
            let overlapping = self.index.overlapping((block, number));
            unsettled.extend(overlapping.map(|(claim, _)| claim));
        }
        for (key, _) in contradictions(known) {
            self.conflicts.remove(&key);
        }
    }

    /// Decides what holds after changes, and tells what became different by them. `anew` is cheaper where much has changed.
    pub(super) fn decide(
        &mut self,
        mut touched: Touched,
        mut unsettled: BTreeSet<Claim>,
        anew: bool,
    ) -> Vec<NodeChange> {
        let mut contested = None;
        if anew {
            self.rebuild(&mut touched, &mut unsettled);
            contested = Some(unsettled.iter().map(|(_, number)| *number).collect());
        } else {
            self.claim(&touched, &mut unsettled);
        }
        self.settle(unsettled, &mut touched);
        self.conclude(touched, contested)
    }

    /// Puts in what the changed nodes claim.
    fn claim(&mut self, touched: &Touched, unsettled: &mut BTreeSet<Claim>) {
        let mut blocks = Vec::new();
        for number in touched.values().filter_map(|was| was.number) {
            let Some(entry) = self.nodes.get(number as usize).and_then(Option::as_ref) else {
                continue;
            };
            block::claims(&entry.known, &mut blocks);
            for block in blocks.drain(..) {
                self.index.add((block, number));
                unsettled.insert((block, number));
            }
            self.conflicts.extend(contradictions(&entry.known));
        }
    }

    /// Puts in what all nodes claim.
    fn rebuild(&mut self, touched: &mut Touched, unsettled: &mut BTreeSet<Claim>) {
        self.conflicts.clear();
        let mut claims = Runs::default();
        let mut blocks = Vec::new();
        for number in self.numbers.values().copied() {
            let Some(entry) = self.nodes.get(number as usize).and_then(Option::as_ref) else {
                continue;
            };
            block::claims(&entry.known, &mut blocks);
            for block in blocks.drain(..) {
                claims.push(block, (block, number));
            }
            self.conflicts.extend(contradictions(&entry.known));
            if !Arc::ptr_eq(&entry.known, &entry.effective) {
                touch(touched, number, entry);
            }
        }
        unsettled.extend(self.index.rebuild(claims));
        for (_, number) in unsettled.iter() {
            if let Some(entry) = self.entry(*number) {
                touch(touched, *number, entry);
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
                touch(touched, claim.1, entry);
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

    /// Makes what may be acted upon of what holds, and tells what that changed. Of nodes that are not contested, where those
    /// are known, everything holds.
    fn conclude(&mut self, touched: Touched, contested: Option<BTreeSet<u32>>) -> Vec<NodeChange> {
        let mut changes = Vec::new();
        for (uid, Was { number, before }) in touched {
            let index = &self.index;
            let entry = number.and_then(|number| self.nodes.get_mut(number as usize)?.as_mut());
            let after = entry.zip(number).map(|(entry, number)| {
                let contested = contested.as_ref().is_none_or(|all| all.contains(&number));
                let holds = |block| !contested || index.holds((block, number)) == Some(true);
                let known = Arc::clone(&entry.known);
                entry.effective = block::reduced(&known, holds).map_or(known, Arc::new);
                Arc::clone(&entry.effective)
            });
            if before != after {
                changes.push(NodeChange { uid, before, after });
            }
        }
        changes
    }
}

/// Notes what a node was before the first of its changes.
fn touch(touched: &mut Touched, number: u32, entry: &Entry) {
    if !touched.contains_key(&entry.known.uid) {
        let was = Was {
            number: Some(number),
            before: Some(Arc::clone(&entry.effective)),
        };
        touched.insert(entry.known.uid.clone(), was);
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
