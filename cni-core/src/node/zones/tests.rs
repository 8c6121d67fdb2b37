use std::sync::atomic::{AtomicU32, Ordering};

use super::fake::{Dir, Fake, Members, member, needs};
use super::*;
use crate::cluster::{Node, NodeUid};
use crate::fabric::Entrance;

fn told(members: &[ZoneMember]) -> Vec<String> {
    members.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_lacking_is_added_once_and_what_was_there_is_not_ours() {
    let (dir, zones) = (Dir::new(), Fake::with(&[("trusted", "10.1.0.0/24")]));
    let wanted = needs(&["vxlan.1", "10.1.0.0/24", "fd00:1::/64"]);
    let passed = dir.pass(&zones, &wanted);
    assert_eq!(
        (told(&passed.added), passed.flaws),
        (
            vec!["vxlan.1".to_owned(), "fd00:1::/64".to_owned()],
            Vec::new()
        )
    );
    assert_eq!(lacking(&zones, &wanted, &|| true).unwrap(), None);
    let changes = zones.changes.load(Ordering::Relaxed);
    assert_eq!(dir.pass(&zones, &wanted).added, []);
    assert_eq!(zones.changes.load(Ordering::Relaxed), changes);
    // What is not wanted any more goes, if it was added here.
    let passed = dir.pass(&zones, &needs(&["vxlan.2"]));
    assert_eq!(told(&passed.removed), ["vxlan.1", "fd00:1::/64"]);
    assert_eq!(zones.members_of("trusted"), ["vxlan.2", "10.1.0.0/24"]);
    assert_eq!(withdraw(&zones, &dir.state, true).unwrap(), 1);
    assert_eq!(zones.members_of("trusted"), ["10.1.0.0/24"]);
    assert_eq!(Record::read(&dir.state).unwrap(), None);
}

#[test]
fn nothing_is_taken_out_before_all_nodes_are_known() {
    let (dir, zones) = (Dir::new(), Fake::default());
    dir.pass(&zones, &needs(&["10.1.0.0/24", "10.2.0.0/24"]));
    let fewer = needs(&["10.1.0.0/24"]);
    let withheld = pass(&zones, &dir.state, &fewer, false, &|| true);
    assert_eq!(withheld.removed, []);
    assert_eq!(told(&dir.pass(&zones, &fewer).removed), ["10.2.0.0/24"]);
}

#[test]
fn whenever_firewalld_falls_silent_all_that_was_added_is_known_and_nothing_else() {
    let wanted = needs(&["vxlan.1", "10.1.0.0/24", "10.2.0.0/24"]);
    let strangers = [("trusted", "10.3.0.0/24"), ("trusted", "10.1.0.0/24")];
    for silent in (0..8).flat_map(|at| [(at, false), (at, true)]) {
        let (dir, mut zones) = (Dir::new(), Fake::with(&strangers));
        zones.silent_at = Some(silent);
        let passed = dir.pass(&zones, &wanted);
        assert_eq!(
            passed.flaws.is_empty(),
            silent.0 > 3,
            "{silent:?}: {passed:?}"
        );
        zones.silent_at = None;
        if silent.0 % 2 == 0 {
            assert_eq!(dir.pass(&zones, &wanted).flaws, [""; 0]);
            assert_eq!(lacking(&zones, &wanted, &|| true).unwrap(), None);
        }
        withdraw(&zones, &dir.state, true).unwrap();
        assert_eq!(zones.members_of("trusted"), ["10.1.0.0/24", "10.3.0.0/24"]);
    }
}

#[test]
fn what_is_in_another_zone_is_told_and_stays_and_the_rest_is_done() {
    let (dir, zones) = (Dir::new(), Fake::with(&[("work", "10.1.0.0/24")]));
    let wanted = needs(&["vxlan.1", "10.1.0.0/24", "10.2.0.0/24"]);
    let passed = dir.pass(&zones, &wanted);
    assert_eq!(
        (passed.added.len(), passed.flaws),
        (2, vec!["ZONE_CONFLICT".to_owned()])
    );
    let words = lacking(&zones, &wanted, &|| true).unwrap().unwrap();
    assert!(words.contains("10.1.0.0/24 in its zone trusted"), "{words}");
    withdraw(&zones, &dir.state, true).unwrap();
    assert_eq!(zones.members_of("work"), ["10.1.0.0/24"]);
}

/// The same in another zone.
fn elsewhere(mut wanted: Wanted) -> Wanted {
    wanted.zone = "pods".to_owned();
    wanted
}

#[test]
fn what_is_wanted_in_another_zone_is_moved_and_at_no_time_in_none() {
    let texts = ["vxlan.1", "10.1.0.0/24", "10.2.0.0/24"];
    let wanted = elsewhere(needs(&texts));
    for silent in (0..12).flat_map(|at| [(at, false), (at, true)]) {
        let (dir, mut zones) = (Dir::new(), Fake::default());
        dir.pass(&zones, &needs(&texts));
        assert_eq!(
            commands(&zones, &dir.state, &wanted).unwrap(),
            [
                "firewall-cmd --zone=pods --change-interface=vxlan.1",
                "firewall-cmd --zone=pods --change-source=10.1.0.0/24",
                "firewall-cmd --zone=pods --change-source=10.2.0.0/24",
            ]
        );
        zones.calls = AtomicU32::new(0);
        zones.silent_at = Some(silent);
        dir.pass(&zones, &wanted);
        zones.silent_at = None;
        let mut there = [zones.members_of("pods"), zones.members_of("trusted")].concat();
        there.sort();
        assert_eq!(
            there,
            ["10.1.0.0/24", "10.2.0.0/24", "vxlan.1"],
            "{silent:?}"
        );
        if silent.0 % 2 == 0 {
            assert_eq!(dir.pass(&zones, &wanted).flaws, [""; 0]);
            assert_eq!(zones.members_of("pods"), texts, "{silent:?}");
        }
        withdraw(&zones, &dir.state, true).unwrap();
        assert_eq!(*zones.members.lock().unwrap(), Members::new(), "{silent:?}");
    }
}

#[test]
fn what_is_refused_in_another_zone_stays_where_it_was() {
    let (dir, mut zones) = (Dir::new(), Fake::default());
    dir.pass(&zones, &needs(&["vxlan.1", "10.1.0.0/24"]));
    zones.permanent = Some("10.1.0.0/24");
    let wanted = elsewhere(needs(&["vxlan.1", "10.1.0.0/24"]));
    assert_eq!(dir.pass(&zones, &wanted).flaws, ["PERMANENT"]);
    assert_eq!(zones.members_of("pods"), ["vxlan.1"]);
    assert_eq!(zones.members_of("trusted"), ["10.1.0.0/24"]);
    zones.permanent = None;
    assert_eq!(told(&dir.pass(&zones, &wanted).added), ["10.1.0.0/24"]);
    assert_eq!(zones.members_of("trusted"), [""; 0]);
}

#[test]
fn what_is_left_for_the_next_pass_is_told_and_not_ours_yet() {
    let (dir, zones) = (Dir::new(), Fake::default());
    let wanted = needs(&["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]);
    let asked = AtomicU32::new(0);
    // The look, and one member.
    let twice = || asked.fetch_add(1, Ordering::Relaxed) < 2;
    let passed = pass(&zones, &dir.state, &wanted, true, &twice);
    assert_eq!(passed.added.len(), 1);
    assert!(passed.flaws[0].contains("2 members"), "{:?}", passed.flaws);
    assert_eq!(Record::read(&dir.state).unwrap().unwrap().added.len(), 1);
    assert_eq!(dir.pass(&zones, &wanted).added.len(), 2);
}

#[test]
fn what_is_wanted_is_known_although_firewalld_does_not_answer() {
    let (dir, mut zones) = (Dir::new(), Fake::default());
    let wanted = needs(&["vxlan.1", "10.1.0.0/24"]);
    zones.silent_at = Some((1, false));
    assert_eq!(dir.pass(&zones, &wanted).flaws.len(), 1);
    let mut record = Record {
        wanted,
        ..Record::default()
    };
    assert_eq!(Record::read(&dir.state).unwrap(), Some(record.clone()));
    // And what was added, whatever is wanted now.
    zones.silent_at = None;
    dir.pass(&zones, &record.wanted);
    let in_zone = |member: &ZoneMember| ("trusted".to_owned(), member.clone());
    record.added = record.wanted.members.iter().map(in_zone).collect();
    zones.calls = AtomicU32::new(0);
    zones.silent_at = Some((1, false));
    record.wanted = needs(&["vxlan.2"]);
    assert_eq!(dir.pass(&zones, &record.wanted).flaws.len(), 1);
    assert_eq!(Record::read(&dir.state).unwrap(), Some(record));
}

#[test]
fn one_that_takes_long_is_not_asked_everything() {
    let zones = Fake::default();
    let mut wanted = needs(&["10.1.0.0/24"]);
    wanted.port = Some((4790, ["eth0", "eth1"].map(str::to_owned).into()));
    let asked = AtomicU32::new(0);
    let twice = || asked.fetch_add(1, Ordering::Relaxed) < 2;
    let error = lacking(&zones, &wanted, &twice).unwrap_err();
    assert!(error.chain().contains("takes long"), "{error:?}");
    // Whether it runs, the zone, and the zone and port of one link.
    assert_eq!(zones.calls.load(Ordering::Relaxed), 4);
}

#[test]
fn a_firewalld_that_does_not_run_leaves_no_file_and_makes_none_wrong() {
    let (dir, mut zones) = (Dir::new(), Fake::default());
    zones.stopped = true;
    assert_eq!(
        dir.pass(&zones, &needs(&["10.1.0.0/24"])),
        Passed::default()
    );
    assert_eq!(Record::read(&dir.state).unwrap(), None);
    zones.stopped = false;
    dir.pass(&zones, &needs(&["10.1.0.0/24"]));
    zones.stopped = true;
    dir.pass(&zones, &needs(&["10.2.0.0/24"]));
    let record = Record::read(&dir.state).unwrap().unwrap();
    assert_eq!(record.wanted, needs(&["10.2.0.0/24"]));
    assert_eq!(record.added.len(), 1);
}

#[test]
fn what_is_not_reached_has_forgotten_nothing_while_its_rules_are_in_force() {
    let (dir, mut zones) = (Dir::new(), Fake::default());
    let peers: Vec<String> = (0..7).map(|peer| format!("10.1.{peer}.0/24")).collect();
    let mut all: Vec<&str> = peers.iter().map(String::as_str).collect();
    all.extend(["vxlan.1", "fd00:1::/64"]);
    dir.pass(&zones, &needs(&all));
    zones.stopped = true;
    let told = withdraw(&zones, &dir.state, true).unwrap_err().chain();
    let file = Record::path(&dir.state);
    for words in [
        "needs /run/dbus",
        "firewall-cmd --zone=trusted --remove-interface=vxlan.1; ",
        "firewall-cmd --zone=trusted --remove-source=10.1.6.0/24; 1 more of ",
        &format!("remove {}", file.display()),
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(Record::read(&dir.state).unwrap().unwrap().added.len(), 9);
    // Who has no rules has ended.
    assert_eq!(withdraw(&zones, &dir.state, false).unwrap(), 0);
    assert_eq!(Record::read(&dir.state).unwrap(), None);
}

#[test]
fn the_port_is_opened_in_every_zone_that_the_uplinks_are_in_the_pods_own_among_them() {
    let (dir, zones) = (
        Dir::new(),
        Fake::with(&[("trusted", "eth1"), ("work", "eth2")]),
    );
    let links = ["eth0", "eth1", "eth2", "eth3"].map(str::to_owned);
    let mut wanted = needs(&["10.1.0.0/24"]);
    wanted.port = Some((4790, links.into()));
    assert_eq!(
        commands(&zones, &dir.state, &wanted).unwrap(),
        [
            "firewall-cmd --zone=trusted --add-source=10.1.0.0/24",
            "firewall-cmd --zone=public --add-port=4790/udp",
            "firewall-cmd --zone=trusted --add-port=4790/udp",
            "firewall-cmd --zone=work --add-port=4790/udp",
        ]
    );
}

#[test]
fn a_port_that_must_not_be_opened_to_everybody_is_closed_again_and_told() {
    let (dir, mut zones) = (Dir::new(), Fake::with(&[("work", "eth1")]));
    let mut wanted = tunnel("10.1.0.0/24", &["eth0", "eth1"]);
    dir.pass(&zones, &wanted);
    assert_eq!(zones.members_of("public"), ["8472/udp"]);
    wanted.withheld = Some("flannel.1 is there".to_owned());
    let passed = dir.pass(&zones, &wanted);
    assert_eq!(told(&passed.removed), ["8472/udp", "8472/udp"]);
    let [public, work] = &passed.flaws[..] else {
        panic!("{passed:?}");
    };
    for words in [
        "flannel.1 is there",
        r#"firewall-cmd --zone=public --add-rich-rule='rule family="ipv4" source address="NODES" port port="8472" protocol="udp" accept'"#,
    ] {
        assert!(public.contains(words), "{words}: {public}");
    }
    assert!(work.contains("zone work"), "{work}");
    // Who has opened it has seen to it, be it to everybody.
    zones.opened = Some("public");
    let port = ("work".to_owned(), member("8472"));
    zones.members.lock().unwrap().insert(port);
    let passed = dir.pass(&zones, &wanted);
    assert_eq!((passed.removed, passed.flaws), (vec![], vec![]));
    // Nobody leaves it to such a network.
    let beside = dir.beside();
    zones.members = Fake::with(&[]).members;
    beside.pass(&zones, &tunnel("10.2.0.0/24", &["eth0"]));
    withdraw(&zones, &beside.state, true).unwrap();
    assert_eq!(zones.members_of("public"), [""; 0]);
}

/// A prefix, and the port where these links are.
fn tunnel(prefix: &str, links: &[&str]) -> Wanted {
    let mut wanted = needs(&[prefix]);
    let links = links.iter().map(|link| (*link).to_owned()).collect();
    wanted.port = Some((8472, links));
    wanted
}

#[test]
fn a_port_that_another_network_needs_is_left_to_it_whenever_firewalld_falls_silent() {
    for silent in (0..8).flat_map(|at| [(at, false), (at, true)]) {
        let (first, mut zones) = (Dir::new(), Fake::default());
        let second = first.beside();
        first.pass(&zones, &tunnel("10.1.0.0/24", &["eth0"]));
        second.pass(&zones, &tunnel("10.2.0.0/24", &["eth0"]));
        let file = Record::path(&first.state);
        let before = std::fs::read(&file).unwrap();
        zones.calls = AtomicU32::new(0);
        zones.silent_at = Some(silent);
        let _ = withdraw(&zones, &first.state, true);
        zones.silent_at = None;
        assert_eq!(zones.members_of("public"), ["8472/udp"], "{silent:?}");
        withdraw(&zones, &first.state, true).unwrap();
        assert_eq!(zones.members_of("public"), ["8472/udp"], "{silent:?}");
        if silent.0 % 2 == 0 {
            // As of one that has died before it wrote that the port is not its own any more.
            std::fs::write(&file, &before).unwrap();
        }
        withdraw(&zones, &second.state, true).unwrap();
        withdraw(&zones, &first.state, true).unwrap();
        assert_eq!(*zones.members.lock().unwrap(), Members::new(), "{silent:?}");
    }
}

#[test]
fn a_port_is_left_to_nobody_who_needs_it_in_another_zone_or_has_another() {
    let (first, zones) = (Dir::new(), Fake::with(&[("work", "eth1")]));
    let second = first.beside();
    first.pass(&zones, &tunnel("10.1.0.0/24", &["eth0", "eth1"]));
    second.pass(&zones, &tunnel("10.2.0.0/24", &["eth1"]));
    // By another port as by leaving.
    let mut moved = tunnel("10.1.0.0/24", &["eth0"]);
    moved.port = Some((4790, ["eth0".to_owned()].into()));
    assert_eq!(told(&first.pass(&zones, &moved).removed), ["8472/udp"]);
    assert_eq!(zones.members_of("public"), ["4790/udp"]);
    assert_eq!(zones.members_of("work"), ["eth1", "8472/udp"]);
    withdraw(&zones, &first.state, true).unwrap();
    assert_eq!(zones.members_of("public"), [""; 0]);
    withdraw(&zones, &second.state, true).unwrap();
    assert_eq!(zones.members_of("work"), ["eth1"]);
}

#[test]
fn what_is_left_to_a_network_while_it_is_at_work_is_its_own() {
    let (first, mut zones) = (Dir::new(), Fake::default());
    let second = first.beside();
    first.pass(&zones, &tunnel("10.1.0.0/24", &["eth0"]));
    second.pass(&zones, &tunnel("10.2.0.0/24", &["eth0"]));
    // The other one leaves while this one adds something.
    let asked = AtomicU32::new(0);
    let leaving = Fake::with(&[("public", "8472")]);
    let state = first.state.clone();
    zones.asked = Some(Box::new(move || {
        if asked.fetch_add(1, Ordering::Relaxed) != 1 {
            return;
        }
        withdraw(&leaving, &state, true).unwrap();
        assert_eq!(leaving.members_of("public"), ["8472/udp"]);
    }));
    second.pass(&zones, &tunnel("10.3.0.0/24", &["eth0"]));
    let added = Record::read(&second.state).unwrap().unwrap().added;
    let added: Vec<String> = added.iter().map(|(_, member)| member.to_string()).collect();
    assert_eq!(added, ["8472/udp", "10.3.0.0/24"]);
}

#[test]
fn peers_count_only_where_their_packets_come_by_the_uplink_and_nobody_knows_what_holds_them() {
    let peer = |name: &str, prefix: &str| {
        let mut node = Node::new(NodeUid::new(name), name);
        node.prefixes.push(prefix.parse().unwrap());
        node
    };
    let peers = [peer("n2", "10.0.2.0/24"), peer("n3", "10.9.3.0/24")];
    let own = ["10.0.1.0/24".parse().unwrap()];
    let cluster = ["10.0.0.0/16".parse().unwrap()];
    let tunnel = Entrance {
        device: Some("vxlan.1".into()),
        port: Some(4790),
        withheld: None,
        uplinks: vec!["eth0".into()],
    };
    let members = |direct, cluster: &[_], entrance| {
        let input = Input {
            zone: "trusted",
            own: &own,
            entrance,
            direct,
            cluster,
        };
        wanted(&input, peers.iter())
    };
    let tunnelled = members(false, &cluster, &tunnel);
    assert_eq!(
        tunnelled.members,
        needs(&["vxlan.1", "10.0.1.0/24"]).members
    );
    assert_eq!(tunnelled.port, Some((4790, ["eth0".to_owned()].into())));
    let none = Entrance::default();
    let all = needs(&["10.0.1.0/24", "10.0.2.0/24", "10.9.3.0/24"]);
    assert_eq!(members(true, &[], &none), all);
    // A peer outside what is said to hold all is let through all the same.
    assert_eq!(
        members(true, &cluster, &none),
        needs(&["10.0.0.0/16", "10.9.3.0/24"])
    );
}

#[test]
fn the_file_says_again_what_was_written() {
    let dir = Dir::new();
    let mut wanted = needs(&["vxlan.1", "10.1.0.0/24", "fd00:1::/64"]);
    wanted.port = Some((8472, ["eth0".to_owned()].into()));
    wanted.withheld = Some("it is".to_owned());
    let added = [
        ("trusted", "vxlan.1"),
        ("trusted", "10.1.0.0/24"),
        ("public", "8472"),
    ];
    let added = added.map(|(zone, text)| (zone.to_owned(), member(text)));
    let record = Record {
        wanted,
        added: added.into(),
    };
    let written = Record::alter(&dir.state, |fresh| *fresh = record.clone());
    assert_eq!(written.unwrap(), record);
    assert_eq!(Record::read(&dir.state).unwrap(), Some(record));
    std::fs::write(dir.state.path().join("zones.json"), "{").unwrap();
    assert_eq!(Record::read(&dir.state).unwrap(), None);
}
