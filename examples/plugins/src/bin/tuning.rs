//! `tuning`: kernel parameters and settings of a container's interface.

use std::process::ExitCode;

use cni_core::chained::tuning::TuningPlugin;
use cni_core::plugin::Plugin;

fn main() -> ExitCode {
    Plugin::new("tuning", env!("CARGO_PKG_VERSION"))
        .about(
            "Sets kernel parameters of the container, and its interface's address, MTU and modes.",
        )
        .capabilities(["mac"])
        .run(TuningPlugin::default())
}
