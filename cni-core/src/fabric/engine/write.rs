//! Steps into the kernel, in portions; what fails is told of by the peer's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::host::firewall::{Element, FirewallChange, TRANSACTION_ELEMENTS};
use crate::host::forwarding::{Change, Failed};
use crate::host::netlink::{NetlinkError, errno};

use super::super::diff::{Act, Step, Told};
use super::super::index::Whose;
use super::super::items::{Item, Stage};
use super::super::report::{Report, Thing};
use super::Engine;
use super::guard::Guards;
use super::table::TableDiff;

/// Writes steps in the order in which they have to be made: of one portion, elements of sets first, then stage by stage.
pub(super) struct Writer<'a> {
    engine: &'a Engine,
    names: &'a (dyn Fn(Whose) -> Option<Arc<str>> + Sync),
    drift: bool,
    pub(super) report: &'a mut Report,
    /// What the next transaction begins with.
    sets: Vec<FirewallChange>,
    /// What the last transaction ends with, and the difference that it removes.
    rules: Vec<FirewallChange>,
    difference: Option<String>,
    members: Vec<Step>,
    entries: BTreeMap<Stage, Vec<Step>>,
    /// How many there are, without policy rules.
    waiting: usize,
}

/// Entries of one portion: a quarter of a megabyte. Larger ones take no less time.
const ENTRIES_MAX: usize = 1_024;

/// Elements of one portion, which is one transaction: half a megabyte. [`TRANSACTION_ELEMENTS`] would fit.
const MEMBERS_MAX: usize = 2_000;
const _: () = assert!(MEMBERS_MAX <= TRANSACTION_ELEMENTS);
/// How often a transaction that fails is tried in halves, in all: a single element among 2,000 is found with 22.
const HALVES_MAX: usize = 64;

