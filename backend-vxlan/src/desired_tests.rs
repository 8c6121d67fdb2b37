use std::fmt::Write as _;

use cni_core::cluster::NodeUid;
use cni_core::fabric::{Exposed, Uplink};
use cni_core::host::forwarding::Change;
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

fn fabric(more: &str) -> VxlanFabric {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"vxlan","cluster":{{"file":"/c.json"}}{more}}}"#
    );
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    VxlanFabric::new(VxlanConfig::parse(&config).unwrap())
}

fn node(number: u32, prefixes: &[&str], underlay: &[&str]) -> Node {
    let mut node = Node::new(NodeUid::new(&number.to_string()), &format!("n{number}"));
    node.prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    node.underlay = underlay.iter().map(|text| text.parse().unwrap()).collect();
    node
}

/// Node 1, 2, ...: pods and underlay of the families that are named by digits.
fn dual(number: u32, pods: &str, underlay: &str) -> Node {
    let mut node = node(number, &[], &[]);
    let has = |families: &str, family: char| families.contains(family);
    let prefixes = [
        (has(pods, '4'), format!("10.244.{number}.0/24")),
        (has(pods, '6'), format!("fd00:244:{number}::/64")),
    ];
    let addresses = [
        (has(underlay, '4'), format!("192.0.2.{number}")),
        (has(underlay, '6'), format!("2001:db8:a::{number}")),
    ];
    let prefixes = prefixes.into_iter().filter(|(has, _)| *has);
    node.prefixes = prefixes.map(|(_, text)| text.parse().unwrap()).collect();
    let addresses = addresses.into_iter().filter(|(has, _)| *has);
    node.underlay = addresses.map(|(_, text)| text.parse().unwrap()).collect();
    node
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.uplinks = vec![Uplink {
        link: "eth0".into(),
        index: 2,
        mtu: 1500,
        up: true,
        addresses: vec![
            "192.0.2.1".parse().unwrap(),
            "2001:db8:a::1".parse().unwrap(),
        ],
        on_link: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8:a::/64".parse().unwrap(),
        ],
    }];
    facts.next_hops = true;
    facts.ipv6 = true;
    facts
}

fn census(nodes: &[&Node]) -> Census {
    let mut census = Census::default();
    census.all_underlay4 = nodes.iter().all(|node| node.underlay(false).is_some());
    census.all_underlay6 = nodes.iter().all(|node| node.underlay(true).is_some());
    for prefix in nodes.iter().flat_map(|node| &node.prefixes) {
        match prefix.is_ipv6() {
            false => census.lengths4.insert(prefix.prefix()),
            true => census.lengths6.insert(prefix.prefix()),
        };
    }
    census
}

fn base_of(fabric: &VxlanFabric, nodes: &[&Node], facts: &Facts) -> Base {
    fabric.base(nodes[0], &census(nodes), facts).unwrap()
}

/// What the first node needs for the second one.
fn peer_of(fabric: &VxlanFabric, nodes: &[&Node], facts: &Facts) -> Result<Vec<Item>, String> {
    let base = base_of(fabric, nodes, facts);
    let reach = fabric.peer(nodes[0], &base, facts, &Ids, nodes[1]);
    match reach.missing.is_empty() {
        true => Ok(reach.items),
        false => Err(reach.missing.join("; ")),
    }
}

fn print(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        let _ = match item {
            Item::Entry(entry) => writeln!(text, "{}", Change::Add(entry.clone())),
            Item::Member(member) => writeln!(text, "{} {member}", member.set),
            other => writeln!(text, "{other:?}"),
        };
    }
    text
}

/// Base and one peer, as the commands that would make them.
fn printed(fabric: &VxlanFabric, nodes: &[&Node], facts: &Facts) -> String {
    let base = base_of(fabric, nodes, facts);
    let plan = diff(&base.desired, &Observed::default()).unwrap();
    let peer = peer_of(fabric, nodes, facts).unwrap();
    format!(
        "{}\n{plan}\n{}\n{}",
        base.choices.join("; "),
        print(&base.items),
        print(&peer)
    )
}

fn device(base: &Base) -> &Vxlan {
    chosen(base).unwrap()
}

