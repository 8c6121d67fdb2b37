use super::support::*;
use cni_core::host::forwarding::*;

use cni_core::host::*;

pub(crate) fn probe() {
    node();
    let mut watch = Watch::open();
    for command in [
        "true",
        "ip link set vx mtu 1400",
        "ip link set vx address 02:00:00:00:00:07",
        "ip link set vx alias foo",
        "ip link set eth0 down",
        "ip link set eth0 up",
        "ip address add 192.0.2.9/24 dev eth0; ip address del 192.0.2.9/24 dev eth0",
        "ip address add 2001:db8::9/64 dev eth0 nodad",
        "ip nexthop add id 7 encap ip id 1 dst 192.0.2.2 dev flow protocol 167",
        "ip -6 nexthop add id 8 encap ip id 1 dst 192.0.2.3 dev flow protocol 167",
        "ip route add 10.244.7.0/24 nhid 8 protocol 167; ip route add fd00:244:7::/64 nhid 8 protocol 167",
        "ip -6 nexthop replace id 8 encap ip id 1 dst 192.0.2.4 dev flow protocol 167",
        "ip nexthop replace id 7 blackhole protocol 167",
        "ip nexthop del id 8",
        "ip route add 10.244.9.0/24 via 192.0.2.7; ip route replace 10.244.9.0/24 via 192.0.2.8; ip route del 10.244.9.0/24",
        "ip neigh add 10.244.7.0 lladdr 02:00:00:00:00:09 dev vx nud permanent",
        "ip neigh replace 10.244.7.0 lladdr 02:00:00:00:00:0a dev vx nud permanent",
        "ip neigh replace 10.244.7.0 lladdr 02:00:00:00:00:0a dev vx nud reachable",
        "ip neigh replace 10.244.7.0 lladdr 02:00:00:00:00:0a dev vx nud permanent",
        "ip neigh flush dev vx nud permanent",
        "bridge fdb append 02:00:00:00:00:09 dev vx dst 192.0.2.2",
        "bridge fdb replace 02:00:00:00:00:09 dev vx dst 192.0.2.3",
        "bridge fdb replace 02:00:00:00:00:09 dev vx dst 192.0.2.3",
        "bridge fdb replace 02:00:00:00:00:09 dev vx dst 192.0.2.3 vni 9",
        "bridge fdb del 02:00:00:00:00:09 dev vx; ",
        "ip rule add from 10.244.1.0/24 lookup 167 protocol 167",
        "ip rule del from 10.244.1.0/24 lookup 167 protocol 167",
        "nft add table inet x",
        "nft add set inet x s '{type ipv4_addr;}'; nft add element inet x s '{1.1.1.1}'",
        "nft flush ruleset",
        "ip link set vx name vy",
        "ip link set vy name vx",
        "ip link add name br0 type bridge; ip link set far master br0; ip link set br0 up; ip link set far nomaster",
        "bridge fdb append 02:00:00:00:00:09 dev vx dst 192.0.2.2; ip neigh add 10.244.7.0 lladdr 02:00:00:00:00:09 dev vx nud permanent; ip route add 10.244.7.0/24 via 10.244.7.0 dev vx onlink; ip route add fd00:244:7::/64 dev vx; ip nexthop add id 9 via 10.244.7.0 dev vx onlink; ip route add 10.244.8.0/24 nhid 9",
        "ip link set vx down",
        "ip link set vx mtu 1399",
        "ip link set vx address 02:00:00:00:00:0a",
        "ip link set vx alias bar",
        "ip link set vx type vxlan local 192.0.2.3",
        "ip link set vx up",
        "ip link del vx",
    ] {
        let events = watch.after(command);
        println!("## {command}");
        for event in events {
            println!("      {event:?}");
        }
    }
}

pub(crate) fn probe_own() {
    node();
    let mut watch = Watch::open();
    let host = Host::open().unwrap();
    let hop = Hop {
        link: "flow".into(),
        gateway: None,
        onlink: false,
        encap: Some(Encap {
            source: None,
            id: 1,
            remote: "192.0.2.2".parse().unwrap(),
            checksum: false,
        }),
    };
    let nh = Entry::NextHop(NextHop {
        id: 8,
        protocol: OURS,
        hop,
    });
    let nb = Entry::Neighbour(Neighbour {
        link: "vx".into(),
        address: "10.244.7.0".parse().unwrap(),
        mac: "02:00:00:00:00:09".parse().unwrap(),
    });
    let fdb = Entry::Fdb(FdbEntry {
        link: "vx".into(),
        mac: "02:00:00:00:00:09".parse().unwrap(),
        remote: "192.0.2.2".parse().unwrap(),
    });
    let r4 = Entry::Route(Route {
        destination: "10.244.7.0/24".parse().unwrap(),
        table: 254,
        metric: 0,
        protocol: OURS,
        via: Via::NextHop(8),
    });
    let r6 = Entry::Route(Route {
        destination: "fd00:244:7::/64".parse().unwrap(),
        table: 254,
        metric: 128,
        protocol: OURS,
        via: Via::NextHop(8),
    });
    let rule = Entry::Rule(PolicyRule {
        priority: 100,
        source: "10.244.1.0/24".parse().unwrap(),
        table: 167,
        protocol: OURS,
    });
    let mut changes = vec![];
    for e in [&nh, &nb, &fdb, &r4, &r6, &rule] {
        changes.push(Change::Add(e.clone()));
    }
    for e in [&nh, &nb, &fdb, &r4, &r6] {
        changes.push(Change::Replace(e.clone()));
    }
    for e in [&rule, &r6, &r4, &fdb, &nb, &nh] {
        changes.push(Change::Del(e.clone()));
    }
    for change in changes {
        let failed = now(host.forwarding.write(std::slice::from_ref(&change)));
        println!("## {change} {failed:?}");
        for event in watch.taken() {
            println!("      {event:?}");
        }
    }
}
