//! What others destroy, bit by bit.

use cni_core::host::firewall::FirewallChange;
use cni_core::host::forwarding::*;

use crate::support::*;
use crate::tiny::{ALL, Tiny, Way};

/// Who must be named for an entry, where it is a peer's.
pub(crate) fn owner(entry: &Entry) -> Option<String> {
    let words = format!("{entry:?}");

    (1..=3).find_map(|n| {
        let marks = [
            format!("V4(Ipv4Network {{ addr: 10.244.{n}.0"),
            format!("addr: fd00:244:{n}::,"),
            format!("address: 10.244.{n}.0"),
            format!("address: fd00:244:{n}::"),
            format!("gateway: Some(10.244.{n}.0"),
            format!("gateway: Some(fd00:244:{n}::)"),
            format!("gateway: Some(192.0.2.{n})"),
            format!("gateway: Some(2001:db8::{n})"),
            format!("remote: 192.0.2.{n}"),
            format!("addr: 192.0.2.{n},"),
            format!("addr: 2001:db8::{n},"),
        ];
        let named = marks.iter().any(|mark| words.contains(mark));
        named.then(|| format!("node n{n}"))
    })
}

/// Another value under the same key, or an entry of ours that nobody wants.
fn altered(entry: &Entry) -> Option<Entry> {
    let mut entry = entry.clone();
    match &mut entry {
        Entry::NextHop(next_hop) => match &mut next_hop.hop {
            Hop {
                encap: Some(encap), ..
            } => encap.id = 9,
            hop => {
                hop.gateway = None;
                hop.onlink = false;
            }
        },
        Entry::Route(route) if route.via == Via::Unreachable => {
            route.via = Via::Hop(Box::new(Hop {
                link: "eth0".into(),
                gateway: None,
                onlink: false,
                encap: None,
            }));
        }
        Entry::Route(route) => route.via = Via::Unreachable,
        Entry::Neighbour(neighbour) => neighbour.mac.0[5] ^= 1,
        Entry::Fdb(entry) => entry.remote = parsed("203.0.113.9"),
        Entry::Rule(rule) => rule.priority += 1,
        _ => return None,
    }
    Some(entry)
}

pub(crate) fn every_entry_that_is_removed_or_altered_comes_back() {
    let world = World::new();
    for way in ALL {
        let tiny = Tiny::new(way);
        let mut engine = world.engine(tiny);
        full(&mut engine, &peers(3));
        let wanted = world.state();
        let entries = world.entries(tiny);
        assert!(entries.len() > 9, "{entries:?}");
        for entry in &entries {
            for damage in [
                Some(Change::Del(entry.clone())),
                altered(entry).map(Change::Replace),
            ] {
                let Some(damage) = damage else { continue };
                // A next hop's removal takes its routes along.
                let failed = wait(world.host.forwarding.write(std::slice::from_ref(&damage)));
                assert!(failed.is_empty(), "{failed:?}");
                let difference = compare(&engine, &peers(3));
                let reasons: Vec<&str> = difference.reasons().collect();
                assert!(!reasons.is_empty(), "{damage}");
                if let Some(name) = owner(entry) {
                    let named = reasons.iter().any(|reason| reason.contains(&name));
                    assert!(named, "{damage}: {name} is not in {reasons:?}");
                }
                let report = full(&mut engine, &peers(3));
                assert_eq!(report.drift.len(), reasons.len(), "{damage}: {report:?}");
                world.state().assert_unchanged_since(&wanted);
            }
        }
        world.faults.reset();
        full(&mut engine, &peers(3));
        assert_eq!(world.faults.writes(), 0);
        wait(engine.cleanup());
    }
}

