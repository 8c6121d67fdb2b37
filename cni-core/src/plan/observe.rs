//! Reading what exists, of what a declaration speaks of.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::host::firewall::{ChainRules, Element, Family, Table, TableSpec, TableState, Value};
use crate::host::legacy::LegacyRule;
use crate::host::netlink::{Address, Link, LinkFilter, Netlink, Route, Traffic, Vlan};
use crate::host::{Firewall, Sysctl};

use super::apply::Handles;
use super::{Declared, Desired, Object, Owner, Place};

/// How much to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Shared objects, and elements under the attachment's keys: all that ADD needs, because everything else of the
    /// attachment is created exclusively.
    Shared,
    /// Everything declared.
    #[default]
    All,
}

/// What exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// How much was read: what was not counts as absent.
    pub scope: Scope,
    /// In the host's namespace.
    pub host: PlaceState,
    /// In the container's namespace.
    pub container: PlaceState,
}

/// What exists in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlaceState {
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Addresses by link.
    pub addresses: BTreeMap<String, Vec<Address>>,
    /// Routes by link.
    pub routes: BTreeMap<String, Vec<Route>>,
    /// VLANs by link.
    pub vlans: BTreeMap<String, Vec<Vlan>>,
    /// What controls the traffic, by link.
    pub traffic: BTreeMap<String, Traffic>,
    /// Kernel parameters; `None` for one that does not exist.
    pub sysctls: BTreeMap<String, Option<String>>,
    /// nftables tables; `None` for one that does not exist.
    pub tables: BTreeMap<Table, Option<TableState>>,
    /// nftables elements by table, set and key.
    pub elements: BTreeMap<(Table, String, Vec<Value>), Element>,
    /// Chains of other programs by table and name; `None` for one that does not exist.
    pub chains: BTreeMap<(Table, String), Option<ChainRules>>,
    /// Rules of chains in legacy tables that could be ours, by family and chain; `None` where there is no such table.
    pub legacy: BTreeMap<(Family, String), Option<Vec<LegacyRule>>>,
}

impl Observed {
    /// What exists in one namespace.
    pub fn place(&self, place: Place) -> &PlaceState {
        match place {
            Place::Host => &self.host,
            Place::Container => &self.container,
        }
    }

    /// A link and what was on it count as absent.
    pub(super) fn forget_link(&mut self, place: Place, link: &str) {
        let state = match place {
            Place::Host => &mut self.host,
            Place::Container => &mut self.container,
        };
        state.links.remove(link);
        state.addresses.remove(link);
        state.routes.remove(link);
        state.vlans.remove(link);
        state.traffic.remove(link);
        // `net/FAMILY/conf/LINK/NAME`, `net/FAMILY/neigh/LINK/NAME`
        state
            .sysctls
            .retain(|key, _| key.split('/').nth(3) != Some(link));
    }
}

/// Reads what exists of what is declared. Each object is read once, however often it is spoken of.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when the kernel cannot be read, or when something is declared for the
/// container and there is no sandbox.
pub async fn observe(handles: &Handles<'_>, desired: &Desired, scope: Scope) -> Result<Observed> {
    let mut observed = Observed {
        scope,
        ..Observed::default()
    };
    for declared in desired.items.iter().chain(&desired.after) {
        let keyed = matches!(
            declared.object,
            Object::Element { .. } | Object::Claim { .. }
        );
        if scope == Scope::Shared && declared.owner == Owner::Attachment && !keyed {
            continue;
        }
        read(handles, declared, &mut observed).await?;
    }
    Ok(observed)
}

