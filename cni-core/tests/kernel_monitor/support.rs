//! What the tests share.

use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cni_core::host::firewall::{Family, Table};
use cni_core::host::forwarding::*;
use cni_core::host::monitor::KernelMonitor;
use cni_core::host::{KernelEvent, Monitor};

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

/// A node: an underlay, a classic VXLAN device and one that takes its outer headers from routes. Nothing is going on in it:
/// links have no addresses that the kernel would still be trying, and their state has settled.
pub(crate) fn node() {
    cni_testkit::require(Command::new("ip").arg("-V").output().ok(), "iproute2");
    shell(
        "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode
        ip link set lo up
        ip link add eth0 type veth peer name far
        ip address add 192.0.2.1/24 dev eth0
        ip address add 2001:db8::1/64 dev eth0 nodad
        ip link set far up
        ip link set eth0 up
        ip link add vx type vxlan id 1 dstport 8472 local 192.0.2.1 dev eth0 nolearning
        ip link add flow type vxlan dstport 4790 external gpe
        ip address add 10.244.1.0/32 dev vx
        ip address add fd00:244:1::/128 dev vx nodad
        ip link set vx up
        ip link set flow up
        until ip link show eth0 | grep -q 'state UP' && ip link show far | grep -q 'state UP'; do sleep 0.01; done",
    );
}

/// A monitor whose events are taken one by one.
pub(crate) struct Watch {
    monitor: KernelMonitor,
    runtime: tokio::runtime::Runtime,
    fences: u32,
}

impl Watch {
    /// Of this namespace.
    pub(crate) fn open() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self {
            monitor: KernelMonitor::open().unwrap(),
            runtime: builder.enable_time().build().unwrap(),
            fences: 0,
        }
    }

    /// The next event, for which a while is waited.
    pub(crate) fn next(&mut self) -> KernelEvent {
        let next =
            async { tokio::time::timeout(Duration::from_secs(30), self.monitor.next()).await };
        self.runtime.block_on(next).expect("there is no event")
    }

    /// What is told until now but for addresses: the kernel completes those of IPv6 when it finds time for it, and says so.
    pub(crate) fn taken(&mut self) -> Vec<KernelEvent> {
        let mut all = self.all_taken();
        all.retain(|event| !matches!(event, KernelEvent::Address { .. }));
        all
    }

    /// Everything that is told until now: up to a change that is made to be recognised.
    pub(crate) fn all_taken(&mut self) -> Vec<KernelEvent> {
        let mut all = self.until_fence();
        // The sockets are read in turns: nftables' has been read when the other one has been twice.
        all.extend(self.until_fence());
        all
    }

    fn until_fence(&mut self) -> Vec<KernelEvent> {
        let mut all = Vec::new();
        self.fence();
        loop {
            let event = self.next();
            match event {
                KernelEvent::Address { index: 1, .. } => return all,
                // The fence may be a part of what was lost.
                KernelEvent::Overrun => self.fence(),
                _ => {}
            }
            all.push(event);
        }
    }

    fn fence(&mut self) {
        self.fences += 1;
        let address = format!("127.1.{}.{}/32", self.fences / 256, self.fences % 256);
        shell(&format!("ip address add {address} dev lo"));
    }

    /// What is told within a moment, addresses left out.
    pub(crate) fn waiting(&mut self) -> Vec<KernelEvent> {
        let mut all = Vec::new();
        let moment = Duration::from_millis(10);
        while let Ok(event) = self
            .runtime
            .block_on(async { tokio::time::timeout(moment, self.monitor.next()).await })
        {
            all.push(event);
        }
        all.retain(|event| !matches!(event, KernelEvent::Address { .. }));
        all
    }

    /// What a future that may wait comes to.
    pub(crate) fn with<T>(&mut self, work: impl AsyncFnOnce(&mut KernelMonitor) -> T) -> T {
        self.runtime.block_on(work(&mut self.monitor))
    }

    /// What another program's commands cause.
    pub(crate) fn after(&mut self, commands: &str) -> Vec<KernelEvent> {
        shell(commands);
        self.taken()
    }
}

pub(crate) fn link(name: &str, removed: bool) -> impl Fn(&KernelEvent) -> bool {
    move |event| matches!(event, KernelEvent::Link { name: other, removed: gone, .. } if other == name && *gone == removed)
}

pub(crate) fn address(name: &str) -> impl Fn(&KernelEvent) -> bool {
    move |event| matches!(event, KernelEvent::Address { name: other, .. } if other == name)
}

pub(crate) fn made(entry: Entry) -> KernelEvent {
    KernelEvent::Entry {
        entry,
        removed: false,
    }
}

pub(crate) fn firewall(table: &str) -> KernelEvent {
    let table = Table {
        family: Family::Inet,
        name: table.to_owned(),
    };
    KernelEvent::Firewall { table }
}

pub(crate) fn removed(entry: Entry) -> KernelEvent {
    KernelEvent::Entry {
        entry,
        removed: true,
    }
}

pub(crate) fn gone(key: Key) -> KernelEvent {
    KernelEvent::Gone { key }
}

pub(crate) fn hop(link: &str, gateway: Option<&str>) -> Hop {
    Hop {
        link: link.into(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        onlink: false,
        encap: None,
    }
}

pub(crate) fn tunnelled(remote: &str) -> Hop {
    Hop {
        encap: Some(Encap {
            id: 1,
            remote: remote.parse().unwrap(),
            source: None,
            checksum: false,
        }),
        ..hop("flow", None)
    }
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
