//! Routes: `net/ipv4/fib_semantics.c`, `net/ipv4/fib_trie.c`, `net/ipv6/route.c`, `net/ipv6/ip6_fib.c`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::host::forwarding;
use crate::host::forwarding::{Hop, Via};
use crate::host::netlink::Route;
use crate::host::netlink::errno::{EACCES, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ESRCH};

use super::state::{Device, Namespace, Outcome, refuse, refuse_saying};
use super::table::Record;

const EHOSTUNREACH: i32 = 113;

/// What becomes of routes that have the new one's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// They are in the way.
    Refuse,
    /// They stay, after an IPv4 route, and as other next hops of an IPv6 route.
    StandBefore,
    /// The first one is replaced.
    Replace,
}

impl Namespace {
    pub(super) fn route_add(&mut self, new: &Route) -> Outcome {
        if let Some(link) = &new.link {
            self.device_mut(link)?;
        }
        let taken = match new.beside_others {
            true => Taken::StandBefore,
            false => Taken::Refuse,
        };
        let mut record = Record::new(new.clone());
        record.route.link = Some(self.egress(new)?);
        if let Some(source) = new.source
            && !self.is_local(source)
        {
            let message = match new.destination {
                IpNetwork::V4(_) => "Invalid prefsrc address",
                IpNetwork::V6(_) => "Invalid source address",
            };
            return refuse_saying(EINVAL, message);
        }
        self.route_insert(record, taken)
    }

    /// A route to a next hop of any kind.
    pub(super) fn route_forward(&mut self, new: &forwarding::Route, taken: Taken) -> Outcome {
        let mut route = Route::new(new.destination, "");
        route.link = None;
        (route.table, route.metric, route.protocol) = (new.table, new.metric, new.protocol);
        let mut record = Record::new(route);
        match &new.via {
            Via::NextHop(id) => {
                let Some(next_hop) = self.next_hops.get(id) else {
                    return refuse_saying(EINVAL, "Nexthop id does not exist");
                };
                if new.destination.is_ipv6() && !next_hop.is_ipv6 {
                    return refuse_saying(EINVAL, "IPv6 routes can not use an IPv4 nexthop");
                }
                record.next_hop = Some(*id);
            }
            Via::Hop(hop) => {
                self.device_mut(&hop.link)?;
                record.route = written_out(record.route, hop);
                record.encap = hop.encap;
                record.route.link = Some(self.egress(&record.route)?);
            }
            Via::Unreachable | Via::Other => {
                record.unreachable = true;
                // Such a route is the loopback device's (`fib6_is_reject`).
                let of_loopback = new.destination.is_ipv6().then(|| "lo".to_owned());
                record.route.link = of_loopback;
            }
        }
        self.route_insert(record, taken)
    }

    fn route_insert(&mut self, mut record: Record, taken: Taken) -> Outcome {
        let (ipv6, key) = (record.route.destination.is_ipv6(), record.key());
        record.route.destination = key.1;
        record.route.beside_others = false;
        if ipv6 {
            record.route.scope = 0;
            if record.route.metric == 0 {
                record.route.metric = 1024;
            }
        }
        let key = record.key();
        let others = self.routes.of(key);
        match (others.first(), taken) {
            (None, _) => others.push(record),
            (Some(_), Taken::Refuse) => return refuse(EEXIST),
            (Some(first), Taken::Replace) if !ipv6 && *first == record => {}
            (Some(_), _) if !ipv6 && others.contains(&record) => return refuse(EEXIST),
            (Some(_), Taken::StandBefore) if !ipv6 => others.insert(0, record),
            (Some(_), Taken::StandBefore) => {
                if others.iter().any(|other| same_next_hop(other, &record)) {
                    return refuse(EEXIST);
                }
                others.push(record);
            }
            (Some(_), Taken::Replace) => replace(others, record),
        }
        Ok(())
    }

