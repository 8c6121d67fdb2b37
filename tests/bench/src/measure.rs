//! Times, CPU, memory, processes and netlink messages of whole processes.

use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cni_testkit::{Invocation, Outcome};
use nix::sys::resource::{UsageWho, getrusage};

/// Longer than the kernel cleans up (RCU) after a process or a link has gone: no run is to pay for the one before it,
/// and what runs after a slow one is not to profit from it.
const SETTLING: Duration = Duration::from_millis(40);

/// Waits until the kernel has cleaned up.
pub(crate) fn settle() {
    std::thread::sleep(SETTLING);
}

/// A series of measurements of one thing.
#[derive(Default, Clone)]
pub(crate) struct Series {
    pub(crate) wall: Vec<Duration>,
    cpu: Duration,
}

impl Series {
    /// Runs a plugin once and takes its time; a failed run ends the benchmark.
    pub(crate) fn run(&mut self, invocation: &Invocation) -> Outcome {
        settle();
        let before = cpu_of_children();
        let start = Instant::now();
        let outcome = invocation.run();
        self.wall.push(start.elapsed());
        self.cpu += cpu_of_children().saturating_sub(before);
        assert!(outcome.is_success(), "{outcome}");
        outcome
    }

    pub(crate) fn time(&mut self, body: impl FnOnce()) {
        settle();
        let start = Instant::now();
        body();
        self.wall.push(start.elapsed());
    }

    /// Milliseconds at a percentile.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.wall.clone();
        sorted.sort_unstable();
        let position = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted
            .get(position)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    /// Mean CPU milliseconds, children of the plugin included.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / self.wall.len().max(1) as f64
    }
}

/// User and system time of all children that have ended.
pub(crate) fn cpu_of_children() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return Duration::ZERO;
    };
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64)
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// The first argument that makes this program a small parent that measures one child's memory: what a child of this
/// process itself would show begins at this process's size.
pub(crate) const PEAK: &str = "--peak-of";

/// Peak resident memory of one run of a program, in KiB, with this process's environment and stdin passed on.
pub(crate) fn peak_of_one_run(mut words: impl Iterator<Item = String>) -> ExitCode {
    let Some(program) = words.next() else {
        return ExitCode::FAILURE;
    };
    let status = Command::new(program)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss());
    eprintln!("{peak}");
    if status.is_ok_and(|status| status.success()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What strace counts of one run: processes started beyond the first, netlink messages sent.
pub(crate) struct Counts {
    pub(crate) processes: usize,
    pub(crate) netlink: usize,
    /// Files opened, those of the program's own start included.
    pub(crate) files: usize,
}

/// Counts system calls of one run with strace, where it is installed.
pub(crate) fn counts(
    environment: &[(String, String)],
    program: &str,
    stdin: &str,
) -> Option<Counts> {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-yy",
        "-e",
        "trace=execve,sendto,sendmsg,write,openat",
        program,
    ]);
    let text = communicate(command, environment, stdin).ok()?.1;
    let processes = text
        .lines()
        .filter(|line| line.contains("execve(") && line.contains("= 0"))
        .count();
    let sends = |line: &&str| {
        (line.contains("sendto(") || line.contains("sendmsg(")) && line.contains("NETLINK")
    };
    Some(Counts {
        processes: processes.saturating_sub(1),
        netlink: text.lines().filter(sends).count(),
        files: text.lines().filter(|line| line.contains("openat(")).count(),
    })
}

/// Peak memory of one run in KiB.
pub(crate) fn peak(environment: &[(String, String)], program: &str, stdin: &str) -> Option<u64> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args([PEAK, program]);
    communicate(command, environment, stdin)
        .ok()?
        .1
        .trim()
        .parse()
        .ok()
}

fn communicate(
    mut command: Command,
    environment: &[(String, String)],
    stdin: &str,
) -> io::Result<(bool, String)> {
    let mut child = command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        io::Write::write_all(&mut pipe, stdin.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
