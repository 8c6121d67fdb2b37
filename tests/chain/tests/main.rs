//! Chains of plugins on the real kernel. See `cni_testkit` for what a test here can rely on.

mod bandwidth;
mod cable;
mod firewall;
mod net;
mod portmap;
mod tuning;
mod whole;

use std::process::ExitCode;

use cni_testkit::run_with_plugins;

fn main() -> ExitCode {
    let all = [
        &portmap::tests(),
        firewall::TESTS,
        bandwidth::TESTS,
        bandwidth::life::TESTS,
        tuning::TESTS,
        tuning::life::TESTS,
        whole::TESTS,
    ]
    .concat();
    run_with_plugins(&all)
}
