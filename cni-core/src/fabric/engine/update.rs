//! What a few nodes' changes come to, without a look at the kernel.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::cluster::{NodeChange, NodeUid, View};

use super::super::diff::{self, Steps};
use super::super::index::{Index, NOBODY, Whose};
use super::super::items::Item;
use super::super::report::Report;
use super::write::Writer;
use super::{Engine, Known, Removal};

impl Engine {
    /// What has to be done for these changes, one for each node; `None` where only a full pass can tell. Remembers them as
    /// made.
    pub(super) fn delta(&mut self, view: &View, changes: &[NodeChange]) -> Option<Steps> {
        let mut known = self.known.take()?;
        let me = view.me()?;
        let same = me.uid == known.me.uid;
        let is_peer = |change: &&NodeChange| change.uid != me.uid;
        for change in changes {
            change
                .before
                .iter()
                .for_each(|node| known.tally.remove(node));
            change.after.iter().for_each(|node| known.tally.add(node));
        }
        // Before the ids change: those who stay keep theirs, or this is no small change.
        let mut before = Vec::new();
        for (change, whose) in changes
            .iter()
            .zip(NOBODY + 1..)
            .filter(|(change, _)| is_peer(change))
        {
            if let Some(node) = &change.before {
                let items = self.reached(&mut known, node);
                known.neighbours.remove(&items);
                before.extend(items.into_iter().map(|item| (item, whose)));
            }
        }
        let kept = changes.iter().filter(is_peer).try_for_each(|change| {
            match (&change.before, &change.after) {
                (Some(before), None) => known.ids.remove(before),
                (Some(before), Some(after)) if known.ids.differ(before, after) => {
                    known.ids.remove(before)
                }
                _ => Ok(()),
            }
        });
        // All that go before any that comes, as if it were the next cluster from the beginning.
        let kept = changes.iter().filter(is_peer).fold(kept, |kept, change| {
            kept.and_then(|()| match (&change.before, &change.after) {
                (None, Some(after)) => known.ids.add(after),
                (Some(before), Some(after)) if known.ids.differ(before, after) => {
                    known.ids.add(after)
                }
                _ => Ok(()),
            })
        });
        let census = known.tally.census(&known.held);
        let base = match **me == *known.me && census == known.census {
            true => None,
            false => Some(self.fabric.base(me, &census, &known.facts).ok()?),
        };
        // Peers' items follow from this node's own entry as well.
        let moved = **me != *known.me;
        if !same || moved || kept.is_err() || base.is_some_and(|base| base != known.base) {
            return None;
        }
        known.census = census;
        let mut after = Vec::new();
        for (change, whose) in changes
            .iter()
            .zip(NOBODY + 1..)
            .filter(|(change, _)| is_peer(change))
        {
            known.unreachable.remove(&change.uid);
            if let Some(node) = &change.after {
                let items = self.reached(&mut known, node);
                known.neighbours.add(&items);
                after.extend(items.into_iter().map(|item| (item, whose)));
            }
        }
        if self.is_delicate(&known, before.iter().chain(&after)) {
            return None;
        }
        self.known = Some(known);
        Some(diff::delta(self.seed, self.owner.protocol, before, after))
    }

    pub(super) async fn write_delta(
        &mut self,
        steps: Steps,
        changes: &[NodeChange],
        removal: Removal,
    ) -> Report {
        let mut report = Report::default();
        let names = |whose: Whose| name_of(changes, whose);
        let mut writer = Writer::new(self, &names, false, &mut report);
        for step in steps.makes {
            writer.push(step);
        }
        writer.flush_last().await;
        if removal == Removal::Allowed {
            writer.remove(steps.removals).await;
        }
        report
    }

    fn is_delicate<'a>(
        &self,
        known: &Known,
        mut items: impl Iterator<Item = &'a (Item, Whose)>,
    ) -> bool {
        if known.delicate.is_empty() {
            return false;
        }
        let index = Index::new(self.seed, self.owner.protocol);
        items.any(|(item, _)| known.delicate.contains(&index.key_of(item)))
    }
}

/// One change for each node: from what it was at first to what it is in the end.
pub(super) fn coalesced(changes: &[NodeChange]) -> Vec<NodeChange> {
    let mut merged: BTreeMap<&NodeUid, NodeChange> = BTreeMap::new();
    for change in changes {
        match merged.entry(&change.uid) {
            Entry::Vacant(place) => {
                place.insert(change.clone());
            }
            Entry::Occupied(mut place) => place.get_mut().after.clone_from(&change.after),
        }
    }
    merged
        .into_values()
        .filter(|change| change.before != change.after)
        .collect()
}

fn name_of(changes: &[NodeChange], whose: Whose) -> Option<Arc<str>> {
    let place = whose.checked_sub(NOBODY + 1)?;
    let change = changes.get(place as usize)?;
    let node = change.after.as_ref().or(change.before.as_ref())?;
    Some(node.name.clone())
}
