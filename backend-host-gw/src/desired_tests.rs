use cni_core::cluster::NodeUid;
use cni_core::fabric::{Item, Uplink};
use cni_core::host::forwarding::{Change, Entry};
use cni_core::plan::{Observed, diff};
use cni_core::spec::NetworkConfig;

use super::*;

/// Two ids for each peer: its number, and a hundred more for IPv6.
struct Ids;

impl NextHopIds for Ids {
    fn id(&self, peer: &Node, ipv6: bool) -> u32 {
        let number: u32 = peer.uid.as_str().parse().unwrap();
        number + 100 * u32::from(ipv6)
    }
}

fn fabric(more: &str) -> HostGwFabric {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"host-gw","cluster":{{"file":"/c.json"}}{more}}}"#
    );
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    HostGwFabric::new(HostGwConfig::parse(&config).unwrap())
}

fn node(number: u32, prefixes: &[&str], underlay: &[&str]) -> Node {
    let mut node = Node::new(NodeUid::new(&number.to_string()), &format!("n{number}"));
    node.prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    node.underlay = underlay.iter().map(|text| text.parse().unwrap()).collect();
    node
}

fn me() -> Node {
    node(
        1,
        &["10.244.1.0/24", "fd00:244:1::/64"],
        &["192.0.2.1", "2001:db8:a::1"],
    )
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.uplinks = vec![Uplink {
        link: "eth0".into(),
        index: 2,
        mtu: 1500,
        up: true,
        addresses: me().underlay,
        on_link: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8:a::/64".parse().unwrap(),
        ],
    }];
    facts.next_hops = true;
    facts.ipv6 = true;
    facts
}

fn printed(fabric: &HostGwFabric, peer: &Node) -> String {
    let base = fabric.base(&me(), &Census::default(), &facts()).unwrap();
    let plan = diff(&base.desired, &Observed::default()).unwrap();
    let reach = fabric.peer(&me(), &base, &facts(), &Ids, peer);
    assert_eq!(reach.missing, Vec::<String>::new());
    let items = base
        .items
        .iter()
        .chain(&reach.items)
        .map(|item| match item {
            Item::Entry(entry) => Change::Add(Entry::clone(entry)).to_string(),
            Item::Member(member) => format!("{} {member}", member.set),
            other => format!("{other:?}"),
        });
    let items: Vec<String> = items.collect();
    format!("{}\n{plan}\n{}", base.choices.join("; "), items.join("\n"))
}

#[test]
fn the_declarations_are_as_they_were_read() {
    let both = ["10.244.2.0/24", "fd00:244:2::/64"];
    let peer = node(2, &both, &["192.0.2.2", "2001:db8:a::2"]);
    insta::assert_snapshot!("dual_stack", printed(&fabric(""), &peer));
    let inline = fabric(r#","nextHopObjects":false"#);
    insta::assert_snapshot!("without_next_hop_objects", printed(&inline, &peer));
    let peer = node(2, &both, &["2001:db8:a::2"]);
    insta::assert_snapshot!("over_ipv6_alone", printed(&fabric(""), &peer));
}

#[test]
fn the_mtu_is_the_underlays() {
    let mtu = |more: &str, census: Option<u32>| {
        let mut counted = Census::default();
        counted.mtu = census;
        fabric(more).base(&me(), &counted, &facts()).unwrap().mtu
    };
    assert_eq!(mtu("", None), 1500);
    assert_eq!(
        mtu("", Some(1400)),
        1400,
        "a packet has to fit at the other end"
    );
    assert_eq!(mtu(r#","mtu":1300"#, None), 1300);
    assert_eq!(mtu(r#","mtu":9000"#, None), 1500);
}

#[test]
fn a_peer_behind_a_router_is_named_with_what_to_do() {
    let base = fabric("")
        .base(&me(), &Census::default(), &facts())
        .unwrap();
    let peer = node(3, &["10.244.3.0/24"], &["198.51.100.3"]);
    let reach = fabric("").peer(&me(), &base, &facts(), &Ids, &peer);
    assert_eq!(
        reach.missing.join("; "),
        "198.51.100.3 of node n3 is not in a segment of this node (eth0: 192.0.2.0/24), and a direct route needs that; a \
         network of type vxlan reaches it"
    );
    let is_member = |item: &Item| matches!(item, Item::Member(_));
    assert!(
        reach.items.iter().all(is_member),
        "its pods are not the world outside"
    );
}

#[test]
fn of_a_peer_with_one_family_in_the_underlay_that_family_works() {
    let base = fabric("")
        .base(&me(), &Census::default(), &facts())
        .unwrap();
    let peer = node(2, &["10.244.2.0/24", "fd00:244:2::/64"], &["192.0.2.2"]);
    let reach = fabric("").peer(&me(), &base, &facts(), &Ids, &peer);
    let has_route = |to: &str| {
        reach.items.iter().any(|item| {
            matches!(item, Item::Entry(Entry::Route(route)) if route.destination.to_string() == to)
        })
    };
    assert!(has_route("10.244.2.0/24") && !has_route("fd00:244:2::/64"));
    assert!(
        reach.missing[0].contains("no IPv6 address in the underlay"),
        "{:?}",
        reach.missing
    );
}

#[test]
fn a_node_that_is_not_where_the_cluster_has_it_says_so() {
    let elsewhere = node(1, &["10.244.1.0/24"], &["203.0.113.1"]);
    let error = fabric("")
        .base(&elsewhere, &Census::default(), &facts())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no link of this host bears 203.0.113.1"),
        "{error}"
    );
}