    /// The outgoing link of a route that is to be.
    pub(super) fn egress(&self, new: &Route) -> Outcome<String> {
        match (new.destination, new.gateway) {
            // `fib_check_nh_v6_gw`.
            (IpNetwork::V4(_), Some(IpAddr::V6(_))) => self.ipv6_egress(new),
            (IpNetwork::V4(_), _) => self.ipv4_egress(new),
            (IpNetwork::V6(_), Some(IpAddr::V4(_))) => {
                refuse_saying(EINVAL, "IPv6 does not support RTA_VIA attribute")
            }
            (IpNetwork::V6(_), _) => self.ipv6_egress(new),
        }
    }

    /// `fib_check_nh`.
    fn ipv4_egress(&self, route: &Route) -> Outcome<String> {
        let Some(gateway) = route.gateway else {
            if route.onlink {
                return refuse_saying(
                    EINVAL,
                    "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set",
                );
            }
            let Some(link) = &route.link else {
                return refuse(ENODEV);
            };
            if !self.is_up(link) {
                return refuse_saying(ENETDOWN, "Device for nexthop is not up");
            }
            return Ok(link.clone());
        };
        if route.scope >= Route::SCOPE_LINK {
            return refuse_saying(EINVAL, "Nexthop has invalid scope");
        }
        if gateway.is_multicast() || gateway.is_unspecified() {
            return refuse_saying(EINVAL, "Nexthop has invalid gateway");
        }
        if route.onlink {
            let Some(link) = &route.link else {
                return refuse_saying(EINVAL, "No egress device for nexthop gateway");
            };
            if !self.is_up(link) {
                return refuse_saying(ENETDOWN, "Nexthop device is not up");
            }
            if self.is_local(gateway) {
                return refuse_saying(EINVAL, "Nexthop has invalid gateway");
            }
            return Ok(link.clone());
        }
        match self.ipv4_way_to(gateway, route) {
            // An own address is known while its link is down, too (`fib_sync_down_dev`).
            Some(link) if !self.is_up(&link) => refuse(ENETDOWN),
            Some(link) => Ok(link),
            None => refuse_saying(ENETUNREACH, "Nexthop has invalid gateway"),
        }
    }

    /// `fib6_nh_init` and `ip6_route_check_nh`.
    fn ipv6_egress(&self, route: &Route) -> Outcome<String> {
        if let Some(link) = &route.link {
            if !self.device(link).is_some_and(Device::has_ipv6) {
                return refuse(ENODEV);
            }
            if route.onlink && !self.is_up(link) {
                return refuse_saying(ENETDOWN, "Nexthop device is not up");
            }
            if self.interface_sysctl("ipv6", link, "disable_ipv6") == Some("1") {
                return refuse_saying(EACCES, "IPv6 is disabled on nexthop device");
            }
        }
        if let Some(IpAddr::V6(gateway)) = route.gateway {
            if gateway.is_multicast() || gateway.is_unspecified() {
                return refuse_saying(EINVAL, "Invalid gateway address");
            }
            if self.is_local(IpAddr::V6(gateway)) {
                return refuse_saying(EINVAL, "Gateway can not be a local address");
            }
            if !gateway.is_unicast_link_local() && !route.onlink {
                return match self.ipv6_way_to(gateway.into(), route) {
                    Some(link) => Ok(link),
                    None => refuse(EHOSTUNREACH),
                };
            }
            let Some(link) = &route.link else {
                return refuse_saying(EINVAL, "Egress device not specified");
            };
            if route.onlink && !self.may_be_onlink(gateway.into(), link) {
                return refuse_saying(EINVAL, "Nexthop has invalid gateway or device mismatch");
            }
        }
        let Some(link) = &route.link else {
            return refuse(ENODEV);
        };
        if !self.is_up(link) {
            return refuse_saying(ENETDOWN, "Nexthop device is not up");
        }
        Ok(link.clone())
    }

    /// `ip6_route_check_nh_onlink`: the best route to the gateway, unless it is the default one, is by no other link. The best
    /// ones have the longest prefix and then the lowest metric; among them this link's is preferred.
    fn may_be_onlink(&self, gateway: IpAddr, link: &str) -> bool {
        let specific = self.routes.towards(Route::MAIN, gateway);
        let mut specific = specific
            .filter(|record| record.route.destination.prefix() > 0)
            .peekable();
        let best = specific.peek().map(|record| record.key());
        let mut best_ones = specific.take_while(|record| Some(record.key()) == best);
        best.is_none()
            || best_ones.any(|record| record.unreachable || self.link_of(record) == Some(link))
    }

