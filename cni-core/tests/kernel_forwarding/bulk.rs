//! Thousands of entries.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;
use cni_core::host::Forwarding;
use cni_core::host::forwarding::*;
use cni_core::host::netlink::{MacAddr, errno};

fn underlay(peer: u32) -> IpAddr {
    Ipv4Addr::from(0xc612_0000 + peer).into()
}

fn vtep(peer: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + (peer << 8)).into()
}

fn mac(peer: u32) -> MacAddr {
    let [a, b, c, d] = peer.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn of_peer(peer: u32) -> [Entry; 5] {
    let encap = Encap {
        id: 1,
        remote: underlay(peer),
        source: None,
        checksum: false,
    };
    let hop = Hop {
        encap: Some(encap),
        ..hop("flow", None)
    };
    [
        Entry::Neighbour(Neighbour {
            link: "vx".into(),
            address: vtep(peer),
            mac: mac(peer),
        }),
        Entry::Fdb(FdbEntry {
            link: "vx".into(),
            mac: mac(peer),
            remote: underlay(peer),
        }),
        next_hop(peer, hop),
        route(&format!("{}/24", vtep(peer)), 0, Via::NextHop(peer)),
        rule(peer, &format!("{}/24", vtep(peer)), 167),
    ]
}

pub(crate) fn ten_thousand_of_each_kind() {
    const PEERS: u32 = 10_000;
    let host = node();
    for (place, kind) in [
        Kind::Neighbour,
        Kind::Fdb,
        Kind::NextHop,
        Kind::Route,
        Kind::Rule,
    ]
    .into_iter()
    .enumerate()
    {
        // Every new rule is compared with all others: 10,000 take the kernel seconds, and nobody has more than a few.
        let count = if kind == Kind::Rule { 1_000 } else { PEERS };
        let all: Vec<_> = (1..=count)
            .map(|peer| of_peer(peer)[place].clone())
            .collect();
        let add: Vec<_> = all.iter().cloned().map(Change::Add).collect();
        let begin = std::time::Instant::now();
        write(&host, &add);
        let written = begin.elapsed();
        let begin = std::time::Instant::now();
        let mut found = ours(&host, kind);
        let read = begin.elapsed();
        found.sort_by_key(Entry::key);
        let mut expected = all.clone();
        expected.sort_by_key(Entry::key);
        assert!(found == expected, "{kind:?}: {} of {count}", found.len());
        let begin = std::time::Instant::now();
        let replace: Vec<_> = all.iter().cloned().map(Change::Replace).collect();
        write(&host, &replace);
        let replaced = begin.elapsed();
        println!("{count} x {kind:?}: written {written:?}, read {read:?}, replaced {replaced:?}");
    }
    let taken: Vec<_> = failures(
        &host,
        &(1..=1000)
            .flat_map(of_peer)
            .map(Change::Add)
            .collect::<Vec<_>>(),
    );
    let all: Vec<_> = (0..5000).map(|index| (index, errno::EEXIST)).collect();
    assert_eq!(taken, all, "all are there, and each says so");
    let begin = std::time::Instant::now();
    let removals: Vec<_> = (1..=PEERS)
        .flat_map(|peer| {
            let [neighbour, fdb, next_hop, route, _] = of_peer(peer);
            [neighbour, fdb, route, next_hop]
        })
        .map(Change::Del)
        .collect();
    write(&host, &removals);
    println!("removed {:?}", begin.elapsed());
    for kind in [Kind::Neighbour, Kind::Fdb, Kind::NextHop, Kind::Route] {
        assert_eq!(ours(&host, kind).len(), 0);
    }
}

pub(crate) fn failures_among_thousands_have_their_index() {
    let host = node();
    let mut changes = Vec::new();
    let mut expected = Vec::new();
    for peer in 1..=3_000 {
        let [neighbour, fdb, next_hop, route, _] = of_peer(peer);
        let [alone, missing] =
            [peer + 100_000, peer + 200_000].map(|peer| of_peer(peer)[3].clone());
        // In order: the route needs the next hop that is made right before it.
        changes.extend([next_hop, route].map(Change::Add));
        if peer % 3 == 0 {
            expected.push((changes.len(), errno::EINVAL));
            changes.push(Change::Add(alone));
        }
        changes.extend([neighbour, fdb.clone()].map(Change::Add));
        if peer % 7 == 0 {
            expected.push((changes.len(), errno::EEXIST));
            changes.push(Change::Add(fdb));
        }
        if peer % 11 == 0 {
            expected.push((changes.len(), errno::ESRCH));
            changes.push(Change::Del(missing));
        }
        if peer % 13 == 0 {
            expected.push((changes.len(), errno::ENODEV));
            let lone = super::support::next_hop(peer + 300_000, hop("nope", None));
            changes.push(Change::Add(lone));
        }
    }
    assert_eq!(failures(&host, &changes), expected);
    let errors = now(host.write(&changes[..200]));
    for failed in errors {
        let command = changes[failed.index].to_string();
        assert_eq!(failed.error.operation, command);
    }
    for kind in [Kind::Neighbour, Kind::Fdb, Kind::NextHop, Kind::Route] {
        assert_eq!(ours(&host, kind).len(), 3_000, "{kind:?}");
    }
}

pub(crate) fn a_read_among_changes_of_others_misses_nothing() {
    const STEADY: u32 = 2_000;
    let host = node();
    let steady = (1..=STEADY).flat_map(|peer| {
        let [_, _, next_hop, route, _] = of_peer(peer);
        [next_hop, route]
    });
    write(&host, &steady.map(Change::Add).collect::<Vec<_>>());
    let other = KernelForwarding::open().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let coming: Vec<_> = (5_000..5_200)
                .flat_map(|peer| {
                    let [_, _, next_hop, route, _] = of_peer(peer);
                    [next_hop, route]
                })
                .collect();
            while !stop.load(Ordering::Relaxed) {
                let add: Vec<_> = coming.iter().cloned().map(Change::Add).collect();
                let del: Vec<_> = coming.iter().rev().cloned().map(Change::Del).collect();
                write(&other, &add);
                write(&other, &del);
            }
        });
        for _ in 0..50 {
            for kind in [Kind::NextHop, Kind::Route] {
                let mut seen = std::collections::HashSet::new();
                let protocol = Some(OURS);
                let scope = Scope {
                    kind,
                    protocol,
                    link: None,
                };
                let outcome = now(host.read(&scope, &mut |entry| {
                    seen.insert(entry);
                }));
                outcome.unwrap();
                let missing = (1..=STEADY).filter(|peer| {
                    let [_, _, next_hop, route, _] = of_peer(*peer);
                    !seen.contains(if kind == Kind::Route {
                        &route
                    } else {
                        &next_hop
                    })
                });
                assert_eq!(missing.count(), 0, "{kind:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
