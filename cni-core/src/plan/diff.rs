//! The difference between what must exist and what does: a pure function.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::{ChainState, Element, FirewallChange, Table, TableSpec};
use crate::host::netlink::{Address, LinkKind, NetlinkChange, NewLinkKind, PortSettings, Route};

use super::diff_claim::claim;
use super::diff_firewall::{chain, host_rules, legacy_rules};
use super::diff_link::link;
use super::diff_traffic::{redirect, tbf};
use super::diff_vlan::vlans;
use super::{Change, Declared, Desired, Object, Observed, Owner, Place, PlaceState, Plan, Step};

/// The plan that makes `observed` into `desired`, inside what we own.
///
/// nftables changes become one transaction, at the place of the last of them: an element is never there without the
/// rules that it is for, nor the other way round.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when something stands in the way that is not ours to change: a link of that name that
/// is no bridge, a gateway address other than the one asked for.
pub fn diff(desired: &Desired, observed: &Observed) -> Result<Plan> {
    let mut plan = Plan::new();
    let mut transaction = Transaction::default();
    let mut observed = Cow::Borrowed(observed);
    for group in [&desired.items, &desired.after] {
        for declared in group {
            let mut out = Output {
                declared,
                plan: &mut plan,
                transaction: &mut transaction,
            };
            if one(&observed, &mut out)?
                && let Object::Link(spec) = &declared.object
            {
                observed.to_mut().forget_link(declared.place, &spec.name);
            }
        }
        if let Some(step) = std::mem::take(&mut transaction).into_step() {
            plan.push(step);
        }
    }
    Ok(plan)
}

/// Where the steps of one declaration go.
pub(super) struct Output<'a> {
    pub(super) declared: &'a Declared,
    plan: &'a mut Plan,
    transaction: &'a mut Transaction,
}

impl Output<'_> {
    pub(super) fn step(&mut self, change: NetlinkChange, undo: Option<Change>, reason: String) {
        self.push(Change::Netlink(change), undo, reason);
    }

    pub(super) fn step_undone_by(
        &mut self,
        change: NetlinkChange,
        undo: Vec<Change>,
        reason: String,
    ) {
        self.push(Change::Netlink(change), undo, reason);
    }

    /// The transaction that nftables changes go into.
    pub(super) fn transaction(&mut self) -> &mut Transaction {
        self.transaction
    }

    /// An element, in the place of another one where there is one.
    pub(super) fn element(
        &mut self,
        table: &Table,
        set: &str,
        element: &Element,
        replaced: Option<&Element>,
        reason: &str,
    ) {
        let deleted = |element: &Element| FirewallChange::ElementDel {
            table: table.clone(),
            set: set.to_owned(),
            elements: vec![element.clone()],
        };
        let transaction = &mut self.transaction;
        transaction.changes.extend(replaced.map(deleted));
        transaction.reasons.push(format!(
            "element {element} of nftables set {table} {set} {reason}"
        ));
        transaction.undo.push(deleted(element));
        transaction.add(table, set, element);
        transaction.shared |= self.declared.owner == Owner::Shared;
    }

    pub(super) fn push(
        &mut self,
        change: Change,
        undo: impl IntoIterator<Item = Change>,
        reason: String,
    ) {
        let mut step = Step::new(self.declared.place, change, reason);
        step.undo.extend(undo);
        step.shared = self.declared.owner == Owner::Shared;
        self.plan.push(step);
    }
}

/// The one nftables transaction of a plan.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) changes: Vec<FirewallChange>,
    pub(super) undo: Vec<FirewallChange>,
    pub(super) reasons: Vec<String>,
    pub(super) shared: bool,
}

impl Transaction {
    /// Whether the transaction makes a table that is not there.
    fn makes(&self, table: &Table) -> bool {
        let undone = FirewallChange::TableDel(table.clone());
        self.undo.contains(&undone)
    }

