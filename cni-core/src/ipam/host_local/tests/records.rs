//! What lies in the store, whoever wrote it and however far they came.

use super::*;

#[test]
fn the_store_is_the_references_to_the_byte() {
    let node = Node::new(SMALL);
    assert_eq!(node.add("c1"), ["10.1.0.2/29", "fd00::2/120"]);
    let mode = |name: &str| fs::metadata(node.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(fs::read(node.path("10.1.0.2")).unwrap(), b"c1\r\neth0");
    assert_eq!(fs::read(node.path("fd00::2")).unwrap(), b"c1\r\neth0");
    assert_eq!(
        fs::read(node.path("last_reserved_ip.0")).unwrap(),
        b"10.1.0.2"
    );
    assert_eq!(
        fs::read(node.path("last_reserved_ip.1")).unwrap(),
        b"fd00::2"
    );
    assert_eq!(fs::read(node.path("lock")).unwrap(), b"");
    assert_eq!(mode("10.1.0.2"), 0o600);
    assert_eq!(mode("last_reserved_ip.0"), 0o600);
    assert_eq!(mode("lock"), 0o750);
    assert_eq!(mode(""), 0o755);
    let mut names: Vec<_> = fs::read_dir(node.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "10.1.0.2",
            "fd00::2",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "lock"
        ]
    );
}

#[test]
fn releasing_what_is_not_held_succeeds_and_makes_nothing() {
    let node = Node::new(SMALL);
    node.del("a");
    assert_eq!(fs::read_dir(node.dir.path()).unwrap().count(), 0);
    node.add("a");
    node.del("b");
    node.del("a");
    node.del("a");
    assert!(node.records().is_empty());
    assert!(node.held("a").is_empty());
}

#[test]
fn records_without_an_interface_belong_to_the_container() {
    let node = Node::new(SMALL);
    node.write("10.1.0.2", "old\n");
    assert_eq!(node.held("old"), ["10.1.0.2/29"]);
    assert!(node.check("old").is_ok());
    assert_eq!(kind(&node, "old"), ALREADY_HELD);
    node.gc(&["old/eth7"]);
    assert_eq!(node.records(), ["10.1.0.2"]);
    node.del("old");
    assert!(node.records().is_empty());
    // They are let go only when there is none with the interface.
    node.write("10.1.0.2", "c");
    node.write("10.1.0.3", "c\r\neth0");
    node.del("c");
    assert_eq!(node.records(), ["10.1.0.2"]);
    node.del("c");
    assert!(node.records().is_empty());
}

#[test]
fn an_empty_record_has_no_owner_and_its_address_is_reused() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    for ip in 2..=6 {
        node.write(
            &format!("10.1.0.{ip}"),
            if ip == 4 { "" } else { "x\r\neth0" },
        );
    }
    assert!(node.status().is_ok());
    assert_eq!(node.preview("a").unwrap(), ["10.1.0.4/29"]);
    assert_eq!(node.add_first("a"), "10.1.0.4/29");
    assert_eq!(fs::read(node.path("10.1.0.4")).unwrap(), b"a\r\neth0");
    assert_eq!(kind(&node, "b"), EXHAUSTED);
}

#[test]
fn collection_keeps_exactly_what_is_valid() {
    let node = Node::new(SMALL);
    for name in ["a", "b", "c", "c/eth1"] {
        node.add(name);
    }
    node.write("10.1.0.6", "");
    node.gc(&["a", "c/eth1", "never"]);
    assert_eq!(
        node.records(),
        ["10.1.0.2", "10.1.0.5", "fd00::2", "fd00::5"]
    );
    assert!(node.path("lock").exists() && node.path("last_reserved_ip.0").exists());
    assert_eq!(node.held("c/eth1"), ["10.1.0.5/29", "fd00::5/120"]);
    node.gc(&[]);
    assert!(node.records().is_empty());
    assert_eq!(node.add_first("b"), "10.1.0.6/29");
}

