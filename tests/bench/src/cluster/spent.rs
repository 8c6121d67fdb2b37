//! Time that passes, and CPU time, the kernel's included: that is much the same on a machine that has more to do.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::measure::cpu_of_children;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
}

impl Spent {
    pub(super) fn on(body: impl FnOnce()) -> Self {
        let (start, before) = (Instant::now(), cpu());
        body();
        Self {
            elapsed: start.elapsed(),
            cpu: cpu().saturating_sub(before),
        }
    }

    /// With the CPU time of the processes that it starts and waits for.
    pub(super) fn on_children(body: impl FnOnce()) -> Self {
        let before = cpu_of_children();
        let mut spent = Self::on(body);
        spent.cpu = cpu_of_children().saturating_sub(before);
        spent
    }

    /// How many times as much as the other: time that passes, and CPU time.
    pub(super) fn beside(self, other: Self) -> (f64, f64) {
        (
            self.elapsed.div_duration_f64(other.elapsed),
            self.cpu.div_duration_f64(other.cpu),
        )
    }

    /// The median of each.
    pub(super) fn median(series: &mut [Self]) -> Self {
        let middle = series.len() / 2;
        series.sort_unstable_by_key(|spent| spent.elapsed);
        let elapsed = series.get(middle).copied().unwrap_or_default().elapsed;
        series.sort_unstable_by_key(|spent| spent.cpu);
        let cpu = series.get(middle).copied().unwrap_or_default().cpu;
        Self { elapsed, cpu }
    }
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
