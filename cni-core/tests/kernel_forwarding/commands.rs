//! Every kind of entry, made by us and by `ip`: the same, and read back as it was meant.

use crate::support::*;
use cni_core::host::forwarding::*;

/// What is there before, and one entry of every shape, each possible after the ones before it.
fn samples() -> Vec<Entry> {
    let onlink = |hop: Hop| Hop {
        onlink: true,
        ..hop
    };
    let inline = |hop: Hop| Via::Hop(Box::new(hop));
    vec![
        next_hop(1, hop("eth0", Some("192.0.2.2"))),
        next_hop(2, hop("eth0", Some("2001:db8::2"))),
        next_hop(3, onlink(hop("vx", Some("10.244.2.0")))),
        next_hop(4, onlink(hop("vx", Some("fd00:244:9::")))),
        next_hop(5, tunnelled(1, "192.0.2.2")),
        next_hop(6, tunnelled(0xff_ffff, "2001:db8::2")),
        next_hop(7, from("192.0.2.1", tunnelled(1, "192.0.2.2"))),
        next_hop(8, from("2001:db8::1", tunnelled(1, "2001:db8::2"))),
        next_hop(u32::MAX, hop("eth0", None)),
        route("10.244.2.0/24", 0, Via::NextHop(5)),
        route("fd00:244:2::/64", 128, Via::NextHop(5)),
        route("10.244.3.0/24", 0, Via::NextHop(2)),
        in_table(u32::from(OURS), route("192.0.2.2/32", 0, Via::NextHop(6))),
        in_table(1000, route("2001:db8::2/128", 128, Via::NextHop(6))),
        route("0.0.0.0/0", 9000, Via::NextHop(1)),
        route("::/0", 9000, Via::NextHop(2)),
        route("10.244.4.0/24", 4, inline(hop("eth0", Some("192.0.2.2")))),
        route("10.244.4.0/24", 5, inline(hop("eth0", Some("2001:db8::2")))),
        route(
            "10.244.4.0/24",
            6,
            inline(onlink(hop("vx", Some("10.244.2.0")))),
        ),
        route("10.244.4.0/24", 7, inline(tunnelled(1, "192.0.2.2"))),
        route("10.244.4.0/24", 8, inline(tunnelled(1, "2001:db8::2"))),
        route("10.244.4.0/24", 9, inline(hop("flow", None))),
        route(
            "10.244.4.0/24",
            10,
            inline(from("192.0.2.1", tunnelled(1, "192.0.2.2"))),
        ),
        route(
            "fd00:244:4::/64",
            4,
            inline(hop("eth0", Some("2001:db8::2"))),
        ),
        route(
            "fd00:244:4::/64",
            6,
            inline(onlink(hop("vx", Some("fd00:244:9::")))),
        ),
        route("fd00:244:4::/64", 7, inline(tunnelled(1, "192.0.2.2"))),
        route("fd00:244:4::/64", 8, inline(tunnelled(1, "2001:db8::2"))),
        route("fd00:244:4::/64", 9, inline(hop("flow", None))),
        route(
            "fd00:244:4::/64",
            10,
            inline(from("2001:db8::1", tunnelled(1, "2001:db8::2"))),
        ),
        route("10.244.1.0/24", 4096, Via::Unreachable),
        route("fd00:244:1::/64", 4096, Via::Unreachable),
        neighbour("10.244.2.0", "02:00:00:00:00:02"),
        neighbour("fd00:244:2::", "02:00:00:00:00:02"),
        fdb("02:00:00:00:00:02", "192.0.2.2"),
        rule(100, "10.244.1.0/24", 167),
        rule(100, "fd00:244:1::/64", 1000),
        rule(101, "0.0.0.0/0", 1000),
    ]
}

/// All that is ours, sorted.
fn everything(host: &KernelForwarding) -> Vec<Entry> {
    let kinds = [
        Kind::NextHop,
        Kind::Route,
        Kind::Neighbour,
        Kind::Fdb,
        Kind::Rule,
    ];
    kinds
        .into_iter()
        .flat_map(|kind| ours(host, kind))
        .collect()
}

