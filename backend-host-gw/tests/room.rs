//! Room for many peers in the kernel's table of neighbours.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use backend_host_gw::HostGw;
use cni_core::cluster::{Identity, Node, NodeUid, PeerEvent, View};
use cni_core::fabric::{Engine, Removal, Report, Thing};
use cni_core::host::Host;
use cni_core::host::netlink::{Address, NetlinkChange, NetlinkExt, NewLink, NewLinkKind};
use cni_core::node::Scheme;
use cni_core::spec::config::NetworkConfig;
use cni_core::testing::FakeKernel;

const LIMIT: &str = "net/ipv4/neigh/default/gc_thresh3";
const SOFT_LIMIT: &str = "net/ipv4/neigh/default/gc_thresh2";

/// A node in a segment with room for 65,534.
async fn host(kernel: &FakeKernel) -> Host {
    let host = kernel.host();
    let mut uplink = NewLink::new("eth0", NewLinkKind::Dummy);
    uplink.up = true;
    let address = Address::new("eth0", "172.16.0.0/16".parse().unwrap());
    for change in [
        NetlinkChange::LinkAdd(uplink),
        NetlinkChange::AddressAdd(address),
    ] {
        host.netlink.apply_one(change).await.unwrap();
    }
    kernel.faults().reset();
    host
}

fn engine(host: &Host) -> Engine {
    let config = r#"{"cniVersion":"1.1.0","name":"net","type":"host-gw","cluster":{"file":"/f"}}"#;
    let config = NetworkConfig::parse(config.as_bytes()).unwrap();
    let network = HostGw.network(&config).unwrap();
    Engine::new(host.clone(), network.fabric)
}

fn node(number: u16) -> Node {
    let mut node = Node::new(NodeUid::new(&format!("{number:05}")), &format!("n{number}"));
    let [high, low] = number.to_be_bytes();
    node.underlay = vec![IpAddr::V4(Ipv4Addr::new(172, 16, high, low))];
    node.prefixes = vec![format!("10.{high}.{low}.0/24").parse().unwrap()];
    node
}

/// This node and as many peers.
fn view(peers: u16) -> View {
    let mut view = View::new(Identity {
        name: Some("n0".to_owned()),
        ..Identity::default()
    });
    view.apply(PeerEvent::Reset((0..=peers).map(node).collect()));
    view.apply(PeerEvent::InSync);
    view
}

async fn full(host: &Host, peers: u16) -> Report {
    let report = engine(host).full(&view(peers), Removal::Allowed).await;
    assert!(report.is_complete(), "{report:?}");
    report
}

async fn limits(host: &Host) -> [Option<String>; 2] {
    let [limit, soft] = [LIMIT, SOFT_LIMIT].map(|key| host.sysctl.read(key));
    [limit.await.unwrap(), soft.await.unwrap()]
}

fn told(limit: u32) -> [Option<String>; 2] {
    [limit, limit / 2].map(|limit| Some(limit.to_string()))
}

#[tokio::test]
async fn room_is_made_for_twice_the_peers_once_they_could_fill_half_of_it() {
    let kernel = FakeKernel::new();
    let host = host(&kernel).await;
    full(&host, 512).await;
    assert_eq!(limits(&host).await, told(1024), "the kernel's own");
    let report = full(&host, 513).await;
    assert_eq!(limits(&host).await, told(2048));
    assert_eq!(report.made[&Thing::Base].replaced, 2);
    assert!(report.limits.is_empty(), "{:?}", report.limits);
    let writes = kernel.writes();
    full(&host, 513).await;
    assert_eq!(kernel.writes(), writes, "once is enough");
    full(&host, 3).await;
    assert_eq!(limits(&host).await, told(2048), "never lowered");
    assert_eq!(
        host.sysctl
            .read("net/ipv6/neigh/default/gc_thresh3")
            .await
            .unwrap(),
        Some("1024".to_owned()),
        "no peer is reached by IPv6"
    );
}

#[tokio::test]
async fn one_more_peer_makes_room_without_a_full_pass() {
    let kernel = FakeKernel::new();
    let host = host(&kernel).await;
    let (mut engine, mut view) = (engine(&host), view(512));
    engine.full(&view, Removal::Allowed).await;
    let changes = view.apply(PeerEvent::Put(node(513)));
    let report = engine.update(&view, &changes).await;
    assert_eq!(limits(&host).await, told(2048));
    assert_eq!(report.changes(), 2 + 2 + 2, "{:?}", report.made);
    let writes = kernel.writes();
    let changes = view.apply(PeerEvent::Put(node(514)));
    engine.update(&view, &changes).await;
    let changes = view.apply(PeerEvent::Remove(node(514).uid));
    engine.update(&view, &changes).await;
    let report = engine.full(&view, Removal::Allowed).await;
    assert_eq!(report.changes(), 0, "{:?}", report.made);
    assert!(kernel.writes() - writes <= 8, "no further raise");
}

#[tokio::test]
async fn where_the_limit_is_not_shown_it_is_told_once_the_peers_do_not_fit() {
    let kernel = FakeKernel::new().not_first();
    let host = host(&kernel).await;
    let (mut engine, mut view) = (engine(&host), view(1024));
    let report = engine.full(&view, Removal::Allowed).await;
    assert!(
        report.is_complete() && report.limits.is_empty(),
        "{report:?}"
    );
    let changes = view.apply(PeerEvent::Put(node(1025)));
    let report = engine.update(&view, &changes).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(
        report.limits,
        [format!(
            "more than 1024 peers are reached through IPv4 neighbours, and the kernel has room for no more in all network \
             namespaces together: set {LIMIT} to at least 4096 (this network namespace does not show it, the first one does)"
        )]
    );
    let changes = view.apply(PeerEvent::Remove(node(1025).uid));
    let report = engine.update(&view, &changes).await;
    assert!(report.limits.is_empty(), "{:?}", report.limits);
}

#[tokio::test]
async fn where_it_may_not_be_raised_every_peer_has_its_route_and_the_reason_is_told() {
    let kernel = FakeKernel::new();
    let host_of_first = host(&kernel).await;
    full(&host_of_first, 1100).await;
    // The raise comes last.
    let writes = kernel.writes();
    let kernel = FakeKernel::new();
    let host = host(&kernel).await;
    kernel.crash_at(writes - 1);
    let report = full(&host, 1100).await;
    let [told] = &report.limits[..] else {
        panic!("{:?}", report.limits);
    };
    assert!(
        told.contains("more than 1024 peers") && told.contains("could not write"),
        "{told}"
    );
    kernel.revive();
    let report = full(&host, 1100).await;
    assert_eq!(report.changes(), 2, "the limits alone: {:?}", report.made);
}

#[tokio::test]
async fn a_dry_run_tells_of_the_raise_and_does_not_make_it() {
    let kernel = FakeKernel::new();
    let host = host(&kernel).await;
    full(&host, 3).await;
    let difference = engine(&host).compare(&view(600)).await.unwrap();
    let text = difference.to_string();
    assert!(text.contains(&format!("sysctl -w {LIMIT}=2048")), "{text}");
    assert_eq!(limits(&host).await, told(1024));
    full(&host, 600).await;
    host.sysctl.write(LIMIT, "1024").await.unwrap();
    let difference = engine(&host).compare(&view(600)).await.unwrap();
    assert!(difference.base.is_empty() && difference.steps.is_empty());
    assert_eq!(difference.raises.len(), 1);
}
