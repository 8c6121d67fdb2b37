//! The container's side, as every backend that gives addresses needs it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::host::netlink::{Address, Route};
use crate::plan::{Desired, Object, Place};
use crate::spec::AddResult;
use crate::spec::result;

/// IPv6 duplicate address detection (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dad {
    /// Addresses can be used at once: address management has seen to it that they are unique.
    Off,
    /// Detection runs, and takes about two seconds.
    On,
}

/// Declares the kernel parameters of the container's interface for the addresses in `result`: IPv6 enabled, addresses
/// that survive the link's going down, announcements. They have to come before the interface is brought up.
pub fn parameters(desired: &mut Desired, interface: &str, result: &AddResult, dad: Dad) {
    if !result.ips.iter().any(|ip| ip.address.is_ipv6()) {
        return;
    }
    let mut set = |interface: &str, key: &str, value: &str| {
        let key = format!("net/ipv6/conf/{interface}/{key}");
        let value = value.to_owned();
        desired.own(Place::Container, Object::Sysctl { key, value });
    };
    set("lo", "disable_ipv6", "0");
    set(interface, "disable_ipv6", "0");
    set(interface, "keep_addr_on_down", "1");
    // Unsolicited neighbour advertisements when the hardware address is set: see `ready::announce`.
    set(interface, "ndisc_notify", "1");
    match dad {
        // The link-local address, which the kernel makes by itself, is to be usable at once, too.
        Dad::Off => set(interface, "accept_dad", "0"),
        Dad::On => {
            set(interface, "enhanced_dad", "1");
            set(interface, "accept_dad", "1");
        }
    }
}

/// Declares the addresses in `result`.
pub fn addresses(desired: &mut Desired, interface: &str, result: &AddResult, dad: Dad) {
    for ip in &result.ips {
        let mut address = Address::new(interface, ip.address);
        address.no_dad = ip.address.is_ipv6() && dad == Dad::Off;
        desired.own(Place::Container, Object::Address(address));
    }
}

/// Declares the routes in `result`. One that says no gateway goes through its family's, unless its scope is narrower
/// than the world; where there is none, its destinations are on the link.
///
/// As with the reference plugin a route may stand beside another one to the same destination: the default routes of two
/// interfaces on one network, say, or of two gateways. IPv4 takes the one that was declared last, IPv6 spreads over them.
/// What even so would be refused with EEXIST is left out: a route that is there twice, and the prefix of an address, of
/// which the address itself brings the route, unless the result says by which gateway.
pub fn routes(desired: &mut Desired, interface: &str, result: &AddResult) {
    let mut declared: Vec<Route> = Vec::new();
    for wanted in &result.routes {
        let mut route = route(interface, wanted, result);
        let own = is_own_prefix(&route, result);
        let known = |known: &Route| same_place(known, &route) && known.gateway == route.gateway;
        if (own && wanted.gw.is_none()) || declared.iter().any(known) {
            continue;
        }
        route.beside_others = true;
        declared.push(route.clone());
        desired.own(Place::Container, Object::Route(route));
    }
}

/// Whether the kernel makes this route for one of the addresses.
fn is_own_prefix(route: &Route, result: &AddResult) -> bool {
    let same = |address: IpNetwork| {
        address.network() == route.destination.network()
            && address.prefix() == route.destination.prefix()
    };
    route.table == Route::MAIN && route.metric == 0 && result.ips.iter().any(|ip| same(ip.address))
}

/// Whether two routes take the same place in a table.
fn same_place(a: &Route, b: &Route) -> bool {
    a.destination.network() == b.destination.network()
        && a.destination.prefix() == b.destination.prefix()
        && (a.table, metric(a)) == (b.table, metric(b))
}

/// IPv6 has no metric 0: the kernel writes 1024 (`net/ipv6/route.c`, IP6_RT_PRIO_USER).
fn metric(route: &Route) -> u32 {
    match (route.destination, route.metric) {
        (IpNetwork::V6(_), 0) => 1024,
        (_, metric) => metric,
    }
}

fn route(interface: &str, wanted: &result::Route, result: &AddResult) -> Route {
    let narrow = wanted.scope.is_some_and(|scope| scope >= Route::SCOPE_LINK);
    let mut route = Route::new(wanted.dst, interface);
    route.gateway = wanted
        .gw
        .or_else(|| gateway(result, wanted.dst.is_ipv4()).filter(|_| !narrow));
    route.metric = wanted.priority;
    route.table = wanted.table.unwrap_or(Route::MAIN);
    route.mtu = (wanted.mtu != 0).then_some(wanted.mtu);
    route.advmss = (wanted.advmss != 0).then_some(wanted.advmss);
    if wanted.dst.is_ipv4() {
        let by_default = match route.gateway {
            Some(_) => 0,
            None => Route::SCOPE_LINK,
        };
        route.scope = wanted.scope.unwrap_or(by_default);
    }
    route
}

