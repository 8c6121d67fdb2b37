use super::*;

/// A node: `name claimed prefixes underlay addresses`, lists separated by commas, `-` for none.
pub(super) fn node(text: &str) -> Node {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap();
    let mut node = Node::new(NodeUid::new(name), name);
    node.claimed = words.next().map_or(0, |word| word.parse().unwrap());
    let mut list = || {
        words
            .next()
            .filter(|word| *word != "-")
            .map(|word| word.split(','))
    };
    node.prefixes = list()
        .into_iter()
        .flatten()
        .map(|text| text.parse().unwrap())
        .collect();
    node.underlay = list()
        .into_iter()
        .flatten()
        .map(|text| text.parse().unwrap())
        .collect();
    node.addresses = list()
        .into_iter()
        .flatten()
        .map(|text| text.parse().unwrap())
        .collect();
    node
}

fn view(nodes: &[&str]) -> View {
    let mut view = View::new(Identity::default());
    view.apply(reset(nodes));
    view
}

fn reset(nodes: &[&str]) -> PeerEvent {
    PeerEvent::Reset(nodes.iter().map(|text| node(text)).collect())
}

fn put(text: &str) -> PeerEvent {
    PeerEvent::Put(node(text))
}

fn remove(uid: &str) -> PeerEvent {
    PeerEvent::Remove(NodeUid::new(uid))
}

/// What may be acted upon, in words.
fn shown(view: &View) -> Vec<String> {
    view.nodes().map(|node| line(node)).collect()
}

fn line(node: &Node) -> String {
    let text = |list: Vec<String>| {
        if list.is_empty() {
            "-".to_owned()
        } else {
            list.join(",")
        }
    };
    format!(
        "{} {} {} {}",
        node.name,
        text(node.prefixes.iter().map(ToString::to_string).collect()),
        text(node.underlay.iter().map(ToString::to_string).collect()),
        text(node.addresses.iter().map(ToString::to_string).collect()),
    )
}

fn conflicts(view: &View) -> Vec<String> {
    view.conflicts().map(ToString::to_string).collect()
}

fn changes(changes: &[NodeChange]) -> Vec<String> {
    let side = |node: &Option<Arc<Node>>| node.as_deref().map_or("nothing".to_owned(), line);
    changes
        .iter()
        .map(|change| format!("{} => {}", side(&change.before), side(&change.after)))
        .collect()
}

#[test]
fn of_two_that_claim_a_prefix_the_earlier_has_it_and_the_other_stays_without() {
    let view = view(&[
        "a 2 10.244.1.0/24 192.0.2.1",
        "b 1 10.244.1.0/24,10.244.2.0/24 192.0.2.2",
    ]);
    assert_eq!(
        shown(&view),
        [
            "a - 192.0.2.1 -",
            "b 10.244.1.0/24,10.244.2.0/24 192.0.2.2 -"
        ]
    );
    assert_eq!(
        conflicts(&view),
        ["10.244.1.0/24 of node `a` is not used: node `b` has the better claim to it"]
    );
    assert_eq!(view.known(&NodeUid::new("a")).unwrap().prefixes.len(), 1);
}

#[test]
fn prefixes_that_overlap_are_in_conflict_whichever_is_larger() {
    let smaller = view(&["a 0 10.244.0.0/23", "b 0 10.244.1.0/24"]);
    assert_eq!(shown(&smaller), ["a 10.244.0.0/23 - -", "b - - -"]);
    assert_eq!(
        conflicts(&smaller),
        [
            "10.244.1.0/24 of node `b` is not used: it overlaps 10.244.0.0/23 of node `a`, which has the better claim"
        ]
    );
    let larger = view(&["a 0 fd00::1:0/112", "b 0 fd00::/64"]);
    assert_eq!(shown(&larger), ["a fd00::1:0/112 - -", "b - - -"]);
}

#[test]
fn who_loses_keeps_nobody_from_what_it_does_not_have() {
    let view = view(&[
        "a 1 10.244.7.0/24",
        "b 2 10.244.0.0/16",
        "c 3 10.244.8.0/24",
    ]);
    assert_eq!(
        shown(&view),
        ["a 10.244.7.0/24 - -", "b - - -", "c 10.244.8.0/24 - -"]
    );
}

#[test]
fn a_prefix_that_contains_another_nodes_address_is_in_conflict_with_it() {
    let late = view(&[
        "a 1 10.244.7.0/24 192.0.2.1",
        "b 2 10.244.8.0/24 10.244.7.1",
    ]);
    assert_eq!(
        shown(&late),
        ["a 10.244.7.0/24 192.0.2.1 -", "b 10.244.8.0/24 - -"]
    );
    let early = view(&[
        "a 2 10.244.7.0/24 192.0.2.1",
        "b 1 10.244.8.0/24 10.244.7.1",
    ]);
    assert_eq!(
        shown(&early),
        ["a - 192.0.2.1 -", "b 10.244.8.0/24 10.244.7.1 -"]
    );
}

