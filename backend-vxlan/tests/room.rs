//! Only peers that are routed to directly need room in the kernel's table of neighbours.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use backend_vxlan::Vxlan;
use cni_core::cluster::{Identity, Node, NodeUid, PeerEvent, View};
use cni_core::fabric::{Engine, Removal};
use cni_core::host::netlink::{Address, NetlinkChange, NetlinkExt, NewLink, NewLinkKind};
use cni_core::node::Scheme;
use cni_core::spec::config::NetworkConfig;
use cni_core::testing::FakeKernel;

/// The limits of both families on a node with 600 peers in its segment, which is one of IPv4, and pods of so many families.
async fn limits(more: &str, families: usize) -> [String; 2] {
    let host = FakeKernel::new().host();
    let mut uplink = NewLink::new("eth0", NewLinkKind::Dummy);
    uplink.up = true;
    let address = Address::new("eth0", "172.16.0.0/16".parse().unwrap());
    for change in [
        NetlinkChange::LinkAdd(uplink),
        NetlinkChange::AddressAdd(address),
    ] {
        host.netlink.apply_one(change).await.unwrap();
    }
    let config = format!(
        r#"{{"cniVersion":"1.1.0","name":"net","type":"vxlan","cluster":{{"file":"/f"}}{more}}}"#
    );
    let config = NetworkConfig::parse(config.as_bytes()).unwrap();
    let mut view = View::new(Identity {
        name: Some("n0".to_owned()),
        ..Identity::default()
    });
    view.apply(PeerEvent::Reset(
        (0..=600).map(|number| node(number, families)).collect(),
    ));
    view.apply(PeerEvent::InSync);
    let mut engine = Engine::new(host.clone(), Vxlan.network(&config).unwrap().fabric);
    let report = engine.full(&view, Removal::Allowed).await;
    assert!(report.is_complete(), "{report:?}");
    let mut found = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let key = format!("net/{family}/neigh/default/gc_thresh3");
        found.push(host.sysctl.read(&key).await.unwrap().unwrap());
    }
    found.try_into().unwrap()
}

fn node(number: u16, families: usize) -> Node {
    let mut node = Node::new(NodeUid::new(&format!("{number:05}")), &format!("n{number}"));
    let [high, low] = number.to_be_bytes();
    node.underlay = vec![IpAddr::V4(Ipv4Addr::new(172, 16, high, low))];
    let prefixes = [
        format!("10.{high}.{low}.0/24"),
        format!("fd00:0:{number:x}::/64"),
    ];
    let prefixes = prefixes.iter().take(families);
    node.prefixes = prefixes.map(|prefix| prefix.parse().unwrap()).collect();
    node
}

#[tokio::test]
async fn peers_behind_the_tunnel_need_no_room_and_direct_ones_do() {
    for more in [r#","dataPath":"flow""#, r#","dataPath":"classic""#] {
        assert_eq!(limits(more, 2).await, ["1024", "1024"], "{more}");
    }
    for objects in [true, false] {
        let direct = format!(r#","directRouting":true,"nextHopObjects":{objects}"#);
        assert_eq!(limits(&direct, 1).await, ["2048", "1024"], "{direct}");
    }
}
