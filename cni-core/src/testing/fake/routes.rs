//! Routes: `net/ipv4/fib_semantics.c`, `net/ipv4/fib_trie.c`, `net/ipv6/route.c`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::host::netlink::Route;
use crate::host::netlink::errno::{EACCES, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ESRCH};

use super::state::{Device, Namespace, Outcome, refuse, refuse_saying};

const EHOSTUNREACH: i32 = 113;

impl Namespace {
    pub(super) fn route_add(&mut self, new: &Route) -> Outcome {
        if let Some(link) = &new.link {
            self.device_mut(link)?;
        }
        let mut route = new.clone();
        // Requests are written without host bits.
        let network = new.destination.network();
        if let Ok(destination) = IpNetwork::new(network, new.destination.prefix()) {
            route.destination = destination;
        }
        match new.destination {
            IpNetwork::V4(_) => {
                route.link = Some(self.ipv4_egress(new)?);
                if let Some(source) = new.source
                    && !self.is_local(source)
                {
                    return refuse_saying(EINVAL, "Invalid prefsrc address");
                }
            }
            IpNetwork::V6(_) => {
                route.scope = 0;
                if route.metric == 0 {
                    route.metric = 1024;
                }
                route.link = Some(self.ipv6_egress(new)?);
                if let Some(source) = new.source
                    && !self.is_local(source)
                {
                    return refuse_saying(EINVAL, "Invalid source address");
                }
            }
        }
        let taken = self.routes.iter().any(|other| {
            other.destination == route.destination
                && other.metric == route.metric
                && other.table == route.table
                && (!new.beside_others || same_next_hop(other, &route))
        });
        if taken {
            return refuse(EEXIST);
        }
        route.beside_others = false;
        self.routes.push(route);
        Ok(())
    }

    /// `fib_check_nh`: the outgoing link.
    fn ipv4_egress(&self, route: &Route) -> Outcome<String> {
        let Some(gateway) = route.gateway else {
            let Some(link) = &route.link else {
                return refuse(ENODEV);
            };
            if !self.is_up(link) {
                return refuse_saying(ENETDOWN, "Device for nexthop is not up");
            }
            return Ok(link.clone());
        };
        if gateway.is_ipv6() {
            return refuse(EINVAL);
        }
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
            if self.is_local(gateway) {
                return refuse_saying(EINVAL, "Nexthop has invalid gateway");
            }
            if !self.is_up(link) {
                return refuse_saying(ENETDOWN, "Nexthop device is not up");
            }
            return Ok(link.clone());
        }
        let direct = |candidate: &&Route| candidate.scope >= Route::SCOPE_LINK;
        match self.egress_towards(gateway, route, direct) {
            Some(link) => Ok(link),
            None => refuse_saying(ENETUNREACH, "Nexthop has invalid gateway"),
        }
    }

    /// `ip6_route_check_nh`: the outgoing link.
    fn ipv6_egress(&self, route: &Route) -> Outcome<String> {
        if let Some(link) = &route.link {
            if !self.device(link).is_some_and(Device::has_ipv6) {
                return refuse(ENODEV);
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
                let direct = |candidate: &&Route| candidate.gateway.is_none();
                return match self.egress_towards(IpAddr::V6(gateway), route, direct) {
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
        } else if route.gateway.is_some() {
            return refuse(EINVAL);
        }
        let Some(link) = &route.link else {
            return refuse(ENODEV);
        };
        if !self.is_up(link) {
            return refuse_saying(ENETDOWN, "Nexthop device is not up");
        }
        Ok(link.clone())
    }

    /// `ip6_route_check_nh_onlink`: no better route than the default one leads to the gateway by another link.
    fn may_be_onlink(&self, gateway: IpAddr, link: &str) -> bool {
        let specific = self
            .routes
            .iter()
            .filter(|route| route.table == Route::MAIN && route.destination.prefix() > 0)
            .filter(|route| route.destination.contains(gateway));
        let longest = specific
            .clone()
            .map(|route| route.destination.prefix())
            .max();
        longest.is_none_or(|longest| {
            specific
                .filter(|route| route.destination.prefix() == longest)
                .any(|route| route.link.as_deref() == Some(link))
        })
    }

    /// The link on which a gateway is, by the most specific route that leads there directly.
    fn egress_towards(
        &self,
        gateway: IpAddr,
        route: &Route,
        direct: impl Fn(&&Route) -> bool,
    ) -> Option<String> {
        let wanted = route.link.as_deref();
        let fits = |link: Option<&str>| wanted.is_none() || link == wanted;
        let own = self
            .addresses
            .iter()
            .filter(|_| gateway.is_ipv4())
            .find(|held| {
                held.address.address.ip() == gateway
                    && fits(Some(&held.address.link))
                    && self.is_up(&held.address.link)
            });
        if let Some(held) = own {
            return Some(held.address.link.clone());
        }
        self.routes
            .iter()
            .filter(|candidate| candidate.table == Route::MAIN || candidate.table == route.table)
            .filter(|candidate| candidate.destination.contains(gateway))
            .filter(|candidate| fits(candidate.link.as_deref()))
            .filter(direct)
            .max_by_key(|candidate| candidate.destination.prefix())
            .and_then(|candidate| candidate.link.clone())
    }

    pub(super) fn route_del(&mut self, old: &Route) -> Outcome {
        if let Some(link) = &old.link {
            self.device_mut(link)?;
        }
        let ipv6 = old.destination.is_ipv6();
        let position = self.routes.iter().position(|route| {
            route.destination.network() == old.destination.network()
                && route.destination.prefix() == old.destination.prefix()
                && route.destination.is_ipv6() == ipv6
                && route.table == old.table
                && (old.protocol == 0 || route.protocol == old.protocol)
                && (old.metric == 0 || route.metric == old.metric)
                && (old.link.is_none() || route.link == old.link)
                && (old.gateway.is_none() || route.gateway == old.gateway)
        });
        match position {
            Some(position) => {
                self.routes.remove(position);
                Ok(())
            }
            None => refuse(ESRCH),
        }
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|held| held.address.address.ip() == ip)
    }
}

/// `fib_find_info` and `rt6_duplicate_nexthop`, as far as routes are modelled: such a route is there already.
fn same_next_hop(other: &Route, route: &Route) -> bool {
    other.gateway == route.gateway && other.link == route.link && other.scope == route.scope
}