pub(crate) fn every_element_that_is_removed_or_added_is_put_right() {
    let world = World::new();
    let mut engine = world.engine(Tiny::new(Way::Classic));
    full(&mut engine, &peers(2));
    let wanted = world.state();
    let change = |add: bool, set: &str, element| {
        let (table, set, elements) = (table(), set.to_owned(), vec![element]);
        let change = match add {
            true => FirewallChange::ElementAdd {
                table,
                set,
                elements,
            },
            false => FirewallChange::ElementDel {
                table,
                set,
                elements,
            },
        };
        wait(world.host.firewall.commit(&[change])).unwrap();
    };
    for (set, element) in world.elements() {
        change(false, &set, element.clone());
        let words = compare(&engine, &peers(2)).to_string();
        assert!(words.starts_with("nft 'create element"), "{words}");
        let report = full(&mut engine, &peers(2));
        assert_eq!(report.drifted, 1, "{report:?}");
        world.state().assert_unchanged_since(&wanted);

        let mut strange = element;
        for value in &mut strange.key {
            *value = match value {
                cni_core::host::firewall::Value::Ipv4(_) => {
                    cni_core::host::firewall::Value::Ipv4(parsed("203.0.113.7"))
                }
                _ => cni_core::host::firewall::Value::Ipv6(parsed("2001:db8:7::")),
            };
        }
        change(true, &set, strange);
        let report = full(&mut engine, &peers(2));
        assert!(report.drift[0].contains("belongs to no node"), "{report:?}");
        world.state().assert_unchanged_since(&wanted);
    }
}

pub(crate) fn the_device_the_table_and_parameters_are_mended() {
    let world = World::new();
    let table = table();
    let nft = [
        format!("nft delete table {table}"),
        format!("nft flush chain {table} input"),
        format!("nft flush chain {table} postrouting"),
        format!("nft 'flush chain {table} input; delete chain {table} input'"),
        format!(
            "nft 'flush chain {table} input; delete chain {table} input; add chain {table} input {{ type filter hook forward priority 0; }}'"
        ),
        format!("nft insert rule {table} input accept"),
        format!("nft 'add chain {table} x; add rule {table} input jump x'"),
        format!("nft 'add set {table} x {{ type inet_service; }}'"),
        format!(
            "nft 'flush chain {table} postrouting; flush chain {table} input; delete set {table} pods4_24'"
        ),
        format!("nft flush set {table} nodes4"),
        "nft flush ruleset".to_owned(),
        "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
        "ip route flush proto 167 || true".to_owned(),
        "ip -6 route flush proto 167 || true".to_owned(),
        "ip nexthop flush proto 167".to_owned(),
        "ip rule flush proto 167; ip -6 rule flush proto 167".to_owned(),
    ];
    let device = [
        "ip link set vx0 down",
        "ip link set vx0 down; ip link set vx0 up",
        "ip link del vx0",
        "ip link set vx0 mtu 1300",
        "ip link set vx0 name other",
        "ip address flush dev vx0",
        "ip address add 10.9.9.9/24 dev vx0",
    ];
    for way in ALL {
        let mut engine = world.engine(Tiny::new(way));
        full(&mut engine, &peers(3));
        let wanted = world.state();
        let mut damages: Vec<&str> = nft.iter().map(String::as_str).collect();
        if way == Way::HostGateway {
            damages.retain(|damage| !damage.contains(" input") && !damage.contains("rule flush"));
        } else {
            damages.extend(device);
        }
        if way == Way::Classic {
            damages.extend([
                "ip neigh flush dev vx0 nud permanent",
                "ip link set vx0 address 02:00:00:00:00:77",
                "bridge fdb show dev vx0 | while read -r entry; do bridge fdb del ${entry%% *} dev vx0; done",
                "alias=$(ip link show vx0 | sed -n 's/^ *alias //p'); ip link del vx0; ip link add vx0 type vxlan id 9 dstport 9999; ip link set vx0 alias $alias",
            ]);
        }
        for damage in damages {
            shell(damage);
            assert!(!compare(&engine, &peers(3)).is_empty(), "{damage}");
            let report = full(&mut engine, &peers(3));
            assert!(report.drifted > 0, "{way:?} {damage}: {report:?}");
            world.state().assert_unchanged_since(&wanted);
            assert_eq!(full(&mut engine, &peers(3)).changes(), 0, "{damage}");
        }
        wait(engine.cleanup());
    }
}
