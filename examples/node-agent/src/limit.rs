//! How many lines are logged: pure, time is handed in.

use std::time::Duration;

use tokio::time::Instant;

/// A window of time.
const WINDOW: Duration = Duration::from_secs(1);

/// Lets the first lines of each second pass, and counts the others.
#[derive(Debug)]
pub(crate) struct Limit {
    most: u32,
    began: Option<Instant>,
    passed: u32,
    withheld: u64,
}

impl Limit {
    /// So many lines a second pass.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            began: None,
            passed: 0,
            withheld: 0,
        }
    }

    /// Whether a line may pass. Ask [`Limit::summary`] before: a new second begins with what the last one withheld.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now >= began + WINDOW) {
            self.began = Some(now);
            self.passed = 0;
        }
        let admitted = self.passed < self.most;
        if admitted {
            self.passed += 1;
        } else {
            self.withheld += 1;
        }
        admitted
    }

    /// How many lines were withheld, once their second has passed.
    pub(crate) fn summary(&mut self, now: Instant) -> Option<u64> {
        self.due().filter(|due| *due <= now)?;
        Some(std::mem::take(&mut self.withheld))
    }

    /// When there will be a summary.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.began
            .filter(|_| self.withheld > 0)
            .map(|began| began + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_a_second_pass_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut limit = Limit::new(3);
        let passed = (0..10).filter(|_| limit.admits(start)).count();
        assert_eq!(passed, 3);
        assert_eq!(limit.due(), Some(start + WINDOW));
        assert_eq!(limit.summary(start + WINDOW / 2), None);
        assert_eq!(limit.summary(start + WINDOW), Some(7));
        assert_eq!(limit.due(), None);
        assert!(limit.admits(start + WINDOW));
        assert_eq!(limit.summary(start + 3 * WINDOW), None);
    }
}
