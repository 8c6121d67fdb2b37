use serde_json::json;

use super::super::config::KubernetesConfig;
use super::super::layout::Way;
use super::*;

fn table() -> Table {
    let config = KubernetesConfig::parse(r#"{"podNetworks":["10.244.0.0/16"]}"#).unwrap();
    Table::new(Layout::new(&config, "pods", Way::default()))
}

/// A table that has told of no nodes.
fn begun() -> Table {
    let mut table = table();
    table.begin();
    table.end();
    assert_eq!(told(&table.events()), ["=0"]);
    table
}

fn put(table: &mut Table, name: &str, number: u8) {
    put_in(
        table,
        name,
        "pods",
        &format!("10.244.{number}.0/24"),
        number,
    );
}

fn put_in(table: &mut Table, name: &str, network: &str, prefix: &str, number: u8) {
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "network": network, "nodeUID": name, "podCIDRs": [prefix],
            "addresses": [format!("192.0.2.{number}")], "backend": {"type": "host-gw"},
        },
    });
    let record = table.layout().read(object.to_string().as_bytes()).unwrap();
    table.put(record);
}

/// What events do, in short.
fn told(events: &[PeerEvent]) -> Vec<String> {
    let told = events.iter().map(|event| match event {
        PeerEvent::Put(node) => format!("+{} {}", node.name, node.underlay[0]),
        PeerEvent::Remove(uid) => format!("-{uid}"),
        PeerEvent::Reset(nodes) => format!("={}", nodes.len()),
        PeerEvent::Rejected(words) => format!("!{words}"),
        other => format!("{other:?}"),
    });
    told.collect()
}

#[test]
fn nothing_is_told_before_the_first_list_is_complete() {
    let mut table = table();
    table.begin();
    put(&mut table, "a", 1);
    assert_eq!(table.events(), []);
    put(&mut table, "b", 2);
    put_in(&mut table, "c", "pods", "10.9.0.0/24", 3);
    table.end();
    let words = told(&table.events());
    assert_eq!((words.len(), words[0].as_str()), (2, "=2"), "{words:?}");
    assert!(words[1].starts_with("!node `c`: "), "{words:?}");
    assert_eq!(table.events(), []);
}

#[test]
fn a_list_after_a_gap_is_taken_by_value() {
    let mut table = begun();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&mut table, name, number);
    }
    assert_eq!(table.events().len(), 3);
    table.begin();
    put(&mut table, "a", 1);
    put(&mut table, "b", 22);
    put(&mut table, "d", 4);
    table.end();
    assert_eq!(
        told(&table.events()),
        ["+b 192.0.2.22", "-c", "+d 192.0.2.4"]
    );
}

#[test]
fn a_list_that_breaks_off_removes_nobody() {
    let mut table = begun();
    put(&mut table, "a", 1);
    put(&mut table, "b", 2);
    let _both = table.events();
    table.begin();
    put(&mut table, "a", 11);
    table.break_off();
    table.end();
    // What it told is so all the same.
    assert_eq!(told(&table.events()), ["+a 192.0.2.11"]);
}

#[test]
fn this_nodes_own_object_is_no_peer_that_leaves() {
    let mut table = begun();
    let me = NodeUid::new("me");
    table.be(&me, &["192.0.2.1".parse().unwrap()]);
    put(&mut table, "me", 1);
    put(&mut table, "b", 2);
    let _both = table.events();
    assert!(table.own().is_some() && table.seen().is_some());
    table.delete(&me);
    assert_eq!(table.events(), []);
    assert!(table.own().is_none() && table.seen().is_none());
    put(&mut table, "me", 1);
    table.begin();
    put(&mut table, "b", 2);
    table.end();
    assert_eq!(table.events(), []);
    assert!(table.own().is_none());
    // Nor does it go to another network.
    put_in(&mut table, "me", "other", "10.244.1.0/24", 1);
    assert_eq!(table.events(), []);
    assert_eq!(table.own().unwrap().spec.network, "other");
}

#[test]
fn nobody_else_has_this_nodes_address() {
    let mut table = begun();
    put(&mut table, "b", 2);
    let _b = table.events();
    table.be(&NodeUid::new("me"), &["192.0.2.2".parse().unwrap()]);
    assert_eq!(
        told(&table.events()),
        [
            "-b",
            "!node `b`: it says that it has 192.0.2.2, which is this node's own"
        ]
    );
    // The address moves to another host.
    table.be(&NodeUid::new("me"), &["192.0.2.1".parse().unwrap()]);
    assert_eq!(told(&table.events()), ["+b 192.0.2.2"]);
}

#[test]
fn what_was_good_stays_in_force_when_its_record_breaks() {
    let mut table = begun();
    put(&mut table, "a", 1);
    let _a = table.events();
    put_in(&mut table, "a", "pods", "10.9.0.0/24", 1);
    let words = told(&table.events());
    assert!(
        words.len() == 1 && words[0].starts_with("!node `a`"),
        "{words:?}"
    );
    // Mended to what it was: that is said, although it is no news.
    put(&mut table, "a", 1);
    assert_eq!(told(&table.events()), ["+a 192.0.2.1"]);
    // A bad one that goes is gone.
    put_in(&mut table, "a", "pods", "10.9.0.0/24", 1);
    let _bad = table.events();
    table.delete(&NodeUid::new("a"));
    assert_eq!(told(&table.events()), ["-a", "=0"]);
}

#[test]
fn a_node_that_goes_over_to_another_network_has_gone() {
    let mut table = begun();
    put(&mut table, "a", 1);
    put_in(&mut table, "b", "other", "10.244.2.0/24", 2);
    assert_eq!(told(&table.events()), ["+a 192.0.2.1"]);
    put_in(&mut table, "a", "other", "10.244.1.0/24", 1);
    assert_eq!(told(&table.events()), ["-a"]);
}

#[test]
fn many_bad_records_are_few_words() {
    let mut table = begun();
    for number in 0..200_u8 {
        put_in(
            &mut table,
            &format!("n{number}"),
            "pods",
            "10.9.0.0/24",
            number,
        );
    }
    let words = told(&table.events());
    assert!(
        words.len() == 1 && words[0].ends_with("and 195 more"),
        "{words:?}"
    );
    assert!(words[0].len() < 3000);
}

#[test]
fn a_node_that_comes_and_goes_between_two_looks_is_not_told() {
    let mut table = begun();
    put(&mut table, "a", 1);
    table.delete(&NodeUid::new("a"));
    assert_eq!(table.events(), []);
    put(&mut table, "a", 1);
    let _a = table.events();
    table.delete(&NodeUid::new("a"));
    put(&mut table, "a", 1);
    assert_eq!(table.events().len(), 1);
}
