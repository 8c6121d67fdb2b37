//! Observe, diff and apply as one, under the lock that makes taking back safe.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::lock::{Guard, HostLock, Sign, Wait};

use super::{Desired, Handles, Journal, Plan, Scope, apply, diff, observe};

/// How often it is looked whether another process has made what is needed, where none has been seen to have the lock alone. It
/// may have been quick; but those who look keep others from having it.
const LOOKS: Duration = Duration::from_millis(500);

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
/// The journal keeps others off until it is dropped: keep it until the ADD is finished, whatever else it does. Where shared
/// objects were made it holds the lock; else it only shows that an ADD is at work, which nobody waits for
/// ([`Sign::Working`](crate::host::lock::Sign::Working)).
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
    let make = || -> Planning<'_> {
        Box::pin(async move { diff(desired, &observe(handles, desired, scope).await?) })
    };
    if mode == Establishing::DryRun {
        return Ok((make().await?, Journal::default()));
    }
    let lock = handles.host.lock.as_ref();
    let (plan, guard) = under_lock(lock, cancel, &make).await?;
    let mut journal = apply(&plan, handles, cancel).await?;
    journal.guard = Some(match plan.touches_shared() {
        true => guard,
        // By now it can be seen that the shared objects are used. What is left to do may take seconds: nobody is to wait for it.
        false => lock.show(Sign::Working).await.unwrap_or(guard),
    });
    Ok((plan, journal))
}

/// A plan in the making.
pub(crate) type Planning<'a> = Pin<Box<dyn Future<Output = Result<Plan>> + Send + 'a>>;

/// A plan, and the lock that it needs: shared, or alone where it touches what is shared.
///
/// Whoever waits to have the lock alone looks again once another process has had it: where that one has made everything, the
/// lock is shared. So of many that begin at once on a node without anything, all wait for the first one, and then for nobody.
pub(crate) async fn under_lock<'a>(
    lock: &dyn HostLock,
    cancel: &Cancel,
    make: &(dyn Fn() -> Planning<'a> + Sync),
) -> Result<(Plan, Box<dyn Guard>)> {
    let guard = lock.shared(cancel).await?;
    let plan = make().await?;
    if !plan.touches_shared() {
        return Ok((plan, guard));
    }
    drop(guard);
    let mut wait = Wait::new(cancel);
    let _sign = lock.show(Sign::Waiting).await?;
    let (mut worth_a_look, mut looked) = (false, Instant::now());
    loop {
        if let Some(guard) = lock.try_alone().await? {
            let plan = make().await?;
            if plan.touches_shared() {
                return Ok((plan, guard));
            }
            worth_a_look = true;
        }
        match lock.try_shared().await? {
            None => worth_a_look = true,
            Some(guard) if worth_a_look || looked.elapsed() >= LOOKS => {
                let plan = make().await?;
                if !plan.touches_shared() {
                    return Ok((plan, guard));
                }
                (worth_a_look, looked) = (false, Instant::now());
            }
            Some(_) => {}
        }
        let time = wait.next(lock.limit(), || lock.name())?;
        lock.pause(time).await;
    }
}

#[cfg(test)]
mod tests;