    /// The link on which a gateway is: its own address, or the most specific route that leads there directly; others are passed
    /// over, as their scope is too wide (`fib_table_lookup`).
    fn ipv4_way_to(&self, gateway: IpAddr, route: &Route) -> Option<String> {
        let own = self.addresses.iter().find(|held| {
            held.address.address.ip() == gateway && fits(Some(&held.address.link), route)
        });
        if let Some(held) = own {
            return Some(held.address.link.clone());
        }
        let direct =
            |record: &Record| !record.unreachable && record.route.scope >= Route::SCOPE_LINK;
        tables(route)
            .flat_map(|table| self.routes.towards(table, gateway))
            .find(|record| fits(self.link_of(record), route) && direct(record))
            .and_then(|record| self.link_of(record))
            .map(str::to_owned)
    }

    /// The link on which a gateway is: that of the most specific route, which must lead there directly.
    fn ipv6_way_to(&self, gateway: IpAddr, route: &Route) -> Option<String> {
        tables(route)
            .filter_map(|table| {
                let mut all = self.routes.towards(table, gateway);
                all.find(|record| fits(self.link_of(record), route))
            })
            .find(|record| !record.unreachable && self.is_direct(record))
            .and_then(|record| self.link_of(record))
            .map(str::to_owned)
    }

    pub(super) fn route_del(&mut self, old: &Route) -> Outcome {
        if let Some(link) = &old.link {
            self.device_mut(link)?;
        }
        let ipv6 = old.destination.is_ipv6();
        let says_where = old.link.is_some() || old.gateway.is_some();
        let fits = |record: &Record| {
            let route = &record.route;
            (old.protocol == 0 || route.protocol == old.protocol)
                && (old.metric == 0 || route.metric == old.metric)
                && match (record.next_hop, record.unreachable) {
                    // `fib_nh_match` and `ip6_route_del` do not look into it.
                    (Some(_), _) => ipv6 || !says_where,
                    (None, true) if !ipv6 => false,
                    (None, _) => {
                        (old.link.is_none() || route.link == old.link)
                            && (old.gateway.is_none() || route.gateway == old.gateway)
                    }
                }
        };
        match self.routes.remove(old.table, old.destination, fits) {
            true => Ok(()),
            false => refuse(ESRCH),
        }
    }

    /// A removal by key, protocol and, for IPv4, type.
    pub(super) fn route_withdraw(&mut self, old: &forwarding::Route) -> Outcome {
        let ipv6 = old.destination.is_ipv6();
        let nowhere = match &old.via {
            Via::Unreachable => Some(true),
            Via::Other => None,
            _ => Some(false),
        };
        let fits = |record: &Record| {
            (old.protocol == 0 || record.route.protocol == old.protocol)
                && (old.metric == 0 || record.route.metric == old.metric)
                && (ipv6 || nowhere.is_none_or(|nowhere| nowhere == record.unreachable))
        };
        match self.routes.remove(old.table, old.destination, fits) {
            true => Ok(()),
            false => refuse(ESRCH),
        }
    }

    /// The routes as [`Netlink`](crate::host::Netlink) shows them: those that lead somewhere, with their next hops written out.
    pub(super) fn shown_routes(&self) -> impl Iterator<Item = Route> {
        let leading = self.routes.iter().filter(|record| !record.unreachable);
        leading.map(|record| {
            let hop = record.next_hop.and_then(|id| self.next_hops.get(&id));
            match hop {
                Some(found) => {
                    let scope = record.route.scope;
                    let route = written_out(record.route.clone(), &found.value.hop);
                    Route { scope, ..route }
                }
                None => record.route.clone(),
            }
        })
    }

