//! Observe, diff and apply as one, under the lock that makes taking back safe.

use crate::cancel::Cancel;
use crate::error::Result;

use super::{Desired, Handles, Journal, Plan, Scope, apply, diff, observe};

/// What to do with the plan once it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Establishing {
    /// Apply it.
    Apply,
    /// Return it, and change nothing.
    DryRun,
}

/// Makes what an ADD declares: reads the shared objects, plans, applies. On a failure everything is as before.
///
/// Nearly always the shared objects (bridge, tables, kernel parameters) are as they should be; then any number of
/// ADDs run side by side under a shared lock. Where one is missing or has drifted, this ADD runs alone: while it
/// works, nobody can come to rely on what it makes, so that a failure can take all of it back.
///
/// The journal holds the lock until it is dropped: keep it until the ADD is finished, whatever else it does.
pub async fn establish(
    desired: &Desired,
    handles: &Handles<'_>,
    cancel: &Cancel,
    mode: Establishing,
) -> Result<(Plan, Journal)> {
    within(Scope::Shared, desired, handles, cancel, mode).await
}

/// As [`establish`], reading also what is the attachment's own: for objects that are there already and are only to be set,
/// and for what an ADD that died may have left. What is as it should be stays.
///
/// # Errors
/// Those of [`establish`].
pub async fn converge(
    desired: &Desired,
    handles: &Handles<'_>,
    cancel: &Cancel,
    mode: Establishing,
) -> Result<(Plan, Journal)> {
    within(Scope::All, desired, handles, cancel, mode).await
}

async fn within(
    scope: Scope,
    desired: &Desired,
    handles: &Handles<'_>,
    cancel: &Cancel,
    mode: Establishing,
) -> Result<(Plan, Journal)> {
    let lock = handles.host.lock.as_ref();
    if mode == Establishing::DryRun {
        let observed = observe(handles, desired, scope).await?;
        return Ok((diff(desired, &observed)?, Journal::default()));
    }
    let mut guard = lock.shared().await?;
    let mut plan = diff(desired, &observe(handles, desired, scope).await?)?;
    if plan.touches_shared() {
        drop(guard);
        guard = lock.exclusive(cancel).await?;
        // Another ADD may have done it while this one waited.
        plan = diff(desired, &observe(handles, desired, scope).await?)?;
    }
    let mut journal = apply(&plan, handles, cancel).await?;
    journal.guard = Some(guard);
    Ok((plan, journal))
}
