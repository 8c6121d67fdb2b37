//! `bridge`: pods on a Linux bridge.

use std::process::ExitCode;

use backend_bridge::Bridge;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("bridge", env!("CARGO_PKG_VERSION"))
        .about("Connects the container to a Linux bridge by a veth pair.")
        .capabilities(["mac", "ips", "ipRanges", "dns"])
        .run(Bridge)
}
