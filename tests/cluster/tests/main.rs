//! The network between nodes on the real kernel. See `cni_testkit::cluster` for what a test here stands on.

mod alone;
mod closed;
mod direct;
mod flannel;
mod lab;
mod model;
mod own;
mod update;
mod verbs;
mod wire;
mod world;

use std::process::ExitCode;

use cni_testkit::run_with_plugins;

fn main() -> ExitCode {
    let all = [
        lab::TESTS,
        alone::TESTS,
        model::TESTS,
        wire::TESTS,
        closed::TESTS,
        direct::TESTS,
        flannel::TESTS,
        own::TESTS,
        update::TESTS,
        verbs::TESTS,
    ]
    .concat();
    run_with_plugins(&all)
}
