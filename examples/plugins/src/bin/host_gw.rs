//! `host-gw`: pods of all nodes in one network by plain routes.

use std::process::ExitCode;

use backend_bridge::Bridge;
use backend_host_gw::HostGw;
use cni_core::node::NodeBackend;
use cni_core::plugin::Plugin;
use ptp::Ptp;

fn main() -> ExitCode {
    Plugin::new("host-gw", env!("CARGO_PKG_VERSION"))
        .about("Connects the container to those of all nodes of the cluster by routes through the nodes.")
        .capabilities(["mac", "ips", "dns"])
        .run(
            NodeBackend::new(HostGw)
                .with("bridge", Bridge)
                .with("ptp", Ptp),
        )
}
