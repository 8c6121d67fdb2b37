//! Routes.

use super::super::super::netlink::build::{route_of, route_with as other_route};
use super::super::build::{Step, hop, inline, next_hop, route, route_with, tunnel};
use super::super::{DONE, EHOSTUNREACH};
use super::{Case, add, alone, before, down, gone, on, put};
use crate::host::forwarding::Via;
use crate::host::netlink::NetlinkChange;
use crate::host::netlink::errno::{
    EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, EOPNOTSUPP, ESRCH,
};

pub(super) fn routes() -> Vec<Case> {
    let four = |via| route("10.1.0.0/24", via);
    let six = |via| route("fd01::/64", via);
    let to = |gateway| inline(hop("a", Some(gateway)));
    let theirs = |to: &str| {
        Step::from(other_route(to, "a", |route| {
            route.metric = if to.contains(':') { 128 } else { 0 }
        }))
    };
    vec![
        (
            "a route's next hop is there",
            on(&[add(four(Via::NextHop(1)))]),
            EINVAL,
        ),
        (
            "an IPv6 route's next hop is there",
            on(&[add(six(Via::NextHop(1)))]),
            EINVAL,
        ),
        (
            "an IPv4 route goes by a next hop without gateway",
            on(&[add(next_hop(1, hop("a", None))), add(four(Via::NextHop(1)))]),
            DONE,
        ),
        (
            "an IPv6 route does, too",
            on(&[
                add(next_hop(1, tunnel("192.0.2.2"))),
                add(six(Via::NextHop(1))),
            ]),
            DONE,
        ),
        (
            "an IPv4 route goes by an IPv6 gateway",
            on(&[
                add(next_hop(1, hop("a", Some("fd00::2")))),
                add(four(Via::NextHop(1))),
            ]),
            DONE,
        ),
        (
            "an IPv6 route by no IPv4 gateway",
            on(&[
                add(next_hop(1, hop("a", Some("10.0.0.2")))),
                add(six(Via::NextHop(1))),
            ]),
            EINVAL,
        ),
        (
            "not without a next hop object either",
            on(&[add(six(to("10.0.0.2")))]),
            EINVAL,
        ),
        (
            "a route goes straight to a gateway",
            on(&[add(four(to("10.0.0.2")))]),
            DONE,
        ),
        ("an IPv6 route does", on(&[add(six(to("fd00::2")))]), DONE),
        (
            "an IPv4 route goes straight to an IPv6 gateway",
            on(&[add(four(to("fd00::2")))]),
            DONE,
        ),
        (
            "which must be reachable",
            on(&[add(four(to("fd09::2")))]),
            EHOSTUNREACH,
        ),
        (
            "as an IPv4 gateway must",
            on(&[add(four(to("10.9.0.2")))]),
            ENETUNREACH,
        ),
        (
            "an IPv4 route goes straight into a tunnel",
            on(&[add(four(inline(tunnel("192.0.2.2"))))]),
            DONE,
        ),
        (
            "an IPv6 route does, straight",
            on(&[add(six(inline(tunnel("192.0.2.2"))))]),
            DONE,
        ),
        (
            "straight through a link",
            on(&[add(four(inline(hop("a", None))))]),
            DONE,
        ),
        (
            "that is there",
            on(&[add(four(inline(hop("x", None))))]),
            ENODEV,
        ),
        (
            "and up",
            on(&[down("f"), add(four(inline(tunnel("192.0.2.2"))))]),
            ENETDOWN,
        ),
        (
            "for IPv6, too",
            on(&[down("f"), add(six(inline(tunnel("192.0.2.2"))))]),
            ENETDOWN,
        ),
        (
            "a route may lead nowhere",
            alone(&[add(four(Via::Unreachable))]),
            DONE,
        ),
        (
            "an IPv6 route may lead nowhere",
            alone(&[add(six(Via::Unreachable))]),
            DONE,
        ),
        (
            "where a route leads is said",
            on(&[add(four(Via::Other))]),
            EINVAL,
        ),
        (
            "there is no table 0",
            alone(&[add(route_with("10.1.0.0/24", 0, 0, Via::Unreachable))]),
            EINVAL,
        ),
        (
            "an IPv4 route is made once",
            alone(&[add(four(Via::Unreachable)), add(four(Via::Unreachable))]),
            EEXIST,
        ),
        (
            "an IPv6 route is made once",
            alone(&[add(six(Via::Unreachable)), add(six(Via::Unreachable))]),
            EEXIST,
        ),
        (
            "wherever it leads",
            on(&[add(four(Via::Unreachable)), add(four(to("10.0.0.2")))]),
            EEXIST,
        ),
        (
            "an IPv6 route, too",
            on(&[add(six(Via::Unreachable)), add(six(to("fd00::2")))]),
            EEXIST,
        ),
        (
            "another metric is another route",
            alone(&[
                add(four(Via::Unreachable)),
                add(route_with("10.1.0.0/24", 7, 254, Via::Unreachable)),
            ]),
            DONE,
        ),
        (
            "another table is another route",
            alone(&[
                add(four(Via::Unreachable)),
                add(route_with("10.1.0.0/24", 0, 1000, Via::Unreachable)),
            ]),
            DONE,
        ),
        (
            "another program's is in the way",
            on(&[theirs("10.1.0.0/24"), add(four(Via::Unreachable))]),
            EEXIST,
        ),
        (
            "another program's IPv6 route is",
            on(&[theirs("fd01::/64"), add(six(Via::Unreachable))]),
            EEXIST,
        ),
        (
            "ours can stand before another program's",
            on(&[theirs("10.1.0.0/24"), before(four(Via::Unreachable))]),
            DONE,
        ),
        (
            "and needs none",
            on(&[before(four(Via::Unreachable))]),
            DONE,
        ),
        (
            "but not twice",
            on(&[
                theirs("10.1.0.0/24"),
                before(four(Via::Unreachable)),
                before(four(Via::Unreachable)),
            ]),
            EEXIST,
        ),
        (
            "an IPv6 route cannot",
            on(&[before(six(Via::Unreachable))]),
            EOPNOTSUPP,
        ),
        (
            "only a route can",
            on(&[before(next_hop(1, hop("a", None)))]),
            EOPNOTSUPP,
        ),
    ]
}

