//! A model of the kernel's forwarding state that obeys its keys, and watches over what must never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::host::forwarding::{
    Change, Entry, Failed, FdbEntry, Forwarding, Key, Kind, Neighbour, NextHop, PolicyRule, Route,
    Scope, Via,
};
use crate::host::netlink::NetlinkError;

#[derive(Debug, Clone, Default)]
pub(super) struct Model(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) hops: BTreeMap<u32, NextHop>,
    /// In the order in which the kernel asks those of one key.
    pub(super) routes: Vec<Route>,
    pub(super) neighbours: BTreeMap<Key, Neighbour>,
    pub(super) fdb: BTreeMap<Key, FdbEntry>,
    pub(super) rules: BTreeMap<Key, PolicyRule>,
    /// Destinations that must have a route after each single change.
    pub(super) watched: BTreeSet<(u32, IpNetwork)>,
    pub(super) writes: u64,
    /// From this write on nothing happens any more.
    pub(super) crash_at: Option<u64>,
}

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EIO: i32 = 5;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

impl Model {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, in a form that is equal where the kernel would do the same.
    pub(super) fn entries(&self) -> BTreeSet<String> {
        let entries = self.state().all();
        entries.iter().map(|entry| format!("{entry:?}")).collect()
    }

    pub(super) fn apply(&self, change: &Change) -> Result<(), i32> {
        self.state().apply(change)
    }
}

impl State {
    pub(super) fn all(&self) -> Vec<Entry> {
        let hops = self.hops.values().cloned().map(Entry::NextHop);
        let routes = self.routes.iter().cloned().map(Entry::Route);
        let neighbours = self.neighbours.values().cloned().map(Entry::Neighbour);
        let fdb = self.fdb.values().cloned().map(Entry::Fdb);
        let rules = self.rules.values().cloned().map(Entry::Rule);
        hops.chain(routes)
            .chain(neighbours)
            .chain(fdb)
            .chain(rules)
            .collect()
    }

    fn apply(&mut self, change: &Change) -> Result<(), i32> {
        self.writes += 1;
        if self.crash_at.is_some_and(|at| self.writes >= at) {
            return Err(EIO);
        }
        let key = change.entry().key();
        let outcome = match change.entry().clone() {
            Entry::Route(route) => self.route(change, route),
            Entry::NextHop(hop) => {
                let id = hop.id;
                let outcome = keyed(&mut self.hops, id, hop, change);
                if matches!(change, Change::Del(_)) {
                    self.routes.retain(|route| route.via != Via::NextHop(id));
                }
                outcome
            }
            Entry::Neighbour(value) => keyed(&mut self.neighbours, key, value, change),
            Entry::Fdb(value) => keyed(&mut self.fdb, key, value, change),
            Entry::Rule(value) => keyed(&mut self.rules, key, value, change),
        };
        for (table, prefix) in &self.watched {
            let there = |route: &Route| route.table == *table && route.destination == *prefix;
            assert!(
                self.routes.iter().any(there),
                "no route to {prefix} in table {table} after {change:?}"
            );
        }
        outcome
    }

    fn route(&mut self, change: &Change, route: Route) -> Result<(), i32> {
        let key = |route: &Route| (route.table, route.destination, route.metric);
        let first = self
            .routes
            .iter()
            .position(|other| key(other) == key(&route));
        if let Change::Del(_) = change {
            let place = self.routes.iter().position(|other| *other == route);
            self.routes.remove(place.ok_or(ESRCH)?);
            return Ok(());
        }
        if let Via::NextHop(id) = route.via
            && !self.hops.contains_key(&id)
        {
            return Err(EINVAL);
        }
        match (change, first) {
            (Change::Add(_), Some(_)) => return Err(EEXIST),
            (Change::Replace(_), Some(place)) => self.routes[place] = route,
            (Change::Prepend(_), Some(place)) => self.routes.insert(place, route),
            _ => self.routes.push(route),
        }
        Ok(())
    }
}

fn keyed<K: Ord, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    change: &Change,
) -> Result<(), i32> {
    match change {
        Change::Add(_) if map.contains_key(&key) => return Err(EEXIST),
        Change::Del(_) => return map.remove(&key).map(|_| ()).ok_or(ENOENT),
        _ => map.insert(key, value),
    };
    Ok(())
}

#[async_trait]
impl Forwarding for Model {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        for entry in self.state().all() {
            let protocol = match &entry {
                Entry::NextHop(hop) => Some(hop.protocol),
                Entry::Route(route) => Some(route.protocol),
                Entry::Rule(rule) => Some(rule.protocol),
                _ => None,
            };
            let link = match &entry {
                Entry::Neighbour(neighbour) => Some(neighbour.link.clone()),
                Entry::Fdb(entry) => Some(entry.link.clone()),
                _ => None,
            };
            let wanted = entry.kind() == scope.kind
                && (scope.protocol.is_none() || protocol.is_none() || protocol == scope.protocol)
                && (scope.link.is_none() || link.is_none() || link.as_deref() == scope.link);
            if wanted {
                each(entry);
            }
        }
        Ok(())
    }

    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let mut state = self.state();
        let mut failed = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            if let Err(errno) = state.apply(change) {
                let error = NetlinkError::new(change.to_string(), errno);
                failed.push(Failed { index, error });
            }
        }
        failed
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        Ok(true)
    }
}

/// The kinds of entries in the order in which they are read.
pub(super) const KINDS: [Kind; 5] = [
    Kind::Fdb,
    Kind::Neighbour,
    Kind::NextHop,
    Kind::Route,
    Kind::Rule,
];
