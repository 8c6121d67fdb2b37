//! What the tests share.

use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use cni_core::host::Forwarding;
use cni_core::host::forwarding::*;

/// The protocol of what the tests make.
pub(crate) const OURS: u8 = 167;

/// The result of a future that never waits, as those of the kernel implementations.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
    }
}

/// Runs a command; its output.
pub(crate) fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    text
}

/// A node: an underlay, a classic VXLAN device and one that takes its outer headers from routes.
pub(crate) fn node() -> KernelForwarding {
    cni_testkit::require(Command::new("ip").arg("-V").output().ok(), "iproute2");
    shell(
        "ip link set lo up
        ip link add eth0 type veth peer name far
        ip address add 192.0.2.1/24 dev eth0
        ip address add 2001:db8::1/64 dev eth0 nodad
        ip link set far up
        ip link set eth0 up
        ip link add vx type vxlan id 1 dstport 8472 local 192.0.2.1 dev eth0 nolearning
        ip link add flow type vxlan dstport 4790 external gpe
        ip address add 10.244.1.0/32 dev vx
        ip link set vx up
        ip link set flow up
        until ip link show eth0 | grep -q 'state UP' && ip link show far | grep -q 'state UP'; do sleep 0.01; done",
    );
    KernelForwarding::open().unwrap()
}

/// Makes changes, all of which succeed.
pub(crate) fn write(host: &KernelForwarding, changes: &[Change]) {
    let failed = now(host.write(changes));
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The errors of the changes that fail.
pub(crate) fn failures(host: &KernelForwarding, changes: &[Change]) -> Vec<(usize, i32)> {
    let failed = now(host.write(changes));
    failed
        .iter()
        .map(|failed| (failed.index, failed.error.errno))
        .collect()
}

/// The entries in a scope.
pub(crate) fn read(host: &KernelForwarding, scope: Scope<'_>) -> Vec<Entry> {
    let mut found = Vec::new();
    now(host.read(&scope, &mut |entry| found.push(entry))).unwrap();
    found
}

/// Our entries of a kind.
pub(crate) fn ours(host: &KernelForwarding, kind: Kind) -> Vec<Entry> {
    let scope = Scope {
        kind,
        protocol: Some(OURS),
        link: Some("vx"),
    };
    read(host, scope)
}

pub(crate) fn hop(link: &str, gateway: Option<&str>) -> Hop {
    Hop {
        link: link.into(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        onlink: false,
        encap: None,
    }
}

pub(crate) fn tunnelled(id: u32, remote: &str) -> Hop {
    let remote: std::net::IpAddr = remote.parse().unwrap();
    Hop {
        encap: Some(Encap {
            id,
            remote,
            source: None,
            checksum: remote.is_ipv6(),
        }),
        ..hop("flow", None)
    }
}

/// The same from an outer source.
pub(crate) fn from(source: &str, mut hop: Hop) -> Hop {
    let source = source.parse().ok();
    hop.encap = hop.encap.map(|encap| Encap { source, ..encap });
    hop
}

pub(crate) fn next_hop(id: u32, hop: Hop) -> Entry {
    Entry::NextHop(NextHop {
        id,
        protocol: OURS,
        hop,
    })
}

pub(crate) fn route(destination: &str, metric: u32, via: Via) -> Entry {
    Entry::Route(Route {
        destination: destination.parse().unwrap(),
        table: 254,
        metric,
        protocol: OURS,
        via,
    })
}

pub(crate) fn in_table(table: u32, entry: Entry) -> Entry {
    match entry {
        Entry::Route(route) => Entry::Route(Route { table, ..route }),
        other => panic!("{other:?} has no table"),
    }
}

pub(crate) fn neighbour(address: &str, mac: &str) -> Entry {
    Entry::Neighbour(Neighbour {
        link: "vx".into(),
        address: address.parse().unwrap(),
        mac: mac.parse().unwrap(),
    })
}

pub(crate) fn fdb(mac: &str, remote: &str) -> Entry {
    Entry::Fdb(FdbEntry {
        link: "vx".into(),
        mac: mac.parse().unwrap(),
        remote: remote.parse().unwrap(),
    })
}

pub(crate) fn rule(priority: u32, source: &str, table: u32) -> Entry {
    Entry::Rule(PolicyRule {
        priority,
        source: source.parse().unwrap(),
        table,
        protocol: OURS,
    })
}
