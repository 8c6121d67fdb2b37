//! Which kernel events make a pass due.

use ipnetwork::IpNetwork;

use crate::fabric::{Engine, Removal, tables};
use crate::host::firewall::{Family, Table};
use crate::host::forwarding::{
    Entry, FdbEntry, Hop, Key, Neighbour, NextHop, PolicyRule, Route, Via,
};
use crate::host::monitor::KernelEvent;
use crate::spec::NetworkName;

use super::engine::{engine, node, peers, view};
use super::facts::vxlan;
use super::tiny::{DEVICE, FLOW, PROTOCOL};

async fn settled() -> Engine {
    let (_, host) = node().await;
    let mut engine = engine(&host, FLOW);
    engine.full(&view(&peers(3)), Removal::Allowed).await;
    engine
}

fn link(index: u32, name: &str) -> KernelEvent {
    KernelEvent::Link {
        index,
        name: name.to_owned(),
        removed: false,
    }
}

fn address(index: u32, name: &str) -> KernelEvent {
    let name = name.to_owned();
    KernelEvent::Address { index, name }
}

fn firewall(table: Table) -> KernelEvent {
    KernelEvent::Firewall { table }
}

fn entry(entry: Entry) -> KernelEvent {
    KernelEvent::Entry {
        entry,
        removed: true,
    }
}

fn hop(link: &str) -> Hop {
    Hop {
        link: link.into(),
        gateway: None,
        onlink: false,
        encap: None,
    }
}

fn route(destination: &str, table: u32, protocol: u8, via: Via) -> KernelEvent {
    entry(Entry::Route(Route {
        destination: destination.parse().unwrap(),
        table,
        metric: 0,
        protocol,
        via,
    }))
}

fn neighbour(link: &str) -> Neighbour {
    Neighbour {
        link: link.into(),
        address: "10.244.1.0".parse().unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
    }
}

fn fdb(link: &str) -> FdbEntry {
    FdbEntry {
        link: link.into(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        remote: "192.0.2.1".parse().unwrap(),
    }
}

fn next_hop(id: u32, protocol: u8) -> KernelEvent {
    let hop = hop("eth0");
    entry(Entry::NextHop(NextHop { id, protocol, hop }))
}

fn rule(protocol: u8) -> KernelEvent {
    let source: IpNetwork = "10.244.100.0/24".parse().unwrap();
    entry(Entry::Rule(PolicyRule {
        priority: 1,
        source,
        table: 5,
        protocol,
    }))
}

#[tokio::test]
async fn an_engine_that_knows_nothing_is_concerned_by_everything() {
    let (_, host) = node().await;
    assert!(engine(&host, FLOW).concerns(&link(99, "cali0")));
}

#[tokio::test]
async fn devices_that_hear_everybody_are_of_concern_and_where_their_filters_would_be() {
    let (_, host) = node().await;
    let other: NetworkName = "others".parse().unwrap();
    for (name, vni, alias) in [
        ("flannel.7", 7, None),
        ("vxlan.8", 8, Some(other.shared_alias())),
    ] {
        vxlan(&host, name, vni, alias).await;
    }
    let mut engine = engine(&host, FLOW);
    engine.full(&view(&peers(3)), Removal::Allowed).await;
    for event in [
        link(99, "flannel.7"),
        link(99, "vxlan.8"),
        firewall(tables::table(&other)),
    ] {
        assert!(engine.concerns(&event), "{event:?}");
    }
    assert!(!engine.concerns(&firewall(tables::table(&"third".parse().unwrap()))));
}

#[tokio::test]
async fn what_is_ours_or_stands_in_its_way_is_of_concern() {
    let engine = settled().await;
    let other = || Via::Hop(Box::new(hop("far")));
    let owned = u32::from(PROTOCOL);
    for event in [
        KernelEvent::Overrun,
        link(99, DEVICE),
        link(99, "eth0"),
        address(99, DEVICE),
        address(99, "eth0"),
        firewall(tables::table(&"pods".parse().unwrap())),
        entry(Entry::Neighbour(neighbour(DEVICE))),
        entry(Entry::Fdb(fdb(DEVICE))),
        next_hop(7, PROTOCOL),
        rule(PROTOCOL),
        route("198.51.100.0/30", 254, PROTOCOL, other()),
        // Another program's, in the table of our own, and where pods' prefixes are.
        route("198.51.100.1/32", owned, 4, other()),
        route("10.244.2.0/24", 254, 4, other()),
        // It may say that a peer is in the same segment.
        route("198.51.100.0/30", 254, 4, Via::Hop(Box::new(hop("eth0")))),
        KernelEvent::Gone {
            key: Key::Neighbour(DEVICE.into(), "10.244.1.0".parse().unwrap()),
        },
    ] {
        assert!(engine.concerns(&event), "{event:?}");
    }
}

#[tokio::test]
async fn what_pods_services_and_other_programs_do_is_not() {
    let engine = settled().await;
    let table = |family, name: &str| Table {
        family,
        name: name.to_owned(),
    };
    let ours = tables::table(&"pods".parse().unwrap());
    let mut gateway = hop("eth0");
    gateway.gateway = Some("192.0.2.1".parse().unwrap());
    for event in [
        link(99, "cni1234"),
        address(99, "cni1234"),
        // kube-proxy's, at every change of a service.
        firewall(table(Family::Ip, "kube-proxy")),
        firewall(table(Family::Ip6, "kube-proxy")),
        firewall(table(Family::Ip, &ours.name)),
        entry(Entry::Neighbour(neighbour("flannel.1"))),
        entry(Entry::Fdb(fdb("flannel.1"))),
        next_hop(7, 4),
        rule(4),
        route("198.51.100.0/30", 254, 4, Via::Hop(Box::new(gateway))),
        route("0.0.0.0/0", 254, 4, Via::Hop(Box::new(hop("eth0")))),
        KernelEvent::Gone {
            key: Key::NextHop(7),
        },
        KernelEvent::Gone {
            key: Key::Fdb("flannel.1".into(), "02:00:00:00:00:01".parse().unwrap()),
        },
    ] {
        assert!(!engine.concerns(&event), "{event:?}");
    }
}