    /// Adds an element, beside those of its set that have just been added.
    fn add(&mut self, table: &Table, set: &str, element: &Element) {
        if let Some(FirewallChange::ElementAdd {
            table: last_table,
            set: last_set,
            elements,
        }) = self.changes.last_mut()
            && (&*last_table, last_set.as_str()) == (table, set)
        {
            elements.push(element.clone());
            return;
        }
        self.changes.push(FirewallChange::ElementAdd {
            table: table.clone(),
            set: set.to_owned(),
            elements: vec![element.clone()],
        });
    }

    fn into_step(mut self) -> Option<Step> {
        if self.changes.is_empty() {
            return None;
        }
        self.undo.reverse();
        let mut step = Step::new(
            Place::Host,
            Change::Firewall(self.changes),
            self.reasons.join("; "),
        );
        if !self.undo.is_empty() {
            step.undo.push(Change::Firewall(self.undo));
        }
        step.shared = self.shared;
        Some(step)
    }
}

/// Whether the declared object, a link, is made anew.
fn one(observed: &Observed, out: &mut Output<'_>) -> Result<bool> {
    let state = observed.place(out.declared.place);
    match &out.declared.object {
        Object::Link(spec) => return link(spec, observed, out),
        Object::Port { link, settings } => port(link, *settings, state, out),
        Object::Vlans { .. } => vlans(state, out),
        Object::Address(wanted) => address(wanted, state, out),
        Object::Gateway {
            address,
            replace,
            beside_others,
        } => gateway(address, *replace, *beside_others, state, out)?,
        Object::Route(wanted) => route(wanted, state, out),
        Object::NoRoute(unwanted) => no_route(unwanted, state, out),
        Object::Sysctl { key, value } => sysctl(key, value, state, out),
        Object::Table(spec) => table(spec, state, out),
        Object::Element {
            table,
            set,
            element,
        } => element_of(table, set, element, state, out),
        Object::Chain { table, chain: name } => chain(table, name, state, out),
        Object::HostRules {
            table,
            chain,
            owner,
            rules,
        } => host_rules((table, chain), owner, rules, state, out),
        Object::LegacyRules {
            family,
            chain,
            owner,
            rules,
        } => legacy_rules((*family, chain), owner, rules, state, out),
        Object::Tbf { link, tbf: wanted } => tbf(link, wanted, state, out)?,
        Object::Redirect { link, to } => redirect(link, to, state, out),
        Object::Claim {
            table,
            set,
            element,
            what,
        } => claim(table, set, element, (what, state), out)?,
    }
    Ok(false)
}

/// In how many words a link's kind is told.
pub(super) fn kind_name(kind: &LinkKind) -> &str {
    match kind {
        LinkKind::Physical => "a physical device",
        LinkKind::Bridge { .. } => "a bridge",
        LinkKind::Veth => "one end of a veth pair",
        LinkKind::Vxlan(_) => "a VXLAN device",
        LinkKind::Other(kind) => kind,
    }
}

/// Whether a link is of the kind that would be created.
pub(super) fn is_kind(kind: &LinkKind, wanted: &NewLinkKind) -> bool {
    match wanted {
        NewLinkKind::Bridge { .. } => matches!(kind, LinkKind::Bridge { .. }),
        NewLinkKind::Veth { .. } => matches!(kind, LinkKind::Veth),
        NewLinkKind::Vxlan(_) => matches!(kind, LinkKind::Vxlan(_)),
        NewLinkKind::Dummy => matches!(kind, LinkKind::Other(name) if name == "dummy"),
        NewLinkKind::Ifb => matches!(kind, LinkKind::Other(name) if name == "ifb"),
    }
}

fn port(link: &str, settings: PortSettings, state: &PlaceState, out: &mut Output<'_>) {
    let present = state
        .links
        .get(link)
        .and_then(|link| link.port)
        .unwrap_or_default();
    // A port that is not asked to have hairpin mode may have it: a later plugin of the chain needs it.
    let hairpin = present.hairpin || !settings.hairpin;
    if hairpin && present.isolated == settings.isolated {
        return;
    }
    let reason = format!(
        "port {link} has hairpin {} and isolation {}, should have hairpin {} and isolation {}",
        on(present.hairpin),
        on(present.isolated),
        on(settings.hairpin),
        on(settings.isolated)
    );
    let change = NetlinkChange::PortSet {
        link: link.to_owned(),
        settings,
    };
    out.step(change, None, reason);
}

