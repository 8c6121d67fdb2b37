//! Differences in chains that are other people's, in whole or in part.

use crate::accept;
use crate::host::firewall::{Family, FirewallChange, Rule, Table};
use crate::host::legacy::{LegacyChange, LegacyRule};

use super::diff::Output;
use super::{Change, Owner, PlaceState};

/// A chain that has to be there, with whatever rules.
pub(super) fn chain(table: &Table, chain: &str, state: &PlaceState, out: &mut Output<'_>) {
    let present = state.tables.get(table).and_then(Option::as_ref);
    if present.is_some_and(|present| present.chains.iter().any(|found| found.name == chain)) {
        return;
    }
    let (table, chain) = (table.clone(), chain.to_owned());
    let shared = out.declared.owner == Owner::Shared;
    let transaction = out.transaction();
    transaction.shared |= shared;
    transaction
        .reasons
        .push(format!("chain {chain} of table {table} is missing"));
    transaction.changes.extend([
        FirewallChange::TableAdd(table.clone()),
        FirewallChange::ChainAdd {
            table: table.clone(),
            chain: chain.clone(),
            hook: None,
        },
    ]);
    // A table that is made as a whole is taken back as a whole.
    if present.is_some() {
        let undo = FirewallChange::ChainDel { table, chain };
        transaction.undo.push(undo);
    }
}

/// Rules of ours in another program's chain: not where there is no such chain, nor where nothing in it could drop.
pub(super) fn host_rules(
    (table, chain): (&Table, &str),
    owner: &str,
    rules: &[(Rule, String)],
    state: &PlaceState,
    out: &mut Output<'_>,
) {
    let key = (table.clone(), chain.to_owned());
    let Some(present) = state.chains.get(&key).and_then(Option::as_ref) else {
        return;
    };
    let comments = || present.rules.iter().map(|rule| rule.comment.as_deref());
    let ours = |found: Option<&str>| found.is_some_and(|found| found.starts_with(accept::COMMENT));
    let may_drop = present.drops || comments().any(|found| !ours(found));
    let wanted = |found: &str| rules.iter().any(|(_, comment)| comment == found);
    let mut steps = Vec::new();
    for rule in &present.rules {
        if let Some(comment) = rule.comment.as_deref()
            && accept::is_of(owner, comment)
            && !wanted(comment)
        {
            let reason = format!(
                "chain {chain} of table {table} has a rule of ours too many, with the comment \"{comment}\""
            );
            let deletion = FirewallChange::RuleDel {
                table: table.clone(),
                chain: chain.to_owned(),
                handle: rule.handle,
            };
            steps.push((reason, deletion));
        }
    }
    let insert = present.is_base && may_drop;
    for (rule, comment) in rules.iter().filter(|_| insert) {
        if comments().any(|found| found == Some(comment)) {
            continue;
        }
        let reason = format!(
            "chain {chain} of table {table} lacks the rule \"{rule}\" with the comment \"{comment}\""
        );
        let insertion = FirewallChange::RuleInsert {
            table: table.clone(),
            chain: chain.to_owned(),
            rule: rule.clone(),
            comment: comment.clone(),
        };
        steps.push((reason, insertion));
    }
    if steps.is_empty() {
        return;
    }
    let shared = out.declared.owner == Owner::Shared;
    let transaction = out.transaction();
    transaction.shared |= shared;
    for (reason, change) in steps {
        transaction.reasons.push(reason);
        transaction.changes.push(change);
    }
}

/// Rules of ours in a legacy table, where there is one.
pub(super) fn legacy_rules(
    (family, chain): (Family, &str),
    owner: &str,
    rules: &[LegacyRule],
    state: &PlaceState,
    out: &mut Output<'_>,
) {
    let present = state.legacy.get(&(family, chain.to_owned()));
    let Some(Some(present)) = present else {
        return;
    };
    let surplus = present
        .iter()
        .filter(|found| accept::is_of(owner, &found.comment) && !rules.contains(found));
    for rule in surplus {
        let delete = LegacyChange::Delete(rule.clone());
        let reason = format!("the legacy table filter has a rule of ours too many: {delete}");
        out.push(Change::Legacy(delete), None, reason);
    }
    for rule in rules.iter().filter(|rule| !present.contains(rule)) {
        let insert = LegacyChange::Insert(rule.clone());
        let reason = format!("the legacy table filter lacks a rule: {insert}");
        let undo = Change::Legacy(LegacyChange::Delete(rule.clone()));
        out.push(Change::Legacy(insert), Some(undo), reason);
    }
}
