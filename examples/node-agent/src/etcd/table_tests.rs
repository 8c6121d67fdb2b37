use super::super::config::EtcdConfig;
use super::super::layout::Tunnel;
use super::*;

fn table() -> Table {
    let section = r#"{"endpoints":["http://h:1"],"podNetworks":[{"prefix":"10.244.0.0/16"}]}"#;
    Table::new(Layout::new(
        &EtcdConfig::parse(section, "net").unwrap(),
        Tunnel::Vxlan(1),
    ))
}

fn put(table: &mut Table, key: &str, value: &str, revision: i64) {
    table.put(&KeyValue {
        key: format!("/cni/net/{key}").into_bytes(),
        value: value.as_bytes().to_vec(),
        create_revision: revision,
        mod_revision: revision,
        lease: 0,
    });
}

fn node(name: &str, number: u8) -> String {
    format!(
        r#"{{"name":"{name}","podPrefixes":["10.244.{number}.0/24"],"addresses":["192.0.2.{number}"]}}"#
    )
}

fn join(table: &mut Table, name: &str, number: u8, revision: i64) {
    put(
        table,
        &format!("claims/10.244.{number}.0-24"),
        &format!(r#"{{"uid":"{name}","name":"{name}"}}"#),
        revision,
    );
    put(
        table,
        &format!("nodes/{name}"),
        &node(name, number),
        revision,
    );
}

/// What events do, in short.
fn told(events: &[PeerEvent]) -> Vec<String> {
    let told = events.iter().map(|event| match event {
        PeerEvent::Put(node) => format!("+{} {}", node.name, node.prefixes.len()),
        PeerEvent::Remove(uid) => format!("-{uid}"),
        PeerEvent::Reset(nodes) => format!("={}", nodes.len()),
        PeerEvent::Rejected(words) => format!("!{words}"),
        other => format!("{other:?}"),
    });
    told.collect()
}

#[test]
fn a_prefix_is_its_claimants_alone() {
    let mut table = table();
    join(&mut table, "a", 1, 10);
    assert_eq!(told(&table.events()), ["+a 1"]);
    assert_eq!(table.told[&NodeUid::new("a")].claimed, 10);
    put(&mut table, "nodes/b", &node("b", 1), 11);
    let words = told(&table.events());
    assert_eq!(
        words,
        [
            "+b 0",
            "!node `b`: it says that 10.244.1.0/24 is its own, and node `a` has claimed it"
        ]
    );
    // It changes hands.
    put(
        &mut table,
        "claims/10.244.1.0-24",
        r#"{"uid":"b","name":"b"}"#,
        12,
    );
    let words = told(&table.events());
    assert_eq!(words.len(), 3, "{words:?}");
    assert_eq!(words[..2], ["+a 0", "+b 1"]);
    assert!(words[2].starts_with("!node `a`"), "{words:?}");
}

#[test]
fn what_was_good_stays_in_force_when_its_record_breaks() {
    let mut table = table();
    join(&mut table, "a", 1, 10);
    let _all = table.all();
    put(&mut table, "nodes/a", "{", 11);
    let words = told(&table.events());
    assert!(
        words.len() == 1 && words[0].starts_with("!node `a`: it is no JSON"),
        "{words:?}"
    );
    assert!(table.events().is_empty());
    // Mended to what it was: a put says so.
    put(&mut table, "nodes/a", &node("a", 1), 12);
    assert_eq!(told(&table.events()), ["+a 1"]);
    put(&mut table, "nodes/x", "{", 13);
    let _told = table.events();
    // A put of another one does not hide that something is still wrong.
    join(&mut table, "b", 2, 14);
    let words = told(&table.events());
    assert!(
        words[0] == "+b 1" && words[1].starts_with("!node `x`"),
        "{words:?}"
    );
    table.delete(b"/cni/net/nodes/x", 15);
    assert_eq!(told(&table.events()).len(), 1, "a put of what is known");
}

#[test]
fn an_old_deletion_does_not_undo_what_was_written_since() {
    let mut table = table();
    join(&mut table, "a", 1, 10);
    let _all = table.all();
    table.delete(b"/cni/net/nodes/a", 9);
    table.delete(b"/cni/net/claims/10.244.1.0-24", 9);
    assert!(table.events().is_empty());
    table.delete(b"/cni/net/nodes/a", 11);
    assert_eq!(told(&table.events()), ["-a"]);
}

#[test]
fn this_node_is_no_peer_that_has_left_nor_has_its_addresses_anybody_else() {
    let mut table = table();
    table.be(NodeUid::new("me"), &["192.0.2.1".parse().unwrap()]);
    join(&mut table, "me", 1, 10);
    join(&mut table, "other", 2, 10);
    let _all = table.all();
    for key in ["claims/10.244.1.0-24", "nodes/me", "nodes/other"] {
        table.delete(format!("/cni/net/{key}").as_bytes(), 11);
    }
    assert_eq!(told(&table.events()), ["-other"]);
    let stolen = node("thief", 3).replace("192.0.2.3", "192.0.2.1");
    put(&mut table, "nodes/thief", &stolen, 12);
    assert_eq!(
        told(&table.events()),
        ["!node `thief`: it says that it has 192.0.2.1, which is this node's own"]
    );
    // Somebody else's claim is another thing: the prefix is not this node's any more.
    join(&mut table, "heir", 1, 13);
    put(&mut table, "nodes/me", &node("me", 1), 13);
    let words = told(&table.events());
    assert!(words.contains(&"+me 0".to_owned()), "{words:?}");
}

#[test]
fn all_who_seem_to_have_left_are_kept_while_that_is_not_believed() {
    let mut table = table();
    join(&mut table, "a", 1, 10);
    join(&mut table, "b", 2, 10);
    let _all = table.all();
    table.hold(true);
    for key in [
        "nodes/a",
        "nodes/b",
        "claims/10.244.1.0-24",
        "claims/10.244.2.0-24",
    ] {
        table.delete(format!("/cni/net/{key}").as_bytes(), 11);
    }
    assert!(table.events().is_empty());
    join(&mut table, "a", 1, 12);
    let _back = table.events();
    table.hold(false);
    assert_eq!(told(&table.events()), ["-b"]);
}

#[test]
fn a_reset_tells_everything_by_value() {
    let mut table = table();
    join(&mut table, "a", 1, 10);
    join(&mut table, "b", 2, 10);
    assert_eq!(told(&table.all()), ["=2"]);
    table.reset(Vec::new());
    join(&mut table, "b", 2, 10);
    put(&mut table, "nodes/x", "", 11);
    let words = told(&table.all());
    assert!(
        words.len() == 2 && words[0] == "=1" && words[1].starts_with("!node `x`"),
        "{words:?}"
    );
}