pub(super) fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn address(wanted: &Address, state: &PlaceState, out: &mut Output<'_>) {
    let present = state
        .addresses
        .get(&wanted.link)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let reason = match present.iter().find(|found| found.address == wanted.address) {
        Some(found) if found.dad_failed => {
            format!(
                "address {} of {} is a duplicate of another host's",
                wanted.address, wanted.link
            )
        }
        Some(_) => return,
        None => format!("address {} of {} is missing", wanted.address, wanted.link),
    };
    let undo = Change::Netlink(NetlinkChange::AddressDel(wanted.clone()));
    out.step(
        NetlinkChange::AddressAdd(wanted.clone()),
        Some(undo),
        reason,
    );
}

fn gateway(
    wanted: &Address,
    replace: bool,
    beside_others: bool,
    state: &PlaceState,
    out: &mut Output<'_>,
) -> Result<()> {
    let present = state
        .addresses
        .get(&wanted.link)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if present.iter().any(|found| found.address == wanted.address) {
        return Ok(());
    }
    let in_the_way = present
        .iter()
        .filter(|found| conflicts(found, wanted, beside_others));
    for other in in_the_way {
        if !replace {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "{} already has the address {}, which is not the gateway {}: set forceAddress to replace it, \
                     or use another bridge",
                    wanted.link, other.address, wanted.address
                ),
            ));
        }
        let reason = format!(
            "address {} of {} is not the gateway's",
            other.address, wanted.link
        );
        let undo = Change::Netlink(NetlinkChange::AddressAdd(other.clone()));
        out.step(NetlinkChange::AddressDel(other.clone()), Some(undo), reason);
    }
    address(wanted, state, out);
    Ok(())
}

/// The reference bridge's rule: any other IPv4 address, and IPv6 addresses whose prefixes overlap.
fn conflicts(found: &Address, wanted: &Address, beside_others: bool) -> bool {
    match (found.address, wanted.address) {
        (ipnetwork::IpNetwork::V4(a), ipnetwork::IpNetwork::V4(b)) => {
            !beside_others || a.contains(b.network()) || b.contains(a.network())
        }
        (ipnetwork::IpNetwork::V6(a), ipnetwork::IpNetwork::V6(b)) => {
            !a.ip().is_unicast_link_local() && (a.contains(b.network()) || b.contains(a.network()))
        }
        _ => false,
    }
}

/// IPv6 has no metric 0: the kernel writes 1024 (`net/ipv6/route.c`, IP6_RT_PRIO_USER).
fn metric(route: &Route) -> u32 {
    if route.destination.is_ipv6() && route.metric == 0 {
        1024
    } else {
        route.metric
    }
}

fn same_route(found: &Route, wanted: &Route) -> bool {
    same_destination(found, wanted)
        && found.gateway == wanted.gateway
        && (wanted.source.is_none() || found.source == wanted.source)
        && found.mtu == wanted.mtu
        && found.advmss == wanted.advmss
        && (wanted.destination.is_ipv6() || found.scope == wanted.scope)
}

fn same_destination(found: &Route, wanted: &Route) -> bool {
    found.destination.network() == wanted.destination.network()
        && found.destination.prefix() == wanted.destination.prefix()
        && found.table == wanted.table
        && metric(found) == metric(wanted)
}