#[test]
fn a_prefix_that_contains_its_own_underlay_address_is_not_used() {
    let view = view(&[
        "a 0 10.244.7.0/24,10.244.8.0/24 10.244.7.9 10.244.8.1",
        "b 1 10.244.7.0/25 192.0.2.1",
    ]);
    assert_eq!(
        shown(&view),
        ["a 10.244.8.0/24 10.244.7.9 10.244.8.1", "b - 192.0.2.1 -"]
    );
    assert_eq!(
        conflicts(&view),
        [
            "10.244.7.0/24 of node `a` is not used: it contains 10.244.7.9, the node's own address in the underlay",
            "10.244.7.0/25 of node `b` is not used: it overlaps 10.244.7.9 of node `a`, which has the better claim",
        ]
    );
}

#[test]
fn an_address_is_one_nodes_in_whatever_role() {
    let view = view(&[
        "a 0 - 192.0.2.1,2001:db8::1 198.51.100.1",
        "b 0 - 198.51.100.1 2001:db8::1,203.0.113.1",
    ]);
    assert_eq!(
        shown(&view),
        [
            "a - 192.0.2.1,2001:db8::1 198.51.100.1",
            "b - - 203.0.113.1"
        ]
    );
    assert_eq!(view.conflicts().len(), 2);
}

#[test]
fn a_hardware_address_of_two_nodes_is_the_better_ones() {
    let mac = "02:00:00:00:00:07".parse().unwrap();
    let [mut a, mut b] = [node("a 1"), node("b 0")];
    (a.vtep_mac, b.vtep_mac) = (Some(mac), Some(mac));
    let mut view = View::new(Identity::default());
    view.apply(PeerEvent::Reset(vec![a, b]));
    assert_eq!(view.node(&NodeUid::new("a")).unwrap().vtep_mac, None);
    assert_eq!(view.node(&NodeUid::new("b")).unwrap().vtep_mac, Some(mac));
    assert_eq!(
        conflicts(&view),
        ["02:00:00:00:00:07 of node `a` is not used: node `b` has the better claim to it"]
    );
}

#[test]
fn what_a_source_should_not_say_of_one_node_is_put_right() {
    let view = view(&[
        "a 0 10.244.7.9/24,10.244.7.128/25,10.244.7.0/24 192.0.2.1,192.0.2.2 192.0.2.1,192.0.2.3,192.0.2.3",
    ]);
    assert_eq!(
        shown(&view),
        ["a 10.244.7.0/24 192.0.2.1 192.0.2.2,192.0.2.3"]
    );
    assert_eq!(view.conflicts().len(), 0);
}

#[test]
fn a_prefix_moves_when_its_holder_goes_and_comes_back_with_it() {
    let mut view = view(&[
        "a 1 10.244.1.0/24 192.0.2.1",
        "b 2 10.244.1.0/24 192.0.2.2",
        "c 0 10.244.3.0/24",
    ]);
    let gone = view.apply(remove("a"));
    assert_eq!(
        changes(&gone),
        [
            "a 10.244.1.0/24 192.0.2.1 - => nothing",
            "b - 192.0.2.2 - => b 10.244.1.0/24 192.0.2.2 -"
        ]
    );
    assert_eq!(view.conflicts().len(), 0);
    let back = view.apply(put("a 1 10.244.1.0/24 192.0.2.1"));
    assert_eq!(
        changes(&back),
        [
            "nothing => a 10.244.1.0/24 192.0.2.1 -",
            "b 10.244.1.0/24 192.0.2.2 - => b - 192.0.2.2 -"
        ]
    );
    assert_eq!(view.conflicts().len(), 1);
}

#[test]
fn what_is_known_already_changes_nothing() {
    let mut view = view(&["a 1 10.244.1.0/24 192.0.2.1", "b 2 10.244.1.0/24 192.0.2.2"]);
    assert_eq!(view.apply(put("b 2 10.244.1.0/24 192.0.2.2")), []);
    assert_eq!(view.apply(remove("c")), []);
    let same = reset(&["b 2 10.244.1.0/24 192.0.2.2", "a 1 10.244.1.0/24 192.0.2.1"]);
    assert_eq!(view.apply(same), []);
    let one = reset(&["b 2 10.244.1.0/24 192.0.2.2", "a 1 10.244.1.0/24 192.0.2.9"]);
    assert_eq!(
        changes(&view.apply(one)),
        ["a 10.244.1.0/24 192.0.2.1 - => a 10.244.1.0/24 192.0.2.9 -"]
    );
}

#[test]
fn a_claim_that_gains_nothing_is_no_change() {
    let mut view = view(&["a 1 10.244.1.0/24", "b 2 10.244.1.0/24", "c 0 -"]);
    assert_eq!(view.apply(put("c 3 10.244.1.0/24")).len(), 1, "its rank");
    assert_eq!(conflicts(&view).len(), 2);
    assert!(view.conflicts().all(|conflict| &*conflict.winner == "a"));
    assert_eq!(view.apply(put("a 1 -")).len(), 2);
    assert!(view.conflicts().all(|conflict| &*conflict.winner == "b"));
}