impl<'a> Writer<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        names: &'a (dyn Fn(Whose) -> Option<Arc<str>> + Sync),
        drift: bool,
        report: &'a mut Report,
    ) -> Self {
        Self {
            engine,
            names,
            drift,
            report,
            sets: Vec::new(),
            rules: Vec::new(),
            difference: None,
            members: Vec::new(),
            entries: BTreeMap::new(),
            waiting: 0,
        }
    }

    /// Takes over what the table lacks.
    pub(super) fn begin_table(&mut self, table: &mut TableDiff) {
        self.sets = std::mem::take(&mut table.sets);
        self.rules = std::mem::take(&mut table.rules);
        self.difference.clone_from(&table.difference);
    }

    pub(super) fn push(&mut self, step: Step) {
        match step.item.stage() {
            Stage::Member => self.members.push(step),
            stage => {
                self.waiting += usize::from(stage != Stage::Rule);
                self.entries.entry(stage).or_default().push(step);
            }
        }
    }

    pub(super) async fn flush_if_full(&mut self) {
        if self.members.len() >= MEMBERS_MAX || self.waiting >= ENTRIES_MAX {
            self.flush(false).await;
        }
    }

    /// Writes what has been pushed, the table's rules with the last of their members, and policy rules when all else is
    /// there.
    pub(super) async fn flush_last(&mut self) {
        self.flush(true).await;
    }

    async fn flush(&mut self, last: bool) {
        let members = std::mem::take(&mut self.members);
        self.members(&members, last).await;
        drop(members);
        let mut guards = Guards::default();
        let stages = std::mem::take(&mut self.entries);
        for (stage, steps) in stages {
            match stage {
                Stage::Rule if !last => {
                    self.entries.insert(stage, steps);
                }
                _ => self.entries(steps, &mut guards).await,
            }
        }
        self.waiting = 0;
        let failed = guards.remove(self.engine.host.forwarding.as_ref()).await;
        for error in failed {
            self.report
                .failed("a route for the time of a change", error);
        }
    }

    /// One transaction, unless it would be too large: the rules come with or after the last elements. One that fails is
    /// tried in halves, so that what cannot be an element keeps no others out.
    async fn members(&mut self, members: &[Step], last: bool) {
        let mut portions: Vec<&[Step]> = members.chunks(MEMBERS_MAX).rev().collect();
        if last && portions.is_empty() {
            portions.push(&[]);
        }
        let mut halves = HALVES_MAX;
        while let Some(portion) = portions.pop() {
            let ends = last && portions.is_empty();
            let Err(error) = self.commit(portion, ends).await else {
                continue;
            };
            match portion {
                [step] => {
                    if step.told.act != Act::Del || !is_gone(&error) {
                        self.report.failed(step.reason(self.names), error);
                    }
                    portions.push(&[]);
                }
                [] => {
                    let words = self.difference.clone().unwrap_or_default();
                    self.report.failed(words, error);
                }
                [first, ..] if halves == 0 => {
                    let (words, more) = (first.reason(self.names), portion.len() - 1);
                    self.report
                        .failed(format!("{words} (and {more} more)"), error);
                }
                _ => {
                    halves -= 1;
                    let (first, second) = portion.split_at(portion.len() / 2);
                    portions.extend([second, first]);
                }
            }
        }
    }

    async fn commit(&mut self, members: &[Step], ends: bool) -> Result<(), NetlinkError> {
        let mut changes = self.sets.clone();
        if ends {
            changes.extend(self.rules.iter().cloned());
        }
        let table = !changes.is_empty();
        let elements = self.elements(members);
        changes.splice(self.sets.len()..self.sets.len(), elements);
        if changes.is_empty() {
            return Ok(());
        }
        self.engine.host.firewall.commit(&changes).await?;
        self.sets.clear();
        if ends {
            self.rules.clear();
        }
        if table {
            self.report.count(Thing::Table, Act::Add);
            if let Some(words) = self.difference.take().filter(|_| self.drift) {
                self.report.drift(|| words);
            }
        }
        for step in members {
            self.done(Thing::Element, &step.told, || step.item.clone());
        }
        Ok(())
    }

    /// Elements by set, each set's in one change.
    fn elements(&self, steps: &[Step]) -> Vec<FirewallChange> {
        let mut sets: BTreeMap<(Act, &str), Vec<Element>> = BTreeMap::new();
        for step in steps {
            if let Item::Member(member) = &step.item {
                let elements = sets.entry((step.told.act, &*member.set)).or_default();
                elements.push(member.element());
            }
        }
        let table = &self.engine.owner.table;
        let changes = sets.into_iter().map(|((act, set), elements)| {
            let (table, set) = (table.clone(), set.to_owned());
            match act {
                Act::Del => FirewallChange::ElementDel {
                    table,
                    set,
                    elements,
                },
                _ => FirewallChange::ElementAdd {
                    table,
                    set,
                    elements,
                },
            }
        });
        changes.collect()
    }

    /// Entries in their order.
    async fn entries(&mut self, steps: Vec<Step>, guards: &mut Guards) {
        let (changes, told): (Vec<Change>, Vec<Told>) =
            steps.into_iter().filter_map(Step::into_change).unzip();
        let forwarding = self.engine.host.forwarding.as_ref();
        let failed = forwarding.write(&changes).await;
        let failed = guards.try_again(forwarding, &changes, failed).await;
        self.account(&changes, &told, failed);
    }

    fn account(&mut self, changes: &[Change], told: &[Told], failed: Vec<Failed>) {
        let mut failed = failed.into_iter().peekable();
        for (place, (change, told)) in changes.iter().zip(told).enumerate() {
            let Some(failure) = failed.next_if(|failed| failed.index == place) else {
                self.done(Thing::of(change.entry().kind()), told, || {
                    Item::Entry(change.entry().clone())
                });
                continue;
            };
            // What has gone already need not be removed.
            if told.act != Act::Del || !is_gone(&failure.error) {
                let item = Item::Entry(change.entry().clone());
                self.report
                    .failed(told.reason(&item, self.names), failure.error);
            }
        }
    }

    fn done(&mut self, thing: Thing, told: &Told, item: impl Fn() -> Item) {
        self.report.count(thing, told.act);
        let reason = || told.reason(&item(), self.names);
        tracing::debug!(act = ?told.act, reason = %reason(), "changed");
        if self.drift {
            self.report.drift(reason);
        }
    }

    /// Removes what nobody wants: entries from the near end to the far one, then elements.
    pub(super) async fn remove(&mut self, removals: Vec<Step>) {
        let is_member = |step: &Step| matches!(step.item, Item::Member(_));
        let (members, entries): (Vec<Step>, Vec<Step>) = removals.into_iter().partition(is_member);
        self.entries(entries, &mut Guards::default()).await;
        self.members(&members, false).await;
    }

    /// Removes sets that no rule looks into any more, or the table where none is wanted.
    pub(super) async fn remove_leftovers(&mut self, table: TableDiff) {
        for (change, reason) in table.leftovers {
            let outcome = self
                .engine
                .host
                .firewall
                .commit(std::slice::from_ref(&change))
                .await;
            match outcome {
                Ok(()) => {
                    self.report.count(Thing::Table, Act::Del);
                    if self.drift {
                        self.report.drift(|| reason);
                    }
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => self.report.failed(reason, error),
            }
        }
    }
}

/// It is not there.
pub(super) fn is_gone(error: &NetlinkError) -> bool {
    matches!(error.errno, errno::ENOENT | errno::ESRCH | errno::ENODEV)
}
