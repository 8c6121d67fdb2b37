//! What connects nodes: `net/ipv4/nexthop.c`, `net/core/neighbour.c`, `drivers/net/vxlan/vxlan_core.c`, `net/core/fib_rules.c`.

use async_trait::async_trait;

use crate::host::forwarding::{Change, Entry, Failed, Forwarding, Key, Kind, Scope, Via};
use crate::host::netlink::NetlinkError;
use crate::host::netlink::errno::{EEXIST, EINVAL, ENETDOWN, ENODEV, ENOENT, EOPNOTSUPP, ESRCH};

use super::handle::{Handle, error};
use super::state::{Namespace, Outcome, Refusal, refuse, refuse_saying};

#[async_trait]
impl Forwarding for Handle {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        let found: Vec<Entry> = Handle::read(self, &scope.to_string(), |state, ns| {
            let entries = state.namespace(ns)?.entries.values();
            Ok(entries
                .filter(|entry| within(entry, scope))
                .cloned()
                .collect())
        })?;
        found.into_iter().for_each(each);
        Ok(())
    }

    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let mut failed = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let outcome = match self.kernel.faults().count() {
                Err(fault) => refuse(fault.errno()),
                Ok(()) => {
                    let mut state = self.kernel.state();
                    let namespace = state.namespace(self.ns);
                    namespace.and_then(|namespace| namespace.forward(change))
                }
            };
            failed.extend(outcome.err().map(|refusal: Refusal| Failed {
                index,
                error: error(change.to_string(), refusal),
            }));
        }
        failed
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        Ok(true)
    }
}

fn within(entry: &Entry, scope: &Scope<'_>) -> bool {
    let (protocol, link) = match entry {
        Entry::NextHop(next_hop) => (Some(next_hop.protocol), None),
        Entry::Route(route) => (Some(route.protocol), None),
        Entry::Rule(rule) => (Some(rule.protocol), None),
        Entry::Neighbour(neighbour) => (None, Some(&neighbour.link)),
        Entry::Fdb(entry) => (None, Some(&entry.link)),
    };
    entry.kind() == scope.kind
        && (scope.protocol.is_none() || protocol.is_none() || scope.protocol == protocol)
        && (scope.link.is_none() || link.is_none_or(|link| scope.link == Some(link)))
}

impl Namespace {
    fn forward(&mut self, change: &Change) -> Outcome {
        let entry = change.entry();
        let key = entry.key();
        match (change, entry) {
            (Change::Del(_), _) => {
                self.named_link(entry)?;
                return match self.entries.remove(&key) {
                    Some(_) => {
                        self.drop_lost_routes();
                        Ok(())
                    }
                    None if entry.kind() == Kind::Route => refuse(ESRCH),
                    None => refuse(ENOENT),
                };
            }
            (Change::Prepend(_), Entry::Route(route)) if route.destination.is_ipv4() => {}
            (Change::Prepend(_), _) => return refuse(EOPNOTSUPP),
            _ => {}
        }
        self.named_link(entry)?;
        match entry {
            Entry::NextHop(next_hop) if next_hop.id == 0 => return refuse(EINVAL),
            Entry::NextHop(next_hop) if !self.is_up(&next_hop.hop.link) => {
                return refuse_saying(ENETDOWN, "Nexthop device is not up");
            }
            Entry::Route(route) => match &route.via {
                Via::NextHop(id) => {
                    let key = Key::NextHop(*id);
                    if !self.entries.contains_key(&key) {
                        return refuse_saying(EINVAL, "Nexthop id does not exist");
                    }
                }
                Via::Hop(hop) if !self.is_up(&hop.link) => {
                    return refuse_saying(ENETDOWN, "Nexthop device is not up");
                }
                Via::Other => return refuse(EINVAL),
                _ => {}
            },
            _ => {}
        }
        if matches!(change, Change::Add(_)) && self.entries.contains_key(&key) {
            return refuse(EEXIST);
        }
        self.entries.insert(key, entry.clone());
        Ok(())
    }

    /// A link goes down: neighbours, next hops and routes by it go. Forwarding entries stay for as long as the link is there.
    pub(super) fn drop_entries(&mut self, link: &str, gone: bool) {
        self.entries.retain(|_, entry| {
            let of = match entry {
                Entry::NextHop(next_hop) => &next_hop.hop.link,
                Entry::Neighbour(neighbour) => &neighbour.link,
                Entry::Fdb(entry) if gone => &entry.link,
                Entry::Route(route) => match &route.via {
                    Via::Hop(hop) => &hop.link,
                    _ => return true,
                },
                _ => return true,
            };
            &**of != link
        });
        self.drop_lost_routes();
    }

    /// A next hop takes the routes by it along.
    fn drop_lost_routes(&mut self) {
        let hops: Vec<u32> = self
            .entries
            .keys()
            .filter_map(|key| match key {
                Key::NextHop(id) => Some(*id),
                _ => None,
            })
            .collect();
        self.entries.retain(|_, entry| match entry {
            Entry::Route(route) => match route.via {
                Via::NextHop(id) => hops.binary_search(&id).is_ok(),
                _ => true,
            },
            _ => true,
        });
    }

    fn named_link(&self, entry: &Entry) -> Outcome {
        let link = match entry {
            Entry::NextHop(next_hop) => &next_hop.hop.link,
            Entry::Neighbour(neighbour) => &neighbour.link,
            Entry::Fdb(entry) => &entry.link,
            _ => return Ok(()),
        };
        match self.device(link) {
            Some(_) => Ok(()),
            None => refuse(ENODEV),
        }
    }
}