    /// The routes as [`Forwarding`](crate::host::Forwarding) tells them.
    pub(super) fn forwarding_routes(&self) -> impl Iterator<Item = forwarding::Route> {
        self.routes.groups().flat_map(|records| {
            let several =
                |record: &Record| record.route.destination.is_ipv6() && is_one_of_several(record);
            let count = records.iter().filter(|record| several(record)).count();
            let mut told = false;
            records.iter().filter_map(move |record| {
                let is_part = count > 1 && several(record);
                if is_part && std::mem::replace(&mut told, true) {
                    return None;
                }
                let route = &record.route;
                let via = if is_part { Via::Other } else { via(record) };
                Some(forwarding::Route {
                    destination: route.destination,
                    table: route.table,
                    metric: route.metric,
                    protocol: route.protocol,
                    via,
                })
            })
        })
    }

    fn link_of<'a>(&'a self, record: &'a Record) -> Option<&'a str> {
        match record.next_hop.and_then(|id| self.next_hops.get(&id)) {
            Some(next_hop) => Some(&next_hop.value.hop.link),
            None => record.route.link.as_deref(),
        }
    }

    fn is_direct(&self, record: &Record) -> bool {
        match record.next_hop.and_then(|id| self.next_hops.get(&id)) {
            Some(next_hop) => next_hop.value.hop.gateway.is_none(),
            None => record.route.gateway.is_none(),
        }
    }

    pub(super) fn is_local(&self, ip: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|held| held.address.address.ip() == ip)
    }
}

/// The tables in which a route's gateway is looked up.
fn tables(route: &Route) -> impl Iterator<Item = u32> {
    let own = Some(route.table).filter(|table| *table != Route::MAIN);
    own.into_iter().chain([Route::MAIN])
}

fn fits(link: Option<&str>, route: &Route) -> bool {
    route.link.is_none() || link == route.link.as_deref()
}

/// An IPv4 route takes the first one's place; an IPv6 route (`fib6_add_rt2node`) that of one of its kind or else the first
/// one's, and of several next hops all go.
fn replace(others: &mut Vec<Record>, record: Record) {
    let is_ipv6 = record.route.destination.is_ipv6();
    let several = is_one_of_several(&record);
    let alike = |other: &Record| is_ipv6 && is_one_of_several(other) == several;
    let place = others.iter().position(alike).unwrap_or(0);
    if let Some(room) = others.get_mut(place) {
        *room = record;
    }
    if is_ipv6 && several {
        let mut first = true;
        others.retain(|other| !is_one_of_several(other) || std::mem::take(&mut first));
    }
}

/// The route with the hop's link and gateway.
pub(super) fn written_out(mut route: Route, hop: &Hop) -> Route {
    route.link = Some((*hop.link).to_owned());
    route.gateway = hop.gateway;
    route.onlink = hop.onlink;
    if route.destination.is_ipv4() && hop.gateway.is_none() {
        route.scope = Route::SCOPE_LINK;
    }
    route
}

fn via(record: &Record) -> Via {
    let route = &record.route;
    let direct = record.next_hop.is_none() && route.gateway.is_none() && record.encap.is_none();
    let other =
        route.mtu.is_some() || route.advmss.is_some() || (route.source.is_some() && !direct);
    match (record.next_hop, &route.link) {
        _ if other => Via::Other,
        _ if record.unreachable => Via::Unreachable,
        (Some(id), _) => Via::NextHop(id),
        (None, Some(link)) => Via::Hop(Box::new(Hop {
            link: link.as_str().into(),
            gateway: route.gateway,
            onlink: route.onlink,
            encap: record.encap,
        })),
        (None, None) => Via::Other,
    }
}

/// `rt6_duplicate_nexthop`: such an IPv6 route is there already.
fn same_next_hop(other: &Record, record: &Record) -> bool {
    match (other.next_hop, record.next_hop) {
        (None, None) => {
            other.route.gateway == record.route.gateway
                && other.route.link == record.route.link
                && other.encap == record.encap
        }
        (one, other) => one == other,
    }
}

/// `rt6_qualify_for_ecmp`: an IPv6 route that can be one of several next hops.
fn is_one_of_several(record: &Record) -> bool {
    record.next_hop.is_none() && record.route.gateway.is_some()
}
