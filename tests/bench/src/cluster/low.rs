//! `Forwarding::write` beside the same messages, encoded before.

use std::net::IpAddr;
use std::sync::LazyLock;

use cni_core::host::Forwarding;
use cni_core::host::forwarding::{
    Change, Encap, Entry, FdbEntry, Hop, KernelForwarding, LinkName, Neighbour, NextHop, Route, Via,
};
use cni_core::host::netlink::MacAddr;
use cni_core::ipnetwork::IpNetwork;
use cni_testkit::Pod;

use super::messages::{self, datagrams, socket};
use super::peers::{
    self, CLASSIC, FLOW, OUTER, PROTOCOL, VNI, devices, index, mac, prefix, uplink, vtep,
};
use super::spent::{Spent, ms};
use super::wait;

const ENTRIES: u32 = 10_000;

/// A kind of entry: the changes, and the messages.
type Kind = (&'static str, fn(u32) -> Entry, fn(Indexes, u32) -> Vec<u8>);

// Ten thousand entries share a name.
static CLASSIC_LINK: LazyLock<LinkName> = LazyLock::new(|| CLASSIC.into());
static FLOW_LINK: LazyLock<LinkName> = LazyLock::new(|| FLOW.into());
static UPLINK: LazyLock<LinkName> = LazyLock::new(|| "eth0".into());

#[derive(Clone, Copy)]
struct Indexes {
    classic: u32,
    flow: u32,
    uplink: u32,
}

/// In this order: routes need next hops.
const KINDS: &[Kind] = &[
    ("neighbours", neighbour, |index, peer| {
        messages::neighbour(index.classic, peer)
    }),
    ("forwarding entries", fdb, |index, peer| {
        messages::fdb(index.classic, peer)
    }),
    ("next hops, tunnel", tunnel, |index, peer| {
        messages::tunnel(index.flow, peer)
    }),
    ("next hops, onlink", onlink, |index, peer| {
        messages::gateway(index.classic, peer + 100_000, vtep(peer), true)
    }),
    ("next hops, gateway", gateway, |index, peer| {
        messages::gateway(index.uplink, peer + 200_000, peers::underlay(peer), false)
    }),
    ("routes", route, |_, peer| messages::route(peer)),
];

pub(super) fn run(runs: usize) {
    println!("\n-- {ENTRIES} entries of a kind, ms: median of {runs} runs, interleaved");
    println!(
        "{:<20} {:>16} {:>16} {:>14}",
        "", "ours", "encoded before", "ratio"
    );
    println!(
        "{:<20} {:>8} {:>7} {:>8} {:>7} {:>7} {:>6}",
        "", "elapsed", "CPU", "elapsed", "CPU", "elapsed", "CPU"
    );
    let mut ours = vec![Vec::new(); KINDS.len()];
    let mut floor = vec![Vec::new(); KINDS.len()];
    let changes: Vec<Vec<Change>> = KINDS
        .iter()
        .map(|(_, entry, _)| (1..=ENTRIES).map(|peer| Change::Add(entry(peer))).collect())
        .collect();
    let changes = &changes;
    for _ in 0..runs {
        one_run(
            |_| {
                let host = KernelForwarding::open().expect("a socket");
                Box::new(move |kind| {
                    let failed = wait(host.write(&changes[kind]));
                    assert!(failed.is_empty(), "{:?}", failed.first());
                })
            },
            &mut ours,
        );
        one_run(
            |indexes| {
                let encoded: Vec<Vec<Vec<u8>>> = KINDS
                    .iter()
                    .map(|(_, _, message)| {
                        datagrams((1..=ENTRIES).map(|peer| message(indexes, peer)))
                    })
                    .collect();
                let socket = socket();
                Box::new(move |kind| messages::send(&socket, &encoded[kind]))
            },
            &mut floor,
        );
    }
    for (kind, (name, _, _)) in KINDS.iter().enumerate() {
        let (ours, floor) = (
            Spent::median(&mut ours[kind]),
            Spent::median(&mut floor[kind]),
        );
        let (elapsed, cpu) = ours.beside(floor);
        println!(
            "{name:<20} {:>8.1} {:>7.1} {:>8.1} {:>7.1} {:>7.2} {:>6.2}",
            ms(ours.elapsed),
            ms(ours.cpu),
            ms(floor.elapsed),
            ms(floor.cpu),
            elapsed,
            cpu
        );
    }
}

/// All kinds, one after another, in a namespace of their own.
fn one_run<'a>(
    prepare: impl FnOnce(Indexes) -> Box<dyn FnMut(usize) + 'a> + Send,
    times: &mut [Vec<Spent>],
) {
    crate::measure::settle();
    Pod::new("low").run(|| {
        uplink();
        devices();
        let mut write = prepare(Indexes {
            classic: index(CLASSIC),
            flow: index(FLOW),
            uplink: index("eth0"),
        });
        for (kind, times) in times.iter_mut().enumerate() {
            times.push(Spent::on(|| write(kind)));
        }
    });
}

fn neighbour(peer: u32) -> Entry {
    Entry::Neighbour(Neighbour {
        link: CLASSIC_LINK.clone(),
        address: vtep(peer).into(),
        mac: MacAddr(mac(peer)),
    })
}

fn fdb(peer: u32) -> Entry {
    Entry::Fdb(FdbEntry {
        link: CLASSIC_LINK.clone(),
        mac: MacAddr(mac(peer)),
        remote: peers::underlay(peer).into(),
    })
}

fn next_hop(id: u32, link: &LinkName, gateway: Option<IpAddr>) -> NextHop {
    NextHop {
        id,
        protocol: PROTOCOL,
        hop: Hop {
            link: link.clone(),
            gateway,
            onlink: false,
            encap: None,
        },
    }
}

fn tunnel(peer: u32) -> Entry {
    let mut next_hop = next_hop(peer, &FLOW_LINK, None);
    next_hop.hop.encap = Some(Encap {
        id: VNI,
        remote: peers::underlay(peer).into(),
        source: Some(OUTER.into()),
        checksum: false,
    });
    Entry::NextHop(next_hop)
}

fn onlink(peer: u32) -> Entry {
    let mut next_hop = next_hop(peer + 100_000, &CLASSIC_LINK, Some(vtep(peer).into()));
    next_hop.hop.onlink = true;
    Entry::NextHop(next_hop)
}

fn gateway(peer: u32) -> Entry {
    let gateway = peers::underlay(peer).into();
    Entry::NextHop(next_hop(peer + 200_000, &UPLINK, Some(gateway)))
}

fn route(peer: u32) -> Entry {
    Entry::Route(Route {
        destination: IpNetwork::new(prefix(peer).into(), 24).expect("a prefix"),
        table: 254,
        metric: 0,
        protocol: PROTOCOL,
        via: Via::NextHop(peer),
    })
}
