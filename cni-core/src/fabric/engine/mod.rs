//! The engine: makes the kernel what a fabric declares for the nodes that are known.

mod cleanup;
mod concerns;
mod device;
mod guard;
mod look;
mod room;
mod table;
mod update;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::cluster::{Node, NodeChange, NodeUid, View};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::host::firewall::TableState;
use crate::host::netlink::{NetlinkChange, NetlinkExt};
use crate::plan::{self, Establishing, Handles, Object, Scope, establish};

use super::census::{Lengths, Tally};
use super::diff::{Act, Step, in_order};
use super::hash::Seed;
use super::ids::{self, Ids};
use super::index::{Index, NOBODY, Part, Whose};
use super::items::Item;
use super::{
    Base, Census, Difference, Entrance, Fabric, Facts, Owner, Reach, Report, Thing, Uplink, facts,
    tables,
};
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
    seed: Seed,
    cancel: Cancel,
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

impl Removal {
    /// Allowed where the view is in sync.
    pub fn of(view: &View) -> Self {
        match view.in_sync() {
            true => Self::Allowed,
            false => Self::Withheld,
        }
    }
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
    /// The table as it was then, until it is compared.
    table: Option<TableState>,
    /// Lengths of prefixes that sets in the kernel are for, and that nodes which have not been told of yet may have.
    held: Lengths,
    base: Base,
    /// Hashes of keys that somebody else wants, too: what becomes of them cannot be told from one node's change.
    delicate: HashSet<u64>,
    unreachable: BTreeMap<NodeUid, (Arc<str>, String)>,
    clashes: Vec<String>,
    neighbours: Neighbours,
    /// Others held the lock of the network namespace for so long that the base was left as it was.
    locked_out: bool,
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
            seed: Seed::random(),
            cancel: Cancel::new(),
            known: None,
        }
    }

    /// The same, which waits for other processes no longer once this is cancelled.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
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
        let removal = Removal::of(view);
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

    /// By what peers' packets come in; `None` as for [`Engine::base`].
    pub fn entrance(&self) -> Option<Entrance> {
        self.known.as_ref().map(Known::entrance)
    }

    /// What a full pass would do. Changes nothing.
    ///
    /// # Errors
    /// When this node is unknown, the fabric cannot be built at all, or the kernel cannot be read.
    pub async fn compare(&self, view: &View) -> Result<Difference> {
        let mut known = self.prepare(view, Removal::of(view)).await?;
        let handles = self.handles();
        let observed = plan::observe(&handles, &known.base.desired, Scope::All).await?;
        let base = plan::diff(&known.base.desired, &observed)?;
        let peers: Vec<&Arc<Node>> = view.peers().collect();
        let mut look = self.look(&mut known, &peers).await?;
        let mut makes = Vec::new();
        for part in [Part::Members, Part::Entries] {
            let lacking = look.index.lacking(part);
            let everybody = (NOBODY..).take(peers.len() + 1);
            for whose in everybody.filter(|whose| lacking.contains(*whose)) {
                self.steps_of(&known, &peers, whose, (&mut look.index, part), &mut makes);
            }
        }
        in_order(&mut makes);
        let names = |whose| name_of(&peers, whose);
        let addresses = self.addresses_to_remove(&known.base).await?;
        let mut difference = Difference {
            base,
            mtu: known.base.mtu,
            entrance: known.entrance(),
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

    /// Full passes: a second one where the first one could not do everything, but for what it has waited for long enough.
    async fn passes(&mut self, view: &View, removal: Removal, drift: bool) -> Report {
        let mut report = self.pass(view, removal, drift).await;
        let again = |known: &Known| !known.locked_out;
        if !report.is_complete() && self.known.as_ref().is_some_and(again) {
            let later = self.pass(view, removal, false).await;
            report.absorb(later);
        }
        report
    }

    async fn pass(&mut self, view: &View, removal: Removal, drift: bool) -> Report {
        let mut report = Report {
            full: true,
            ..Report::default()
        };
        self.known = None;
        let mut known = match self.prepare(view, removal).await {
            Ok(known) => known,
            Err(error) => {
                report.failed("this node", error);
                return report;
            }
        };
        let mut made = self.make_base(&known.base, drift, &mut report).await;
        let stale: Vec<String> = known.stale_devices().cloned().collect();
        // What peers need can be made without it: nearly always the base is as it must be.
        let waited = |error: &Error| error.kind() == ErrorKind::TryAgain && error.errno().is_none();
        known.locked_out = made.as_ref().is_err_and(waited);
        if made.is_err() && !known.locked_out && removal == Removal::Allowed && !stale.is_empty() {
            // The kernel has room for one tunnel of a VNI and port: a device of ours by another name may be in the way.
            self.remove_links(&stale, &mut report).await;
            made = self.make_base(&known.base, drift, &mut report).await;
        }
        let goes_on = match &made {
            Ok(()) => true,
            Err(_) if self.cancel.is_cancelled() => false,
            Err(_) => known.locked_out && self.has_device(&known.base).await,
        };
        if let Err(error) = made {
            report.failed("the node's own device, addresses and parameters", error);
        }
        if goes_on
            && let Err(error) = self
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

    async fn has_device(&self, base: &Base) -> bool {
        match &base.device {
            Some(device) => matches!(self.host.netlink.link(device).await, Ok(Some(_))),
            None => true,
        }
    }

    /// Device, addresses, parameters: first, because a device that has to be made anew takes its entries along.
    async fn make_base(&self, base: &Base, drift: bool, report: &mut Report) -> Result<()> {
        let (handles, mode) = (self.handles(), Establishing::Apply);
        let made = establish(&base.desired, &handles, &self.cancel, mode).await?;
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
            writer.remove_leftovers(look.table).await;
            let devices: Vec<String> = known.stale_devices().cloned().collect();
            self.remove_links(&devices, report).await;
            self.remove_addresses(&known.base, drift, report).await;
        }
        Ok(())
    }

    /// What is missing or wrong, peer by peer, in portions: first the members of all, and the table's rules, so that nothing is
    /// led to a peer that the rules do not know.
    async fn make(
        &self,
        known: &Known,
        peers: &[&Arc<Node>],
        look: &mut Look,
        writer: &mut Writer<'_>,
    ) {
        writer.begin_table(&mut look.table);
        for part in [Part::Members, Part::Entries] {
            let lacking = look.index.lacking(part);
            let mut steps = Vec::new();
            let everybody = (NOBODY..).take(peers.len() + 1);
            for whose in everybody.filter(|whose| lacking.contains(*whose)) {
                self.steps_of(known, peers, whose, (&mut look.index, part), &mut steps);
                for step in steps.drain(..) {
                    writer.push(step);
                }
                writer.flush_if_full().await;
            }
            writer.flush_last().await;
        }
    }

    /// What has to be done for one peer, or for the base.
    fn steps_of(
        &self,
        known: &Known,
        peers: &[&Arc<Node>],
        whose: Whose,
        (index, part): (&mut Index, Part),
        steps: &mut Vec<Step>,
    ) {
        let items = match peer_of(peers, whose) {
            Some(peer) => self.items(known, peer),
            None => known.base.items.clone(),
        };
        for item in items.into_iter().filter(|item| part.has(item)) {
            index.steps(item, whose, steps);
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
    async fn prepare(&self, view: &View, removal: Removal) -> Result<Known> {
        let me = view.me().ok_or_else(|| unknown(view))?;
        let table = self.host.firewall.table(&self.owner.table).await?;
        let held = match (removal, &table) {
            (Removal::Withheld, Some(table)) => tables::lengths(table),
            _ => Lengths::default(),
        };
        let tally = Tally::of(view);
        let census = tally.census(&held);
        let read = facts::read(&self.host, &self.owner).await?;
        let base = self.fabric.base(me, &census, &read.facts)?;
        let from = ids::Source {
            protocol: self.owner.protocol,
            addresses: base.hops_by_address,
            mask: ids::ALL_BITS,
        };
        Ok(Known {
            me: me.clone(),
            tally,
            census,
            ids: Ids::of(from, || view.peers().map(|peer| &**peer)),
            facts: read.facts,
            devices: read.devices,
            table,
            held,
            base,
            delicate: HashSet::new(),
            unreachable: BTreeMap::new(),
            clashes: Vec::new(),
            neighbours: Neighbours::default(),
            locked_out: false,
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
    fn entrance(&self) -> Entrance {
        let bears = |uplink: &&Uplink| {
            let mut own = self.me.underlay.iter();
            own.any(|own| uplink.addresses.contains(own))
        };
        let uplinks = self.facts.uplinks.iter().filter(bears);
        Entrance {
            device: self.base.device.clone(),
            port: self.base.port,
            withheld: self.base.withheld.clone(),
            uplinks: uplinks.map(|uplink| uplink.link.clone()).collect(),
        }
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
