//! Which kernel events a pass is due after.

use crate::host::forwarding::{Entry, Key, Route, Via};
use crate::host::monitor::KernelEvent;
use crate::plan::{Declared, Desired, Object, Scope, diff, observe};

use super::super::Owner;
use super::super::facts::tells_of_segments;
use super::{Engine, Known};

impl Engine {
    /// Whether a kernel event may have touched what is ours, or what it depends on: then a full pass is due.
    pub fn concerns(&self, event: &KernelEvent) -> bool {
        let Some(known) = &self.known else {
            return true;
        };
        let device = known.base.device.as_deref();
        let links = |index, name: &String| {
            self.owner.devices.contains(name)
                || device == Some(name)
                || known.is_uplink(index, name)
        };
        match event {
            KernelEvent::Link { index, name, .. } => {
                links(*index, name) || known.facts.exposed.contains_key(name.as_str())
            }
            // Others' addresses matter only while this node's own are nowhere to be found.
            KernelEvent::Address { index, name } => links(*index, name) || known.is_homeless(),
            KernelEvent::Entry { entry, .. } => self.concerns_entry(known, entry),
            KernelEvent::Gone { key } => match key {
                Key::NextHop(id) => known.ids.holds(*id),
                Key::Neighbour(link, _) | Key::Fdb(link, _) => device == Some(&**link),
                Key::Route(..) | Key::Rule(..) => true,
            },
            KernelEvent::Firewall { table } => {
                // Another network has just made its device, and makes its filter.
                let mut exposed = known.facts.exposed.values();
                *table == self.owner.table
                    || exposed.any(|exposed| exposed.table.as_ref() == Some(table))
            }
            KernelEvent::Overrun => true,
        }
    }

    /// Whether the host's own rules let through what this node's pods send and are sent, as they were made to: the look for events
    /// in tables that [`accept`](crate::accept) has a rule in, for which everything would be too much. True as well where nothing
    /// is known yet.
    pub async fn is_let_through(&self) -> bool {
        let Some(known) = &self.known else {
            return true;
        };
        let of_host = |declared: &&Declared| {
            matches!(
                declared.object,
                Object::HostRules { .. } | Object::LegacyRules { .. }
            )
        };
        let items = known.base.desired.items.iter().filter(of_host).cloned();
        let desired = Desired {
            items: items.collect(),
            ..Desired::default()
        };
        match observe(&self.handles(), &desired, Scope::All).await {
            Ok(observed) => diff(&desired, &observed).is_ok_and(|plan| plan.is_empty()),
            Err(_) => false,
        }
    }

    fn concerns_entry(&self, known: &Known, entry: &Entry) -> bool {
        let device = known.base.device.as_deref();
        match entry {
            // Another program's may have taken the place of ours.
            Entry::NextHop(hop) => hop.protocol == self.owner.protocol || known.ids.holds(hop.id),
            Entry::Rule(rule) => rule.protocol == self.owner.protocol,
            Entry::Neighbour(neighbour) => device == Some(&*neighbour.link),
            Entry::Fdb(entry) => device == Some(&*entry.link),
            Entry::Route(route) => {
                route.protocol == self.owner.protocol || known.may_hold(route, &self.owner)
            }
        }
    }
}

impl Known {
    fn is_uplink(&self, index: u32, name: &str) -> bool {
        let mut uplinks = self.facts.uplinks.iter();
        uplinks.any(|uplink| uplink.index == index || &*uplink.link == name)
    }

    /// None of this node's underlay addresses is on any link.
    fn is_homeless(&self) -> bool {
        let uplinks = &self.facts.uplinks;
        let there = |own| uplinks.iter().any(|uplink| uplink.addresses.contains(own));
        !self.me.underlay.iter().all(there)
    }

    /// Whether another program's route may stand in the way of one of ours, or tell of a segment: by table and length, because
    /// what we want is not kept.
    fn may_hold(&self, route: &Route, owner: &Owner) -> bool {
        let length = route.destination.prefix();
        let lengths = match route.destination.is_ipv6() {
            true => &self.census.lengths6,
            false => &self.census.lengths4,
        };
        let to_pods = route.table == u32::from(owner.protocol) || lengths.contains(&length);
        let segment = match &route.via {
            Via::Hop(hop) if hop.gateway.is_none() && tells_of_segments(route.protocol) => {
                length > 0 && self.is_uplink(0, &hop.link)
            }
            _ => false,
        };
        to_pods || segment
    }
}
