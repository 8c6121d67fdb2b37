//! Waiting on a machine that may be busy.

use std::time::Duration;

/// A wait in short turns. Where this process, the one that it waits for and the kernel between them have to share a processor with
/// others, or a whole machine stands still for a moment, each turn takes longer than it says, and the wait with it; on a machine
/// that does nothing else it is as long as it says.
#[derive(Debug)]
pub struct Turns {
    turn: Duration,
    left: u32,
}

const TURN: Duration = Duration::from_millis(10);

impl Turns {
    /// Those that are so long together.
    pub fn of(wait: Duration) -> Self {
        let turn = wait.min(TURN);
        let left = wait.as_micros().checked_div(turn.as_micros()).unwrap_or(1);
        Self {
            turn,
            left: u32::try_from(left).unwrap_or(u32::MAX),
        }
    }
}

impl Iterator for Turns {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_as_long_together_as_the_wait() {
        let all = |wait| Turns::of(wait).fold(Duration::ZERO, |sum, turn| sum + turn);
        for wait in [0, 1, 9_999, 10_000, 50_000, 900_000, 20_000_000] {
            let wait = Duration::from_micros(wait);
            assert_eq!(all(wait), wait);
        }
        assert_eq!(Turns::of(Duration::ZERO).count(), 1);
    }
}
