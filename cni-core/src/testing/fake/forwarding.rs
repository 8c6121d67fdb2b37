//! What connects nodes: `net/ipv4/nexthop.c`, `net/core/neighbour.c`, `drivers/net/vxlan/vxlan_core.c`, `net/core/fib_rules.c`.
//! Routes are in [`super::routes`].

use std::net::IpAddr;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::host::forwarding::{
    Change, Entry, Failed, FdbEntry, Forwarding, Kind, LinkName, Neighbour, NextHop, PolicyRule,
    Scope, Via,
};
use crate::host::netlink::errno::{
    EAFNOSUPPORT, EEXIST, EINVAL, ENETDOWN, ENODEV, ENOENT, EOPNOTSUPP,
};
use crate::host::netlink::{self, LinkKind, MacAddr, NetlinkError, Route};

use super::handle::{Handle, error};
use super::monitor::entry_event;
use super::routes::{Taken, written_out};
use super::state::{Namespace, Outcome, Refusal, State, refuse, refuse_saying};

/// `NUD_PERMANENT`.
const PERMANENT: u16 = 0x80;
/// `RTPROT_KERNEL`.
const PROTOCOL_KERNEL: u8 = 2;

/// A next-hop object and its family: of one without a gateway the value does not tell.
#[derive(Debug, Clone)]
pub(super) struct HeldNextHop {
    pub(super) value: NextHop,
    pub(super) is_ipv6: bool,
}

/// What the kernel was built with, and booted with.
#[derive(Debug, Clone, Copy)]
struct Has {
    ipv6: bool,
    next_hops: bool,
}

