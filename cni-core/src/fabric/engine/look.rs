//! The kernel's state, streamed against what is wanted.

use std::sync::Arc;

use crate::cluster::Node;
use crate::error::Result;
use crate::host::firewall::FirewallChange;
use crate::host::forwarding::{Entry, Kind, Scope};
use crate::host::netlink::NetlinkChange;

use super::super::Owner;
use super::super::diff::{Act, Step};
use super::super::index::{Index, NOBODY, Whose};
use super::super::items::Item;
use super::super::report::{Difference, DifferenceStep};
use super::table::TableDiff;
use super::{Engine, Known, name_of, peer_of};

/// What is wanted, and how the kernel's state differs from it.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) index: Index,
    pub(super) table: TableDiff,
    /// Devices of other configurations.
    devices: Vec<String>,
}

impl Engine {
    /// Declares everything and reads everything.
    pub(super) async fn look(&self, known: &mut Known, peers: &[&Arc<Node>]) -> Result<Look> {
        let index = Index::new(self.seed, self.owner.protocol);
        let mut index = index.with_device(known.base.device.clone());
        for item in &known.base.items {
            index.want(item, NOBODY);
        }
        for (peer, whose) in peers.iter().zip(NOBODY + 1..) {
            let items = self.reached(known, peer);
            known.neighbours.add(&items);
            items.iter().for_each(|item| index.want(item, whose));
        }
        index.seal();
        self.see_entries(known, &mut index).await?;
        let mut look = Look {
            index,
            table: TableDiff::default(),
            devices: known.stale_devices().cloned().collect(),
        };
        look.table = self.see_table(known, &mut look.index).await?;
        self.note_clashes(known, peers, &look.index);
        Ok(look)
    }

    async fn see_entries(&self, known: &Known, index: &mut Index) -> Result<()> {
        let device = known.base.device.as_deref();
        let ours = Some(self.owner.protocol);
        let of_device = device.map(|device| (None, Some(device)));
        let kinds = [
            (Kind::Fdb, of_device),
            (Kind::Neighbour, of_device),
            (Kind::NextHop, known.facts.next_hops.then_some((ours, None))),
            // Everybody's: one of another program may stand in the way of ours.
            (Kind::Route, Some((None, None))),
            (Kind::Rule, Some((ours, None))),
        ];
        for (kind, scope) in kinds {
            let Some((protocol, link)) = scope else {
                continue;
            };
            let scope = Scope {
                kind,
                protocol,
                link,
            };
            let mut see = |entry| index.see(Item::Entry(entry), None);
            self.host.forwarding.read(&scope, &mut see).await?;
        }
        Ok(())
    }

    fn note_clashes(&self, known: &mut Known, peers: &[&Arc<Node>], index: &Index) {
        for clash in index.clashes() {
            let item = Item::Entry(clash.foreign.clone());
            known.delicate.insert(index.key_of(&item));
            known
                .clashes
                .push(clash_words(&item, name_of(peers, clash.whose)));
        }
        for contested in index.contested() {
            known.delicate.insert(contested.key);
            let loser = peer_of(peers, contested.lacks).filter(|_| contested.differ);
            let Some(loser) = loser else {
                continue;
            };
            let items = self.items(known, loser);
            let item = items
                .iter()
                .find(|item| index.key_of(item) == contested.key);
            let what = item.map(Item::what).unwrap_or_default();
            let winner = name_of(peers, contested.has);
            let winner = winner.unwrap_or_else(|| "this node".into());
            known.clashes.push(format!(
                "{what} is needed for nodes {winner} and {}: {winner} has it",
                loser.name
            ));
        }
        known.clashes.sort();
        known.clashes.dedup();
    }
}

impl Look {
    /// What would be done, in words and commands.
    pub(super) fn describe(
        &mut self,
        owner: &Owner,
        makes: &[Step],
        names: &dyn Fn(Whose) -> Option<Arc<str>>,
        difference: &mut Difference,
    ) {
        let told = |command: String, reason: &str| DifferenceStep {
            command,
            reason: reason.to_owned(),
            surplus: false,
        };
        let words = self.table.difference.clone().unwrap_or_default();
        let (members, entries): (Vec<&Step>, Vec<&Step>) = makes
            .iter()
            .partition(|step| matches!(step.item, Item::Member(_)));
        let steps = &mut difference.steps;
        let table = |changes: &[FirewallChange]| -> Vec<DifferenceStep> {
            let lines = changes
                .iter()
                .map(|change| told(change.to_string(), &words));
            lines.collect()
        };
        steps.extend(table(&self.table.sets));
        steps.extend(members.iter().map(|step| step.told(owner, names)));
        steps.extend(table(&self.table.rules));
        steps.extend(entries.iter().map(|step| step.told(owner, names)));
        let removals = self.index.removals();
        steps.extend(removals.iter().map(|step| step.told(owner, names)));
        let surplus = |command, reason| DifferenceStep {
            command,
            reason,
            surplus: true,
        };
        let leftovers = self.table.leftovers.iter();
        steps.extend(leftovers.map(|(change, reason)| surplus(change.to_string(), reason.clone())));
        steps.extend(self.devices.iter().map(|device| {
            let change = NetlinkChange::LinkDel {
                link: device.clone(),
            };
            let reason = format!("device {device} is not wanted any more");
            surplus(change.to_string(), reason)
        }));
    }
}

impl Step {
    fn told(&self, owner: &Owner, names: &dyn Fn(Whose) -> Option<Arc<str>>) -> DifferenceStep {
        let command = match (self.change(), &self.item) {
            (Some(change), _) => change.to_string(),
            (None, Item::Member(member)) => {
                let (table, set) = (owner.table.clone(), member.set.to_string());
                let elements = vec![member.element()];
                let change = match self.told.act {
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
                };
                change.to_string()
            }
            (None, Item::Entry(_)) => String::new(),
        };
        DifferenceStep {
            command,
            reason: self.reason(names),
            surplus: self.told.act == Act::Del,
        }
    }
}

fn clash_words(foreign: &Item, whose: Option<Arc<str>>) -> String {
    let what = foreign.what();
    let of = whose
        .map(|name| format!(" of node {name}"))
        .unwrap_or_default();
    match foreign {
        Item::Entry(Entry::Route(route)) => format!(
            "another program (protocol {}) has a {what}{of} with metric {}, {}: remove it or give it a higher metric",
            route.protocol,
            route.metric,
            foreign.whither()
        ),
        _ => format!("another program has the {what}{of}: remove it"),
    }
}
