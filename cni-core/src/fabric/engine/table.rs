//! The nftables table: how the kernel's differs from the one that the base declares.

use std::sync::Arc;

use crate::error::Result;
use crate::host::firewall::{ChainState, FirewallChange, SetState, TableSpec, TableState};

use super::super::index::Index;
use super::super::items::{Item, Member};
use super::{Engine, Known};

/// What has to be done for the table, but for the members of its sets.
#[derive(Debug, Default)]
pub(super) struct TableDiff {
    /// What makes the sets that members are put in, where one is missing.
    pub(super) sets: Vec<FirewallChange>,
    /// What makes the rules, where they are not as they must be: one transaction, after the members.
    pub(super) rules: Vec<FirewallChange>,
    /// The difference in words.
    pub(super) difference: Option<String>,
    /// What removes sets that no rule looks into any more, or all of the table, and why.
    pub(super) leftovers: Vec<(FirewallChange, String)>,
}

impl Engine {
    /// Compares the table, and sees the members of the declared sets.
    pub(super) async fn see_table(
        &self,
        known: &mut Known,
        index: &mut Index,
    ) -> Result<TableDiff> {
        let mut diff = TableDiff::default();
        let table = &self.owner.table;
        let (spec, state) = match (&known.base.table, known.table.take()) {
            (None, None) => return Ok(diff),
            (None, Some(_)) => {
                let words = format!("nftables table {table} is not wanted any more");
                let change = FirewallChange::TableDel(table.clone());
                diff.leftovers.push((change, words));
                return Ok(diff);
            }
            (Some(spec), None) => {
                diff.difference = Some(format!("nftables table {table} is missing"));
                (diff.sets, diff.rules) = converge(spec);
                return Ok(diff);
            }
            (Some(spec), Some(state)) => (spec, state),
        };
        diff.compare(spec, &state);
        for set in &state.sets {
            if !spec.sets.iter().any(|wanted| wanted.name == set.name) {
                continue;
            }
            let name: Arc<str> = set.name.as_str().into();
            let mut see = |element| {
                if let Some(member) = Member::of_element(&name, &element) {
                    index.see(Item::Member(member), None);
                }
            };
            let firewall = self.host.firewall.as_ref();
            firewall.each_element(table, &set.name, &mut see).await?;
        }
        Ok(diff)
    }
}

impl TableDiff {
    fn compare(&mut self, spec: &TableSpec, state: &TableState) {
        let table = || spec.table.clone();
        let (sets, rules) = converge(spec);
        let there = |name: &str| state.sets.iter().any(|set| set.name == name);
        if !spec.sets.iter().all(|set| there(&set.name)) {
            self.sets = sets;
        }
        // A chain that has another hook cannot be given this one, and one that is not declared may be asked by a rule in ours.
        let wanted = |chain: &ChainState| {
            let mut declared = spec.chains.iter();
            declared.any(|wanted| wanted.name == chain.name && wanted.hook == chain.hook)
        };
        let surplus = state.chains.iter().filter(|chain| !wanted(chain));
        let surplus: Vec<&ChainState> = surplus.collect();
        let unwanted = surplus.first().map(|chain| {
            format!(
                "chain {} of table {} should not be there",
                chain.name, spec.table
            )
        });
        self.difference = spec.matches(state).err().or(unwanted);
        if self.difference.is_some() {
            let flush = state.chains.iter().map(|chain| FirewallChange::ChainFlush {
                table: table(),
                chain: chain.name.clone(),
            });
            self.rules.extend(flush);
            let del = surplus.into_iter().map(|chain| FirewallChange::ChainDel {
                table: table(),
                chain: chain.name.clone(),
            });
            self.rules.extend(del);
            self.rules.extend(rules);
        }
        let surplus = |set: &&SetState| !spec.sets.iter().any(|other| other.name == set.name);
        self.leftovers
            .extend(state.sets.iter().filter(surplus).map(|set| {
                let words = format!(
                    "set {} of table {} is not wanted any more",
                    set.name, spec.table
                );
                let change = FirewallChange::SetDel {
                    table: table(),
                    set: set.name.clone(),
                };
                (change, words)
            }));
    }
}

/// What makes table and sets, and what makes chains and rules.
fn converge(spec: &TableSpec) -> (Vec<FirewallChange>, Vec<FirewallChange>) {
    let is_set = |change: &FirewallChange| {
        matches!(
            change,
            FirewallChange::TableAdd(_) | FirewallChange::SetAdd { .. }
        )
    };
    spec.converge().into_iter().partition(is_set)
}
