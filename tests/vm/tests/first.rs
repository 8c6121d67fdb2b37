//! The kernel's first network namespace, which no test has on the machine: what only that one shows.

use std::net::{IpAddr, Ipv4Addr};

use backend_host_gw::HostGw;
use cni_core::cluster::{Identity, Node, NodeUid, PeerEvent, View};
use cni_core::fabric::{Engine, Removal};
use cni_core::host::Host;
use cni_core::host::netlink::{Address, NetlinkChange, NetlinkExt, NewLink, NewLinkKind};
use cni_core::node::Scheme;
use cni_core::spec::config::NetworkConfig;

use crate::netlink::now;

/// Makes a node with 600 peers in its segment, for which the kernel's own limit leaves too little room.
pub(crate) fn room_is_made_for_many_neighbours() {
    let host = Host::open().expect("the kernel");
    let mut uplink = NewLink::new("up0", NewLinkKind::Dummy);
    uplink.up = true;
    let address = "172.16.0.0/16".parse().expect("a prefix");
    let changes = [
        NetlinkChange::LinkAdd(uplink),
        NetlinkChange::AddressAdd(Address::new("up0", address)),
    ];
    now(host.netlink.apply(&changes)).expect("an uplink");
    let config = r#"{"cniVersion":"1.1.0","name":"net","type":"host-gw","cluster":{"file":"/f"}}"#;
    let config = NetworkConfig::parse(config.as_bytes()).expect("a configuration");
    let fabric = HostGw.network(&config).expect("a network").fabric;
    let mut engine = Engine::new(host.clone(), fabric);
    let mut view = View::new(Identity {
        name: Some("n0".to_owned()),
        ..Identity::default()
    });
    view.apply(PeerEvent::Reset((0..=600).map(node).collect()));
    view.apply(PeerEvent::InSync);
    assert_eq!(limits(&host), ["1024", "512", "1024"].map(str::to_owned));
    let report = now(engine.full(&view, Removal::Allowed));
    assert!(report.is_complete(), "{report:?}");
    assert!(report.limits.is_empty(), "{report:?}");
    assert_eq!(limits(&host), ["2048", "1024", "1024"].map(str::to_owned));
    let report = now(engine.cleanup());
    assert!(report.is_complete(), "{report:?}");
    let link = "up0".to_owned();
    now(host.netlink.apply_one(NetlinkChange::LinkDel { link })).expect("no uplink");
    println!("room is made for many neighbours in the first namespace");
}

fn limits(host: &Host) -> [String; 3] {
    [
        "ipv4/neigh/default/gc_thresh3",
        "ipv4/neigh/default/gc_thresh2",
        "ipv6/neigh/default/gc_thresh3",
    ]
    .map(|key| {
        let value = now(host.sysctl.read(&format!("net/{key}"))).expect("a parameter");
        value.expect("the first namespace shows it")
    })
}

fn node(number: u16) -> Node {
    let mut node = Node::new(NodeUid::new(&format!("{number:05}")), &format!("n{number}"));
    let [high, low] = number.to_be_bytes();
    node.underlay = vec![IpAddr::V4(Ipv4Addr::new(172, 16, high, low))];
    let prefix = format!("10.{high}.{low}.0/24");
    node.prefixes = vec![prefix.parse().expect("a prefix")];
    node
}
