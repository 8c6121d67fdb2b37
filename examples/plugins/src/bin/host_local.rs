//! `host-local`: addresses from a store on this host.

use std::process::ExitCode;

use cni_core::ipam::HostLocal;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("host-local", env!("CARGO_PKG_VERSION"))
        .about("Hands out addresses from a store on this host.")
        .capabilities(["ipRanges", "ips"])
        .run_ipam(HostLocal::new())
}
