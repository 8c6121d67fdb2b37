//! Time that passes, and the thread's own CPU time, kernel included: that one is the same on a machine that has more to do.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

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
