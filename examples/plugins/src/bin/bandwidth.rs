//! `bandwidth`: limits of an attachment's traffic.

use std::process::ExitCode;

use cni_core::chained::bandwidth::BandwidthPlugin;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("bandwidth", env!("CARGO_PKG_VERSION"))
        .about("Limits the traffic of what the plugin before it has attached.")
        .capabilities(["bandwidth"])
        .run(BandwidthPlugin)
}
