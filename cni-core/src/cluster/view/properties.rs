//! The view over random clusters that quarrel, beside the plainest way of saying what a view is.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::tests::node;
use super::*;

type Nodes = BTreeMap<NodeUid, Node>;

/// A node out of few, with few prefixes and addresses to have, so that nearly all quarrel.
fn any_node() -> impl Strategy<Value = Node> {
    let prefix = prop_oneof![
        4 => (0..4_u8, 23..26_u8).prop_map(|(third, length)| format!("10.0.{third}.0/{length}")),
        1 => (0..4_u8).prop_map(|last| format!("10.0.0.{last}/32")),
        1 => Just("10.0.0.0/16".to_owned()),
        2 => (0..3_u8, 63..66_u8).prop_map(|(fourth, length)| format!("fd00:0:0:{fourth}::/{length}")),
    ];
    let address = prop_oneof![
        2 => (0..4_u8).prop_map(|last| format!("10.0.0.{last}")),
        4 => (0..6_u8).prop_map(|last| format!("192.0.2.{last}")),
        1 => (0..3_u8).prop_map(|last| format!("fd00::{last}")),
    ];
    let prefixes = proptest::collection::vec(prefix, 0..3);
    let underlay = proptest::collection::vec(address.clone(), 0..3);
    let addresses = proptest::collection::vec(address, 0..2);
    let mac = proptest::option::weighted(0.2, 0..2_u8);
    (0..9_u8, 0..3_u64, prefixes, underlay, addresses, mac).prop_map(
        |(uid, claimed, prefixes, underlay, addresses, mac)| {
            let mut node = node(&format!("n{uid} {claimed}"));
            node.prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
            node.underlay = underlay.iter().map(|text| text.parse().unwrap()).collect();
            node.addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            node.vtep_mac = mac.map(|last| crate::host::netlink::MacAddr([2, 0, 0, 0, 0, last]));
            node
        },
    )
}

fn any_event() -> impl Strategy<Value = PeerEvent> {
    prop_oneof![
        6 => any_node().prop_map(PeerEvent::Put),
        3 => (0..9_u8).prop_map(|uid| PeerEvent::Remove(NodeUid::new(&format!("n{uid}")))),
        1 => proptest::collection::vec(any_node(), 0..9).prop_map(PeerEvent::Reset),
        1 => Just(PeerEvent::InSync),
        1 => Just(PeerEvent::Disconnected("gone".to_owned())),
        1 => Just(PeerEvent::Rejected("line 1".to_owned())),
    ]
}

fn identity() -> Identity {
    Identity {
        name: None,
        addresses: vec!["192.0.2.1".parse().unwrap()],
    }
}

/// What the source has said, without a view.
fn told(nodes: &mut Nodes, event: &PeerEvent) {
    match event {
        PeerEvent::Put(node) => {
            nodes.insert(node.uid.clone(), node.clone());
        }
        PeerEvent::Remove(uid) => {
            nodes.remove(uid);
        }
        PeerEvent::Reset(all) => {
            *nodes = all
                .iter()
                .map(|node| (node.uid.clone(), node.clone()))
                .collect();
        }
        _ => {}
    }
}

fn afresh(nodes: &Nodes) -> View {
    let mut view = View::new(identity());
    view.apply(PeerEvent::Reset(nodes.values().cloned().collect()));
    view
}

/// All that a view says of the nodes.
fn said(view: &View) -> (Vec<Node>, Vec<Conflict>, Option<Node>) {
    (
        view.nodes().map(|node| (**node).clone()).collect(),
        view.conflicts().cloned().collect(),
        view.me().map(|node| (**node).clone()),
    )
}

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    let within = |a: IpNetwork, b: IpNetwork| a.prefix() <= b.prefix() && a.contains(b.ip());
    within(a, b) || within(b, a)
}

