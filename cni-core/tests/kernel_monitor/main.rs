//! `KernelMonitor` on the kernel, in namespaces of its own.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod probe;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_testkit::run(&cni_testkit::tests![probe::probe, probe::probe_own,])
}
