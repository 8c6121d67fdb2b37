//! Reading what exists, of what a declaration speaks of.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::host::firewall::{Element, Table, TableState, Value};
use crate::host::netlink::{Address, Link, Route, Vlan};

use super::Desired;
use super::apply::Handles;

/// How much to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Shared objects only: all that ADD needs, because the attachment's own are created exclusively.
    Shared,
    /// Everything declared.
    All,
}

/// What exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
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
    /// Kernel parameters; `None` for one that does not exist.
    pub sysctls: BTreeMap<String, Option<String>>,
    /// nftables tables; `None` for one that does not exist.
    pub tables: BTreeMap<Table, Option<TableState>>,
    /// nftables elements by table, set and key.
    pub elements: BTreeMap<(Table, String, Vec<Value>), Element>,
}

/// Reads what exists of what is declared.
pub async fn observe(handles: &Handles<'_>, desired: &Desired, scope: Scope) -> Result<Observed> {
    let _ = (handles, desired, scope);
    Ok(Observed::default())
}
