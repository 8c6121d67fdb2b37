//! What the tests share.

use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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

/// A node: an underlay, a classic VXLAN device and one that takes its outer headers from routes.
pub(crate) fn node() {
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
        ip address add fd00:244:1::/128 dev vx nodad
        ip link set vx up
        ip link set flow up",
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

    /// Everything that is told until now: up to a change that is made to be recognised.
    pub(crate) fn taken(&mut self) -> Vec<KernelEvent> {
        let mut all = self.until_fence();
        // The sockets are read in turns: nftables' has been read when the other one has been twice.
        all.extend(self.until_fence());
        all
    }

    fn until_fence(&mut self) -> Vec<KernelEvent> {
        self.fences += 1;
        let address = format!("127.1.{}.{}/32", self.fences / 256, self.fences % 256);
        shell(&format!("ip address add {address} dev lo"));
        let mut all = Vec::new();
        loop {
            match self.next() {
                KernelEvent::Address { index: 1, .. } => return all,
                other => all.push(other),
            }
        }
    }

    /// What another program's commands cause.
    pub(crate) fn after(&mut self, commands: &str) -> Vec<KernelEvent> {
        shell(commands);
        self.taken()
    }
}
