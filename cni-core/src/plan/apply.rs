//! The only writer: applies a plan, keeps a journal, unwinds.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::FirewallChange;
use crate::host::lock::Guard;
use crate::host::netlink::{NetlinkChange, NetlinkError, NetlinkExt, errno};
use crate::host::{Host, Netlink, Sandbox, Sysctl};

use super::{Change, Place, Plan, Step};

/// The handles that a plan is applied through.
#[derive(Debug, Clone, Copy)]
pub struct Handles<'a> {
    /// The host's namespace.
    pub host: &'a Host,
    /// The container's namespace; without it, steps there are errors.
    pub sandbox: Option<&'a Sandbox>,
}

/// What was done, so that it can be taken back; and the lock under which it was done.
#[derive(Debug, Default)]
#[must_use = "dropping the journal keeps what was done"]
pub struct Journal {
    done: Vec<Step>,
    pub(super) guard: Option<Box<dyn Guard>>,
}

impl<'a> Handles<'a> {
    pub(super) fn netlink(&self, place: Place) -> Result<&'a dyn Netlink> {
        match place {
            Place::Host => Ok(self.host.netlink.as_ref()),
            Place::Container => Ok(self.inside()?.netlink.as_ref()),
        }
    }

    pub(super) fn sysctl(&self, place: Place) -> Result<&'a dyn Sysctl> {
        match place {
            Place::Host => Ok(self.host.sysctl.as_ref()),
            Place::Container => Ok(self.inside()?.sysctl.as_ref()),
        }
    }

    fn inside(&self) -> Result<&'a Sandbox> {
        self.sandbox.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "a change inside the container needs its namespace",
            )
        })
    }
}