#[async_trait]
impl Forwarding for Handle {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        let found: Vec<Entry> = Handle::read(self, &scope.to_string(), |state, ns| {
            let has = state.has();
            let entries = state.namespace(ns)?.entries(scope.kind, has);
            Ok(entries
                .into_iter()
                .filter(|entry| within(entry, scope))
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
                    let has = state.has();
                    let namespace = state.namespace(self.ns);
                    let done = namespace.and_then(|namespace| namespace.forward(change, has));
                    if done.is_ok() {
                        let process = Some(self.kernel.process);
                        state.tell(process, self.ns, || Some(entry_event(change)));
                    }
                    done
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
        Ok(self.kernel.state().has().next_hops)
    }
}

impl State {
    fn has(&self) -> Has {
        Has {
            ipv6: !self.no_ipv6,
            next_hops: !self.no_next_hops,
        }
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
    let by_protocol = protocol
        .zip(scope.protocol)
        .is_none_or(|(found, wanted)| found == wanted);
    let by_link = link
        .zip(scope.link)
        .is_none_or(|(found, wanted)| **found == *wanted);
    by_protocol && by_link
}

impl Namespace {
    fn entries(&self, kind: Kind, has: Has) -> Vec<Entry> {
        match kind {
            Kind::NextHop => {
                let next_hops = self.next_hops.values();
                next_hops
                    .map(|held| Entry::NextHop(held.value.clone()))
                    .collect()
            }
            Kind::Route => self.forwarding_routes().map(Entry::Route).collect(),
            Kind::Neighbour => self.permanent().map(Entry::Neighbour).collect(),
            Kind::Fdb => self.fdb().map(Entry::Fdb).collect(),
            Kind::Rule => {
                let rules = self.rules.iter();
                let rules = rules.filter(|rule| has.ipv6 || rule.source.is_ipv4());
                rules.cloned().map(Entry::Rule).collect()
            }
        }
    }

    fn permanent(&self) -> impl Iterator<Item = Neighbour> {
        self.neighbours
            .iter()
            .map(|((link, address), mac)| Neighbour {
                link: link.clone(),
                address: *address,
                mac: *mac,
            })
    }

    fn fdb(&self) -> impl Iterator<Item = FdbEntry> {
        self.fdb.iter().map(|((link, mac), remote)| FdbEntry {
            link: link.clone(),
            mac: *mac,
            remote: *remote,
        })
    }

    /// Permanent neighbours and forwarding entries as [`Netlink`](crate::host::Netlink) shows them.
    pub(super) fn shown_neighbours(&self) -> impl Iterator<Item = netlink::Neighbour> {
        let shown = |link: LinkName, address, mac| netlink::Neighbour {
            link: (*link).to_owned(),
            address,
            mac: Some(mac),
            state: PERMANENT,
            vlan: None,
        };
        let permanent = self.permanent();
        let permanent = permanent.map(move |one| shown(one.link, Some(one.address), one.mac));
        permanent.chain(self.fdb().map(move |one| shown(one.link, None, one.mac)))
    }

    fn forward(&mut self, change: &Change, has: Has) -> Outcome {
        if let Some((errno, message)) = change.fault() {
            return refuse_saying(errno, message);
        }
        let taken = match change {
            Change::Add(_) => Taken::Refuse,
            Change::Replace(_) => Taken::Replace,
            Change::Prepend(_) => Taken::StandBefore,
            Change::Del(entry) => return self.withdraw(entry, has),
        };
        match change.entry() {
            Entry::NextHop(next_hop) => self.next_hop_set(next_hop, taken, has),
            Entry::Route(route) => {
                if !has.ipv6 && route.destination.is_ipv6() {
                    return refuse(EOPNOTSUPP);
                }
                if !has.next_hops && matches!(route.via, Via::NextHop(_)) {
                    return refuse(EINVAL);
                }
                self.route_forward(route, taken)
            }
            Entry::Neighbour(neighbour) => self.neighbour_set(neighbour, taken, has),
            Entry::Fdb(entry) => self.fdb_set(entry, taken),
            Entry::Rule(rule) => self.rule_set(rule, taken, has),
        }
    }

    fn withdraw(&mut self, entry: &Entry, has: Has) -> Outcome {
        let found = match entry {
            Entry::NextHop(_) if !has.next_hops => return refuse(EOPNOTSUPP),
            Entry::NextHop(next_hop) => self.next_hop_gone(next_hop.id),
            Entry::Route(route) if !has.ipv6 && route.destination.is_ipv6() => {
                return refuse(EOPNOTSUPP);
            }
            Entry::Route(route) => return self.route_withdraw(route),
            Entry::Neighbour(neighbour) => {
                self.device_mut(&neighbour.link)?;
                if !has.ipv6 && neighbour.address.is_ipv6() {
                    return refuse(EAFNOSUPPORT);
                }
                let key = (neighbour.link.clone(), neighbour.address);
                self.neighbours.remove(&key).is_some()
            }
            Entry::Fdb(entry) => {
                self.tunnel(&entry.link)?;
                let key = (entry.link.clone(), entry.mac);
                self.fdb.remove(&key).is_some()
            }
            Entry::Rule(rule) => {
                if !has.ipv6 && rule.source.is_ipv6() {
                    return refuse(EAFNOSUPPORT);
                }
                let place = self.rules.iter().position(|there| {
                    let protocol = rule.protocol == 0 || rule.protocol == there.protocol;
                    protocol && taken_for(there, rule)
                });
                place.map(|place| self.rules.remove(place)).is_some()
            }
        };
        if found { Ok(()) } else { refuse(ENOENT) }
    }

    /// `rtm_to_nh_config` and `nexthop_add`.
    fn next_hop_set(&mut self, new: &NextHop, taken: Taken, has: Has) -> Outcome {
        let hop = &new.hop;
        let device = self.device_mut(&hop.link)?;
        if !has.next_hops {
            return refuse(EOPNOTSUPP);
        }
        if hop.gateway.is_none() && hop.onlink {
            return refuse_saying(
                EINVAL,
                "ONLINK flag can not be set for nexthop without a gateway",
            );
        }
        if !device.link.up {
            return refuse_saying(ENETDOWN, "Nexthop device is not up");
        }
        if !device.link.carrier {
            return refuse_saying(ENETDOWN, "Carrier for nexthop device is down");
        }
        let is_ipv6 = hop.gateway.map_or(has.ipv6, |gateway| gateway.is_ipv6());
        if is_ipv6 && !has.ipv6 {
            return refuse(EAFNOSUPPORT);
        }
        let anywhere = if is_ipv6 { "::/0" } else { "0.0.0.0/0" };
        let anywhere: IpNetwork = match anywhere.parse() {
            Ok(anywhere) => anywhere,
            Err(_) => return refuse(EINVAL),
        };
        let mut way = written_out(Route::new(anywhere, ""), hop);
        way.scope = 0;
        self.egress(&way)?;
        match (self.next_hops.get(&new.id), taken) {
            (Some(_), Taken::Refuse) => return refuse(EEXIST),
            (Some(old), _) if old.is_ipv6 && !is_ipv6 && self.leads_ipv6(new.id) => {
                return refuse_saying(EINVAL, "IPv6 routes can not use an IPv4 nexthop");
            }
            _ => {}
        }
        let value = new.clone();
        self.next_hops
            .insert(new.id, HeldNextHop { value, is_ipv6 });
        Ok(())
    }

    fn leads_ipv6(&self, id: u32) -> bool {
        self.routes
            .iter()
            .any(|record| record.next_hop == Some(id) && record.route.destination.is_ipv6())
    }

    /// `remove_nexthop`: the routes that use it go, too.
    fn next_hop_gone(&mut self, id: u32) -> bool {
        self.routes.retain(|record| record.next_hop != Some(id));
        self.next_hops.remove(&id).is_some()
    }

    /// `nexthop_flush_dev`.
    pub(super) fn flush_next_hops(&mut self, link: &str) {
        let on_link = |held: &HeldNextHop| *held.value.hop.link == *link;
        if !self.next_hops.values().any(on_link) {
            return;
        }
        let next_hops = &self.next_hops;
        let gone = |id| next_hops.get(&id).is_some_and(on_link);
        self.routes
            .retain(|record| !record.next_hop.is_some_and(gone));
        self.next_hops.retain(|_, held| !on_link(held));
    }

    /// `neigh_add`.
    fn neighbour_set(&mut self, new: &Neighbour, taken: Taken, has: Has) -> Outcome {
        let device = self.device_mut(&new.link)?;
        if new.address.is_ipv6() {
            if !has.ipv6 {
                return refuse(EAFNOSUPPORT);
            }
            let disabled = !device.has_ipv6()
                || self.interface_sysctl("ipv6", &new.link, "disable_ipv6") == Some("1");
            if disabled {
                return refuse_saying(EINVAL, "IPv6 is not enabled on this device");
            }
        }
        let key = (new.link.clone(), new.address);
        if taken == Taken::Refuse && self.neighbours.contains_key(&key) {
            return refuse(EEXIST);
        }
        self.neighbours.insert(key, new.mac);
        Ok(())
    }

    /// `neigh_flush_dev`.
    pub(super) fn flush_neighbours(&mut self, link: &str, family: impl Fn(&IpAddr) -> bool) {
        self.neighbours
            .retain(|(candidate, address), _| **candidate != *link || !family(address));
    }

    /// `vxlan_fdb_add`.
    fn fdb_set(&mut self, new: &FdbEntry, taken: Taken) -> Outcome {
        if self.tunnel(&new.link)? != new.remote.is_ipv6() {
            return refuse(EAFNOSUPPORT);
        }
        let key = (new.link.clone(), new.mac);
        let there = self.fdb.contains_key(&key);
        match taken {
            Taken::Refuse if there => return refuse(EEXIST),
            Taken::Replace if is_for_many(new.mac) => return refuse(EOPNOTSUPP),
            _ => {}
        }
        self.fdb.insert(key, new.remote);
        Ok(())
    }

    /// That a link is a VXLAN device with forwarding entries. Whether its tunnel is over IPv6.
    fn tunnel(&self, link: &str) -> Outcome<bool> {
        match self.device(link).map(|device| &device.link.kind) {
            None => refuse(ENODEV),
            Some(LinkKind::Vxlan(vxlan)) if !vxlan.gpe => Ok(vxlan.is_ipv6()),
            Some(_) => refuse(EINVAL),
        }
    }

    /// `fib_nl_newrule`.
    fn rule_set(&mut self, new: &PolicyRule, taken: Taken, has: Has) -> Outcome {
        if !has.ipv6 && new.source.is_ipv6() {
            return refuse(EAFNOSUPPORT);
        }
        let same = |there: &PolicyRule| there.protocol == new.protocol && taken_for(there, new);
        if self.rules.iter().any(same) {
            return match taken {
                Taken::Refuse => refuse(EEXIST),
                _ => Ok(()),
            };
        }
        let place = self
            .rules
            .partition_point(|there| there.priority <= new.priority);
        self.rules.insert(place, new.clone());
        Ok(())
    }
}

/// `rule_exists` and `rule_find`: from everywhere is as much as not to say from where.
fn taken_for(there: &PolicyRule, asked: &PolicyRule) -> bool {
    let (source, other) = (asked.source, there.source);
    let same_source = source.prefix() == other.prefix() && source.network() == other.network();
    there.priority == asked.priority
        && there.table == asked.table
        && source.is_ipv4() == other.is_ipv4()
        && (source.prefix() == 0 || same_source)
}

/// Those that a namespace begins with (`fib_default_rules_init`, `fib6_rules_net_init`).
pub(super) fn kernel_rules() -> impl Iterator<Item = PolicyRule> {
    const ALL: [(&str, &[(u32, u32)]); 2] = [
        ("0.0.0.0/0", &[(0, 255), (32766, 254), (32767, 253)]),
        ("::/0", &[(0, 255), (32766, 254)]),
    ];
    let of_families = ALL.into_iter().filter_map(|(source, rules)| {
        let source: IpNetwork = source.parse().ok()?;
        Some((source, rules))
    });
    of_families.flat_map(|(source, rules)| {
        rules.iter().map(move |(priority, table)| PolicyRule {
            priority: *priority,
            source,
            table: *table,
            protocol: PROTOCOL_KERNEL,
        })
    })
}

/// Frames to it are flooded: several remote addresses may have it.
fn is_for_many(mac: MacAddr) -> bool {
    let [first, ..] = mac.0;
    mac.is_zero() || first & 1 == 1
}
