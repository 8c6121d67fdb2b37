//! A test harness that gives every test a process and namespaces of its own.

use std::env;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio, exit};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{binaries, namespaces, process};

const SELECTED: &str = "CNI_TESTKIT_TEST";
const SKIPPED: i32 = 77;
const FAILED: i32 = 101;
const TIMED_OUT: i32 = 124;
/// What takes longer hangs: the longest test takes a minute, and a loaded machine several times that.
const LIMIT: Duration = Duration::from_secs(900);

/// A test: its name, and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// The function's path, as in the list.
    pub name: &'static str,
    /// Passes by returning, fails by panicking.
    pub body: fn(),
}

/// Lists test functions by their paths, as an array of [`Test`]s.
#[macro_export]
macro_rules! tests {
    ($($body:path),* $(,)?) => {
        [$($crate::Test { name: stringify!($body), body: $body }),*]
    };
}

/// Runs the tests that the arguments select, each in its own process and namespaces, and reports as libtest does.
pub fn run(tests: &[Test]) -> ExitCode {
    run_suite(tests, false)
}

/// As [`run`], with the plugins of this workspace, built from the current code before the first test
/// ([`workspace_plugin`](crate::workspace_plugin)).
pub fn run_with_plugins(tests: &[Test]) -> ExitCode {
    run_suite(tests, true)
}

/// Whether this process is one test, rather than the one that starts them.
pub fn is_test_of_its_own() -> bool {
    env::var_os(SELECTED).is_some()
}

fn run_suite(tests: &[Test], plugins: bool) -> ExitCode {
    if let Ok(selected) = env::var(SELECTED) {
        let test = tests.iter().find(|test| test.name == selected);
        run_here(*test.expect("the parent process names a test of this binary"));
    }
    let mut arguments = Arguments::from_args();
    // The kernel serialises much of what these tests do; a few more than there are cores keeps the cores busy.
    if arguments.test_threads.is_none() {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        arguments.test_threads = Some(cores * 2);
    }
    let nocapture = arguments.nocapture;
    let trials = tests
        .iter()
        .map(|&test| {
            Trial::ignorable_test(test.name, move || {
                run_in_child(test.name, nocapture, plugins)
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    crate::kube::close_way();
    conclusion.exit_code()
}

/// Ends the test as skipped: the machine lacks something. In CI (`CI=true`) that is a failure.
pub fn skip(reason: &str) -> ! {
    println!("SKIPPED: {reason}");
    let _ = std::io::stdout().flush();
    process::end_all();
    exit(SKIPPED)
}

/// The value, or the end of the test as skipped.
pub fn require<T>(value: Option<T>, what: &str) -> T {
    value.unwrap_or_else(|| skip(&format!("{what} is not installed")))
}

fn run_in_child(name: &str, nocapture: bool, plugins: bool) -> Result<Completion, Failed> {
    let mut command = Command::new(env::current_exe()?);
    command.env(SELECTED, name).stdin(Stdio::null());
    if plugins {
        command.env(binaries::DIRECTORY, binaries::build()?);
    }
    if let Some((name, value)) = crate::kube::open_way() {
        command.env(name, value);
    }
    if nocapture {
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    }
    let output = command.output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    match output.status.code() {
        Some(0) => Ok(Completion::Completed),
        Some(SKIPPED) => skipped(name, text.trim_end()),
        _ => Err(format!("{}\n{}", output.status, text.trim_end()).into()),
    }
}

fn skipped(name: &str, text: &str) -> Result<Completion, Failed> {
    let reason = text.rsplit("SKIPPED: ").next().unwrap_or_default();
    let reason = reason.lines().next().unwrap_or_default();
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(format!("SKIPPED: {reason} (a failure in CI)").into());
    }
    eprintln!("SKIPPED: {name}: {reason}");
    Ok(Completion::ignored_with(reason))
}

/// The child's side: nothing here may start a thread before the namespaces are entered.
fn run_here(test: Test) -> ! {
    let directory = env::var_os(binaries::DIRECTORY);
    let executable = env::current_exe().unwrap_or_default();
    let keep: Vec<&Path> = [
        executable.parent(),
        directory.as_deref().map(Path::new),
        Some(Path::new(env!("CARGO_MANIFEST_DIR"))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Err(refused) = namespaces::enter(&keep) {
        eprintln!("{refused}");
        exit(FAILED);
    }
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("the test did not end within {LIMIT:?}");
        process::end_all();
        exit(TIMED_OUT);
    });
    panic::set_hook(Box::new(report));
    let passed = panic::catch_unwind(AssertUnwindSafe(test.body)).is_ok();
    exit(if passed { 0 } else { FAILED })
}

fn report(info: &PanicHookInfo<'_>) {
    eprintln!("{info}");
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        eprintln!("{trace}");
    }
}
