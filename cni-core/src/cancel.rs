//! When to stop: a signal, or a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// Asked between any two steps that change something; once it says no, what was done is unwound.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// Never cancelled, unless [`Cancel::cancel`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the flag is set (by a signal handler, say).
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self {
            flag,
            deadline: None,
        }
    }

    /// The same, and cancelled once `deadline` has passed.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Asks all holders to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// # Errors
    /// [`ErrorKind::TryAgain`] once cancelled, naming what was about to be done.
    pub fn check(&self, what: &str) -> Result<()> {
        if !self.is_cancelled() {
            return Ok(());
        }
        let reason = if self.flag.load(Ordering::Relaxed) {
            "stopped by a signal"
        } else {
            "the deadline has passed"
        };
        Err(Error::new(
            ErrorKind::TryAgain,
            format!("{reason} before: {what}"),
        ))
    }
}
