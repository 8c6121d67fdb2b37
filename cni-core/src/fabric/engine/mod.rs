//! The engine: makes the kernel what a fabric declares for the nodes that are known.

mod cleanup;
mod device;
mod look;
mod room;
mod update;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::hash::RandomState;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::cluster::{Node, NodeChange, NodeUid, View};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::host::forwarding::{Entry, Key, Route};
use crate::host::monitor::KernelEvent;
use crate::host::netlink::{NetlinkChange, NetlinkExt};
use crate::plan::{self, Establishing, Handles, Object, Scope, establish};

use super::census::Tally;
use super::diff::{Act, Step, in_order};
use super::ids::Ids;
use super::index::{Index, NOBODY, Whose};
use super::items::{Item, Stage};
use super::{Base, Census, Difference, Fabric, Facts, Owner, Reach, Report, Thing, facts};
use look::Look;
use room::Neighbours;
use write::Writer;

/// Makes the kernel what a fabric declares, and keeps it so.
///
/// Nothing that the kernel knows is kept: a full pass streams the kernel's entries past an index of what is wanted,
/// which lives for as long as the pass, and writes the difference. Between passes the engine remembers the base, a number
/// for each peer, and who cannot be reached.
///
/// One engine at a time works on a network: callers see to that.
#[derive(Debug)]
pub struct Engine {
    host: Host,
    fabric: Arc<dyn Fabric>,
    owner: Owner,
    hasher: RandomState,
    known: Option<Known>,
}

/// Whether a full pass may remove what nobody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It may: all nodes are known.
    Allowed,
    /// It may not: nodes that have not been told of yet may want it ([`View::in_sync`]).
    Withheld,
}

/// What is remembered between passes.
#[derive(Debug)]
struct Known {
    me: Arc<Node>,
    tally: Tally,
    census: Census,
    ids: Ids,
    facts: Facts,
    /// Links that were ours when the facts were read.
    devices: Vec<String>,
    base: Base,
    /// Hashes of keys that somebody else wants, too: what becomes of them cannot be told from one node's change.
    delicate: HashSet<u64>,
    unreachable: BTreeMap<NodeUid, (Arc<str>, String)>,
    clashes: Vec<String>,
    neighbours: Neighbours,
    /// The kernel was left as it must be.
    settled: bool,
}

impl Engine {
    /// An engine that knows nothing yet: its first pass is a full one.
    pub fn new(host: Host, fabric: Arc<dyn Fabric>) -> Self {
        let owner = fabric.owner();
        Self {
            host,
            fabric,
            owner,
            hasher: RandomState::new(),
            known: None,
        }
    }

    /// Reads everything and makes it as it must be. What cannot be done does not keep the rest from being done.
    ///
    /// Where something fails, everything is read once more and what is still missing is tried again: another program may
    /// have been at work.
    pub async fn full(&mut self, view: &View, removal: Removal) -> Report {
        let settled = self.known.as_ref().is_some_and(|known| known.settled);
        self.passes(view, removal, settled).await
    }

    /// Makes what some nodes' changes come to, without reading anything: each change exactly once, after the pass that began
    /// with what was before. Removes only what the view, being in sync, knows to be unwanted.
    ///
    /// It becomes a full pass where there was none yet, where the base changes or other nodes' next hops get other ids,
    /// where somebody else wants what changes, and where a change fails.
    pub async fn update(&mut self, view: &View, changes: &[NodeChange]) -> Report {
        let removal = match view.in_sync() {
            true => Removal::Allowed,
            false => Removal::Withheld,
        };
        let changes = &update::coalesced(changes)[..];
        let Some(steps) = self.delta(view, changes) else {
            return self.passes(view, removal, false).await;
        };
        let mut report = self.write_delta(steps, changes, removal).await;
        if !report.is_complete() {
            let later = self.passes(view, removal, false).await;
            report.absorb(later);
            return report;
        }
        self.make_room(false, &mut report).await;
        self.tell(&mut report);
        report
    }

    /// What the node was given by the last pass; `None` where there was none, or it could not be connected at all.
    pub fn base(&self) -> Option<&Base> {
        self.known.as_ref().map(|known| &known.base)
    }

