//! What is refused, and what a replacement and a removal take.

use crate::support::*;
use cni_core::host::forwarding::*;
use cni_core::host::netlink::errno;

pub(crate) fn refusals_bear_errno_command_and_the_kernels_sentence() {
    let host = node();
    let one = |change: Change| {
        let failed = now(host.write(std::slice::from_ref(&change)));
        let [failed] = failed.as_slice() else {
            panic!("{change}: {failed:?}")
        };
        failed.error.clone()
    };
    let error = one(Change::Add(route("10.244.2.0/24", 0, Via::NextHop(7))));
    assert_eq!(
        error.to_string(),
        "`ip route add 10.244.2.0/24 nhid 7 proto 167` failed: Nexthop id does not exist (Invalid argument (os error 22))"
    );
    let far = hop("eth0", Some("198.51.100.1"));
    let error = one(Change::Add(next_hop(1, far.clone())));
    assert_eq!(error.errno, errno::ENETUNREACH);
    assert_eq!(
        error.message.as_deref(),
        Some("Nexthop has invalid gateway")
    );
    let error = one(Change::Add(route(
        "10.244.2.0/24",
        0,
        Via::Hop(Box::new(far)),
    )));
    assert_eq!(error.errno, errno::ENETUNREACH);
    let lone = Change::Add(next_hop(1, hop("nope", None)));
    let error = one(lone);
    assert_eq!(error.errno, errno::ENODEV);
    assert_eq!(
        error.to_string(),
        "`ip -6 nexthop add id 1 dev nope proto 167` failed: no link nope (No such device (os error 19))"
    );
    shell("ip link set vx down");
    let error = one(Change::Add(next_hop(1, hop("vx", None))));
    assert_eq!(error.errno, errno::ENETDOWN);
    let six = Via::Hop(Box::new(hop("eth0", Some("192.0.2.2"))));
    let error = one(Change::Add(route("fd00::/64", 128, six)));
    assert_eq!(error.errno, errno::EINVAL);
    for meant_otherwise in [
        Change::Add(next_hop(0, hop("eth0", None))),
        Change::Add(in_table(0, route("10.0.0.0/8", 0, Via::Unreachable))),
        Change::Add(route("10.0.0.0/8", 0, Via::Other)),
        Change::Add(rule(1, "10.0.0.0/8", 0)),
    ] {
        let error = one(meant_otherwise);
        assert_eq!(error.errno, errno::EINVAL);
        assert!(error.message.is_some(), "{error}");
    }
    for impossible in [
        route("fd00::/64", 128, Via::Unreachable),
        next_hop(1, hop("eth0", None)),
        rule(1, "10.0.0.0/8", 9),
        neighbour("10.244.2.0", "02:00:00:00:00:02"),
        fdb("02:00:00:00:00:02", "192.0.2.2"),
    ] {
        let error = one(Change::Prepend(impossible));
        assert_eq!(error.errno, errno::EOPNOTSUPP, "{error}");
    }
}

pub(crate) fn a_removal_takes_only_what_is_ours() {
    let host = node();
    for (destination, gateway, metric) in [
        ("10.244.2.0/24", "192.0.2.9", 0),
        ("fd00:244:2::/64", "2001:db8::9", 128),
    ] {
        shell(&format!(
            "ip route add {destination} via {gateway} metric {metric} proto static"
        ));
        let ours = route(destination, metric, Via::Unreachable);
        assert_eq!(failures(&host, &[Change::Del(ours)]), [(0, errno::ESRCH)]);
        let same_type = route(destination, metric, Via::NextHop(1));
        assert_eq!(
            failures(&host, &[Change::Del(same_type)]),
            [(0, errno::ESRCH)]
        );
        let there = shell(&format!(
            "ip route get {}",
            destination.split('/').next().unwrap()
        ));
        assert!(there.contains("via"), "{there}");
    }
    shell("ip rule add priority 100 from 10.244.1.0/24 lookup 9 proto static");
    let ours = rule(100, "10.244.1.0/24", 9);
    assert_eq!(
        failures(&host, &[Change::Del(ours.clone())]),
        [(0, errno::ENOENT)]
    );
    // Of an own prefix the unreachable route stays when one with metric 0 is asked for that is not there.
    let own = route("10.244.1.0/24", 4096, Via::Unreachable);
    write(&host, &[Change::Add(own.clone())]);
    let other = route("10.244.1.0/24", 0, Via::NextHop(1));
    assert_eq!(failures(&host, &[Change::Del(other)]), [(0, errno::ESRCH)]);
    assert_eq!(self::ours(&host, Kind::Route), [own]);
}

pub(crate) fn a_replacement_needs_no_entry_and_moves_one() {
    let host = node();
    let states = [
        [
            next_hop(1, tunnelled(1, "192.0.2.2")),
            next_hop(2, hop("eth0", Some("192.0.2.2"))),
            route("10.244.2.0/24", 0, Via::NextHop(1)),
            route("fd00:244:2::/64", 128, Via::NextHop(1)),
            neighbour("10.244.2.0", "02:00:00:00:00:02"),
            fdb("02:00:00:00:00:02", "192.0.2.2"),
        ],
        [
            next_hop(1, tunnelled(2, "2001:db8::2")),
            next_hop(2, hop("eth0", Some("192.0.2.3"))),
            route("10.244.2.0/24", 0, Via::NextHop(2)),
            route("fd00:244:2::/64", 128, Via::Unreachable),
            neighbour("10.244.2.0", "02:00:00:00:00:03"),
            fdb("02:00:00:00:00:02", "192.0.2.3"),
        ],
    ];
    for _ in 0..2 {
        for state in &states {
            write(&host, &state.clone().map(Change::Replace));
            let kinds = [Kind::NextHop, Kind::Route, Kind::Neighbour, Kind::Fdb];
            let found: Vec<_> = kinds
                .into_iter()
                .flat_map(|kind| ours(&host, kind))
                .collect();
            assert_eq!(found, state);
        }
    }
}

pub(crate) fn ours_stands_before_another_programs_route() {
    let host = node();
    shell("ip route add 10.244.2.0/24 via 192.0.2.9 proto static");
    let ours = route("10.244.2.0/24", 0, Via::NextHop(1));
    write(
        &host,
        &[
            Change::Add(next_hop(1, hop("eth0", Some("192.0.2.2")))),
            Change::Prepend(ours.clone()),
        ],
    );
    let way = || shell("ip route get 10.244.2.7");
    assert!(way().contains("via 192.0.2.2"), "{}", way());
    // The very same is there.
    let again = Change::Prepend(ours.clone());
    assert_eq!(
        failures(&host, std::slice::from_ref(&again)),
        [(0, errno::EEXIST)]
    );
    write(&host, &[Change::Del(ours.clone())]);
    assert!(way().contains("via 192.0.2.9"), "{}", way());
    shell(&again.to_string());
    assert!(way().contains("via 192.0.2.2"), "{}", way());
    assert_eq!(self::ours(&host, Kind::Route), [ours]);
}

pub(crate) fn a_link_that_was_replaced_is_found_again() {
    let host = node();
    let add = |number: u8| neighbour(&format!("10.244.{number}.0"), "02:00:00:00:00:02");
    write(&host, &[Change::Add(add(2))]);
    shell(
        "ip link del vx
        ip link add vx type vxlan id 1 dstport 8472 local 192.0.2.1 dev eth0 nolearning
        ip link set vx up",
    );
    write(&host, &[Change::Add(add(3))]);
    assert_eq!(ours(&host, Kind::Neighbour), [add(3)]);
}
