//! `firewall`: lets pods through, and keeps them apart.

use std::process::ExitCode;

use cni_core::chained::firewall::Firewall;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("firewall", env!("CARGO_PKG_VERSION"))
        .about("Lets the container's packets through a host that drops what it forwards, and closes networks to each other.")
        .run(Firewall::new())
}
