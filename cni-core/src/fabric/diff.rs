//! What has to be done, in the order in which it has to be done.

use std::sync::Arc;

use crate::host::forwarding::{Change, Entry};

use super::hash::Seed;
use super::index::{Index, NOBODY, Whose};
use super::items::Item;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) item: Item,
    pub(super) told: Told,
}

/// What is done with an item, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) act: Act,
    /// Whose the item is, when that is known.
    pub(super) whose: Option<Whose>,
    pub(super) why: Why,
}

/// What is done with the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Add,
    Replace,
    Prepend,
    Del,
}

/// Why a step has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It is not there.
    Missing,
    /// This is in its place.
    Differs(Box<Item>),
    /// Another program's route stands before it.
    Behind,
    /// There are two of it.
    Twice,
    /// Nobody wants it.
    Surplus,
    /// Another program has left it on our device.
    Left,
}

/// All that has to be done: first what is made and replaced, then what goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) makes: Vec<Step>,
    pub(super) removals: Vec<Step>,
}

/// What has to be done for `after` to be there where `before` is.
pub(super) fn delta(
    seed: Seed,
    protocol: u8,
    before: Vec<(Item, Whose)>,
    after: Vec<(Item, Whose)>,
) -> Steps {
    let mut index = Index::new(seed, protocol);
    for (item, whose) in &after {
        index.want(item, *whose);
    }
    index.seal();
    for (item, whose) in before {
        index.see(item, Some(whose));
    }
    let mut steps = Steps::default();
    for (item, whose) in after {
        index.steps(item, whose, &mut steps.makes);
    }
    in_order(&mut steps.makes);
    steps.removals = index.removals();
    steps
}

/// Brings what is made into the order in which it has to be made; within one stage it stays as it is.
pub(super) fn in_order(makes: &mut [Step]) {
    makes.sort_by_key(|step| step.item.stage());
}

impl Step {
    /// The difference that the step removes, in words that name the peer.
    pub(super) fn reason(&self, name: &dyn Fn(Whose) -> Option<Arc<str>>) -> String {
        self.told.reason(&self.item, name)
    }

    /// The change of an entry; `None` for a member of a set.
    pub(super) fn change(&self) -> Option<Change> {
        Some(self.clone().into_change()?.0)
    }

    /// As [`Step::change`], with what is to be said about it.
    pub(super) fn into_change(self) -> Option<(Change, Told)> {
        let Item::Entry(entry) = self.item else {
            return None;
        };
        let change = match self.told.act {
            // What has its key may be something that no entry stands for, and that a read leaves out: a neighbour that the
            // kernel is looking for since ours was removed, a blackhole in place of a next hop. None of that is a foreign
            // thing to be left alone, as a route may be: the device is ours, and nobody comes by an id of ours by chance.
            Act::Add if matches!(entry, Entry::Route(_) | Entry::Rule(_)) => Change::Add(entry),
            Act::Add => Change::Replace(entry),
            Act::Replace => Change::Replace(entry),
            Act::Prepend => Change::Prepend(entry),
            Act::Del => Change::Del(entry),
        };
        Some((change, self.told))
    }
}

impl Told {
    /// Of what goes.
    pub(super) fn surplus(whose: Option<Whose>) -> Self {
        Self {
            act: Act::Del,
            whose,
            why: Why::Surplus,
        }
    }

    /// The difference that is removed, in words that name the peer.
    pub(super) fn reason(&self, item: &Item, name: &dyn Fn(Whose) -> Option<Arc<str>>) -> String {
        let what = item.what();
        let whose = self.whose.filter(|whose| *whose != NOBODY);
        let what = match whose.and_then(name) {
            Some(name) => format!("{what} of node {name}"),
            None => what,
        };
        match &self.why {
            Why::Missing => format!("{what} is missing"),
            Why::Differs(found) => format!(
                "{what} is {}, should be {}",
                found.whither(),
                item.whither()
            ),
            Why::Behind => format!("{what} stands behind another program's"),
            Why::Twice => format!("{what} is there twice"),
            Why::Left => format!("{what} through our device is another program's"),
            Why::Surplus if whose.is_some() => format!("{what} is not wanted any more"),
            Why::Surplus => format!("{what} belongs to no node of the cluster"),
        }
    }
}
