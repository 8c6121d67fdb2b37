//! The claims of very many nodes, so that what overlaps one is found without a look at the others.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::block::{Block, Family};
use super::runs::Runs;

/// A claim: what, and the number of the node that claims it.
pub(super) type Claim = (Block, u32);

/// Claims, and which of them hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    claims: BTreeMap<Claim, bool>,
    /// How many claims there are of each length: the lengths at which something may contain a block.
    lengths: BTreeMap<(Family, u8), usize>,
}

impl Index {
    /// Replaces all claims. Those that meet none of another node hold; the others do not yet, and are returned.
    pub(super) fn rebuild(&mut self, claims: Runs<Claim>) -> Vec<Claim> {
        // With the room for what they become: the map takes the list over as it is.
        let mut all: Vec<(Claim, bool)> = Vec::with_capacity(claims.len());
        all.extend(claims.sorted().map(|claim| (claim, true)));
        all.dedup();
        self.lengths.clear();
        for ((block, _), _) in &all {
            *self
                .lengths
                .entry((block.family(), block.length()))
                .or_default() += 1;
        }
        let mut contested = Vec::new();
        let mut rest = all.as_mut_slice();
        while let Some(((first, number), _)) = rest.first().copied() {
            // In this order, what overlaps the first is what it contains, and follows it without a gap.
            let contained = |(claim, _): &&(Claim, bool)| first.contains(claim.0);
            let end = rest.iter().take_while(contained).count();
            let (group, others) = rest.split_at_mut(end);
            if group.iter().any(|((_, other), _)| *other != number) {
                for (claim, holds) in group {
                    *holds = false;
                    contested.push(*claim);
                }
            }
            rest = others;
        }
        self.claims = all.into_iter().collect();
        contested
    }

    /// Adds a claim, which does not hold yet.
    pub(super) fn add(&mut self, claim: Claim) {
        if self.claims.insert(claim, false).is_none() {
            *self
                .lengths
                .entry((claim.0.family(), claim.0.length()))
                .or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, claim: Claim) {
        if self.claims.remove(&claim).is_none() {
            return;
        }
        let key = (claim.0.family(), claim.0.length());
        if let Some(count) = self.lengths.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&key);
            }
        }
    }

    /// Whether a claim holds; `None` for one that nobody makes.
    pub(super) fn holds(&self, claim: Claim) -> Option<bool> {
        self.claims.get(&claim).copied()
    }

    pub(super) fn set(&mut self, claim: Claim, holds: bool) {
        if let Some(value) = self.claims.get_mut(&claim) {
            *value = holds;
        }
    }

    /// The claims of other nodes that overlap a block, and whether they hold: the larger ones, then those that it contains.
    pub(super) fn overlapping(
        &self,
        (block, number): Claim,
    ) -> impl Iterator<Item = (Claim, bool)> {
        let shorter = (block.family(), 0)..(block.family(), block.length());
        let containing = self
            .lengths
            .range(shorter)
            .flat_map(move |((_, length), _)| {
                let larger = block.widened(*length);
                self.claims.range((larger, 0)..=(larger, u32::MAX))
            });
        let contained = (
            Bound::Included((block, 0)),
            Bound::Included((block.last(), u32::MAX)),
        );
        containing
            .chain(self.claims.range(contained))
            .map(|(claim, holds)| (*claim, *holds))
            .filter(move |((_, other), _)| *other != number)
    }
}
