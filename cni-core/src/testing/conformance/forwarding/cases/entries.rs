//! Next hops, neighbours, forwarding entries and rules.

use super::super::super::netlink::build::{address, flow, pair, set, up, vxlan};
use super::super::build::{MAC, fdb, hop, neighbour, next_hop, onlink, route, rule, tunnel};
use super::super::{DONE, EHOSTUNREACH};
use super::{Case, add, alone, before, down, gone, on, put, with};
use crate::host::forwarding::{Hop, Via};
use crate::host::netlink::errno::{
    EAFNOSUPPORT, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, EOPNOTSUPP,
};

pub(super) fn next_hops() -> Vec<Case> {
    let a = |gateway| hop("a", Some(gateway));
    vec![
        (
            "a next hop needs its link",
            alone(&[add(next_hop(1, hop("a", None)))]),
            ENODEV,
        ),
        (
            "a next hop has an id",
            on(&[add(next_hop(0, hop("a", None)))]),
            EINVAL,
        ),
        (
            "a next hop is made",
            on(&[add(next_hop(1, hop("a", None)))]),
            DONE,
        ),
        ("to a gateway", on(&[add(next_hop(1, a("10.0.0.2")))]), DONE),
        (
            "to one of IPv6",
            on(&[add(next_hop(1, a("fd00::2")))]),
            DONE,
        ),
        (
            "into a tunnel",
            on(&[add(next_hop(1, tunnel("192.0.2.2")))]),
            DONE,
        ),
        (
            "into one over IPv6",
            on(&[add(next_hop(1, tunnel("2001:db8::2")))]),
            DONE,
        ),
        (
            "an IPv4 gateway must be reachable",
            on(&[add(next_hop(1, a("10.9.0.2")))]),
            ENETUNREACH,
        ),
        (
            "an IPv6 gateway must be reachable",
            on(&[add(next_hop(1, a("fd09::2")))]),
            EHOSTUNREACH,
        ),
        (
            "an IPv4 gateway can be said to be on the link",
            on(&[add(next_hop(1, onlink("v", "10.9.0.2")))]),
            DONE,
        ),
        (
            "an IPv6 gateway can be said to be on the link",
            on(&[add(next_hop(1, onlink("v", "fd09::2")))]),
            DONE,
        ),
        (
            "an IPv4 gateway is not this host",
            on(&[add(next_hop(1, onlink("v", "10.0.0.1")))]),
            EINVAL,
        ),
        (
            "an IPv6 gateway is not this host",
            on(&[add(next_hop(1, a("fd00::1")))]),
            EINVAL,
        ),
        (
            "an IPv6 gateway is on another link",
            on(&[add(next_hop(1, onlink("v", "fd00::2")))]),
            EINVAL,
        ),
        (
            "only a gateway is on the link",
            on(&[add(next_hop(
                1,
                Hop {
                    onlink: true,
                    ..hop("a", None)
                },
            ))]),
            EINVAL,
        ),
        (
            "a next hop's link is up",
            on(&[down("a"), add(next_hop(1, hop("a", None)))]),
            ENETDOWN,
        ),
        (
            "and has carrier",
            on(&[down("b"), add(next_hop(1, hop("a", None)))]),
            ENETDOWN,
        ),
        (
            "an id is taken once",
            on(&[
                add(next_hop(1, hop("a", None))),
                add(next_hop(1, hop("f", None))),
            ]),
            EEXIST,
        ),
        (
            "a replacement needs none",
            on(&[put(next_hop(1, hop("a", None)))]),
            DONE,
        ),
        (
            "and takes another's place",
            on(&[
                add(next_hop(1, hop("a", None))),
                put(next_hop(1, a("10.0.0.2"))),
            ]),
            DONE,
        ),
        (
            "but leaves no IPv6 route to an IPv4 gateway",
            on(&[
                add(next_hop(1, hop("a", None))),
                add(route("fd01::/64", Via::NextHop(1))),
                put(next_hop(1, a("10.0.0.2"))),
            ]),
            EINVAL,
        ),
        (
            "an IPv4 route may have an IPv6 gateway",
            on(&[
                add(next_hop(1, a("10.0.0.2"))),
                add(route("10.1.0.0/24", Via::NextHop(1))),
                put(next_hop(1, a("fd00::2"))),
            ]),
            DONE,
        ),
        (
            "IPv6 must be enabled on the link",
            with(
                &[
                    pair("a", "b"),
                    up("a"),
                    up("b"),
                    set("a", |set| set.mtu = Some(1279)),
                ],
                &[add(next_hop(1, hop("a", None)))],
            ),
            ENODEV,
        ),
        (
            "for IPv6's next hops",
            with(
                &[
                    pair("a", "b"),
                    up("a"),
                    up("b"),
                    address("a", "10.0.0.1/24"),
                    set("a", |set| set.mtu = Some(1279)),
                ],
                &[add(next_hop(1, a("10.0.0.2")))],
            ),
            DONE,
        ),
    ]
}