    /// What a full pass would do. Changes nothing.
    ///
    /// # Errors
    /// When this node is unknown, the fabric cannot be built at all, or the kernel cannot be read.
    pub async fn compare(&self, view: &View) -> Result<Difference> {
        let mut known = self.prepare(view).await?;
        let handles = self.handles();
        let observed = plan::observe(&handles, &known.base.desired, Scope::All).await?;
        let base = plan::diff(&known.base.desired, &observed)?;
        let peers: Vec<&Arc<Node>> = view.peers().collect();
        let mut look = self.look(&mut known, &peers).await?;
        let mut makes = Vec::new();
        let lacking = look.index.lacking();
        let everybody = (NOBODY..).take(peers.len() + 1);
        for whose in everybody.filter(|whose| lacking.contains(*whose)) {
            self.steps_of(&known, &peers, whose, &mut look.index, &mut makes);
        }
        in_order(&mut makes);
        let names = |whose| name_of(&peers, whose);
        let addresses = self.addresses_to_remove(&known.base).await?;
        let mut difference = Difference {
            base,
            mtu: known.base.mtu,
            raises: self.room_lacking(&mut known.neighbours).await,
            unreachable: known.unreachable.into_values().collect(),
            clashes: known.clashes,
            ..Difference::default()
        };
        look.describe(&self.owner, &makes, &names, &mut difference);
        difference.steps.extend(addresses);
        Ok(difference)
    }

    /// Removes everything of ours, and nothing else: rules, routes and next hops of our protocol, our devices, our table. Which
    /// nodes there are does not matter. What another program has removed already counts as removed.
    pub async fn cleanup(&mut self) -> Report {
        self.known = None;
        let mut report = Report::default();
        self.remove_all(&mut report).await;
        report
    }

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
            KernelEvent::Link { index, name, .. } => links(*index, name),
            // Others' addresses matter only while this node's own are nowhere to be found.
            KernelEvent::Address { index, name } => links(*index, name) || known.is_homeless(),
            KernelEvent::Entry { entry, .. } => self.concerns_entry(known, entry),
            KernelEvent::Gone { key } => match key {
                Key::NextHop(id) => known.ids.holds(*id),
                Key::Neighbour(link, _) | Key::Fdb(link, _) => device == Some(&**link),
                Key::Route(..) | Key::Rule(..) => true,
            },
            KernelEvent::Firewall => known.base.table.is_some(),
            KernelEvent::Overrun => true,
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

    /// Full passes: a second one where the first one could not do everything.
    async fn passes(&mut self, view: &View, removal: Removal, drift: bool) -> Report {
        let mut report = self.pass(view, removal, drift).await;
        if !report.is_complete() && self.known.is_some() {
            let later = self.pass(view, removal, false).await;
            report.absorb(later);
        }
        report
    }

    async fn pass(&mut self, view: &View, removal: Removal, drift: bool) -> Report {
        let mut report = Report::default();
        self.known = None;
        let mut known = match self.prepare(view).await {
            Ok(known) => known,
            Err(error) => {
                report.failed("this node", error);
                return report;
            }
        };
        if let Err(error) = self.make_base(&known.base, drift, &mut report).await {
            report.failed("the node's own device, addresses and parameters", error);
        } else if let Err(error) = self
            .make_rest(&mut known, view, removal, drift, &mut report)
            .await
        {
            report.failed("the kernel's state", error);
        }
        known.settled = report.is_complete();
        self.known = Some(known);
        self.make_room(drift, &mut report).await;
        self.tell(&mut report);
        report
    }

    /// Device, addresses, parameters: first, because a device that has to be made anew takes its entries along.
    async fn make_base(&self, base: &Base, drift: bool, report: &mut Report) -> Result<()> {
        let cancel = Cancel::new();
        let made = establish(&base.desired, &self.handles(), &cancel, Establishing::Apply).await?;
        let (plan, journal) = made;
        journal.keep();
        for reason in plan.reasons() {
            report.count(Thing::Base, Act::Add);
            if drift {
                report.drift(|| reason.to_owned());
            }
        }
        Ok(())
    }

    async fn make_rest(
        &self,
        known: &mut Known,
        view: &View,
        removal: Removal,
        drift: bool,
        report: &mut Report,
    ) -> Result<()> {
        let peers: Vec<&Arc<Node>> = view.peers().collect();
        let mut look = self.look(known, &peers).await?;
        let names = |whose| name_of(&peers, whose);
        let mut writer = Writer::new(self, &names, drift, report);
        self.make(known, &peers, &mut look, &mut writer).await;
        if removal == Removal::Allowed {
            writer.remove(look.index.removals()).await;
            writer.remove_table(&look).await;
            let devices: Vec<String> = known.stale_devices().cloned().collect();
            self.remove_links(&devices, report).await;
            self.remove_addresses(&known.base, report).await;
        }
        Ok(())
    }

