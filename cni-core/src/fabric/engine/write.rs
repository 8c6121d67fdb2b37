//! Steps into the kernel, in portions; what fails is told of by the peer's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::host::firewall::{Element, FirewallChange, TRANSACTION_ELEMENTS};
use crate::host::forwarding::Change;
use crate::host::netlink::{NetlinkError, errno};

use super::super::diff::{Act, Step, in_order};
use super::super::index::Whose;
use super::super::items::Item;
use super::super::report::{Report, Thing};
use super::Engine;
use super::look::Look;

/// Writes steps in the order in which they come, as far as that matters: of one portion, elements of sets first.
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
    entries: Vec<Step>,
}

/// Entries of one portion: a megabyte.
const ENTRIES_MAX: usize = 4_096;

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
            entries: Vec::new(),
        }
    }

    /// Takes over what the table lacks.
    pub(super) fn begin_table(&mut self, look: &mut Look) {
        self.sets = std::mem::take(&mut look.sets);
        self.rules = std::mem::take(&mut look.rules);
        self.difference.clone_from(&look.difference);
    }

    pub(super) fn push(&mut self, step: Step) {
        match step.item {
            Item::Member(_) => self.members.push(step),
            Item::Entry(_) => self.entries.push(step),
        }
    }

    pub(super) async fn flush_if_full(&mut self) {
        if self.members.len() >= TRANSACTION_ELEMENTS || self.entries.len() >= ENTRIES_MAX {
            self.flush(false).await;
        }
    }

    /// Writes what has been pushed, and the table's rules with the last of their members.
    pub(super) async fn flush_last(&mut self) {
        self.flush(true).await;
    }

    async fn flush(&mut self, last: bool) {
        let rules = match last {
            true => std::mem::take(&mut self.rules),
            false => Vec::new(),
        };
        let members = std::mem::take(&mut self.members);
        self.members(members, rules).await;
        let mut entries = std::mem::take(&mut self.entries);
        in_order(&mut entries);
        self.entries(entries).await;
    }

    /// One transaction, unless it would be too large: the rules come with or after the last elements.
    async fn members(&mut self, members: Vec<Step>, rules: Vec<FirewallChange>) {
        let mut portions = members.chunks(TRANSACTION_ELEMENTS).peekable();
        let mut rest = Some(rules);
        loop {
            let portion = portions.next().unwrap_or_default();
            let is_last = portions.peek().is_none();
            let mut changes = std::mem::take(&mut self.sets);
            let table = changes.len();
            changes.extend(self.elements(portion));
            let rules = if is_last { rest.take() } else { None }.unwrap_or_default();
            let table = table + rules.len();
            changes.extend(rules);
            self.commit(&changes, table > 0, portion).await;
            if is_last {
                return;
            }
        }
    }

    async fn commit(&mut self, changes: &[FirewallChange], table: bool, members: &[Step]) {
        if changes.is_empty() {
            return;
        }
        let outcome = self.engine.host.firewall.commit(changes).await;
        match outcome {
            Ok(()) => {
                if table {
                    self.report.count(Thing::Table, Act::Add);
                    if let Some(words) = self.difference.take().filter(|_| self.drift) {
                        self.report.drift(|| words);
                    }
                }
                members.iter().for_each(|step| self.done(step));
            }
            Err(error) => {
                let what = match members.first() {
                    Some(step) => format!(
                        "{} (and {} more)",
                        step.reason(self.names),
                        members.len() - 1
                    ),
                    None => self.difference.clone().unwrap_or_default(),
                };
                self.report.failed(what, error);
            }
        }
    }

    /// Elements by set, each set's in one change.
    fn elements(&self, steps: &[Step]) -> Vec<FirewallChange> {
        let mut sets: BTreeMap<(Act, &str), Vec<Element>> = BTreeMap::new();
        for step in steps {
            if let Item::Member(member) = &step.item {
                let elements = sets.entry((step.act, &*member.set)).or_default();
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
    async fn entries(&mut self, steps: Vec<Step>) {
        for portion in steps.chunks(ENTRIES_MAX) {
            let changes: Vec<Change> = portion.iter().filter_map(Step::change).collect();
            let failed = self.engine.host.forwarding.write(&changes).await;
            let mut failed = failed.into_iter().peekable();
            for (place, step) in portion.iter().enumerate() {
                let Some(failure) = failed.next_if(|failed| failed.index == place) else {
                    self.done(step);
                    continue;
                };
                // What has gone already need not be removed.
                if step.act != Act::Del || !is_gone(&failure.error) {
                    self.report.failed(step.reason(self.names), failure.error);
                }
            }
        }
    }

    fn done(&mut self, step: &Step) {
        self.report.count(Thing::of(&step.item), step.act);
        let names = self.names;
        tracing::debug!(act = ?step.act, reason = %step.reason(names), "changed");
        if self.drift {
            self.report.drift(|| step.reason(names));
        }
    }

    /// Removes what nobody wants: entries from the near end to the far one, then elements.
    pub(super) async fn remove(&mut self, removals: Vec<Step>) {
        let is_member = |step: &Step| matches!(step.item, Item::Member(_));
        let (members, entries): (Vec<Step>, Vec<Step>) = removals.into_iter().partition(is_member);
        self.entries(entries).await;
        self.members(members, Vec::new()).await;
    }

    /// Removes our table where none is wanted.
    pub(super) async fn remove_table(&mut self, look: &Look) {
        if let Some(change) = &look.leftover {
            match self
                .engine
                .host
                .firewall
                .commit(std::slice::from_ref(change))
                .await
            {
                Ok(()) => self.report.count(Thing::Table, Act::Del),
                Err(error) if is_gone(&error) => {}
                Err(error) => self
                    .report
                    .failed("the nftables table that nobody wants", error),
            }
        }
    }
}

/// It is not there.
pub(super) fn is_gone(error: &NetlinkError) -> bool {
    matches!(error.errno, errno::ENOENT | errno::ESRCH | errno::ENODEV)
}
