//! How the agent is, for a source that tells others.

use tokio::sync::watch;

use crate::status::Status;

/// Whether this node is connected, as the agent last knew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The agent has had a look.
    pub known: bool,
    /// It is.
    pub ready: bool,
    /// Why it is not; empty when it is.
    pub reason: String,
}

/// Tells a source.
#[derive(Debug)]
pub struct Telling(watch::Sender<Told>);

impl Telling {
    /// A teller, and the end at which it is heard.
    pub fn new() -> (Self, watch::Receiver<Told>) {
        let (sender, receiver) = watch::channel(Told::default());
        (Self(sender), receiver)
    }

    /// It is so now.
    pub fn tell(&self, status: &Status) {
        let readiness = status.readiness();
        // Before everything has been looked at once, nothing is known but what an earlier agent told.
        let now = Told {
            known: status.compared,
            ready: readiness.is_ready(),
            reason: readiness.missing.into_iter().next().unwrap_or_default(),
        };
        self.0.send_if_modified(|told| {
            let new = *told != now;
            if new {
                *told = now;
            }
            new
        });
    }
}