/// What `ip` and `bridge` say of it.
fn shown() -> String {
    shell(
        "ip -d nexthop show proto 167
        ip -d route show table all proto 167
        ip -d -6 route show table all proto 167
        ip -d neigh show dev vx
        bridge -d fdb show dev vx
        ip -d rule show protocol 167
        ip -d -6 rule show protocol 167",
    )
}

pub(crate) fn the_printed_command_makes_the_same_entry() {
    let host = node();
    let before = shown();
    let mut made = Vec::new();
    for entry in samples() {
        write(&host, &[Change::Add(entry.clone())]);
        made.push(entry.clone());
        let as_ours = shown();
        assert_all(&host, &made);

        let remove = Change::Del(entry.clone());
        write(&host, std::slice::from_ref(&remove));
        for change in [Change::Add(entry.clone()), Change::Replace(entry.clone())] {
            shell(&change.to_string());
            assert_eq!(shown(), as_ours, "{change}");
            assert_all(&host, &made);
            shell(&remove.to_string());
            made.pop();
            assert_all(&host, &made);
            made.push(entry.clone());
        }
        write(&host, &[Change::Replace(entry.clone())]);
        assert_eq!(shown(), as_ours, "replace {entry:?}");
        // A second time is none but for what is exclusive.
        write(&host, &[Change::Replace(entry.clone())]);
        assert_eq!(shown(), as_ours, "replace {entry:?} by itself");
        let add = Change::Add(entry.clone());
        assert_eq!(failures(&host, &[add]), [(0, 17)], "{entry:?}");
    }
    made.reverse();
    let removals: Vec<_> = made.into_iter().map(Change::Del).collect();
    write(&host, &removals);
    assert_eq!(everything(&host), []);
    assert_eq!(shown(), before);
    for (index, removal) in removals.iter().enumerate() {
        let failed = failures(&host, std::slice::from_ref(removal));
        assert!(
            matches!(failed.as_slice(), [(0, 2 | 3)]),
            "{removal} ({index}): {failed:?}"
        );
    }
}

fn assert_all(host: &KernelForwarding, made: &[Entry]) {
    let found = everything(host);
    for entry in made {
        assert!(found.contains(entry), "{entry:?} in {found:#?}");
    }
    assert_eq!(found.len(), made.len(), "{made:#?} in {found:#?}");
}

