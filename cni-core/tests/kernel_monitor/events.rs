//! Each kind of event, after a change that another program made.

use cni_core::host::forwarding::*;

use super::support::*;

pub(crate) fn a_link_that_comes_changes_and_goes_is_told() {
    node();
    let mut watch = Watch::open();
    for change in [
        "ip link add name br0 type bridge",
        "ip link set br0 up",
        "ip link set br0 mtu 1400",
        "ip link set br0 address 02:00:00:00:00:01",
        "ip link set br0 alias something",
        "ip link set br0 group 7",
        "ip link set br0 down",
    ] {
        let events = watch.after(change);
        assert!(
            events.iter().any(link("br0", false)),
            "{change}: {events:?}"
        );
    }
    let events = watch.after("ip link del br0");
    assert!(events.iter().any(link("br0", true)), "{events:?}");
    let events = watch.after("ip link set vx type vxlan local 192.0.2.9");
    assert!(events.iter().any(link("vx", false)), "{events:?}");
}

pub(crate) fn a_renamed_link_is_told_under_both_names() {
    node();
    let mut watch = Watch::open();
    let events = watch.after("ip link set eth0 name wan0");
    let told = [link("eth0", true), link("wan0", false)];
    let at = told.map(|told| events.iter().position(told));
    assert!(at[0].is_some() && at[0] < at[1], "{events:?}");
    // Under its new name from then on.
    shell("ip address add 192.0.2.9/24 dev wan0");
    let events = watch.all_taken();
    assert!(events.iter().any(address("wan0")), "{events:?}");
    let foreign = route(
        "10.9.0.0/24",
        0,
        Via::Hop(hop("wan0", Some("192.0.2.7")).into()),
    );
    let events = watch.after("ip route add 10.9.0.0/24 via 192.0.2.7 proto 167");
    assert_eq!(events, [made(foreign)]);
}

pub(crate) fn a_port_that_leaves_its_bridge_has_not_been_removed() {
    node();
    shell("ip link add name br0 up type bridge && ip link set far master br0");
    let mut watch = Watch::open();
    let events = watch.after("ip link set far nomaster");
    assert!(events.iter().any(link("far", false)), "{events:?}");
    assert!(!events.iter().any(link("far", true)), "{events:?}");
}

pub(crate) fn addresses_of_both_families_are_told_with_their_link() {
    node();
    let mut watch = Watch::open();
    for change in [
        "ip address add 192.0.2.9/24 dev eth0",
        "ip address del 192.0.2.9/24 dev eth0",
        "ip address add 2001:db8::9/64 dev eth0 nodad",
        "ip address del 2001:db8::9/64 dev eth0",
        "ip address flush dev eth0",
    ] {
        shell(change);
        let events = watch.all_taken();
        assert!(events.iter().any(address("eth0")), "{change}: {events:?}");
    }
}

pub(crate) fn routes_are_told_with_what_has_become_of_them() {
    node();
    let mut watch = Watch::open();
    for (family, destination, gateways, metric) in [
        ("-4", "10.9.0.0/24", ["192.0.2.7", "192.0.2.8"], 0),
        ("-6", "fd00:9::/64", ["2001:db8::7", "2001:db8::8"], 1024),
    ] {
        let of = |gateway| {
            let via = Via::Hop(hop("eth0", Some(gateway)).into());
            route(destination, metric, via)
        };
        let ip = |verb: &str, gateway: &str| {
            format!("ip {family} route {verb} {destination} via {gateway} proto 167")
        };
        let [first, second] = gateways;
        let events = watch.after(&ip("add", first));
        assert_eq!(events, [made(of(first))]);
        let events = watch.after(&ip("replace", second));
        assert_eq!(events, [made(of(second))]);
        let events = watch.after(&ip("del", second));
        assert_eq!(events, [removed(of(second))]);
    }
    let events = watch.after("ip route add blackhole 10.9.0.0/24 proto 167");
    assert_eq!(events, [made(route("10.9.0.0/24", 0, Via::Other))]);
}

