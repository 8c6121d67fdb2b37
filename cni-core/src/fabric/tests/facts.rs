//! What is read of the host.

use ipnetwork::IpNetwork;

use crate::fabric::tables;
use crate::fabric::{Fabric, facts};
use crate::host::Host;
use crate::host::firewall::FirewallChange;
use crate::host::forwarding::{Change, Entry, Hop, Route, Via};
use crate::host::netlink::{LinkSettings, NetlinkChange, NetlinkExt, NewLink, NewLinkKind, Vxlan};
use crate::spec::NetworkName;

use super::engine::node;
use super::tiny::{FLOW, PROTOCOL};

/// A VXLAN device at Flannel's port.
pub(super) async fn vxlan(host: &Host, name: &str, vni: u32, alias: Option<String>) {
    let kind = NewLinkKind::Vxlan(Vxlan::new(vni, 8472));
    let settings = LinkSettings {
        alias,
        ..LinkSettings::default()
    };
    let link = name.to_owned();
    for change in [
        NetlinkChange::LinkAdd(NewLink::new(name, kind)),
        NetlinkChange::LinkSet { link, settings },
    ] {
        host.netlink.apply_one(change).await.unwrap();
    }
}

#[tokio::test]
async fn who_hears_at_a_port_without_a_filter_of_a_network_is_known() {
    let (_, host) = node().await;
    let other: NetworkName = "others".parse().unwrap();
    let own = FLOW.owner().network.shared_alias();
    for (name, vni, alias) in [
        ("own", 1, Some(own)),
        ("another", 2, Some(other.shared_alias())),
        ("flannel.3", 3, None),
        ("strange", 4, Some("cni:".to_owned())),
    ] {
        vxlan(&host, name, vni, alias).await;
    }
    let exposed = async || {
        let read = facts::read(&host, &FLOW.owner()).await.unwrap();
        let exposed = read.facts.exposed.into_iter();
        let exposed = exposed.map(|(name, exposed)| format!("{name} {}", exposed.port));
        exposed.collect::<Vec<String>>()
    };
    assert_eq!(
        exposed().await,
        ["another 8472", "flannel.3 8472", "strange 8472"]
    );
    let table = tables::table(&other);
    for change in [
        FirewallChange::TableAdd(table.clone()),
        FirewallChange::ChainAdd {
            table,
            chain: "input".to_owned(),
            hook: None,
        },
    ] {
        host.firewall.commit(&[change]).await.unwrap();
    }
    assert_eq!(exposed().await, ["flannel.3 8472", "strange 8472"]);
}

#[tokio::test]
async fn routes_of_people_say_what_is_in_a_segment_and_others_do_not() {
    let (_, host) = node().await;
    let route = |destination: &str, protocol, gateway: Option<&str>| {
        Change::Add(Entry::Route(Route {
            destination: destination.parse().unwrap(),
            table: 254,
            metric: 5,
            protocol,
            via: Via::Hop(Box::new(Hop {
                link: "eth0".into(),
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                onlink: false,
                encap: None,
            })),
        }))
    };
    let changes = [
        route("198.51.100.0/24", 4, None),
        route("203.0.113.0/24", 16, None),
        route("192.0.2.128/25", 4, Some("192.0.2.9")),
        // Its own, a routing daemon's, another network's for a pod, a point-to-point link's.
        route("10.244.1.0/24", PROTOCOL, None),
        route("10.1.0.0/24", 12, None),
        route("10.1.1.1/32", 80, None),
        route("0.0.0.0/0", 4, None),
    ];
    assert!(host.forwarding.write(&changes).await.is_empty());
    let read = facts::read(&host, &FLOW.owner()).await.unwrap();
    let uplinks = read.facts.uplinks;
    assert_eq!(uplinks.len(), 1);
    let expected = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
    let expected = expected.map(|prefix| prefix.parse::<IpNetwork>().unwrap());
    assert_eq!(uplinks[0].on_link, expected);
}