pub(crate) fn entries_of_other_programs_are_left_out_or_told_apart() {
    let host = node();
    shell(
        "ip nexthop add id 1 via 192.0.2.2 dev eth0 proto 167
        ip nexthop add id 2 via 192.0.2.3 dev eth0 proto 167
        ip nexthop add id 3 group 1/2 proto 167
        ip nexthop add id 4 blackhole proto 167
        ip -6 nexthop add id 5 encap ip id 1 dst 192.0.2.2 ttl 9 dev flow proto 167
        ip route add 10.0.1.0/24 nhid 3 proto 167
        ip route add 10.0.2.0/24 proto 167 nexthop via 192.0.2.2 nexthop via 192.0.2.3
        ip route add blackhole 10.0.3.0/24 proto 167
        ip route add 10.0.4.0/24 via 192.0.2.2 mtu 1400 proto 167
        ip route add 10.0.8.0/24 via 192.0.2.2 src 192.0.2.1 proto 167
        ip route add 10.0.9.0/24 nhid 1 src 192.0.2.1 proto 167
        ip route add 10.0.5.0/24 encap ip id 1 dst 192.0.2.2 key dev flow proto 167
        ip route add 10.0.6.0/24 tos 0x10 via 192.0.2.2 proto 167
        ip route add local 10.0.7.0/24 dev lo table 255 proto 167
        ip -6 route add fd00::/64 proto 167 nexthop via 2001:db8::2 nexthop via 2001:db8::3
        ip neigh add 10.244.9.0 lladdr 02:00:00:00:00:09 dev vx nud reachable
        ip neigh add proxy 10.244.9.1 dev vx
        bridge fdb add 02:00:00:00:00:09 dev vx dst 192.0.2.9 self dynamic
        bridge fdb add 02:00:00:00:00:0a dev vx dst 192.0.2.9 port 9 self permanent
        ip rule add from 10.0.0.0/8 fwmark 1 lookup 9 proto 167
        ip rule add not from 10.0.0.0/8 lookup 9 proto 167
        ip rule add from 10.0.0.0/8 to 10.0.0.0/8 lookup 9 proto 167
        ip rule add from 10.0.0.0/8 suppress_prefixlength 0 lookup 9 proto 167
        ip rule add from 10.0.0.0/8 blackhole proto 167",
    );
    let to = |gateway| next_hop(0, hop("eth0", Some(gateway)));
    let numbered = |id, entry| match entry {
        Entry::NextHop(next_hop) => Entry::NextHop(NextHop { id, ..next_hop }),
        other => other,
    };
    let plain = [numbered(1, to("192.0.2.2")), numbered(2, to("192.0.2.3"))];
    assert_eq!(ours(&host, Kind::NextHop), plain);
    let mut routes = ours(&host, Kind::Route);
    routes.sort_by_key(Entry::key);
    let expected = [
        ("10.0.1.0/24", 0, Via::NextHop(3)),
        ("10.0.2.0/24", 0, Via::Other),
        ("10.0.3.0/24", 0, Via::Other),
        ("10.0.4.0/24", 0, Via::Other),
        ("10.0.5.0/24", 0, Via::Other),
        ("10.0.8.0/24", 0, Via::Other),
        ("10.0.9.0/24", 0, Via::Other),
        ("fd00::/64", 1024, Via::Other),
    ]
    .map(|(destination, metric, via)| route(destination, metric, via));
    assert_eq!(routes, expected);
    // What can be read can be removed.
    write(
        &host,
        &routes.into_iter().map(Change::Del).collect::<Vec<_>>(),
    );
    assert_eq!(ours(&host, Kind::Route), []);
    for kind in [Kind::Neighbour, Kind::Fdb, Kind::Rule] {
        assert_eq!(ours(&host, kind), [], "{kind:?}");
    }
}

pub(crate) fn reads_keep_to_their_scope() {
    let host = node();
    shell(
        "ip link add vy type vxlan id 2 dstport 8473 nolearning
        ip link set vy up
        ip neigh add 10.244.2.0 lladdr 02:00:00:00:00:02 dev vx nud permanent
        ip neigh add 10.244.2.0 lladdr 02:00:00:00:00:02 dev vy nud permanent
        bridge fdb add 02:00:00:00:00:02 dev vx dst 192.0.2.2 self permanent
        bridge fdb add 02:00:00:00:00:02 dev vy dst 192.0.2.2 self permanent
        ip nexthop add id 1 via 192.0.2.2 dev eth0 proto 168
        ip route add 10.0.1.0/24 nhid 1 proto 168
        ip rule add from 10.0.0.0/8 lookup 9 proto 168",
    );
    let of = |kind, protocol, link| {
        read(
            &host,
            Scope {
                kind,
                protocol,
                link,
            },
        )
    };
    for kind in [Kind::Neighbour, Kind::Fdb] {
        assert_eq!(of(kind, None, Some("vx")).len(), 1);
        assert_eq!(of(kind, None, Some("vy")).len(), 1);
        assert_eq!(of(kind, None, None).len(), 2);
        for name in ["nope", "", "longer than any link", "v\0"] {
            assert_eq!(of(kind, None, Some(name)), []);
        }
    }
    for kind in [Kind::NextHop, Kind::Route, Kind::Rule] {
        assert_eq!(of(kind, Some(OURS), None), []);
        assert_eq!(of(kind, Some(168), None).len(), 1);
    }
    let all = of(Kind::Route, None, None);
    for destination in ["192.0.2.0/24", "2001:db8::/64"] {
        let connected = all.iter().find_map(|entry| match entry {
            Entry::Route(route) if route.destination == destination.parse().unwrap() => Some(route),
            _ => None,
        });
        let via = &connected.expect(destination).via;
        assert_eq!(*via, Via::Hop(Box::new(hop("eth0", None))), "{destination}");
    }
    // local, main, default; those of IPv6 among them.
    assert_eq!(of(Kind::Rule, None, None).len(), 1 + 3 + 2);
}