    /// What is missing or wrong, peer by peer, in portions; policy rules when all else is there.
    async fn make(
        &self,
        known: &Known,
        peers: &[&Arc<Node>],
        look: &mut Look,
        writer: &mut Writer<'_>,
    ) {
        writer.begin_table(look);
        let lacking = look.index.lacking();
        let mut rules = Vec::new();
        let mut steps = Vec::new();
        let everybody = (NOBODY..).take(peers.len() + 1);
        for whose in everybody.filter(|whose| lacking.contains(*whose)) {
            self.steps_of(known, peers, whose, &mut look.index, &mut steps);
            for step in steps.drain(..) {
                match step.item.stage() {
                    Stage::Rule => rules.push(step),
                    _ => writer.push(step),
                }
            }
            writer.flush_if_full().await;
        }
        writer.flush_last().await;
        for rule in rules {
            writer.push(rule);
        }
        writer.flush_last().await;
    }

    /// What has to be done for one peer, or for the base.
    fn steps_of(
        &self,
        known: &Known,
        peers: &[&Arc<Node>],
        whose: Whose,
        index: &mut Index,
        steps: &mut Vec<Step>,
    ) {
        if whose == NOBODY {
            for item in known.base.items.iter().cloned() {
                index.steps(item, whose, steps);
            }
        } else if let Some(peer) = peer_of(peers, whose) {
            for item in self.items(known, peer) {
                index.steps(item, whose, steps);
            }
        }
    }

    fn items(&self, known: &Known, peer: &Node) -> Vec<Item> {
        self.reach(known, peer).items
    }

    /// What a peer needs. Whether it is reached is remembered.
    fn reached(&self, known: &mut Known, peer: &Node) -> Vec<Item> {
        let Reach { items, missing } = self.reach(known, peer);
        if !missing.is_empty() {
            let told = (peer.name.clone(), missing.join("; "));
            known.unreachable.insert(peer.uid.clone(), told);
        }
        items
    }

    fn reach(&self, known: &Known, peer: &Node) -> Reach {
        let Known {
            me,
            base,
            facts,
            ids,
            ..
        } = known;
        self.fabric.peer(me, base, facts, ids, peer)
    }

    /// Everything but the kernel's entries.
    async fn prepare(&self, view: &View) -> Result<Known> {
        let me = view.me().ok_or_else(|| unknown(view))?;
        let tally = Tally::of(view);
        let census = tally.census();
        let read = facts::read(&self.host, &self.owner).await?;
        let base = self.fabric.base(me, &census, &read.facts)?;
        Ok(Known {
            me: me.clone(),
            tally,
            census,
            ids: Ids::of(self.owner.protocol, || view.peers().map(|peer| &**peer)),
            facts: read.facts,
            devices: read.devices,
            base,
            delicate: HashSet::new(),
            unreachable: BTreeMap::new(),
            clashes: Vec::new(),
            neighbours: Neighbours::default(),
            settled: false,
        })
    }

    async fn remove_links(&self, devices: &[String], report: &mut Report) {
        for device in devices {
            let change = NetlinkChange::LinkDel {
                link: device.clone(),
            };
            match self.host.netlink.apply_one(change).await {
                Ok(()) => report.count(Thing::Base, Act::Del),
                Err(error) if write::is_gone(&error) => {}
                Err(error) => report.failed(format!("device {device}"), error),
            }
        }
    }

    fn tell(&self, report: &mut Report) {
        if let Some(known) = &self.known {
            report.unreachable = known.unreachable.values().cloned().collect();
            report.clashes.clone_from(&known.clashes);
            report.limits = known.neighbours.short();
        }
    }

    fn handles(&self) -> Handles<'_> {
        Handles {
            host: &self.host,
            sandbox: None,
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
            crate::host::forwarding::Via::Hop(hop) if hop.gateway.is_none() => {
                length > 0 && self.is_uplink(0, &hop.link)
            }
            _ => false,
        };
        to_pods || segment
    }

    fn stale_devices(&self) -> impl Iterator<Item = &String> {
        let items = &self.base.desired.items;
        let wanted = |name: &String| {
            items.iter().any(
                |declared| matches!(&declared.object, Object::Link(spec) if spec.name == *name),
            )
        };
        self.devices.iter().filter(move |name| !wanted(name))
    }
}

fn unknown(view: &View) -> Error {
    let identity = view.identity();
    let by = match &identity.name {
        Some(name) => format!("is named {name}"),
        None => "has one of this host's addresses".to_owned(),
    };
    Error::new(
        ErrorKind::TryAgain,
        format!("no node of the cluster {by}: add this node to the cluster's nodes"),
    )
}

fn peer_of<'a>(peers: &[&'a Arc<Node>], whose: Whose) -> Option<&'a Arc<Node>> {
    let place = whose.checked_sub(NOBODY + 1)?;
    peers.get(place as usize).copied()
}

fn name_of(peers: &[&Arc<Node>], whose: Whose) -> Option<Arc<str>> {
    peer_of(peers, whose).map(|peer| peer.name.clone())
}