/// The first gateway of a family.
fn gateway(result: &AddResult, ipv4: bool) -> Option<IpAddr> {
    result
        .ips
        .iter()
        .filter_map(|ip| ip.gateway)
        .find(|gateway| gateway.is_ipv4() == ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::IpConfig;

    fn result(routes: Vec<result::Route>) -> AddResult {
        let mut ip = IpConfig::new("10.1.0.2/24".parse().unwrap());
        ip.gateway = Some("10.1.0.1".parse().unwrap());
        AddResult {
            ips: vec![ip],
            routes,
            ..AddResult::default()
        }
    }

    fn declared(routes_in: Vec<result::Route>) -> Vec<Route> {
        let mut desired = Desired::new();
        routes(&mut desired, "eth0", &result(routes_in));
        let routes = desired.items.into_iter().map(|item| match item.object {
            Object::Route(route) => route,
            other => panic!("{other:?}"),
        });
        routes.collect()
    }

    #[test]
    fn a_route_without_a_gateway_takes_its_familys() {
        let routes = declared(vec![result::Route::new("0.0.0.0/0".parse().unwrap())]);
        assert_eq!(routes[0].gateway, Some("10.1.0.1".parse().unwrap()));
        assert_eq!(routes[0].scope, 0);
    }

    #[test]
    fn a_route_of_link_scope_gets_no_gateway() {
        let mut route = result::Route::new("10.9.0.0/16".parse().unwrap());
        route.scope = Some(Route::SCOPE_LINK);
        let routes = declared(vec![route]);
        assert_eq!(routes[0].gateway, None);
        assert_eq!(routes[0].scope, Route::SCOPE_LINK);
    }

    #[test]
    fn a_family_without_a_gateway_has_its_routes_on_the_link() {
        let routes = declared(vec![result::Route::new("fd00::/8".parse().unwrap())]);
        assert_eq!(routes[0].gateway, None);
    }

    #[test]
    fn the_metrics_of_a_route_are_honoured_and_duplicates_are_not() {
        let mut route = result::Route::new("10.9.0.0/16".parse().unwrap());
        (route.mtu, route.advmss, route.priority) = (1400, 1360, 7);
        route.table = Some(100);
        let routes = declared(vec![route.clone(), route]);
        assert_eq!(routes.len(), 1);
        assert_eq!(
            (
                routes[0].mtu,
                routes[0].advmss,
                routes[0].metric,
                routes[0].table
            ),
            (Some(1400), Some(1360), 7, 100)
        );
    }

    fn sysctls(ips: &[&str], dad: Dad) -> Vec<String> {
        let ips = ips.iter().map(|ip| IpConfig::new(ip.parse().unwrap()));
        let result = AddResult {
            ips: ips.collect(),
            ..AddResult::default()
        };
        let mut desired = Desired::new();
        parameters(&mut desired, "net1", &result, dad);
        let texts = desired.items.into_iter().map(|item| match item.object {
            Object::Sysctl { key, value } => {
                assert_eq!(item.place, Place::Container);
                let key = key.strip_prefix("net/ipv6/conf/").unwrap();
                format!("{key}={value}")
            }
            other => panic!("{other:?}"),
        });
        texts.collect()
    }

    #[test]
    fn without_an_ipv6_address_no_parameter_of_ipv6_is_touched() {
        assert_eq!(sysctls(&["10.1.0.2/24"], Dad::Off), [""; 0]);
        assert_eq!(sysctls(&[], Dad::On), [""; 0]);
    }

    #[test]
    fn with_an_ipv6_address_ipv6_is_enabled_and_detection_is_as_asked() {
        let common = [
            "lo/disable_ipv6=0",
            "net1/disable_ipv6=0",
            "net1/keep_addr_on_down=1",
            "net1/ndisc_notify=1",
        ];
        let both = ["10.1.0.2/24", "fd00::2/64"];
        let off = sysctls(&both, Dad::Off);
        assert_eq!(off, [&common[..], &["net1/accept_dad=0"]].concat());
        let on = sysctls(&both, Dad::On);
        let detection = ["net1/enhanced_dad=1", "net1/accept_dad=1"];
        assert_eq!(on, [&common[..], &detection].concat());
    }

    #[test]
    fn detection_is_skipped_for_ipv6_addresses_only_where_it_is_off() {
        for (dad, skipped) in [(Dad::Off, true), (Dad::On, false)] {
            let mut result = result(Vec::new());
            result
                .ips
                .push(IpConfig::new("fd00::2/64".parse().unwrap()));
            let mut desired = Desired::new();
            addresses(&mut desired, "eth0", &result, dad);
            let flags: Vec<bool> = desired
                .items
                .iter()
                .map(|item| match &item.object {
                    Object::Address(address) => address.no_dad,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(flags, [false, skipped]);
        }
    }

    fn to(destination: &str, gateway: Option<&str>) -> result::Route {
        let mut route = result::Route::new(destination.parse().unwrap());
        route.gw = gateway.map(|gateway| gateway.parse().unwrap());
        route
    }

    #[test]
    fn the_prefix_of_an_address_needs_no_route_unless_it_has_a_gateway_of_its_own() {
        assert_eq!(declared(vec![to("10.1.0.0/24", None)]), []);
        let routes = declared(vec![to("10.1.0.0/24", Some("10.1.0.7"))]);
        assert_eq!(routes[0].gateway, Some("10.1.0.7".parse().unwrap()));
        let mut elsewhere = to("10.1.0.0/24", None);
        elsewhere.table = Some(100);
        assert_eq!(declared(vec![elsewhere]).len(), 1);
        assert_eq!(declared(vec![to("10.1.0.0/16", None)]).len(), 1);
    }

    #[test]
    fn routes_by_several_gateways_are_all_declared_and_none_twice() {
        let routes = declared(vec![
            to("0.0.0.0/0", None),
            to("0.0.0.0/0", Some("10.1.0.1")),
            to("0.0.0.0/0", Some("10.1.0.9")),
        ]);
        let gateways: Vec<String> = routes
            .iter()
            .map(|route| route.gateway.unwrap().to_string())
            .collect();
        assert_eq!(gateways, ["10.1.0.1", "10.1.0.9"]);
        assert!(routes.iter().all(|route| route.beside_others));
    }

    #[test]
    fn the_metric_that_ipv6_has_by_default_is_the_same_as_none() {
        let mut explicit = to("fd01::/64", None);
        explicit.priority = 1024;
        assert_eq!(declared(vec![to("fd01::/64", None), explicit]).len(), 1);
    }
}
