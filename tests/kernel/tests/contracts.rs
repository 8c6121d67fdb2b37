//! The contracts of the facilities' traits, on the kernel.

use std::sync::Arc;

use cni_core::host::Host;
use cni_core::host::firewall::KernelFirewall;
use cni_core::testing::conformance;
use cni_testkit::{Pod, Test, tests};

pub(crate) const TESTS: &[Test] = &tests![
    the_kernel_keeps_the_contract_of_netlink,
    the_kernel_keeps_the_contract_of_traffic_control,
    the_kernel_keeps_the_contract_of_forwarding,
    the_kernel_keeps_the_contract_of_nftables,
    the_kernel_keeps_the_contract_of_parameters,
];

fn the_kernel_keeps_the_contract_of_netlink() {
    in_namespace(async |host| conformance::netlink(host.netlink.as_ref()).await);
}

fn the_kernel_keeps_the_contract_of_traffic_control() {
    in_namespace(async |host| conformance::traffic_control(host.netlink.as_ref()).await);
}

fn the_kernel_keeps_the_contract_of_forwarding() {
    in_namespace(async |host| conformance::forwarding(&host).await);
}

fn the_kernel_keeps_the_contract_of_nftables() {
    in_namespace(async |host| conformance::firewall(host.firewall.as_ref()).await);
}

fn the_kernel_keeps_the_contract_of_parameters() {
    in_namespace(async |host| conformance::sysctl(host.sysctl.as_ref()).await);
}

/// Runs `body` with the handles of a new namespace.
fn in_namespace<F: AsyncFnOnce(Host) + Send>(body: F) {
    Pod::new("contract").run(|| wait(body(open())));
}

/// Handles of the thread's namespace.
pub(crate) fn open() -> Host {
    let host = Host::open_with_firewall(Arc::new(KernelFirewall::new()));
    host.expect("handles of the namespace")
}

/// Runs a future to its end on this thread.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}
