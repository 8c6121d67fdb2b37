//! What goes with attachments: their elements, and what no other attachment needs any more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::accept;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::firewall::{
    Element, ElementData, FirewallChange, Table, TableState, Value, Verdict,
};
use crate::host::netlink::{NetlinkError, errno};
use crate::plan::{Change, Place, Plan, Step};
use crate::spec::Mark;

use super::config::RESERVED;
use super::desired::{
    CLOSED, ISOLATED, MEMBERS, PODS4, PODS6, SAME, SHARED, bridge_table, table, table_spec,
};

/// What is there of ours.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The kernel has no nftables.
    unknown: bool,
    table: Option<TableState>,
    bridge: Option<TableState>,
    held: Vec<Held>,
}

/// A set with its elements.
#[derive(Debug)]
struct Held {
    table: Table,
    set: &'static str,
    elements: Vec<Element>,
}

/// What is to be removed.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// The steps.
    pub(super) plan: Plan,
    /// Addresses of the attachments.
    pub(super) addresses: Vec<IpAddr>,
}

/// Reads both tables. Where the kernel has no nftables, or none for bridges, there is nothing in one.
pub(super) async fn read(host: &Host) -> Result<State> {
    let firewall = host.firewall.as_ref();
    let mut state = State::default();
    match firewall.table(&table()).await {
        Err(error) if is_unknown(&error) => {
            state.unknown = true;
            return Ok(state);
        }
        found => state.table = found?,
    }
    match firewall.table(&bridge_table()).await {
        Err(error) if is_unknown(&error) => {}
        found => state.bridge = found?,
    }
    let inet = [PODS4, PODS6, CLOSED, SAME, ISOLATED, MEMBERS];
    let inet = inet.map(|set| (state.table.is_some(), table(), set));
    let bridged = (state.bridge.is_some(), bridge_table(), ISOLATED);
    for (exists, table, set) in inet.into_iter().chain([bridged]) {
        if exists {
            let elements = firewall.elements(&table, set).await?;
            let held = Held {
                table,
                set,
                elements,
            };
            state.held.push(held);
        }
    }
    Ok(state)
}

/// The removal of all attachments that are `doomed`. Whatever is shared is in it where nobody else needs it; the plan says
/// so ([`Plan::touches_shared`]), and such a plan is for who has made it under the exclusive lock.
///
/// # Errors
/// The kernel's, where the host's own chains cannot be read.
pub(super) async fn removal(
    host: &Host,
    state: &State,
    doomed: &(dyn Fn(&Mark) -> bool + Sync),
) -> Result<Removal> {
    let sorted = Sorted::of(state, doomed);
    let mut removal = Removal {
        addresses: sorted.addresses(),
        ..Removal::default()
    };
    let mut changes = Vec::new();
    let mut shared = false;
    for (table, found) in [(table(), &state.table), (bridge_table(), &state.bridge)] {
        let Some(found) = found else {
            continue;
        };
        if sorted.is_needed(&table) {
            shared |= sorted.parts(&table, &mut changes);
        } else {
            shared = true;
            changes.extend(whole(&table, found));
        }
    }
    if !state.unknown && !sorted.is_needed(&table()) {
        for step in accept::removal(host, &table()).await?.steps() {
            shared = true;
            match &step.change {
                Change::Firewall(more) => changes.extend(more.iter().cloned()),
                _ => removal.plan.push(step.clone()),
            }
        }
    }
    if !changes.is_empty() {
        let reason = "nftables elements of the firewall, and what nobody needs any more";
        let mut step = Step::new(Place::Host, Change::Firewall(changes), reason);
        step.shared = shared;
        removal.plan.push(step);
    }
    Ok(removal)
}

/// The kernel does not have it.
fn is_unknown(error: &NetlinkError) -> bool {
    [errno::EOPNOTSUPP, errno::EPROTONOSUPPORT].contains(&error.errno)
}

/// The same without anything that is shared: for who cannot have the lock.
pub(super) fn own(state: &State, doomed: &(dyn Fn(&Mark) -> bool + Sync)) -> Plan {
    let sorted = Sorted::of(state, doomed);
    let mut plan = Plan::new();
    let changes = sorted
        .doomed
        .iter()
        .map(|(held, elements)| deletion(held, elements.clone()));
    let changes: Vec<FirewallChange> = changes.collect();
    if !changes.is_empty() {
        let reason = "nftables elements of the firewall";
        plan.push(Step::new(Place::Host, Change::Firewall(changes), reason));
    }
    plan
}

