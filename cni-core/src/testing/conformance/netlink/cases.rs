//! Single changes, and how they are answered.

use super::build::{
    add, address, address_del, bridge, del, master, pair, port, route, route_of, route_with, set,
    up,
};
use super::{DONE, EHOSTUNREACH};
use crate::host::netlink::errno::{
    EADDRNOTAVAIL, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, EOPNOTSUPP, EPERM, ERANGE, ESRCH,
};
use crate::host::netlink::{LinkSettings, NetlinkChange, Route};

/// A rule, changes of which the last is judged, and its errno.
pub(super) type Case = (&'static str, Vec<NetlinkChange>, i32);

pub(super) fn all() -> impl Iterator<Item = Case> {
    links().into_iter().chain(addresses()).chain(routes())
}

fn links() -> Vec<Case> {
    let long = "sixteen-bytes-xx";
    let set = |change: fn(&mut LinkSettings)| vec![pair("a", "b"), set("a", change)];
    vec![
        (
            "a name is taken once",
            vec![bridge("a"), bridge("a")],
            EEXIST,
        ),
        (
            "a peer's name is taken once",
            vec![bridge("b"), pair("a", "b")],
            EEXIST,
        ),
        (
            "both ends need names of their own",
            vec![pair("a", "a")],
            EEXIST,
        ),
        ("a name has 15 bytes", vec![bridge(long)], EINVAL),
        ("a name has no slash", vec![bridge("a/b")], EINVAL),
        (
            "a missing master is no master",
            vec![add("a", |new| new.master = Some("x".to_owned()))],
            ENODEV,
        ),
        (
            "a veth's MTU is 68 at least",
            vec![add("a", |new| new.mtu = Some(67))],
            EINVAL,
        ),
        (
            "a veth's MTU is 68 at least",
            vec![add("a", |new| new.mtu = Some(68))],
            DONE,
        ),
        (
            "a hardware address is unicast",
            vec![add("a", |new| new.mac = "01:00:00:00:00:01".parse().ok())],
            EADDRNOTAVAIL,
        ),
        ("a missing link cannot be deleted", vec![del("a")], ENODEV),
        ("lo cannot be deleted", vec![del("lo")], EOPNOTSUPP),
        ("a missing link cannot be set", vec![up("a")], ENODEV),
        (
            "an MTU has bounds",
            set(|set| set.mtu = Some(65536)),
            EINVAL,
        ),
        (
            "an alias has 255 bytes",
            set(|set| set.alias = Some("x".repeat(255))),
            DONE,
        ),
        (
            "an alias has no more than 255 bytes",
            set(|set| set.alias = Some("x".repeat(256))),
            ERANGE,
        ),
        (
            "a missing master cannot be had",
            set(|set| set.master = Some("x".to_owned())),
            ENODEV,
        ),
        (
            "a veth is no master",
            set(|set| set.master = Some("b".to_owned())),
            EOPNOTSUPP,
        ),
        (
            "a link that is no port can be released",
            set(|set| set.master = Some(String::new())),
            DONE,
        ),
        (
            "only bridges filter VLANs",
            set(|set| set.vlan_filtering = Some(true)),
            EOPNOTSUPP,
        ),
        (
            "lo is no port",
            vec![bridge("a"), master("lo", "a")],
            EINVAL,
        ),
        (
            "a port has settings",
            vec![bridge("br"), pair("a", "b"), master("a", "br"), port("a")],
            DONE,
        ),
        (
            "only a port has a port's settings",
            vec![pair("a", "b"), port("a")],
            EOPNOTSUPP,
        ),
        (
            "a missing link has no port's settings",
            vec![port("a")],
            ENODEV,
        ),
        (
            "group 0 cannot be deleted",
            vec![NetlinkChange::GroupDel { group: 0 }],
            EPERM,
        ),
        (
            "an empty group cannot be deleted",
            vec![NetlinkChange::GroupDel { group: 77_777 }],
            ENODEV,
        ),
    ]
}

fn addresses() -> Vec<Case> {
    let on = |changes: &[NetlinkChange]| [&[pair("a", "b")], changes].concat();
    let deprived = |changes: &[NetlinkChange]| {
        let small = add("a", |new| new.mtu = Some(1279));
        [&[small], changes].concat()
    };
    vec![
        (
            "a missing link has no addresses",
            vec![address("a", "10.0.0.1/24")],
            ENODEV,
        ),
        (
            "an address can be added to a link that is down",
            on(&[address("a", "10.0.0.1/24")]),
            DONE,
        ),
        (
            "an IPv4 address is added once",
            on(&[address("a", "10.0.0.1/24"), address("a", "10.0.0.1/24")]),
            EEXIST,
        ),
        (
            "an IPv6 address is added once",
            on(&[address("a", "fd00::1/64"), address("a", "fd00::1/64")]),
            EEXIST,
        ),
        (
            "an IPv6 address is added once, whatever its prefix",
            on(&[address("a", "fd00::1/64"), address("a", "fd00::1/80")]),
            EEXIST,
        ),
        (
            "an IPv4 address may have two prefixes",
            on(&[address("a", "10.0.0.1/24"), address("a", "10.0.0.1/16")]),
            DONE,
        ),
        (
            "another link may have the address as well",
            on(&[address("a", "10.0.0.1/24"), address("b", "10.0.0.1/24")]),
            DONE,
        ),
        (
            "an address that is not there cannot be deleted",
            on(&[address_del("a", "10.0.0.1/24")]),
            EADDRNOTAVAIL,
        ),
        (
            "an address is deleted with its prefix",
            on(&[address("a", "10.0.0.1/24"), address_del("a", "10.0.0.1/16")]),
            EADDRNOTAVAIL,
        ),
        (
            "an IPv6 address that is not there cannot be deleted",
            on(&[address_del("a", "fd00::1/64")]),
            EADDRNOTAVAIL,
        ),
        (
            "a missing link's address cannot be deleted",
            vec![address_del("a", "10.0.0.1/24")],
            ENODEV,
        ),
        (
            "the IPv6 loopback address is lo's",
            on(&[address("a", "::1/128")]),
            EADDRNOTAVAIL,
        ),
        (
            "IPv6 needs an MTU of 1280",
            deprived(&[address("a", "fd00::1/64")]),
            EINVAL,
        ),
        (
            "IPv4 does not",
            deprived(&[address("a", "10.0.0.1/24")]),
            DONE,
        ),
    ]
}

fn routes() -> Vec<Case> {
    let down = |changes: &[NetlinkChange]| [&[pair("a", "b")], changes].concat();
    let on = |changes: &[NetlinkChange]| {
        let given = [
            pair("a", "b"),
            up("a"),
            up("b"),
            address("a", "10.0.0.1/24"),
            address("a", "fd00::1/64"),
        ];
        [&given, changes].concat()
    };
    let via =
        |to: &str, gateway: &str| route_with(to, "a", |route| route.gateway = gateway.parse().ok());
    let source =
        |to: &str, source: &str| route_with(to, "a", |route| route.source = source.parse().ok());
    let onlink = |to: &str, gateway: &str| {
        route_with(to, "a", |route| {
            route.gateway = gateway.parse().ok();
            route.onlink = true;
        })
    };
    let two = |route: NetlinkChange| on(&[route.clone(), route]);
    let gone = |to: &str| NetlinkChange::RouteDel(route_of(to, "a"));
    vec![
        (
            "a missing link has no routes",
            vec![route("10.1.0.0/24", "a")],
            ENODEV,
        ),
        (
            "an IPv4 route needs a link that is up",
            down(&[route("10.1.0.0/24", "a")]),
            ENETDOWN,
        ),
        (
            "an IPv6 route needs a link that is up",
            down(&[route("fd01::/64", "a")]),
            ENETDOWN,
        ),
        ("a route is added", on(&[route("10.1.0.0/24", "a")]), DONE),
        (
            "an IPv4 route is added once",
            two(route("10.1.0.0/24", "a")),
            EEXIST,
        ),
        (
            "an IPv6 route is added once",
            two(route("fd01::/64", "a")),
            EEXIST,
        ),
        (
            "another metric is another route",
            on(&[
                route("10.1.0.0/24", "a"),
                route_with("10.1.0.0/24", "a", |route| route.metric = 7),
            ]),
            DONE,
        ),
        (
            "another table is another route",
            on(&[
                route("10.1.0.0/24", "a"),
                route_with("10.1.0.0/24", "a", |route| route.table = 7),
            ]),
            DONE,
        ),
        (
            "another link is the same IPv4 route",
            on(&[route("10.1.0.0/24", "a"), route("10.1.0.0/24", "b")]),
            EEXIST,
        ),
        (
            "host bits of a destination are left out",
            on(&[route("10.1.0.1/24", "a")]),
            DONE,
        ),
        (
            "a gateway is reachable",
            on(&[via("0.0.0.0/0", "10.0.0.2")]),
            DONE,
        ),
        (
            "an IPv4 gateway must be reachable",
            on(&[via("0.0.0.0/0", "10.9.0.2")]),
            ENETUNREACH,
        ),
        (
            "an IPv6 gateway is reachable",
            on(&[via("::/0", "fd00::2")]),
            DONE,
        ),
        (
            "an IPv6 gateway must be reachable",
            on(&[via("::/0", "fd09::2")]),
            EHOSTUNREACH,
        ),
        (
            "a gateway is reachable by a route to it alone",
            on(&[
                route_with("10.9.0.2/32", "a", |route| route.scope = Route::SCOPE_LINK),
                via("0.0.0.0/0", "10.9.0.2"),
            ]),
            DONE,
        ),
        (
            "an IPv6 gateway is reachable by a route to it alone",
            on(&[route("fd09::2/128", "a"), via("::/0", "fd09::2")]),
            DONE,
        ),
        (
            "an IPv4 gateway can be said to be on the link",
            on(&[onlink("0.0.0.0/0", "10.9.0.2")]),
            DONE,
        ),
        (
            "an IPv6 gateway is not this host",
            on(&[via("::/0", "fd00::1")]),
            EINVAL,
        ),
        (
            "an IPv4 source is this host",
            on(&[source("10.1.0.0/24", "10.0.0.9")]),
            EINVAL,
        ),
        (
            "an IPv6 source is this host",
            on(&[source("fd01::/64", "fd00::9")]),
            EINVAL,
        ),
        (
            "a source is taken",
            on(&[source("10.1.0.0/24", "10.0.0.1")]),
            DONE,
        ),
        (
            "an IPv4 route that is not there cannot be deleted",
            on(&[gone("10.1.0.0/24")]),
            ESRCH,
        ),
        (
            "an IPv6 route that is not there cannot be deleted",
            on(&[gone("fd01::/64")]),
            ESRCH,
        ),
        (
            "a missing link's route cannot be deleted",
            vec![gone("10.1.0.0/24")],
            ENODEV,
        ),
        (
            "a route is deleted",
            on(&[route("10.1.0.0/24", "a"), gone("10.1.0.0/24")]),
            DONE,
        ),
    ]
}
