//! What this process uses (`proc_pid_status(5)`, `proc_pid_stat(5)`).

use std::fs;
use std::time::Duration;

/// `USER_HZ`, in which `/proc` counts processor time: 100 on every architecture that Linux still builds for, but Alpha's
/// 1024 (`asm-generic/param.h`).
const TICKS_PER_SECOND: u64 = 100;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Resident memory in KiB (`VmRSS`).
    pub resident_kib: u64,
    /// The most that it was (`VmHWM`).
    pub peak_kib: u64,
    /// Processor time.
    pub cpu: Duration,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// This process's; what `/proc` does not tell is 0.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            resident_kib: field(&status, "VmRSS:"),
            peak_kib: field(&status, "VmHWM:"),
            cpu: cpu(&stat),
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Fields 14 and 15, `utime` and `stime`. The second field may hold blanks, and ends with the last parenthesis.
fn cpu(stat: &str) -> Duration {
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_files() {
        let usage = Usage::now();
        assert!(
            usage.resident_kib > 100 && usage.peak_kib >= usage.resident_kib,
            "{usage:?}"
        );
        assert!(usage.descriptors >= 3, "{usage:?}");
    }

    #[test]
    fn processor_time_is_found_behind_a_name_with_blanks() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu(stat), Duration::from_millis(1750));
    }
}
