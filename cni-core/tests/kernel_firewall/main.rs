//! `KernelFirewall` against the real kernel. Each test has a network namespace of its own; without root, all of them
//! are inside a user namespace that `main` makes first. Arguments: parts of test names, and `--measure`.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod commit;
mod flows;
mod lapse;
mod measure;
mod nft;
mod ports;
mod read;
mod spec;
mod support;
mod tunnel;

use std::process::ExitCode;

use support::{Outcome, Test, enter_user_namespace, run};

fn main() -> ExitCode {
    // A child that a test starts with fewer capabilities: one check, never the tests.
    if std::env::args().any(|argument| argument == commit::EXPECT_EPERM) {
        commit::expect_eperm();
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|argument| argument == commit::IN_USER_NAMESPACE) {
        commit::many_as_an_ordinary_user();
        return ExitCode::SUCCESS;
    }
    if let Err(error) = enter_user_namespace() {
        eprintln!(
            "FAILED: no user namespace ({error}): run as root, or allow them with \
             `sysctl kernel.unprivileged_userns_clone=1` and \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        );
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--measure") {
        run(measure::measure).report("measure");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(*f));
    let tests: Vec<Test> = [
        commit::TESTS,
        read::TESTS,
        spec::TESTS,
        nft::TESTS,
        tunnel::TESTS,
        ports::TESTS,
        flows::TESTS,
        lapse::TESTS,
    ]
    .concat();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    let mut skipped = 0;
    let mut passed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        let outcome = run(*test);
        outcome.report(name);
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Skipped(_) => skipped += 1,
            Outcome::Failed(_) => failed += 1,
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {skipped} ignored");
    ExitCode::from(u8::from(failed > 0))
}