pub(crate) fn next_hops_are_told_and_what_takes_their_place() {
    node();
    let mut watch = Watch::open();
    let ip = |verb: &str, remote: &str| {
        format!("ip -6 nexthop {verb} id 8 encap ip id 1 dst {remote} dev flow protocol 167")
    };
    let of = |remote| next_hop(8, tunnelled(remote));
    assert_eq!(
        watch.after(&ip("add", "192.0.2.2")),
        [made(of("192.0.2.2"))]
    );
    assert_eq!(
        watch.after(&ip("replace", "192.0.2.3")),
        [made(of("192.0.2.3"))]
    );
    assert_eq!(
        watch.after("ip nexthop del id 8"),
        [removed(of("192.0.2.3"))]
    );
    shell(&ip("add", "192.0.2.2"));
    watch.taken();
    assert_eq!(
        watch.after("ip -6 nexthop replace id 8 blackhole protocol 167"),
        [gone(Key::NextHop(8))]
    );
}

pub(crate) fn neighbours_are_told_as_long_as_they_are_permanent() {
    node();
    let mut watch = Watch::open();
    let ip = |mac: &str, state: &str| {
        format!("ip neigh replace 10.244.7.0 lladdr {mac} dev vx nud {state}")
    };
    let (first, second) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
    let key = Key::Neighbour("vx".into(), "10.244.7.0".parse().unwrap());
    let gone = || gone(key.clone());
    let of = |mac| made(neighbour("10.244.7.0", mac));
    assert_eq!(watch.after(&ip(first, "permanent")), [of(first)]);
    assert_eq!(watch.after(&ip(second, "permanent")), [of(second)]);
    assert_eq!(watch.after(&ip(second, "reachable")), [gone()]);
    assert_eq!(watch.after(&ip(first, "permanent")), [of(first)]);
    assert_eq!(watch.after("ip neigh del 10.244.7.0 dev vx"), [gone()]);
    shell(&ip(first, "permanent"));
    watch.taken();
    assert_eq!(watch.after("ip neigh flush dev vx nud permanent"), [gone()]);
    let v6 = "ip neigh add fd00:244:7:: lladdr 02:00:00:00:00:01 dev vx nud permanent";
    assert_eq!(watch.after(v6), [made(neighbour("fd00:244:7::", first))]);
}

pub(crate) fn forwarding_entries_are_told_and_what_takes_their_place() {
    node();
    let mut watch = Watch::open();
    let mac = "02:00:00:00:00:01";
    let bridge = |verb: &str, rest: &str| format!("bridge fdb {verb} {mac} dev vx dst {rest}");
    let of = |remote| fdb(mac, remote);
    let gone = gone(Key::Fdb("vx".into(), mac.parse().unwrap()));
    assert_eq!(
        watch.after(&bridge("append", "192.0.2.2")),
        [made(of("192.0.2.2"))]
    );
    assert_eq!(
        watch.after(&bridge("replace", "192.0.2.3")),
        [made(of("192.0.2.3"))]
    );
    assert_eq!(
        watch.after(&format!("bridge fdb del {mac} dev vx")),
        [removed(of("192.0.2.3"))]
    );
    shell(&bridge("append", "192.0.2.2"));
    watch.taken();
    assert_eq!(watch.after(&bridge("replace", "192.0.2.2 vni 9")), [gone]);
}

pub(crate) fn rules_are_told() {
    node();
    let mut watch = Watch::open();
    for (family, source) in [("-4", "10.244.1.0/24"), ("-6", "fd00:244:1::/64")] {
        let of = rule(100, source, 167);
        let ip = |verb: &str| {
            format!("ip {family} rule {verb} priority 100 from {source} lookup 167 protocol 167")
        };
        assert_eq!(watch.after(&ip("add")), [made(of.clone())]);
        assert_eq!(watch.after(&ip("del")), [removed(of)]);
    }
}

pub(crate) fn each_transaction_of_nftables_is_told() {
    node();
    cni_testkit::require(
        std::process::Command::new("nft").arg("-v").output().ok(),
        "nftables",
    );
    let mut watch = Watch::open();
    for change in [
        "nft add table inet other",
        "nft 'add set inet other addresses { type ipv4_addr; }'",
        "nft 'add element inet other addresses { 192.0.2.1 }'",
        "nft 'delete element inet other addresses { 192.0.2.1 }'",
        "nft flush ruleset",
    ] {
        assert_eq!(watch.after(change), [firewall("other")], "{change}");
    }
}

pub(crate) fn what_the_traffic_makes_is_not_told() {
    node();
    let mut watch = Watch::open();
    for change in [
        "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:01 dev eth0 nud reachable",
        "ip neigh del 192.0.2.7 dev eth0",
        "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
        "bridge fdb add 33:33:00:00:00:07 dev eth0 self",
        "ip neigh add proxy 10.244.7.0 dev vx",
    ] {
        assert_eq!(watch.after(change), [], "{change}");
    }
}
