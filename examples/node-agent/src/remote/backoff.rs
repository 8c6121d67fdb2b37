//! How long to wait before the next try.

use std::time::Duration;

/// Waits that grow with each failure. `luck`, from 0 to 1, spreads nodes that failed at once.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(100);
/// A server that refuses or breaks off has much to do.
const MOST_OF_A_SERVER: Duration = Duration::from_secs(30);
/// One that cannot be reached has nothing to do with a try that does not reach it, and is to be found soon after it can be.
const MOST_OF_A_WAY: Duration = Duration::from_millis(600);

impl Backoff {
    /// The wait after one more failure; `reached` tells whether a server answered at all.
    pub fn next(&mut self, reached: bool, luck: f64) -> Duration {
        let grown = FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let most = if reached {
            MOST_OF_A_SERVER
        } else {
            MOST_OF_A_WAY
        };
        grown.min(most).mul_f64(0.5 + luck.clamp(0.0, 1.0) / 2.0)
    }

    /// All is well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_have_an_end() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10)
            .map(|_| backoff.next(true, 1.0).as_millis())
            .collect();
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]
        );
        assert_eq!(backoff.next(false, 1.0).as_millis(), 600);
        assert_eq!(backoff.next(false, 0.0).as_millis(), 300);
        backoff.reset();
        assert_eq!(backoff.next(true, 0.0).as_millis(), 50);
    }
}