#[test]
fn the_declarations_are_as_they_were_read() {
    for path in ["classic", "flow"] {
        for underlay in ["4", "6"] {
            let (me, peer) = (dual(1, "46", underlay), dual(2, "46", underlay));
            let fabric = fabric(&format!(r#","dataPath":"{path}""#));
            let name = format!("{path}_over_{underlay}");
            insta::assert_snapshot!(name, printed(&fabric, &[&me, &peer], &facts()));
        }
        let (me, peer) = (dual(1, "46", "46"), dual(2, "46", "46"));
        let inline = fabric(&format!(r#","dataPath":"{path}","nextHopObjects":false"#));
        let name = format!("{path}_without_next_hop_objects");
        insta::assert_snapshot!(name, printed(&inline, &[&me, &peer], &facts()));
    }
    let (me, peer) = (dual(1, "46", "46"), dual(2, "46", "46"));
    let direct =
        fabric(r#","directRouting":true,"vni":7,"device":"vx7","sourcePorts":[40000,50000]"#);
    insta::assert_snapshot!("direct", printed(&direct, &[&me, &peer], &facts()));
}

#[test]
fn the_flow_is_chosen_where_kernel_and_all_nodes_can() {
    let (me, peer) = (dual(1, "4", "4"), dual(2, "4", "4"));
    let external = |more: &str, facts: &Facts, can: Option<&[Capability]>| {
        let mut census = census(&[&me, &peer]);
        census.capabilities = can.map(|can| can.iter().copied().collect());
        let base = fabric(more).base(&me, &census, facts).unwrap();
        device(&base).external
    };
    let both = [Capability::Classic, Capability::Flow];
    assert!(external("", &facts(), None));
    assert!(external("", &facts(), Some(&both)));
    assert!(!external("", &facts(), Some(&both[..1])));
    assert!(!external(r#","nextHopObjects":false"#, &facts(), None));
    assert!(!external(r#","dataPath":"classic""#, &facts(), None));
    let mut old = facts();
    old.next_hops = false;
    assert!(!external("", &old, None));
    assert!(external(r#","dataPath":"flow""#, &old, Some(&both[..1])));
}

#[test]
fn the_mtu_is_the_underlays_without_the_outer_headers_of_the_family_in_use() {
    let mtu = |more: &str, nodes: &[&Node]| base_of(&fabric(more), nodes, &facts()).mtu;
    let (four, six) = (
        [dual(1, "46", "4"), dual(2, "46", "4")],
        [dual(1, "46", "6"), dual(2, "46", "6")],
    );
    let mixed = [dual(1, "46", "46"), dual(2, "46", "6")];
    let classic = r#","dataPath":"classic""#;
    assert_eq!(mtu(classic, &[&four[0], &four[1]]), 1450);
    assert_eq!(mtu(classic, &[&six[0], &six[1]]), 1430);
    assert_eq!(mtu("", &[&four[0], &four[1]]), 1464);
    assert_eq!(mtu("", &[&six[0], &six[1]]), 1444);
    assert_eq!(
        mtu("", &[&mixed[0], &mixed[1]]),
        1444,
        "some packets are wrapped in IPv6"
    );
    let forced = r#","underlay":"ipv6""#;
    assert_eq!(
        mtu(forced, &[&dual(1, "4", "46"), &dual(2, "4", "46")]),
        1444
    );
    assert_eq!(mtu(r#","mtu":1300"#, &[&four[0], &four[1]]), 1300);
    let base = base_of(&fabric(r#","mtu":9000"#), &[&four[0], &four[1]], &facts());
    assert_eq!(base.mtu, 1464);
    assert!(
        base.choices[1].contains("1464 rather than 9000"),
        "{:?}",
        base.choices
    );
}

#[test]
fn a_classic_device_has_one_outer_family_for_all() {
    let local = |more: &str, me: &Node, peer: &Node| {
        let fabric = fabric(&format!(r#","dataPath":"classic"{more}"#));
        let base = base_of(&fabric, &[me, peer], &facts());
        device(&base).local.unwrap().is_ipv6()
    };
    let (both, four, six) = (dual(1, "4", "46"), dual(2, "4", "4"), dual(2, "4", "6"));
    assert!(!local("", &both, &four));
    assert!(
        local("", &both, &six),
        "not all have IPv4, and all have IPv6"
    );
    assert!(local(r#","underlay":"ipv6""#, &both, &dual(2, "4", "46")));
    assert!(
        !local("", &dual(1, "4", "4"), &six),
        "neither is everywhere"
    );
}

#[test]
fn a_flow_goes_to_each_peer_over_the_family_that_both_have() {
    let remote = |more: &str, peer: &Node| {
        let items = peer_of(&fabric(more), &[&dual(1, "4", "46"), peer], &facts()).unwrap();
        items.iter().find_map(|item| match item {
            Item::Entry(Entry::NextHop(hop)) => {
                let encap = hop.hop.encap.unwrap();
                Some((encap.remote.to_string(), encap.checksum))
            }
            _ => None,
        })
    };
    let some = |address: &str, checksum: bool| Some((address.to_owned(), checksum));
    assert_eq!(remote("", &dual(2, "4", "46")), some("192.0.2.2", false));
    assert_eq!(remote("", &dual(2, "4", "6")), some("2001:db8:a::2", true));
    let forced = r#","underlay":"ipv6""#;
    assert_eq!(
        remote(forced, &dual(2, "4", "46")),
        some("2001:db8:a::2", true)
    );
}

#[test]
fn a_peer_that_cannot_be_reached_is_named_with_the_reason() {
    let reason = |more: &str, me: &Node, peer: &Node| {
        peer_of(&fabric(more), &[me, peer], &facts()).unwrap_err()
    };
    let (four, six) = (dual(1, "4", "4"), dual(2, "4", "6"));
    assert_eq!(
        reason("", &four, &six),
        "node n2 (2001:db8:a::2) and this node (192.0.2.1) have no underlay addresses of one family that \"underlay\": \
         \"auto\" allows"
    );
    let classic = r#","dataPath":"classic""#;
    assert_eq!(
        reason(classic, &four, &six),
        "node n2 (2001:db8:a::2) has no IPv4 address in the underlay, and the tunnel runs over that"
    );
    assert!(reason("", &four, &dual(2, "4", "")).contains("n2 (no address)"));
    let mut old = dual(2, "4", "4");
    old.capabilities = Some(vec![Capability::Classic]);
    let reason = reason(r#","dataPath":"flow""#, &four, &old);
    assert!(
        reason.contains("node n2 does not know the data path flow"),
        "{reason}"
    );
}

#[test]
fn a_node_that_is_not_where_the_cluster_has_it_says_so() {
    let refused = |more: &str, me: &Node, facts: &Facts| {
        let error = fabric(more).base(me, &census(&[me]), facts).unwrap_err();
        error.to_string()
    };
    let elsewhere = node(1, &["10.244.1.0/24"], &["203.0.113.1"]);
    assert!(refused("", &elsewhere, &facts()).contains("no link of this host bears 203.0.113.1"));
    let nowhere = node(1, &["10.244.1.0/24"], &[]);
    assert!(refused("", &nowhere, &facts()).contains("node n1 has no underlay address"));
    let forced = r#","underlay":"ipv6","dataPath":"classic""#;
    assert!(refused(forced, &dual(1, "4", "4"), &facts()).contains("\"underlay\": \"ipv6\""));
    let mut narrow = facts();
    narrow.uplinks[0].mtu = 1300;
    assert!(refused("", &dual(1, "46", "4"), &narrow).contains("less than the 1280"));
    assert!(
        fabric("")
            .base(&dual(1, "4", "4"), &census(&[&dual(1, "4", "4")]), &narrow)
            .is_ok()
    );
}

#[test]
fn direct_routing_is_for_peers_in_a_segment_and_the_tunnel_for_the_rest() {
    let direct = fabric(r#","directRouting":true"#);
    let me = dual(1, "46", "46");
    let near = print(&peer_of(&direct, &[&me, &dual(2, "46", "46")], &facts()).unwrap());
    assert!(near.contains("eth0") && !near.contains("vxlan"), "{near}");
    let mut far = dual(3, "46", "46");
    far.underlay = vec!["198.51.100.3".parse().unwrap()];
    let tunnelled = print(&peer_of(&direct, &[&me, &far], &facts()).unwrap());
    assert!(
        tunnelled.contains("vxlan") && !tunnelled.contains("eth0"),
        "{tunnelled}"
    );
    let half = print(&peer_of(&direct, &[&me, &dual(2, "46", "4")], &facts()).unwrap());
    assert!(
        half.contains("vxlan") && !half.contains("eth0"),
        "its IPv6 pods need the tunnel: {half}"
    );
    far.prefixes.clear();
    let bare = print(&peer_of(&direct, &[&me, &far], &facts()).unwrap());
    assert!(
        bare.contains("vxlan"),
        "its own addresses are reached by the tunnel: {bare}"
    );
}

#[test]
fn own_addresses_of_a_peer_have_routes_where_our_pods_are_of_the_family() {
    let own = |me: &Node, peer: &Node, more: &str| {
        let items = peer_of(&fabric(more), &[me, peer], &facts()).unwrap();
        let routes = items.iter().filter_map(|item| match item {
            Item::Entry(Entry::Route(route)) if route.table == 167 => {
                Some(route.destination.to_string())
            }
            _ => None,
        });
        routes.collect::<Vec<_>>()
    };
    let mut peer = dual(2, "4", "46");
    peer.addresses = vec!["203.0.113.7".parse().unwrap()];
    for more in ["", r#","dataPath":"classic""#] {
        let all = own(&dual(1, "46", "46"), &peer, more);
        assert_eq!(all, ["192.0.2.2/32", "203.0.113.7/32", "2001:db8:a::2/128"]);
        let four = own(&dual(1, "4", "46"), &peer, more);
        assert_eq!(four, ["192.0.2.2/32", "203.0.113.7/32"]);
    }
}

#[test]
fn a_host_without_ipv6_has_the_ipv4_part() {
    let mut without = facts();
    without.ipv6 = false;
    for more in ["", r#","dataPath":"classic""#] {
        let nodes = [dual(1, "46", "4"), dual(2, "46", "4")];
        let text = printed(&fabric(more), &[&nodes[0], &nodes[1]], &without);
        // nftables takes members of either family.
        let commands = text
            .lines()
            .filter(|line| !line.starts_with("pods6_") && !line.starts_with("from46_"));
        let text = commands.collect::<Vec<_>>().join("\n");
        assert!(!text.contains("fd00") && !text.contains("ipv6"), "{text}");
        assert!(text.contains("10.244.2.0"), "{text}");
    }
}

#[test]
fn the_device_has_the_configured_source_ports() {
    for more in ["", r#","dataPath":"classic""#] {
        let ports = format!(r#"{more},"sourcePorts":[40000,40003]"#);
        let nodes = [dual(1, "46", "4"), dual(2, "46", "4")];
        let text = printed(&fabric(&ports), &[&nodes[0], &nodes[1]], &facts());
        assert!(text.contains("srcport 40000 40003"), "{text}");
    }
}

#[test]
fn the_port_is_withheld_where_somebody_hears_there_whom_no_filter_guards() {
    let me = node(1, &["10.244.1.0/24"], &["192.0.2.1"]);
    for (keys, other, port, withheld) in [
        (r#","dataPath":"classic""#, "flannel.7", 8472, true),
        (r#","dataPath":"classic""#, "flannel.7", 8473, false),
        // What is to become ours.
        (
            r#","dataPath":"classic","device":"flannel.7""#,
            "flannel.7",
            8472,
            false,
        ),
        // It drops what is another network's, too.
        (r#","dataPath":"flow""#, "flannel-v6.7", 4790, false),
        (
            r#","dataPath":"flow","filter":false"#,
            "flannel.7",
            8472,
            true,
        ),
    ] {
        let mut facts = facts();
        let exposed = Exposed { port, table: None };
        facts.exposed.insert(other.into(), exposed);
        let base = base_of(&fabric(keys), &[&me], &facts);
        assert_eq!(
            base.withheld.is_some(),
            withheld,
            "{keys}: {:?}",
            base.withheld
        );
        assert!(base.port.is_some(), "{keys}");
    }
}

#[test]
fn a_device_stays_bound_to_the_link_that_bears_its_outer_address() {
    let fabric = fabric(r#","dataPath":"classic","device":"flannel.1""#);
    let me = node(1, &["10.244.1.0/24"], &["192.0.2.1"]);
    for (name, lower, stays) in [
        ("flannel.1", "eth0", Some("eth0")),
        ("flannel.1", "eth1", None),
        ("flannel.2", "eth0", None),
    ] {
        let mut facts = facts();
        facts.bound.insert(name.into(), lower.into());
        let base = base_of(&fabric, &[&me], &facts);
        assert_eq!(device(&base).lower.as_deref(), stays, "{name} on {lower}");
    }
}
