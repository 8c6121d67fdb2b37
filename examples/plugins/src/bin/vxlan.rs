//! `vxlan`: pods of all nodes in one network over VXLAN.

use std::process::ExitCode;

use backend_bridge::Bridge;
use backend_vxlan::Vxlan;
use cni_core::node::NodeBackend;
use cni_core::plugin::Plugin;
use ptp::Ptp;

fn main() -> ExitCode {
    Plugin::new("vxlan", env!("CARGO_PKG_VERSION"))
        .about("Connects the container to those of all nodes of the cluster over VXLAN.")
        .capabilities(["mac", "ips", "dns"])
        .run(
            NodeBackend::new(Vxlan)
                .with("bridge", Bridge)
                .with("ptp", Ptp),
        )
}
