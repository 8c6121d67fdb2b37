//! `ptp`: see the library.

use std::process::ExitCode;

use cni_core::plugin::Plugin;
use ptp::Ptp;

fn main() -> ExitCode {
    Plugin::new("ptp", env!("CARGO_PKG_VERSION"))
        .about("Connects the container to the host by a routed veth pair.")
        .run(Ptp)
}