#[test]
fn a_renamed_holder_is_named_in_conflicts_as_it_is_called_now() {
    let mut view = view(&["a 1 10.244.1.0/24", "b 2 10.244.1.0/24", "c 0 -", "d 0 -"]);
    let mut renamed = node("a 1 10.244.1.0/24");
    renamed.name = "z".into();
    assert_eq!(view.apply(PeerEvent::Put(renamed)).len(), 1);
    assert_eq!(&*view.conflicts().next().unwrap().winner, "z");
}

#[test]
fn this_node_is_told_by_its_name_else_by_an_address() {
    let nodes = [
        "a 0 - 192.0.2.1",
        "b 0 - 192.0.2.2 198.51.100.2",
        "c 0 - 192.0.2.3",
    ];
    let by = |name: Option<&str>, addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let name = name.map(str::to_owned);
        let mut view = View::new(Identity { name, addresses });
        view.apply(reset(&nodes));
        let peers: Vec<String> = view.peers().map(|node| node.name.to_string()).collect();
        (view.me().map(|node| node.name.to_string()), peers.join(" "))
    };
    assert_eq!(by(Some("b"), &[]), (Some("b".to_owned()), "a c".to_owned()));
    assert_eq!(
        by(Some("B"), &["192.0.2.2"]),
        (None, "a b c".to_owned()),
        "a name that is wrong is not guessed at"
    );
    assert_eq!(
        by(None, &["127.0.0.1", "198.51.100.2"]),
        (Some("b".to_owned()), "a c".to_owned())
    );
    assert_eq!(
        by(None, &["192.0.2.3", "192.0.2.1"]).0.as_deref(),
        Some("a"),
        "the better of two"
    );
    assert_eq!(by(None, &["203.0.113.1"]), (None, "a b c".to_owned()));
}

#[test]
fn this_node_is_found_by_an_address_that_another_has_and_comes_and_goes_with_its_entry() {
    let addresses = vec!["192.0.2.2".parse().unwrap()];
    let mut view = View::new(Identity {
        name: None,
        addresses,
    });
    view.apply(reset(&["a 1 192.0.2.0/24", "b 2 10.244.2.0/24 192.0.2.2"]));
    assert_eq!(
        view.me().map(|node| line(node)).as_deref(),
        Some("b 10.244.2.0/24 - -")
    );
    assert_eq!(view.apply(remove("b")).len(), 1);
    assert_eq!(view.me(), None);
    view.apply(put("c 0 - 192.0.2.2"));
    assert_eq!(
        view.me().map(|node| line(node)).as_deref(),
        Some("c - 192.0.2.2 -")
    );
    view.set_identity(Identity {
        name: Some("a".to_owned()),
        addresses: Vec::new(),
    });
    assert_eq!(view.me().map(|node| line(node)).as_deref(), Some("a - - -"));
}

#[test]
fn what_is_known_stays_in_force_while_the_source_is_away() {
    let mut view = view(&["a 0 - 192.0.2.1"]);
    assert!(!view.in_sync());
    view.apply(PeerEvent::InSync);
    assert_eq!(
        view.apply(PeerEvent::Disconnected("no route".to_owned())),
        []
    );
    assert_eq!(
        (view.len(), view.in_sync(), view.away()),
        (1, true, Some("no route"))
    );
    for event in [
        PeerEvent::InSync,
        put("a 0 - 192.0.2.1"),
        remove("x"),
        reset(&["a 0 - 192.0.2.1"]),
    ] {
        view.apply(PeerEvent::Disconnected("no route".to_owned()));
        assert_eq!(view.apply(event), []);
        assert_eq!((view.len(), view.in_sync(), view.away()), (1, true, None));
    }
}

#[test]
fn what_the_source_cannot_use_is_told_until_it_is_mended() {
    let mut view = view(&["a 0 - 192.0.2.1"]);
    for mended in [put("a 0 - 192.0.2.1"), reset(&["a 0 - 192.0.2.1"])] {
        assert_eq!(view.apply(PeerEvent::Rejected("line 3".to_owned())), []);
        view.apply(PeerEvent::Disconnected("gone".to_owned()));
        view.apply(PeerEvent::InSync);
        assert_eq!(
            (view.len(), view.rejected(), view.away()),
            (1, Some("line 3"), None)
        );
        view.apply(mended);
        assert_eq!(view.rejected(), None);
    }
}

#[test]
fn a_node_that_holds_all_it_claims_is_kept_once() {
    let view = view(&["a 0 10.244.1.0/24 192.0.2.1", "b 0 10.244.1.0/24 192.0.2.2"]);
    let once = |uid| {
        Arc::ptr_eq(
            view.node(&NodeUid::new(uid)).unwrap(),
            view.known(&NodeUid::new(uid)).unwrap(),
        )
    };
    assert!(once("a") && !once("b"));
}