async fn read(handles: &Handles<'_>, declared: &Declared, observed: &mut Observed) -> Result<()> {
    let netlink = handles.netlink(declared.place)?;
    let sysctl = handles.sysctl(declared.place)?;
    let firewall = handles.host.firewall.as_ref();
    let state = match declared.place {
        Place::Host => &mut observed.host,
        Place::Container => &mut observed.container,
    };
    match &declared.object {
        Object::Link(spec) => {
            read_link(netlink, &spec.name, state).await?;
            if let Some(master) = &spec.master {
                read_link(netlink, master, state).await?;
            }
        }
        Object::Port { link, .. } => {
            read_link(netlink, link, state).await?;
        }
        Object::Vlans { link, .. } => {
            if read_link(netlink, link, state).await? && !state.vlans.contains_key(link) {
                let vlans = netlink.vlans(link).await?;
                state.vlans.insert(link.clone(), vlans);
            }
        }
        Object::Address(address) | Object::Gateway { address, .. } => {
            let link = &address.link;
            if read_link(netlink, link, state).await? && !state.addresses.contains_key(link) {
                let addresses = netlink.addresses(Some(link)).await?;
                state.addresses.insert(link.clone(), addresses);
            }
        }
        Object::Route(route) | Object::NoRoute(route) => {
            read_routes(netlink, route, state).await?;
        }
        Object::Sysctl { key, .. } => read_sysctl(sysctl, key, state).await?,
        Object::Table(TableSpec { table, .. }) | Object::Chain { table, .. } => {
            if !state.tables.contains_key(table) {
                let found = firewall.table(table).await?;
                state.tables.insert(table.clone(), found);
            }
        }
        Object::HostRules { table, chain, .. } => {
            let found = firewall.chain_rules(table, chain).await?;
            state.chains.insert((table.clone(), chain.clone()), found);
        }
        Object::LegacyRules { family, chain, .. } => {
            let found = handles.host.legacy.rules(*family, chain).await?;
            state.legacy.insert((*family, chain.clone()), found);
        }
        Object::Element {
            table,
            set,
            element,
        }
        | Object::Claim {
            table,
            set,
            element,
            ..
        } => {
            read_element(firewall, table, set, element, state).await?;
        }
        Object::Tbf { link, .. } => read_traffic(netlink, link, state).await?,
        Object::Redirect { link, to } => {
            read_traffic(netlink, link, state).await?;
            read_link(netlink, to, state).await?;
        }
    }
    Ok(())
}

/// Whether the link exists.
async fn read_link(netlink: &dyn Netlink, name: &str, state: &mut PlaceState) -> Result<bool> {
    if state.links.contains_key(name) {
        return Ok(true);
    }
    let found = netlink
        .links(LinkFilter::Name(name))
        .await?
        .into_iter()
        .next();
    let exists = found.is_some();
    if let Some(link) = found {
        state.links.insert(name.to_owned(), link);
    }
    Ok(exists)
}

async fn read_traffic(netlink: &dyn Netlink, link: &str, state: &mut PlaceState) -> Result<()> {
    if read_link(netlink, link, state).await? && !state.traffic.contains_key(link) {
        let traffic = netlink.traffic(link).await?;
        state.traffic.insert(link.to_owned(), traffic);
    }
    Ok(())
}

async fn read_routes(netlink: &dyn Netlink, route: &Route, state: &mut PlaceState) -> Result<()> {
    let Some(link) = &route.link else {
        return Ok(());
    };
    if read_link(netlink, link, state).await? && !state.routes.contains_key(link) {
        let routes = netlink.routes(Some(link)).await?;
        state.routes.insert(link.clone(), routes);
    }
    Ok(())
}

async fn read_sysctl(sysctl: &dyn Sysctl, key: &str, state: &mut PlaceState) -> Result<()> {
    if !state.sysctls.contains_key(key) {
        let value = sysctl.read(key).await?;
        state.sysctls.insert(key.to_owned(), value);
    }
    Ok(())
}

async fn read_element(
    firewall: &dyn Firewall,
    table: &Table,
    set: &str,
    element: &Element,
    state: &mut PlaceState,
) -> Result<()> {
    // A table that is known to be missing has no elements.
    if state.tables.get(table) == Some(&None) {
        return Ok(());
    }
    if let Some(found) = firewall.element(table, set, &element.key).await? {
        state
            .elements
            .insert((table.clone(), set.to_owned(), element.key.clone()), found);
    }
    Ok(())
}