/// What may be acted upon, by the definition: one claim after the other, the better first, against all that hold.
fn by_definition(nodes: &Nodes) -> Nodes {
    let mut order: Vec<&Node> = nodes.values().collect();
    order.sort_by_key(|node| (node.claimed, &node.uid));
    let mut held: Vec<(&NodeUid, IpNetwork)> = Vec::new();
    let mut macs = Vec::new();
    let mut result = Nodes::new();
    for node in order {
        let free = |what: IpNetwork| !held.iter().any(|(_, other)| overlap(*other, what));
        let mut first: Vec<IpAddr> = Vec::new();
        for address in &node.underlay {
            if !first.iter().any(|have| have.is_ipv6() == address.is_ipv6()) {
                first.push(*address);
            }
        }
        let mut left = node.clone();
        left.prefixes.clear();
        left.addresses.clear();
        let mut mine = Vec::new();
        for prefix in &node.prefixes {
            let prefix = IpNetwork::new(prefix.network(), prefix.prefix()).unwrap();
            if !first.iter().any(|address| prefix.contains(*address)) && free(prefix) {
                mine.push(prefix);
            }
        }
        for prefix in &mine {
            let larger =
                |other: &IpNetwork| other.prefix() < prefix.prefix() && overlap(*other, *prefix);
            if !mine.iter().any(larger) && !left.prefixes.contains(prefix) {
                left.prefixes.push(*prefix);
            }
        }
        left.underlay = first
            .iter()
            .copied()
            .filter(|address| free((*address).into()))
            .collect();
        for address in node.underlay.iter().chain(&node.addresses) {
            let have = left.underlay.contains(address) || left.addresses.contains(address);
            if !have && free((*address).into()) {
                left.addresses.push(*address);
            }
        }
        left.vtep_mac = node.vtep_mac.filter(|mac| !macs.contains(mac));
        macs.extend(node.vtep_mac);
        mine.extend(
            node.own_addresses()
                .map(IpNetwork::from)
                .filter(|address| free(*address)),
        );
        held.extend(mine.iter().map(|what| (&node.uid, *what)));
        result.insert(node.uid.clone(), left);
    }
    result
}

/// The changes brought into a copy of what was known before them.
fn composed(nodes: &mut Nodes, changes: &[NodeChange]) {
    for change in changes {
        assert_eq!(
            nodes.get(&change.uid),
            change.before.as_deref(),
            "what was before"
        );
        assert_ne!(change.before, change.after, "a change changes something");
        match &change.after {
            Some(node) => nodes.insert(change.uid.clone(), (**node).clone()),
            None => nodes.remove(&change.uid),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_view_is_a_function_of_the_nodes_and_its_changes_compose(
        events in proptest::collection::vec(any_event(), 1..24),
    ) {
        let mut view = View::new(identity());
        let (mut nodes, mut seen) = (Nodes::new(), Nodes::new());
        for event in events {
            told(&mut nodes, &event);
            composed(&mut seen, &view.apply(event.clone()));
            let uids = view.nodes().map(|node| node.uid.clone());
            prop_assert!(uids.eq(nodes.keys().cloned()));
            prop_assert_eq!(said(&view), said(&afresh(&nodes)));
            prop_assert_eq!(&seen, &by_definition(&nodes));
            prop_assert_eq!(view.apply(event), vec![], "the same again");
        }
    }

    #[test]
    fn the_order_of_events_and_what_is_between_them_do_not_matter(
        nodes in proptest::collection::btree_map(0..9_u8, any_node(), 0..9),
        order in Just((0..9_u8).collect::<Vec<_>>()).prop_shuffle(),
        between in proptest::collection::vec(any_node(), 9),
    ) {
        let nodes: Nodes = nodes.into_iter().map(|(number, mut node)| {
            node.uid = NodeUid::new(&format!("n{number}"));
            (node.uid.clone(), node)
        }).collect();
        let puts = || nodes.values().cloned().map(PeerEvent::Put);
        let shuffled = order.iter().filter_map(|number| {
            nodes.get(&NodeUid::new(&format!("n{number}"))).cloned().map(PeerEvent::Put)
        });
        let empty = || PeerEvent::Reset(Vec::new());
        let halves: Vec<Node> = nodes.values().take(nodes.len() / 2).cloned().collect();
        let disturbed = puts().zip(between).flat_map(|(put, node)| {
            let gone = PeerEvent::Remove(node.uid.clone());
            let restored = nodes.get(&node.uid).cloned().map(PeerEvent::Put);
            [Some(put), Some(PeerEvent::Put(node)), Some(gone), restored].into_iter().flatten()
        }).chain([PeerEvent::Reset(nodes.values().cloned().collect())]);
        let ways: Vec<Vec<PeerEvent>> = vec![
            puts().collect(),
            puts().rev().collect(),
            shuffled.collect(),
            puts().flat_map(|put| [empty(), put]).chain(puts()).collect(),
            puts().chain([empty(), empty()]).chain(puts()).collect(),
            [PeerEvent::Reset(halves)].into_iter().chain(puts()).collect(),
            disturbed.collect(),
        ];
        let expected = said(&afresh(&nodes));
        for way in ways {
            let mut view = View::new(identity());
            for event in way {
                view.apply(event);
            }
            prop_assert_eq!(&said(&view), &expected);
        }
    }
}
