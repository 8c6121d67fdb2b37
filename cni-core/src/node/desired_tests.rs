use super::*;
use crate::cluster::NodeUid;

/// Two ids for each peer: its number, and a hundred more for IPv6.
struct Ids;

impl NextHopIds for Ids {
    fn id(&self, peer: &Node, ipv6: bool) -> u32 {
        let number: u32 = peer.uid.as_str().parse().unwrap();
        number + 100 * u32::from(ipv6)
    }
}

fn node(number: u32, prefixes: &[&str], underlay: &[&str]) -> Node {
    let mut node = Node::new(NodeUid::new(&number.to_string()), &format!("n{number}"));
    node.prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    node.underlay = underlay.iter().map(|text| text.parse().unwrap()).collect();
    node
}

fn uplink(link: &str, index: u32, addresses: &[&str], on_link: &[&str]) -> Uplink {
    Uplink {
        link: link.into(),
        index,
        mtu: 1500,
        up: true,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        on_link: on_link.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn facts() -> Facts {
    Facts {
        uplinks: vec![uplink(
            "eth0",
            2,
            &["192.0.2.1", "2001:db8:a::1"],
            &["192.0.2.0/24", "2001:db8:a::/64"],
        )],
        next_hops: true,
        ipv6: true,
        ..Facts::default()
    }
}

fn me() -> Node {
    node(
        1,
        &["10.244.1.0/24", "fd00:244:1::/64"],
        &["192.0.2.1", "2001:db8:a::1"],
    )
}

const OBJECTS: Routing = Routing {
    protocol: 167,
    objects: true,
};
const INLINE: Routing = Routing {
    protocol: 167,
    objects: false,
};

/// Destination, metric and gateway of each route, however it is expressed.
fn routes(items: &[Item]) -> Vec<(String, u32, String)> {
    let gateway = |id: u32| {
        let hops = items.iter().filter_map(|item| match item {
            Item::Entry(Entry::NextHop(hop)) if hop.id == id => hop.hop.gateway,
            _ => None,
        });
        hops.map(|gateway| gateway.to_string()).next().unwrap()
    };
    let route = |item: &Item| match item {
        Item::Entry(Entry::Route(route)) => {
            let gateway = match &route.via {
                Via::NextHop(id) => format!("{id}: {}", gateway(*id)),
                Via::Hop(hop) => hop.gateway.unwrap().to_string(),
                other => format!("{other:?}"),
            };
            Some((route.destination.to_string(), route.metric, gateway))
        }
        _ => None,
    };
    items.iter().filter_map(route).collect()
}

fn direct(
    routing: Routing,
    facts: &Facts,
    peer: &Node,
) -> (Vec<(String, u32, String)>, Vec<String>) {
    let Reach { items, missing } = routing.direct(&me(), facts, &Ids, peer);
    (routes(&items), missing)
}

fn route(destination: &str, metric: u32, gateway: &str) -> (String, u32, String) {
    (destination.to_owned(), metric, gateway.to_owned())
}

#[test]
fn a_peer_in_the_segment_is_a_next_hop_for_each_family() {
    let peer = node(
        2,
        &["10.244.2.0/24", "fd00:244:2::/64", "10.244.9.0/24"],
        &["192.0.2.2", "2001:db8:a::2"],
    );
    let (routes, missing) = direct(OBJECTS, &facts(), &peer);
    assert!(missing.is_empty());
    assert_eq!(
        routes,
        [
            route("10.244.2.0/24", 0, "2: 192.0.2.2"),
            route("10.244.9.0/24", 0, "2: 192.0.2.2"),
            route("fd00:244:2::/64", 128, "102: 2001:db8:a::2"),
        ]
    );
    let (routes, _) = direct(INLINE, &facts(), &peer);
    assert_eq!(
        routes,
        [
            route("10.244.2.0/24", 2, "192.0.2.2"),
            route("10.244.9.0/24", 2, "192.0.2.2"),
            route("fd00:244:2::/64", 128, "2001:db8:a::2"),
        ],
        "without objects an IPv4 route's metric is its peer's"
    );
}

#[test]
fn ipv4_pods_are_reached_over_ipv6_alone_by_next_hop_objects_only() {
    let peer = node(2, &["10.244.2.0/24", "fd00:244:2::/64"], &["2001:db8:a::2"]);
    let (routes, missing) = direct(OBJECTS, &facts(), &peer);
    assert!(missing.is_empty());
    assert_eq!(
        routes,
        [
            route("10.244.2.0/24", 0, "102: 2001:db8:a::2"),
            route("fd00:244:2::/64", 128, "102: 2001:db8:a::2"),
        ]
    );
    let (routes, missing) = direct(INLINE, &facts(), &peer);
    assert_eq!(routes, [route("fd00:244:2::/64", 128, "2001:db8:a::2")]);
    assert_eq!(missing, ["node n2 has no IPv4 address in the underlay"]);
}

#[test]
fn a_peer_elsewhere_is_named_with_its_address_and_our_segments() {
    let peer = node(3, &["10.244.3.0/24"], &["198.51.100.3"]);
    let (routes, missing) = direct(OBJECTS, &facts(), &peer);
    assert!(routes.is_empty());
    assert_eq!(
        missing,
        [
            "198.51.100.3 of node n3 is not in a segment of this node (eth0: 192.0.2.0/24), and a direct route needs that"
        ]
    );
}

#[test]
fn ipv6_pods_behind_an_ipv4_underlay_are_missing_and_the_rest_is_not() {
    let peer = node(2, &["10.244.2.0/24", "fd00:244:2::/64"], &["192.0.2.2"]);
    let (routes, missing) = direct(OBJECTS, &facts(), &peer);
    assert_eq!(routes, [route("10.244.2.0/24", 0, "2: 192.0.2.2")]);
    assert_eq!(missing, ["node n2 has no IPv6 address in the underlay"]);
    let mut without = facts();
    without.ipv6 = false;
    let (_, missing) = direct(OBJECTS, &without, &peer);
    assert!(missing.is_empty(), "a host without IPv6 misses none");
}

#[test]
fn a_link_that_is_down_leads_nowhere() {
    let mut down = facts();
    down.uplinks[0].up = false;
    let peer = node(2, &["10.244.2.0/24"], &["192.0.2.2"]);
    let (routes, missing) = direct(OBJECTS, &down, &peer);
    assert!(routes.is_empty());
    assert_eq!(
        missing,
        ["eth0, which leads to 192.0.2.2 of node n2, is down"]
    );
}

#[test]
fn the_longest_prefix_says_which_segment_an_address_is_in() {
    let mut facts = facts();
    facts
        .uplinks
        .push(uplink("eth1", 3, &["192.0.2.129"], &["192.0.2.128/25"]));
    facts
        .uplinks
        .push(uplink("eth2", 4, &["192.0.2.130"], &["192.0.2.128/25"]));
    let link = |address: &str| {
        let uplink = segment(&facts, address.parse().unwrap());
        uplink.map(|uplink| uplink.link.to_string())
    };
    assert_eq!(link("192.0.2.5").as_deref(), Some("eth0"));
    assert_eq!(link("192.0.2.200").as_deref(), Some("eth1"));
    assert_eq!(link("198.51.100.1"), None);
    facts.uplinks[1].up = false;
    let other = segment(&facts, "192.0.2.200".parse().unwrap()).unwrap();
    assert_eq!(&*other.link, "eth2", "one that is up comes first");
}

#[test]
fn the_underlay_carries_what_its_narrowest_link_and_node_do() {
    let mut facts = facts();
    facts
        .uplinks
        .push(uplink("eth1", 3, &["198.51.100.1"], &[]));
    facts.uplinks[1].mtu = 9000;
    let mut census = Census::default();
    let mtu = |census: &Census, addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        underlay_mtu(&addresses, census, &facts)
    };
    assert_eq!(mtu(&census, &["198.51.100.1"]), Some(9000));
    assert_eq!(mtu(&census, &["198.51.100.1", "192.0.2.1"]), Some(1500));
    assert_eq!(mtu(&census, &["203.0.113.1"]), None);
    census.mtu = Some(1400);
    assert_eq!(mtu(&census, &["192.0.2.1"]), Some(1400));
}

#[test]
fn a_node_needs_forwarding_unreachable_routes_and_rules_for_the_families_of_its_pods() {
    let printed = |me: &Node, facts: &Facts| {
        let mut desired = Desired::new();
        forwarding(&mut desired, me, facts);
        let routes = unused_addresses(me, facts, 167).len();
        (desired.items.len(), routes, rules(me, facts, 167).len())
    };
    assert_eq!(printed(&me(), &facts()), (2, 2, 2));
    let mut without = facts();
    without.ipv6 = false;
    assert_eq!(printed(&me(), &without), (1, 1, 1));
    let none = node(1, &[], &["192.0.2.1"]);
    assert_eq!(printed(&none, &facts()), (0, 0, 0));
    let Item::Entry(Entry::Route(route)) = &unused_addresses(&me(), &facts(), 167)[0] else {
        unreachable!("a route")
    };
    assert_eq!((route.metric, &route.via), (4096, &Via::Unreachable));
}

#[test]
fn the_hosts_own_rules_let_through_the_families_of_the_nodes_pods() {
    let declared = |me: &Node, facts: &Facts| {
        let mut desired = Desired::new();
        accepted(&mut desired, &"pods".parse().unwrap(), me, facts);
        let objects = desired.items.into_iter().map(|item| item.object);
        let places = objects.map(|object| match object {
            Object::HostRules {
                table,
                chain,
                rules,
                ..
            } => {
                assert_eq!(rules.len(), 2, "{rules:?}");
                format!("{table} {chain}")
            }
            Object::LegacyRules { family, chain, .. } => format!("legacy {family} {chain}"),
            other => panic!("{other:?}"),
        });
        places.collect::<Vec<String>>()
    };
    let (v4, v6) = (
        ["ip filter FORWARD", "legacy ip FORWARD"],
        ["ip6 filter FORWARD", "legacy ip6 FORWARD"],
    );
    assert_eq!(declared(&me(), &facts()), [v4, v6].concat());
    let mut without = facts();
    without.ipv6 = false;
    assert_eq!(declared(&me(), &without), v4);
    let none = node(1, &[], &["192.0.2.1"]);
    assert_eq!(declared(&none, &facts()), [""; 0]);
}