#[test]
fn changes_behind_our_back_are_seen_even_within_one_tick_of_the_clock() {
    let node = Node::new(r#""subnet":"10.1.0.0/28""#);
    for round in 0..50 {
        let mine = format!("mine{round}");
        let ip = node.add_first(&mine);
        let ip = ip.trim_end_matches("/28");
        // Somebody else's plugin takes the record for itself, and another one.
        fs::remove_file(node.path(ip)).unwrap();
        node.write(ip, "theirs\r\neth0");
        assert!(node.held(&mine).is_empty());
        assert_eq!(node.held("theirs").len(), 1);
        node.del("theirs");
        assert!(node.records().is_empty());
    }
}

#[test]
fn a_process_killed_between_any_two_steps_leaves_a_store_that_works() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    node.add("a");
    let index = node.dir.path().join(".index/net");
    let fresh = node.dir.path().join(".index/.net.new");
    // Killed after the link: record and fresh file are one file, the index knows nothing.
    let saved = fs::read(&index).unwrap();
    fs::write(&fresh, "b\r\neth0").unwrap();
    fs::hard_link(&fresh, node.path("10.1.0.3")).unwrap();
    assert_eq!(node.add_first("c"), "10.1.0.4/29");
    assert_eq!(fs::read(node.path("10.1.0.3")).unwrap(), b"b\r\neth0");
    assert!(!fresh.exists());
    // An older index comes back, or half of one, or nonsense.
    for content in [
        saved.clone(),
        saved[..200].to_vec(),
        b"nonsense".to_vec(),
        Vec::new(),
    ] {
        fs::write(&index, content).unwrap();
        assert_eq!(node.held("c"), ["10.1.0.4/29"]);
        assert_eq!(kind(&node, "b"), ALREADY_HELD);
    }
    // Half of a record of the set's last address.
    fs::write(node.path("last_reserved_ip.0"), "10.1.").unwrap();
    assert_eq!(node.add_first("d"), "10.1.0.5/29");
    // The directory is taken away whole: the index describes another one.
    fs::remove_dir_all(node.path("")).unwrap();
    assert!(node.held("d").is_empty());
    assert_eq!(node.add_first("d"), "10.1.0.2/29");
}

#[test]
fn a_store_whose_index_cannot_be_kept_works_without() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    fs::write(node.dir.path().join(".index"), "in the way").unwrap();
    assert_eq!(node.add_first("a"), "10.1.0.2/29");
    assert_eq!(node.add_first("b"), "10.1.0.3/29");
    assert_eq!(
        fs::metadata(node.path("10.1.0.3"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    node.del("a");
    assert_eq!(node.records(), ["10.1.0.3"]);
    assert_eq!(node.held("b"), ["10.1.0.3/29"]);
}

#[test]
fn a_wait_for_the_lock_ends_with_the_deadline_and_reserves_nothing() {
    let node = Node::new(SMALL);
    node.add("a");
    let lock = fs::File::open(node.path("lock")).unwrap();
    lock.lock().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(30);
    let error = node.with("b", |request| {
        let request = IpamRequest {
            cancel: &Cancel::new().with_deadline(deadline),
            ..*request
        };
        now(HostLocal::new().allocate(&request)).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    drop(lock);
    assert_eq!(node.add_first("b"), "10.1.0.3/29");
}

#[test]
fn a_collection_does_not_wait_for_ever_for_a_lock() {
    let node = Node::new(SMALL);
    node.add("a");
    let lock = fs::File::open(node.path("lock")).unwrap();
    lock.lock().unwrap();
    let network = "net".parse().unwrap();
    let store = Store::new(node.dir.path(), &network);
    let cancel = Cancel::new();
    cancel.cancel();
    let error = gc(&store, &network, &ValidAttachments::default(), &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    drop(lock);
    assert_eq!(node.held("a").len(), 2);
}

#[test]
fn the_index_outgrows_its_first_size_and_stays_right() {
    let node = Node::new(r#""ranges":[[{"subnet":"10.1.0.0/16"}],[{"subnet":"fd00::/64"}]]"#);
    for n in 0..300 {
        node.add(&format!("c{n}"));
    }
    for n in (0..300).step_by(3) {
        node.del(&format!("c{n}"));
    }
    for n in 0..300 {
        assert_eq!(
            node.held(&format!("c{n}")).len(),
            if n % 3 == 0 { 0 } else { 2 },
            "{n}"
        );
    }
    assert_eq!(node.records().len(), 400);
}
