//! `portmap`: ports of the host that lead to a container, as a chained plugin.

use std::process::ExitCode;

use cni_core::chained::portmap::Portmap;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("portmap", env!("CARGO_PKG_VERSION"))
        .about("Leads ports of the host to the container.")
        .capabilities(["portMappings"])
        .run(Portmap)
}
