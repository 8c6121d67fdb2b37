//! What was done, and what could not be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::host::forwarding::Kind;
use crate::plan::Plan;

use super::Entrance;
use super::diff::Act;

/// What a pass did, and what it could not do.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Everything was read and compared.
    pub full: bool,
    /// Changes made, by what was changed. Empty where everything was right.
    pub made: BTreeMap<Thing, Count>,
    /// What a full pass found to be other than an earlier pass had left it, and repaired, in words: at most
    /// [`Report::DRIFT_MAX`] of them.
    pub drift: Vec<String>,
    /// How many there were.
    pub drifted: u64,
    /// What could not be done, in words that name the peer, and why. Everything else was done.
    pub errors: Vec<(String, Error)>,
    /// All peers that cannot be reached, by name, and why.
    pub unreachable: Vec<(Arc<str>, String)>,
    /// What other programs, or two nodes, want at once, in words.
    pub clashes: Vec<String>,
    /// What the kernel has too little room for and could not be raised, in words.
    pub limits: Vec<String>,
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Thing {
    /// Device, addresses, kernel parameters.
    Base,
    /// The nftables table: its sets and rules.
    Table,
    /// An element of one of its sets.
    Element,
    /// A forwarding entry.
    Fdb,
    /// A neighbour.
    Neighbour,
    /// A next hop.
    NextHop,
    /// A route.
    Route,
    /// A policy rule.
    Rule,
}

/// How many changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Made where there was nothing.
    pub added: u64,
    /// Made in place of something.
    pub replaced: u64,
    /// Removed.
    pub removed: u64,
}

/// What a full pass would do. It prints as the commands that an operator would type, one a line.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Difference {
    /// Device, addresses, kernel parameters.
    pub base: Plan,
    /// The largest packet of a pod, in bytes.
    pub mtu: u32,
    /// By what peers' packets come in.
    pub entrance: Entrance,
    /// Everything else, in order.
    pub steps: Vec<DifferenceStep>,
    /// Limits of the kernel's to be raised. Nothing is missing or wrong because of them.
    pub raises: Vec<DifferenceStep>,
    /// All peers that cannot be reached, by name, and why.
    pub unreachable: Vec<(Arc<str>, String)>,
    /// What other programs, or two nodes, want at once, in words.
    pub clashes: Vec<String>,
}

/// One step of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DifferenceStep {
    /// The command.
    pub command: String,
    /// The difference that it removes, in words that name the peer.
    pub reason: String,
    /// Whether it takes something away that nobody wants: nothing is missing or wrong.
    pub surplus: bool,
}

impl Report {
    /// How many drifts are told of in words.
    pub const DRIFT_MAX: usize = 32;

    /// How many changes were made.
    pub fn changes(&self) -> u64 {
        let each = self.made.values();
        each.map(|count| count.added + count.replaced + count.removed)
            .sum()
    }

    /// Whether everything that was to be done has been done.
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty()
    }

    /// Adds what a second pass did; what it found takes the place of what the first one did.
    pub(super) fn absorb(&mut self, later: Self) {
        self.full |= later.full;
        for (thing, count) in later.made {
            let sum = self.made.entry(thing).or_default();
            sum.added += count.added;
            sum.replaced += count.replaced;
            sum.removed += count.removed;
        }
        let room = Self::DRIFT_MAX.saturating_sub(self.drift.len());
        self.drift.extend(later.drift.into_iter().take(room));
        self.drifted += later.drifted;
        self.errors = later.errors;
        self.unreachable = later.unreachable;
        self.clashes = later.clashes;
        self.limits = later.limits;
    }

    pub(super) fn failed(&mut self, what: impl Into<String>, error: impl Into<Error>) {
        self.errors.push((what.into(), error.into()));
    }

    pub(super) fn count(&mut self, thing: Thing, act: Act) {
        let count = self.made.entry(thing).or_default();
        match act {
            Act::Add | Act::Prepend => count.added += 1,
            Act::Replace => count.replaced += 1,
            Act::Del => count.removed += 1,
        }
    }

    /// What takes several commands (a device: made, and marked as ours) is told of once.
    pub(super) fn drift(&mut self, words: impl FnOnce() -> String) {
        self.drifted += 1;
        if self.drift.len() < Self::DRIFT_MAX {
            let words = words();
            if self.drift.last() != Some(&words) {
                self.drift.push(words);
            }
        }
    }
}

impl Thing {
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Fdb => Self::Fdb,
            Kind::Neighbour => Self::Neighbour,
            Kind::NextHop => Self::NextHop,
            Kind::Route => Self::Route,
            Kind::Rule => Self::Rule,
        }
    }

    /// One word for it, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Table => "table",
            Self::Element => "element",
            Self::Fdb => "fdb",
            Self::Neighbour => "neighbour",
            Self::NextHop => "nexthop",
            Self::Route => "route",
            Self::Rule => "rule",
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Difference {
    /// Whether everything is as it must be.
    pub fn is_empty(&self) -> bool {
        self.base.is_empty() && self.steps.is_empty() && self.raises.is_empty()
    }

    /// The differences in words.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        let steps = self.steps.iter().chain(&self.raises);
        let steps = steps.map(|step| step.reason.as_str());
        self.base.reasons().chain(steps)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)?;
        for step in self.steps.iter().chain(&self.raises) {
            writeln!(f, "{}", step.command)?;
        }
        Ok(())
    }
}