pub(super) fn neighbours() -> Vec<Case> {
    let four = || neighbour("v", "10.1.0.0", MAC);
    let six = || neighbour("v", "fd01::", MAC);
    let small = [
        vxlan("v", |_| {}),
        up("v"),
        set("v", |set| set.mtu = Some(1279)),
    ];
    vec![
        ("a neighbour needs its link", alone(&[add(four())]), ENODEV),
        ("a neighbour is made", on(&[add(four())]), DONE),
        ("an IPv6 neighbour is made", on(&[add(six())]), DONE),
        (
            "a link that is down may have one",
            with(&[vxlan("v", |_| {})], &[add(four())]),
            DONE,
        ),
        (
            "an IPv6 one, too",
            with(&[vxlan("v", |_| {})], &[add(six())]),
            DONE,
        ),
        (
            "a neighbour is made once",
            on(&[
                add(four()),
                add(neighbour("v", "10.1.0.0", "02:00:00:00:00:08")),
            ]),
            EEXIST,
        ),
        (
            "an IPv6 neighbour is made once",
            on(&[add(six()), add(six())]),
            EEXIST,
        ),
        (
            "another link may have it, too",
            on(&[add(four()), add(neighbour("a", "10.1.0.0", MAC))]),
            DONE,
        ),
        ("a replacement needs none", on(&[put(four())]), DONE),
        (
            "and takes another's place",
            on(&[add(four()), put(four())]),
            DONE,
        ),
        (
            "an IPv6 neighbour needs IPv6 on its link",
            with(&small, &[add(six())]),
            EINVAL,
        ),
        (
            "an IPv4 neighbour does not",
            with(&small, &[add(four())]),
            DONE,
        ),
        (
            "a neighbour that is not there cannot be removed",
            on(&[gone(four())]),
            ENOENT,
        ),
        (
            "nor on a link that is not there",
            alone(&[gone(four())]),
            ENODEV,
        ),
        (
            "a neighbour is removed by its address",
            on(&[
                add(four()),
                gone(neighbour("v", "10.1.0.0", "02:00:00:00:00:08")),
            ]),
            DONE,
        ),
        (
            "a neighbour is not prepended",
            on(&[before(four())]),
            EOPNOTSUPP,
        ),
    ]
}

