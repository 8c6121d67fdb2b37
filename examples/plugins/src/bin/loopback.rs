//! `loopback`: brings `lo` up in the container's namespace.

use std::process::ExitCode;

use cni_core::plugin::Plugin;
use cni_plugins::Loopback;

fn main() -> ExitCode {
    Plugin::new("loopback", env!("CARGO_PKG_VERSION"))
        .about("Brings the loopback interface of the container up.")
        .run(Loopback)
}
