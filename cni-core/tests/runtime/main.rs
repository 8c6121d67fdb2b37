//! The runtime side: configurations, chains and kept results, with plugins that are this test binary.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod cache;
mod chain;
mod collect;
mod config;
mod kit;

use std::process::ExitCode;

use cni_core::testing::noop;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if noop::is_asked() {
        return noop::run();
    }
    let tests = [config::TESTS, chain::TESTS, cache::TESTS, collect::TESTS].concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
