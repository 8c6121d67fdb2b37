//! `static`: the addresses that the configuration names.

use std::process::ExitCode;

use cni_core::ipam::Static;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("static", env!("CARGO_PKG_VERSION"))
        .about("Hands out the addresses that the configuration names.")
        .capabilities(["ips"])
        .run_ipam(Static::new())
}
