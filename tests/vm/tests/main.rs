//! Tests on another kernel than the machine's own: Debian's cloud kernel has bridge VLAN filtering and dummy links,
//! which kernels of small virtual machines and containers' hosts often lack.
//!
//! One program in three roles. On the machine ([`host`]) it packs itself, the plugins and other test programs into an
//! initramfs and boots it in QEMU, emulated, so that no hardware support is needed. As process 1 of the guest
//! ([`init`]) it prepares the system, runs the programs, and powers off. As one of these programs it runs the tests of
//! [`netlink`] and [`vlan`], each in namespaces of its own as elsewhere, and before them that of [`first`], in the kernel's own.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod archive;
mod first;
mod host;
mod init;
mod kernel;
mod netlink;
mod vlan;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
    }
    if std::env::var_os(init::GUEST).is_some() {
        if !cni_testkit::is_test_of_its_own() {
            first::room_is_made_for_many_neighbours();
        }
        let all = [netlink::TESTS, vlan::TESTS].concat();
        return cni_testkit::run_with_plugins(&all);
    }
    cni_testkit::run_with_plugins(host::TESTS)
}
