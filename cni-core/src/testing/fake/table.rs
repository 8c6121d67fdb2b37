//! Where routes are kept: several may have one key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::host::forwarding::Encap;
use crate::host::netlink::Route;

/// A route, and what [`Netlink`](crate::host::Netlink) does not show of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Of one that names a next hop, gateway and link are empty: they are the next hop's.
    pub(super) route: Route,
    pub(super) next_hop: Option<u32>,
    pub(super) encap: Option<Encap>,
    pub(super) unreachable: bool,
}

/// Table, destination and metric.
pub(super) type RouteKey = (u32, IpNetwork, u32);

/// Routes of one key are in the order in which the kernel asks them.
#[derive(Debug, Default)]
pub(super) struct Routes(BTreeMap<RouteKey, Vec<Record>>);

impl Record {
    pub(super) fn new(route: Route) -> Self {
        Self {
            route,
            next_hop: None,
            encap: None,
            unreachable: false,
        }
    }

    pub(super) fn key(&self) -> RouteKey {
        let route = &self.route;
        (route.table, network(route.destination), route.metric)
    }
}

impl Routes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.0.values().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.0.values_mut().flatten()
    }

    /// Routes by key.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Vec<Record>> {
        self.0.values()
    }

    pub(super) fn of(&mut self, key: RouteKey) -> &mut Vec<Record> {
        self.0.entry(key).or_default()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Record) -> bool) {
        self.0.retain(|_, records| {
            records.retain(&mut keep);
            !records.is_empty()
        });
    }

    /// Removes the first route to a prefix that fits, in the order of their metrics. Whether there was one.
    pub(super) fn remove(
        &mut self,
        table: u32,
        prefix: IpNetwork,
        fits: impl Fn(&Record) -> bool,
    ) -> bool {
        let prefix = network(prefix);
        let range = (table, prefix, 0)..=(table, prefix, u32::MAX);
        let found = self.0.range_mut(range).find_map(|(key, records)| {
            let place = records.iter().position(&fits)?;
            records.remove(place);
            Some((*key, records.is_empty()))
        });
        if let Some((key, true)) = found {
            self.0.remove(&key);
        }
        found.is_some()
    }

    /// The routes of a table that lead to an address, the most specific ones first.
    pub(super) fn towards(&self, table: u32, address: IpAddr) -> impl Iterator<Item = &Record> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefixes = (0..=longest).rev();
        prefixes
            .filter_map(move |length| IpNetwork::new(address, length).ok())
            .flat_map(move |prefix| {
                let prefix = network(prefix);
                self.0
                    .range((table, prefix, 0)..=(table, prefix, u32::MAX))
                    .flat_map(|(_, records)| records)
            })
    }
}

/// Without host bits, as requests are written.
fn network(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}
