//! The engine on the fake kernel.

use std::sync::Arc;

use crate::cluster::{Identity, Node, NodeUid, PeerEvent, View};
use crate::fabric::{Engine, Removal, Report, Thing, tables};
use crate::host::Host;
use crate::host::firewall::FirewallChange;
use crate::host::forwarding::{Change, Entry, NextHop, Scope};
use crate::host::netlink::{
    Address, LinkSettings, NetlinkChange, NetlinkExt, NewLink, NewLinkKind,
};
use crate::testing::FakeKernel;

use super::cluster::Cluster;
use super::kernel::KINDS;
use super::tiny::{ALL, CLASSIC, DEVICE, FLOW, PROTOCOL, Tiny};

/// A node with an uplink.
pub(super) async fn node() -> (FakeKernel, Host) {
    let kernel = FakeKernel::new();
    let host = kernel.host();
    let mut uplink = NewLink::new("eth0", NewLinkKind::Dummy);
    uplink.up = true;
    let address = Address::new("eth0", "192.0.2.100/24".parse().unwrap());
    for change in [
        NetlinkChange::LinkAdd(uplink),
        NetlinkChange::AddressAdd(address),
    ] {
        host.netlink.apply_one(change).await.unwrap();
    }
    kernel.faults().reset();
    (kernel, host)
}

pub(super) fn me() -> Node {
    let mut me = Node::new(NodeUid::new("uid-me"), "me");
    me.prefixes = ["10.244.100.0/24", "fd00:244:100::/64"]
        .map(|own| own.parse().unwrap())
        .into();
    me.underlay = vec!["192.0.2.100".parse().unwrap()];
    me
}

/// Peers `n1` to `n{count}`.
pub(super) fn peers(count: u8) -> Cluster {
    let peer = |n: u8| {
        let mut peer = Node::new(NodeUid::new(&format!("uid-{n:03}")), &format!("n{n}"));
        let prefixes = [format!("10.244.{n}.0/24"), format!("fd00:244:{n:x}::/64")];
        peer.prefixes = prefixes
            .iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect();
        peer.underlay = vec![format!("192.0.2.{n}").parse().unwrap()];
        (peer.uid.clone(), peer)
    };
    (1..=count).map(peer).collect()
}

pub(super) fn reset(cluster: &Cluster) -> PeerEvent {
    PeerEvent::Reset(
        std::iter::once(me())
            .chain(cluster.values().cloned())
            .collect(),
    )
}

pub(super) fn view(cluster: &Cluster) -> View {
    let mut view = View::new(Identity {
        name: Some("me".to_owned()),
        ..Identity::default()
    });
    view.apply(reset(cluster));
    view.apply(PeerEvent::InSync);
    view
}

pub(super) fn engine(host: &Host, fabric: Tiny) -> Engine {
    Engine::new(host.clone(), Arc::new(fabric))
}

/// All that a fabric makes, as sorted lines.
pub(super) async fn state(host: &Host) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in KINDS {
        let scope = Scope {
            kind,
            protocol: None,
            link: None,
        };
        let mut each = |entry: Entry| lines.push(format!("{entry:?}"));
        host.forwarding.read(&scope, &mut each).await.unwrap();
    }
    let table = tables::table(&"pods".parse().unwrap());
    if let Some(state) = host.firewall.table(&table).await.unwrap() {
        for chain in state.chains {
            let rules = chain
                .rules
                .iter()
                .map(|rule| rule.comment.clone().unwrap_or_default());
            lines.extend(rules.map(|rule| format!("{}: {rule}", chain.name)));
        }
        for set in state.sets {
            let elements = host.firewall.elements(&table, &set.name).await.unwrap();
            lines.extend(
                elements
                    .iter()
                    .map(|element| format!("{}: {element}", set.name)),
            );
        }
    }
    let link = host.netlink.link(DEVICE).await.unwrap();
    lines.extend(link.map(|link| format!("{:?} {:?} up {}", link.kind, link.alias, link.up)));
    lines.sort();
    lines
}

pub(super) async fn fresh(fabric: Tiny, cluster: &Cluster) -> Vec<String> {
    let (_, host) = node().await;
    let report = engine(&host, fabric)
        .full(&view(cluster), Removal::Allowed)
        .await;
    assert!(report.is_complete(), "{report:?}");
    state(&host).await
}

fn only(report: &Report, thing: Thing) -> bool {
    report.made.keys().all(|made| *made == thing) && report.changes() > 0
}