impl Journal {
    /// Takes back everything that was done, newest first. Every step is attempted, what is gone already counts as taken
    /// back, and all failures are reported together.
    pub async fn unwind(self, handles: &Handles<'_>) -> Result<()> {
        let mut errors = Vec::new();
        for step in self.done.iter().rev() {
            for undo in &step.undo {
                log(step.place, undo, || tracing::debug!("taking back"));
                if let Err(error) = take_back(step, undo, handles).await {
                    errors.push(error);
                }
            }
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// Keeps what was done, and lets go of the lock.
    pub fn keep(self) {
        drop(self);
    }

    /// How many steps were made.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether nothing was made.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }
}

async fn take_back(step: &Step, undo: &Change, handles: &Handles<'_>) -> Result<()> {
    // Whoever does not know our lock may have put a port on a bridge that we made: then it stays.
    if step.shared
        && let Change::Netlink(NetlinkChange::LinkDel { link }) = undo
    {
        let netlink = handles.netlink(step.place)?;
        let filter = crate::host::netlink::LinkFilter::Master(link);
        if !netlink.links(filter).await?.is_empty() {
            return Ok(());
        }
    }
    attempt(step.place, undo, handles, Duration::ZERO).await
}

/// Applies the plan in order. On a failure, or when cancelled, takes back exactly what this call has done, and
/// returns the error.
///
/// # Errors
/// The kernel's, with the command that failed; or [`ErrorKind::TryAgain`] when cancelled. If taking back failed, too,
/// the error says both.
pub async fn apply(plan: &Plan, handles: &Handles<'_>, cancel: &Cancel) -> Result<Journal> {
    let mut journal = Journal::default();
    let outcome = forward(plan, handles, cancel, &mut journal).await;
    match outcome {
        Ok(()) => Ok(journal),
        Err(error) => match journal.unwind(handles).await {
            Ok(()) => Err(error),
            Err(second) => {
                let message = format!(
                    "{error}; and taking back what was done failed: {}",
                    second.chain()
                );
                Err(error.context(message))
            }
        },
    }
}

async fn forward(
    plan: &Plan,
    handles: &Handles<'_>,
    cancel: &Cancel,
    journal: &mut Journal,
) -> Result<()> {
    let mut rest = plan.steps();
    while let Some(first) = rest.first() {
        cancel.check(&first.reason)?;
        // Neighbouring netlink changes to one namespace go to its handle together.
        let run = rest
            .iter()
            .take_while(|step| together(first, step))
            .count()
            .max(1);
        let (now, later) = rest.split_at_checked(run).unwrap_or((rest, &[]));
        make(now, handles, journal).await?;
        rest = later;
    }
    Ok(())
}

/// Tells of a change inside a span of its own, whose fields are what and where. Nothing is rendered unless somebody listens.
fn log(place: Place, change: &Change, tell: impl FnOnce()) {
    tracing::debug_span!("change", ?place, %change).in_scope(tell);
}

fn together(first: &Step, step: &Step) -> bool {
    let netlink = |step: &Step| matches!(step.change, Change::Netlink(_));
    netlink(first) && netlink(step) && first.place == step.place
}

async fn make(steps: &[Step], handles: &Handles<'_>, journal: &mut Journal) -> Result<()> {
    let Some(first) = steps.first() else {
        return Ok(());
    };
    for step in steps {
        log(step.place, &step.change, || {
            tracing::debug!(reason = %step.reason, "applying");
        });
    }
    let (done, outcome) = match &first.change {
        Change::Netlink(_) => {
            let changes: Vec<NetlinkChange> = steps
                .iter()
                .filter_map(|step| match &step.change {
                    Change::Netlink(change) => Some(change.clone()),
                    _ => None,
                })
                .collect();
            match handles.netlink(first.place)?.apply(&changes).await {
                Ok(()) => (steps.len(), Ok(())),
                Err(error) => (error.index, Err(Error::from(error.error))),
            }
        }
        Change::Sysctl { key, value } => {
            let outcome = handles.sysctl(first.place)?.write(key, value).await;
            (usize::from(outcome.is_ok()), outcome)
        }
        Change::Legacy(change) => {
            let outcome = handles.host.legacy.apply(change).await;
            (usize::from(outcome.is_ok()), outcome)
        }
        Change::Firewall(changes) => {
            let outcome = handles.host.firewall.commit(changes).await;
            (usize::from(outcome.is_ok()), outcome.map_err(Error::from))
        }
    };
    journal.done.extend(steps.iter().take(done).cloned());
    outcome
}

/// How long an nftables transaction is begun after the deletion of a link beside it.
///
/// Both wait for the kernel's readers, one grace period after another (RCU). A transaction that is begun first has the
/// deletion wait for the end of its own period and then for two more; one that is begun while the deletion waits already
/// ends within those two. A deletion takes 10 ms at least, so the delay is never the last to end.
const BEHIND: Duration = Duration::from_millis(1);

/// Applies a plan of removals: attempts every step, takes what is missing for removed, and returns all errors.
///
/// The kernel waits for its readers both when a veth and when an nftables object is deleted, some 15 ms each. The two
/// run side by side, the transaction a little behind, so that it costs no wait of its own.
pub async fn remove(plan: &Plan, handles: &Handles<'_>) -> Vec<Error> {
    let (firewall, rest): (Vec<&Step>, Vec<&Step>) = plan
        .steps()
        .iter()
        .partition(|step| matches!(step.change, Change::Firewall(_)));
    let deletes_links = rest.iter().any(|step| {
        let change = &step.change;
        matches!(
            change,
            Change::Netlink(NetlinkChange::LinkDel { .. } | NetlinkChange::GroupDel { .. })
        )
    });
    let delay = if deletes_links {
        BEHIND
    } else {
        Duration::ZERO
    };
    let (mut errors, more) = both(
        remove_steps(&firewall, handles, delay),
        remove_steps(&rest, handles, Duration::ZERO),
    )
    .await;
    errors.extend(more);
    errors
}

async fn remove_steps(steps: &[&Step], handles: &Handles<'_>, delay: Duration) -> Vec<Error> {
    let mut errors = Vec::new();
    for step in steps {
        log(step.place, &step.change, || tracing::debug!("removing"));
        if let Err(error) = attempt(step.place, &step.change, handles, delay).await {
            errors.push(error);
        }
    }
    errors
}

/// One change; what is gone already is success.
async fn attempt(
    place: Place,
    change: &Change,
    handles: &Handles<'_>,
    delay: Duration,
) -> Result<()> {
    let outcome = match change {
        Change::Netlink(change) => handles.netlink(place)?.apply_one(change.clone()).await,
        Change::Sysctl { key, value } => {
            // A parameter is gone when its link is.
            if handles.sysctl(place)?.read(key).await?.is_none() {
                return Ok(());
            }
            return handles.sysctl(place)?.write(key, value).await;
        }
        Change::Legacy(change) => return handles.host.legacy.apply(change).await,
        Change::Firewall(changes) => {
            match handles.host.firewall.commit_behind(changes, delay).await {
                // The transaction fails as a whole when one element is gone: then each on its own.
                Err(error) if is_gone(&error) => return attempt_each(changes, handles.host).await,
                outcome => outcome,
            }
        }
    };
    match outcome {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn attempt_each(changes: &[FirewallChange], host: &Host) -> Result<()> {
    let mut errors = Vec::new();
    for change in changes.iter().flat_map(singles) {
        match host.firewall.commit(std::slice::from_ref(&change)).await {
            Err(error) if !is_gone(&error) => errors.push(Error::from(error)),
            _ => {}
        }
    }
    Error::join(errors).map_or(Ok(()), Err)
}

fn singles(change: &FirewallChange) -> Vec<FirewallChange> {
    match change {
        FirewallChange::ElementDel {
            table,
            set,
            elements,
        } => elements
            .iter()
            .map(|element| FirewallChange::ElementDel {
                table: table.clone(),
                set: set.clone(),
                elements: vec![element.clone()],
            })
            .collect(),
        other => vec![other.clone()],
    }
}

fn is_gone(error: &NetlinkError) -> bool {
    matches!(
        error.errno,
        errno::ENOENT | errno::ESRCH | errno::ENODEV | errno::EADDRNOTAVAIL
    )
}

/// Both futures to their ends; the first is polled first.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |cx| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
