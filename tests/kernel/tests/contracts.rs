//! The contracts of the facilities' traits, on the kernel.

use cni_core::host::Host;
use cni_core::host::firewall::KernelFirewall;
use cni_core::testing::conformance;
use cni_testkit::{Pod, Test, tests};
use std::sync::Arc;

pub(crate) const TESTS: &[Test] = &tests![the_kernel_keeps_the_contract_of_netlink];

fn the_kernel_keeps_the_contract_of_netlink() {
    in_namespace(async |host| conformance::netlink(host.netlink.as_ref()).await);
}

/// Runs `body` with the handles of a new namespace.
pub(crate) fn in_namespace<F: AsyncFnOnce(Host) + Send>(body: F) {
    Pod::new("contract").run(|| {
        let host = Host::open_with_firewall(Arc::new(KernelFirewall::new()));
        wait(body(host.expect("handles of the namespace")));
    });
}

/// Runs a future to its end on this thread.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}
