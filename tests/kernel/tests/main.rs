//! The plugin binaries on the real kernel. See `cni_testkit` for what a test here can rely on.

mod cluster;
mod contracts;
mod crash;
mod drift;
mod foreign;
mod interop;
mod node;
mod options;
mod parallel;
mod plugins;
mod process;
mod ptp;
mod random;
mod reach;
mod refusals;
mod world;

use std::process::ExitCode;

use cni_testkit::run_with_plugins;

fn main() -> ExitCode {
    let all = [
        cluster::TESTS,
        contracts::TESTS,
        foreign::TESTS,
        process::TESTS,
        ptp::TESTS,
        crash::TESTS,
        drift::TESTS,
        interop::TESTS,
        node::TESTS,
        options::TESTS,
        parallel::TESTS,
        reach::TESTS,
        random::TESTS,
        refusals::TESTS,
    ]
    .concat();
    run_with_plugins(&all)
}
