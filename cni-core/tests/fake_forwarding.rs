//! What the fake kernel can be without, and how its writes to next hops and routes fail.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

use cni_core::host::forwarding::{
    Change, Entry, Hop, Kind, Neighbour, NextHop, PolicyRule, Route, Scope, Via,
};
use cni_core::host::netlink::{NetlinkChange, NewLink, NewLinkKind, errno};
use cni_core::host::{Host, NetlinkExt};
use cni_core::testing::{FakeKernel, Faults, Faulty};

const PROTOCOL: u8 = 167;
const EIO: i32 = 5;

/// With a link `d` that is up.
async fn node(kernel: &FakeKernel) -> Host {
    let mut dummy = NewLink::new("d", NewLinkKind::Dummy);
    dummy.up = true;
    let host = kernel.host();
    let made = host.netlink.apply_one(NetlinkChange::LinkAdd(dummy)).await;
    made.unwrap();
    kernel.faults().reset();
    host
}

fn next_hop(id: u32) -> Entry {
    Entry::NextHop(NextHop {
        id,
        protocol: PROTOCOL,
        hop: hop(),
    })
}

fn hop() -> Hop {
    Hop {
        link: "d".into(),
        gateway: None,
        onlink: false,
        encap: None,
    }
}

fn route(to: &str, via: Via) -> Entry {
    Entry::Route(Route {
        destination: to.parse().unwrap(),
        table: 254,
        metric: 7,
        protocol: PROTOCOL,
        via,
    })
}

fn rule(source: &str) -> Entry {
    Entry::Rule(PolicyRule {
        priority: 100,
        source: source.parse().unwrap(),
        table: 77,
        protocol: PROTOCOL,
    })
}

fn neighbour(address: &str) -> Entry {
    Entry::Neighbour(Neighbour {
        link: "d".into(),
        address: address.parse().unwrap(),
        mac: "02:00:00:00:00:07".parse().unwrap(),
    })
}

/// Index and errno of each change that fails.
async fn failures(host: &Host, changes: &[Change]) -> Vec<(usize, i32)> {
    let failed = host.forwarding.write(changes).await;
    failed
        .iter()
        .map(|failed| (failed.index, failed.error.errno))
        .collect()
}

async fn ids(host: &Host) -> Vec<u32> {
    let scope = Scope {
        kind: Kind::NextHop,
        protocol: None,
        link: None,
    };
    let mut ids = Vec::new();
    let mut each = |entry| {
        if let Entry::NextHop(next_hop) = entry {
            ids.push(next_hop.id);
        }
    };
    host.forwarding.read(&scope, &mut each).await.unwrap();
    ids
}

#[tokio::test]
async fn each_change_of_a_write_is_one_write_that_can_fail() {
    for wrapped in [false, true] {
        let kernel = FakeKernel::new();
        let mut host = node(&kernel).await;
        let mut faults = kernel.faults().clone();
        if wrapped {
            faults = Faults::new();
            host = Faulty::host(&host, &faults);
        }
        faults.fail_write(2, errno::ENOMEM);
        faults.fail_write(4, errno::ENOBUFS);
        // The third is refused by the kernel itself.
        let changes = [1, 2, 1, 4, 5].map(|id| Change::Add(next_hop(id)));
        let failed = failures(&host, &changes).await;
        let wanted = [(1, errno::ENOMEM), (2, errno::EEXIST), (3, errno::ENOBUFS)];
        assert_eq!(failed, wanted, "wrapped {wrapped}");
        assert_eq!((faults.writes(), faults.fired()), (5, 2));
        assert_eq!(ids(&host).await, [1, 5]);
        // The faults are over.
        let again = [2, 4].map(|id| Change::Add(next_hop(id)));
        assert_eq!(failures(&host, &again).await, []);
    }
}

#[tokio::test]
async fn a_crash_within_a_write_ends_it() {
    for wrapped in [false, true] {
        let kernel = FakeKernel::new();
        let mut host = node(&kernel).await;
        let mut faults = kernel.faults().clone();
        if wrapped {
            faults = Faults::new();
            host = Faulty::host(&host, &faults);
        }
        faults.crash_at(3);
        let changes = [1, 2, 3, 4].map(|id| Change::Add(next_hop(id)));
        let failed = failures(&host, &changes).await;
        assert_eq!(failed, [(2, EIO), (3, EIO)], "wrapped {wrapped}");
        assert_eq!(failures(&host, &changes[..1]).await, [(0, EIO)]);
        assert_eq!(ids(&host).await, [1, 2], "reading still works");
        faults.revive();
        assert_eq!(failures(&host, &changes[2..]).await, []);
    }
}

#[tokio::test]
async fn a_kernel_can_be_without_next_hops() {
    let kernel = FakeKernel::new().without_next_hops();
    let host = node(&kernel).await;
    assert_eq!(host.forwarding.has_next_hops().await, Ok(false));
    let changes = [
        Change::Add(next_hop(1)),
        Change::Add(route("10.1.0.0/24", Via::NextHop(1))),
        Change::Add(route("10.1.0.0/24", Via::Hop(Box::new(hop())))),
        Change::Del(next_hop(1)),
    ];
    let failed = failures(&host, &changes).await;
    let wanted = [
        (0, errno::EOPNOTSUPP),
        (1, errno::EINVAL),
        (3, errno::EOPNOTSUPP),
    ];
    assert_eq!(failed, wanted);
    assert!(ids(&host).await.is_empty());
}

#[tokio::test]
async fn a_kernel_can_be_without_ipv6() {
    let kernel = FakeKernel::new().without_ipv6();
    let host = node(&kernel).await;
    let mut over6 = hop();
    over6.gateway = "fe80::1".parse().ok();
    let over6 = Entry::NextHop(NextHop {
        id: 2,
        protocol: PROTOCOL,
        hop: over6,
    });
    let changes = [
        // Of IPv4, as there is nothing else.
        Change::Add(next_hop(1)),
        Change::Add(route("10.1.0.0/24", Via::NextHop(1))),
        Change::Add(over6),
        Change::Add(route("fd01::/64", Via::Unreachable)),
        Change::Add(neighbour("10.0.0.2")),
        Change::Add(neighbour("fd00::2")),
        Change::Add(rule("10.1.0.0/24")),
        Change::Add(rule("fd01::/64")),
    ];
    let failed = failures(&host, &changes).await;
    let wanted = [
        (2, errno::EAFNOSUPPORT),
        (3, errno::EOPNOTSUPP),
        (5, errno::EAFNOSUPPORT),
        (7, errno::EAFNOSUPPORT),
    ];
    assert_eq!(failed, wanted);
}