fn routes_of<'a>(route: &Route, state: &'a PlaceState) -> &'a [Route] {
    let link = route.link.as_ref();
    link.and_then(|link| state.routes.get(link))
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn route(wanted: &Route, state: &PlaceState, out: &mut Output<'_>) {
    let present = routes_of(wanted, state);
    if present.iter().any(|found| same_route(found, wanted)) {
        return;
    }
    let link = wanted.link.as_deref().unwrap_or("-");
    let reason = if present.iter().any(|found| same_destination(found, wanted)) {
        format!(
            "route to {} by {link} is not as it should be",
            wanted.destination
        )
    } else {
        format!("route to {} by {link} is missing", wanted.destination)
    };
    let undo = Change::Netlink(NetlinkChange::RouteDel(wanted.clone()));
    out.step(NetlinkChange::RouteAdd(wanted.clone()), Some(undo), reason);
}

fn no_route(unwanted: &Route, state: &PlaceState, out: &mut Output<'_>) {
    // What was not read is taken to be there: an address brings its prefix's route with it.
    let known = unwanted
        .link
        .as_ref()
        .is_some_and(|link| state.routes.contains_key(link));
    let present = routes_of(unwanted, state);
    if known
        && !present
            .iter()
            .any(|found| same_destination(found, unwanted))
    {
        return;
    }
    let link = unwanted.link.as_deref().unwrap_or("-");
    let reason = format!(
        "route to {} by {link} should not be there",
        unwanted.destination
    );
    let undo = Change::Netlink(NetlinkChange::RouteAdd(unwanted.clone()));
    out.step(
        NetlinkChange::RouteDel(unwanted.clone()),
        Some(undo),
        reason,
    );
}

fn sysctl(key: &str, value: &str, state: &PlaceState, out: &mut Output<'_>) {
    let present = state.sysctls.get(key).and_then(Option::as_deref);
    if present.is_some_and(|present| same_value(present, value)) {
        return;
    }
    let (reason, undo) = match present {
        Some(present) => {
            let undo = Change::Sysctl {
                key: key.to_owned(),
                value: present.to_owned(),
            };
            (format!("{key} is {present}, should be {value}"), Some(undo))
        }
        None => (format!("{key} should be {value}"), None),
    };
    let change = Change::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    out.push(change, undo, reason);
}

/// The kernel separates the numbers of a parameter by tabs, whatever separated them when they were written.
pub(crate) fn same_value(a: &str, b: &str) -> bool {
    a.split_ascii_whitespace().eq(b.split_ascii_whitespace())
}

fn table(spec: &TableSpec, state: &PlaceState, out: &mut Output<'_>) {
    let present = state.tables.get(&spec.table).and_then(Option::as_ref);
    let transaction = &mut out.transaction;
    match present.map(|present| spec.matches(present)) {
        Some(Ok(())) => return,
        Some(Err(difference)) => {
            transaction.reasons.push(difference);
            let chains = present.map(|present| present.chains.as_slice());
            for chain in &spec.chains {
                let known = |found: &ChainState| found.name == chain.name;
                if !chains.unwrap_or_default().iter().any(known) {
                    // The transaction that takes back runs from the last of these to the first.
                    let (table, chain) = (spec.table.clone(), chain.name.clone());
                    transaction.undo.push(FirewallChange::ChainDel {
                        table: table.clone(),
                        chain: chain.clone(),
                    });
                    transaction
                        .undo
                        .push(FirewallChange::ChainFlush { table, chain });
                }
            }
        }
        // An earlier declaration makes it, and takes all of it back.
        None if transaction.makes(&spec.table) => {}
        None => {
            transaction
                .reasons
                .push(format!("nftables table {} is missing", spec.table));
            transaction
                .undo
                .push(FirewallChange::TableDel(spec.table.clone()));
        }
    }
    transaction.changes.extend(spec.converge());
    transaction.shared |= out.declared.owner == Owner::Shared;
}

fn element_of(
    table: &Table,
    set: &str,
    element: &Element,
    state: &PlaceState,
    out: &mut Output<'_>,
) {
    let key = (table.clone(), set.to_owned(), element.key.clone());
    match state.elements.get(&key) {
        Some(found) if found == element => {}
        // The leftover of an attachment that had this address before.
        Some(found) => {
            let reason = "belongs to another attachment";
            out.element(table, set, element, Some(found), reason);
        }
        None => out.element(table, set, element, None, "is missing"),
    }
}