/// Elements by what becomes of them.
struct Sorted<'a> {
    state: &'a State,
    doomed: Vec<(&'a Held, Vec<Element>)>,
    /// Of other attachments.
    others: Vec<(&'a Held, &'a Element)>,
}

impl<'a> Sorted<'a> {
    fn of(state: &'a State, doomed: &(dyn Fn(&Mark) -> bool + Sync)) -> Self {
        let mut sorted = Self {
            state,
            doomed: Vec::new(),
            others: Vec::new(),
        };
        for held in &state.held {
            let mut gone = Vec::new();
            for element in &held.elements {
                match element.comment.as_deref().and_then(Mark::parse) {
                    Some(mark) if doomed(&mark) => gone.push(element.clone()),
                    Some(_) => sorted.others.push((held, element)),
                    None => {}
                }
            }
            if !gone.is_empty() {
                sorted.doomed.push((held, gone));
            }
        }
        sorted
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let elements = self.doomed.iter().flat_map(|(_, elements)| elements);
        let addresses = elements.filter_map(|element| match element.key.first()? {
            Value::Ipv4(address) => Some(IpAddr::V4(*address)),
            Value::Ipv6(address) => Some(IpAddr::V6(*address)),
            _ => None,
        });
        addresses.collect()
    }

    /// Whether an element of another attachment is in the table.
    fn is_needed(&self, table: &Table) -> bool {
        self.others.iter().any(|(held, _)| held.table == *table)
    }

    /// Deletes elements of a table that stays; whether shared ones are among them.
    fn parts(&self, table: &Table, changes: &mut Vec<FirewallChange>) -> bool {
        let of_table = self.doomed.iter().filter(|(held, _)| held.table == *table);
        changes.extend(of_table.map(|(held, elements)| deletion(held, elements.clone())));
        let mut shared = false;
        for held in self.state.held.iter().filter(|held| held.table == *table) {
            let needed = self.named_by_members(held.set);
            let unneeded = |element: &&Element| {
                element.comment.as_deref() == Some(SHARED)
                    && !element.key.first().is_some_and(|key| needed.contains(key))
            };
            let unneeded: Vec<Element> = held.elements.iter().filter(unneeded).cloned().collect();
            if !unneeded.is_empty() {
                shared = true;
                changes.push(deletion(held, unneeded));
            }
        }
        shared
    }

    /// The interfaces for which members of other attachments need an element of this set.
    fn named_by_members(&self, set: &str) -> BTreeSet<&'a Value> {
        let members = self.others.iter().filter(|(held, _)| held.set == MEMBERS);
        let needing = members.filter(|(_, member)| match &member.data {
            Some(ElementData::Verdict(Verdict::Accept)) => set == CLOSED || set == SAME,
            Some(ElementData::Verdict(Verdict::Drop)) => set == CLOSED || set == ISOLATED,
            _ => false,
        });
        needing
            .filter_map(|(_, member)| member.key.first())
            .collect()
    }
}

fn deletion(held: &Held, elements: Vec<Element>) -> FirewallChange {
    FirewallChange::ElementDel {
        table: held.table.clone(),
        set: held.set.to_owned(),
        elements,
    }
}

/// The whole table, unless an operator has put something into it: then everything but that.
fn whole(table: &Table, found: &TableState) -> Vec<FirewallChange> {
    let is_ours = |name: &str| RESERVED.contains(&name);
    let spec = table_spec(&[]);
    let our_set = |name: &str| spec.sets.iter().any(|set| set.name == name);
    let foreign_rules = found
        .chains
        .iter()
        .any(|chain| !is_ours(&chain.name) && !chain.rules.is_empty());
    let foreign_sets = found.sets.iter().any(|set| !our_set(&set.name));
    if !foreign_rules && !foreign_sets {
        return vec![FirewallChange::TableDel(table.clone())];
    }
    let ours = || found.chains.iter().filter(|chain| is_ours(&chain.name));
    let table = || table.clone();
    let flushes = ours().map(|chain| FirewallChange::ChainFlush {
        table: table(),
        chain: chain.name.clone(),
    });
    let chains = ours().map(|chain| FirewallChange::ChainDel {
        table: table(),
        chain: chain.name.clone(),
    });
    let sets = found.sets.iter().filter(|set| our_set(&set.name));
    let sets = sets.map(|set| FirewallChange::SetDel {
        table: table(),
        set: set.name.clone(),
    });
    flushes.chain(chains).chain(sets).collect()
}

/// All failures as one.
pub(super) fn joined(errors: Vec<Error>) -> Result<()> {
    Error::join(errors).map_or(Ok(()), Err)
}