pub(super) fn fdbs() -> Vec<Case> {
    let one = || fdb("v", MAC, "192.0.2.2");
    let over6 = vxlan("v", |vxlan| vxlan.local = "2001:db8::1".parse().ok());
    let to6 = || fdb("v", MAC, "2001:db8::2");
    let many = |mac| fdb("v", mac, "192.0.2.2");
    let zero = "00:00:00:00:00:00";
    vec![
        (
            "a forwarding entry needs its link",
            alone(&[add(one())]),
            ENODEV,
        ),
        ("a forwarding entry is made", on(&[add(one())]), DONE),
        (
            "also while the device is down",
            with(&[vxlan("v", |_| {})], &[add(one())]),
            DONE,
        ),
        (
            "a hardware address is behind one remote address",
            on(&[add(one()), add(fdb("v", MAC, "192.0.2.3"))]),
            EEXIST,
        ),
        (
            "the remote is of the tunnel's family",
            on(&[add(to6())]),
            EAFNOSUPPORT,
        ),
        (
            "which may be IPv6",
            with(std::slice::from_ref(&over6), &[add(to6())]),
            DONE,
        ),
        (
            "and then is not IPv4",
            with(&[over6], &[add(one())]),
            EAFNOSUPPORT,
        ),
        ("a replacement needs none", on(&[put(one())]), DONE),
        (
            "and takes another's place",
            on(&[add(one()), put(fdb("v", MAC, "192.0.2.3"))]),
            DONE,
        ),
        (
            "an address for many can be made",
            on(&[add(many("01:00:00:00:00:01"))]),
            DONE,
        ),
        (
            "but not replaced",
            on(&[put(many("01:00:00:00:00:01"))]),
            EOPNOTSUPP,
        ),
        (
            "nor can the one for all",
            on(&[add(many(zero)), put(many(zero))]),
            EOPNOTSUPP,
        ),
        (
            "which a device with a remote address has",
            with(
                &[vxlan("v", |vxlan| vxlan.remote = "192.0.2.2".parse().ok())],
                &[add(many(zero))],
            ),
            EEXIST,
        ),
        (
            "an entry that is not there cannot be removed",
            on(&[gone(one())]),
            ENOENT,
        ),
        (
            "nor on a link that is not there",
            alone(&[gone(one())]),
            ENODEV,
        ),
        (
            "an entry is removed by its hardware address",
            on(&[add(one()), gone(fdb("v", MAC, "192.0.2.3"))]),
            DONE,
        ),
        (
            "a device without Ethernet has none",
            with(&[flow("f", |_| {})], &[add(fdb("f", MAC, "192.0.2.2"))]),
            EINVAL,
        ),
        (
            "none to remove, either",
            with(&[flow("f", |_| {})], &[gone(fdb("f", MAC, "192.0.2.2"))]),
            EINVAL,
        ),
    ]
}

pub(super) fn rules() -> Vec<Case> {
    let one = || rule(100, "10.1.0.0/24", 77);
    let six = || rule(100, "fd01::/64", 77);
    vec![
        ("a rule is made", alone(&[add(one())]), DONE),
        ("a rule of IPv6 is made", alone(&[add(six())]), DONE),
        (
            "a rule is made once",
            alone(&[add(one()), add(one())]),
            EEXIST,
        ),
        (
            "a rule of IPv6 is made once",
            alone(&[add(six()), add(six())]),
            EEXIST,
        ),
        (
            "a rule that is there can be replaced",
            alone(&[add(one()), put(one())]),
            DONE,
        ),
        ("one that is not, too", alone(&[put(six())]), DONE),
        (
            "a rule says a table",
            alone(&[add(rule(100, "10.1.0.0/24", 0))]),
            EINVAL,
        ),
        (
            "another priority is another rule",
            alone(&[add(one()), add(rule(101, "10.1.0.0/24", 77))]),
            DONE,
        ),
        (
            "another table, too",
            alone(&[add(one()), add(rule(100, "10.1.0.0/24", 78))]),
            DONE,
        ),
        (
            "another source, too",
            alone(&[add(one()), add(rule(100, "10.1.0.0/25", 77))]),
            DONE,
        ),
        (
            "a rule that is not there cannot be removed",
            alone(&[gone(one())]),
            ENOENT,
        ),
        (
            "the kernel makes rules itself",
            alone(&[add(rule(32766, "0.0.0.0/0", 254))]),
            DONE,
        ),
        (
            "which are not ours to remove",
            alone(&[gone(rule(32766, "0.0.0.0/0", 254))]),
            ENOENT,
        ),
        ("a rule is removed", alone(&[add(six()), gone(six())]), DONE),
    ]
}
