use super::*;
use crate::cluster::NodeUid;

fn census() -> Census {
    Census {
        lengths4: [24].into(),
        lengths6: [64].into(),
        ..Census::default()
    }
}

fn tunnel(inner: Inner) -> Purpose {
    let filter = Some(Tunnel {
        port: 8472,
        vni: 1,
        inner,
    });
    Purpose {
        masquerade: true,
        filter,
    }
}

fn text(purpose: Purpose) -> String {
    let own = ["10.244.1.0/24", "fd00:244:1::/64"].map(|own| own.parse().unwrap());
    let spec = purpose
        .spec(&"pods".parse().unwrap(), &own, Some("vxlan.1"), &census())
        .unwrap();
    let mut lines = Vec::new();
    for chain in &spec.chains {
        lines.push(chain.name.clone());
        lines.extend(chain.rules.iter().map(|rule| format!("  {rule}")));
    }
    lines.join("\n")
}

fn node() -> Node {
    let mut node = Node::new(NodeUid::new("u"), "n2");
    node.prefixes = ["10.244.2.0/24", "fd00:244:2::/64"]
        .map(|own| own.parse().unwrap())
        .into();
    node.underlay = vec!["192.0.2.2".parse().unwrap()];
    node.addresses = vec!["2001:db8::2".parse().unwrap()];
    node
}

fn way(direct: bool) -> Way {
    let outer = Some("192.0.2.2".parse().unwrap());
    Way { direct, outer }
}

fn members(add: impl Fn(&mut Vec<Item>)) -> Vec<String> {
    let mut items = Vec::new();
    add(&mut items);
    let words = |item: &Item| match item {
        Item::Member(member) => format!("{} {member}", member.set),
        Item::Entry(entry) => panic!("{entry:?}"),
    };
    items.iter().map(words).collect()
}

#[test]
fn a_peer_may_send_for_its_pods_and_for_itself() {
    let (purpose, node) = (tunnel(Inner::Ethernet), node());
    let pods = [
        "pods4_24 10.244.2.0",
        "pods6_64 fd00:244:2::",
        "nodes4 192.0.2.2",
        "nodes6 2001:db8::2",
    ];
    assert_eq!(members(|items| purpose.own(&node, items)), pods);
    let all = members(|items| purpose.peer(&node, way(true), items));
    assert_eq!(all[..4], pods);
    let tunnelled = members(|items| purpose.peer(&node, way(false), items));
    assert_eq!(all[4..], tunnelled);
    assert_eq!(
        tunnelled,
        [
            "from44_24 192.0.2.2 . 10.244.2.0",
            "from46_64 192.0.2.2 . fd00:244:2::",
            "from44_32 192.0.2.2 . 192.0.2.2",
            "from46_128 192.0.2.2 . 2001:db8::2",
        ]
    );
}

#[test]
fn every_member_has_its_set() {
    for inner in [Inner::Ethernet, Inner::Ip] {
        let purpose = tunnel(inner);
        let spec = purpose
            .spec(&"pods".parse().unwrap(), &[], None, &census())
            .unwrap();
        let mut items = Vec::new();
        purpose.own(&node(), &mut items);
        purpose.peer(&node(), way(true), &mut items);
        for item in items {
            let Item::Member(member) = item else { panic!() };
            let found = spec.sets.iter().find(|set| *set.name == *member.set);
            let parts = 1 + usize::from(member.second.is_some());
            assert_eq!(found.map(|set| set.key.len()), Some(parts), "{member:?}");
        }
    }
}

#[test]
fn the_classic_table_reads_inner_sources_behind_an_ethernet_header() {
    insta::assert_snapshot!(text(tunnel(Inner::Ethernet)));
}

#[test]
fn the_flows_table_reads_inner_sources_behind_the_gpe_header() {
    insta::assert_snapshot!(text(tunnel(Inner::Ip)));
}

#[test]
fn a_table_for_nothing_is_none() {
    let purpose = Purpose {
        masquerade: false,
        filter: None,
    };
    let network = "pods".parse().unwrap();
    assert_eq!(purpose.spec(&network, &[], None, &census()), None);
    assert_eq!(
        members(|items| purpose.peer(&node(), way(true), items)),
        [""; 0]
    );
}

#[test]
fn two_networks_have_two_tables() {
    assert_ne!(table(&"a".parse().unwrap()), table(&"b".parse().unwrap()));
}
