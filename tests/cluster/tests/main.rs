//! The network between nodes on the real kernel. See `cni_testkit::cluster` for what a test here stands on.

mod lab;

use std::process::ExitCode;

use cni_testkit::run_with_plugins;

fn main() -> ExitCode {
    let all = [lab::TESTS].concat();
    run_with_plugins(&all)
}