pub(super) fn replacements() -> Vec<Case> {
    let ways = |to: &str, gateway: &str| {
        [
            Via::Unreachable,
            Via::NextHop(1),
            inline(hop("a", None)),
            inline(hop("a", Some(gateway))),
        ]
        .map(|via| route(to, via))
    };
    let mut cases = Vec::new();
    for (to, gateway) in [("10.1.0.0/24", "10.0.0.2"), ("fd01::/64", "fd00::2")] {
        for old in ways(to, gateway) {
            for new in ways(to, gateway) {
                let given = add(next_hop(1, tunnel("192.0.2.2")));
                let steps = [given, add(old.clone()), put(new)];
                cases.push(("a route is replaced by any other", on(&steps), DONE));
            }
        }
        let steps = [put(route(to, Via::Unreachable))];
        cases.push(("a replacement needs no route", on(&steps), DONE));
        let steps = [put(route(to, Via::NextHop(1)))];
        cases.push(("a replacement needs a next hop", on(&steps), EINVAL));
    }
    cases
}

pub(super) fn removals() -> Vec<Case> {
    let four = |via| route("10.1.0.0/24", via);
    let six = |via| route("fd01::/64", via);
    let theirs = |to: &str, metric| Step::from(other_route(to, "a", |route| route.metric = metric));
    let one = add(next_hop(1, tunnel("192.0.2.2")));
    vec![
        (
            "a route that is not there cannot be removed",
            on(&[gone(four(Via::NextHop(1)))]),
            ESRCH,
        ),
        (
            "an IPv6 route neither",
            on(&[gone(six(Via::NextHop(1)))]),
            ESRCH,
        ),
        (
            "a route is removed by its key",
            on(&[
                one.clone(),
                add(four(Via::NextHop(1))),
                gone(four(Via::NextHop(2))),
            ]),
            DONE,
        ),
        (
            "and its type",
            on(&[
                one.clone(),
                add(four(Via::NextHop(1))),
                gone(four(Via::Unreachable)),
            ]),
            ESRCH,
        ),
        (
            "the other way as well",
            on(&[add(four(Via::Unreachable)), gone(four(Via::NextHop(1)))]),
            ESRCH,
        ),
        (
            "unless that is not known",
            on(&[add(four(Via::Unreachable)), gone(four(Via::Other))]),
            DONE,
        ),
        (
            "IPv6 does not look at the type",
            on(&[add(six(Via::Unreachable)), gone(six(Via::NextHop(1)))]),
            DONE,
        ),
        (
            "metric 0 is any",
            on(&[
                add(route_with("10.1.0.0/24", 7, 254, Via::Unreachable)),
                gone(four(Via::Unreachable)),
            ]),
            DONE,
        ),
        (
            "another is not",
            on(&[
                add(four(Via::Unreachable)),
                gone(route_with("10.1.0.0/24", 7, 254, Via::Unreachable)),
            ]),
            ESRCH,
        ),
        (
            "a route that another program made stays",
            on(&[theirs("10.1.0.0/24", 0), gone(four(inline(hop("a", None))))]),
            ESRCH,
        ),
        (
            "an IPv6 route that another program made stays",
            on(&[theirs("fd01::/64", 128), gone(six(inline(hop("a", None))))]),
            ESRCH,
        ),
        (
            "a removal needs no link",
            on(&[
                add(four(inline(hop("a", None)))),
                gone(four(inline(hop("x", None)))),
            ]),
            DONE,
        ),
        (
            "a next hop that is not there cannot be removed",
            on(&[gone(next_hop(1, hop("a", None)))]),
            ENOENT,
        ),
        (
            "a next hop is removed by its id",
            on(&[one.clone(), gone(next_hop(1, hop("x", None)))]),
            DONE,
        ),
        (
            "its routes go along",
            on(&[
                one.clone(),
                add(four(Via::NextHop(1))),
                gone(next_hop(1, hop("f", None))),
                gone(four(Via::NextHop(1))),
            ]),
            ESRCH,
        ),
        (
            "a route by a next hop is no route through its link",
            on(&[
                one.clone(),
                add(four(Via::NextHop(1))),
                NetlinkChange::RouteDel(route_of("10.1.0.0/24", "f")).into(),
            ]),
            ESRCH,
        ),
    ]
}