#[tokio::test]
async fn a_second_pass_writes_nothing() {
    for fabric in ALL {
        let (kernel, host) = node().await;
        let view = view(&peers(3));
        let first = engine(&host, fabric).full(&view, Removal::Allowed).await;
        assert!(first.is_complete() && first.changes() > 20, "{first:?}");
        assert_eq!((first.drifted, first.clashes.len()), (0, 0));
        kernel.faults().reset();
        let mut engine = engine(&host, fabric);
        for _ in 0..2 {
            let again = engine.full(&view, Removal::Allowed).await;
            assert_eq!((again.changes(), kernel.writes()), (0, 0), "{again:?}");
            assert!(engine.compare(&view).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn an_update_writes_what_a_fresh_start_would() {
    for fabric in ALL {
        let (kernel, host) = node().await;
        let mut now = view(&peers(3));
        let mut engine = engine(&host, fabric);
        engine.full(&now, Removal::Allowed).await;
        let mut cluster = peers(5);
        cluster.remove(&NodeUid::new("uid-002"));
        let moved = cluster.get_mut(&NodeUid::new("uid-003")).unwrap();
        moved.underlay = vec!["192.0.2.33".parse().unwrap()];
        let changes = now.apply(reset(&cluster));
        kernel.faults().reset();
        let report = engine.update(&now, &changes).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(state(&host).await, fresh(fabric, &cluster).await);
        let made = report.changes();
        assert!(made < 60, "{made}");
    }
}

#[tokio::test]
async fn damage_is_repaired_and_told_of_by_the_peers_name() {
    let (_, host) = node().await;
    let view = view(&peers(3));
    let mut engine = engine(&host, FLOW);
    engine.full(&view, Removal::Allowed).await;
    let wanted = state(&host).await;
    let mut routes = Vec::new();
    let scope = Scope {
        kind: crate::host::forwarding::Kind::Route,
        protocol: Some(PROTOCOL),
        link: None,
    };
    host.forwarding
        .read(&scope, &mut |entry| routes.push(entry))
        .await
        .unwrap();
    let is_n2 = |entry: &&Entry| matches!(entry, Entry::Route(route) if route.destination.to_string() == "10.244.2.0/24");
    let route = routes.iter().find(is_n2).unwrap().clone();
    assert!(
        host.forwarding
            .write(&[Change::Del(route)])
            .await
            .is_empty()
    );
    let difference = engine.compare(&view).await.unwrap();
    let reasons: Vec<&str> = difference.reasons().collect();
    assert_eq!(reasons, ["route to 10.244.2.0/24 of node n2 is missing"]);
    assert!(
        difference
            .to_string()
            .starts_with("ip route add 10.244.2.0/24"),
        "{difference}"
    );
    let report = engine.full(&view, Removal::Allowed).await;
    assert_eq!(report.drift, reasons);
    assert!(only(&report, Thing::Route));
    assert_eq!(state(&host).await, wanted);
}

#[tokio::test]
async fn a_device_that_has_gone_comes_back_with_all_that_was_on_it() {
    for fabric in ALL {
        let (_, host) = node().await;
        let view = view(&peers(3));
        let mut engine = engine(&host, fabric);
        engine.full(&view, Removal::Allowed).await;
        let wanted = state(&host).await;
        for damage in [
            down(),
            NetlinkChange::LinkDel {
                link: DEVICE.to_owned(),
            },
        ] {
            host.netlink.apply_one(damage).await.unwrap();
            let report = engine.full(&view, Removal::Allowed).await;
            assert!(report.is_complete() && report.drifted > 0, "{report:?}");
            assert_eq!(state(&host).await, wanted);
        }
    }
}

fn down() -> NetlinkChange {
    let mut settings = LinkSettings::default();
    settings.up = Some(false);
    NetlinkChange::LinkSet {
        link: DEVICE.to_owned(),
        settings,
    }
}

#[tokio::test]
async fn a_damaged_table_is_mended() {
    let (_, host) = node().await;
    let view = view(&peers(3));
    let mut engine = engine(&host, CLASSIC);
    engine.full(&view, Removal::Allowed).await;
    let wanted = state(&host).await;
    let table = tables::table(&"pods".parse().unwrap());
    let flush = FirewallChange::ChainFlush {
        table: table.clone(),
        chain: "input".to_owned(),
    };
    let element = host
        .firewall
        .elements(&table, "from44_32")
        .await
        .unwrap()
        .remove(0);
    let del = FirewallChange::ElementDel {
        table: table.clone(),
        set: "from44_32".to_owned(),
        elements: vec![element],
    };
    for damage in [flush, del, FirewallChange::TableDel(table)] {
        host.firewall.commit(&[damage]).await.unwrap();
        let report = engine.full(&view, Removal::Allowed).await;
        assert!(report.is_complete() && report.drifted > 0, "{report:?}");
        assert_eq!(state(&host).await, wanted);
    }
}

#[tokio::test]
async fn nothing_is_removed_before_all_nodes_are_known() {
    let (_, host) = node().await;
    let all = view(&peers(3));
    engine(&host, CLASSIC).full(&all, Removal::Allowed).await;
    let wanted = state(&host).await;
    let few = view(&peers(1));
    let mut engine = engine(&host, CLASSIC);
    let report = engine.full(&few, Removal::Withheld).await;
    assert_eq!(report.changes(), 0, "{report:?}");
    assert_eq!(state(&host).await, wanted);
    engine.full(&few, Removal::Allowed).await;
    assert_eq!(state(&host).await, fresh(CLASSIC, &peers(1)).await);
}

#[tokio::test]
async fn cleanup_leaves_what_is_not_ours() {
    let (_, host) = node().await;
    let before = state(&host).await;
    let stranger = Entry::NextHop(NextHop {
        id: 7,
        protocol: 4,
        hop: crate::host::forwarding::Hop {
            link: "eth0".into(),
            gateway: Some("192.0.2.1".parse().unwrap()),
            onlink: false,
            encap: None,
        },
    });
    let text = format!("{stranger:?}");
    assert!(
        host.forwarding
            .write(&[Change::Add(stranger)])
            .await
            .is_empty()
    );
    let mut engine = engine(&host, CLASSIC);
    engine.full(&view(&peers(3)), Removal::Allowed).await;
    let report = engine.cleanup().await;
    assert!(report.is_complete() && report.changes() > 10, "{report:?}");
    let mut expected = before;
    expected.push(text);
    expected.sort();
    assert_eq!(state(&host).await, expected);
    let again = engine.cleanup().await;
    assert_eq!((again.changes(), again.errors.len()), (0, 0), "{again:?}");
}

#[tokio::test]
async fn another_data_path_takes_the_place_of_the_first() {
    for from in ALL {
        for to in ALL {
            let (_, host) = node().await;
            engine(&host, from)
                .full(&view(&peers(3)), Removal::Allowed)
                .await;
            let report = engine(&host, to)
                .full(&view(&peers(3)), Removal::Allowed)
                .await;
            assert!(report.is_complete(), "{report:?}");
            assert_eq!(state(&host).await, fresh(to, &peers(3)).await);
        }
    }
}

#[tokio::test]
async fn what_two_nodes_share_stays_when_one_goes() {
    let (_, host) = node().await;
    let mut cluster = peers(2);
    for peer in cluster.values_mut() {
        peer.addresses = vec!["203.0.113.1".parse().unwrap()];
    }
    let mut now = view(&cluster);
    let mut engine = engine(&host, FLOW);
    engine.full(&now, Removal::Allowed).await;
    cluster.remove(&NodeUid::new("uid-001"));
    let changes = now.apply(reset(&cluster));
    assert!(engine.update(&now, &changes).await.is_complete());
    assert_eq!(state(&host).await, fresh(FLOW, &cluster).await);
    assert!(
        state(&host)
            .await
            .iter()
            .any(|line| line == "nodes4: 203.0.113.1")
    );
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_told_of_until_it_can() {
    let (_, host) = node().await;
    let mut cluster = peers(2);
    let peer = NodeUid::new("uid-001");
    cluster.get_mut(&peer).unwrap().underlay.clear();
    let mut now = view(&cluster);
    let mut engine = engine(&host, FLOW);
    let report = engine.full(&now, Removal::Allowed).await;
    let names: Vec<&str> = report.unreachable.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["n1"]);
    let changes = now.apply(reset(&peers(2)));
    let report = engine.update(&now, &changes).await;
    assert_eq!(report.unreachable, []);
    assert_eq!(state(&host).await, fresh(FLOW, &peers(2)).await);
}

#[tokio::test]
async fn a_node_that_is_not_in_the_cluster_changes_nothing() {
    let (kernel, host) = node().await;
    let mut view = View::new(Identity {
        name: Some("elsewhere".to_owned()),
        ..Identity::default()
    });
    view.apply(reset(&peers(2)));
    let mut engine = engine(&host, FLOW);
    let report = engine.full(&view, Removal::Allowed).await;
    let words = report.errors[0].1.to_string();
    assert!(words.contains("elsewhere"), "{words}");
    assert_eq!(kernel.writes(), 0);
    assert!(engine.compare(&view).await.is_err());
}
