//! What all connections share.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::faults::{Counts, Fault, Faults, Streaming};
use super::rights::User;
use super::store::State;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Core {
    state: Mutex<State>,
    /// The newest revision, for watches.
    pub(super) news: watch::Sender<u64>,
    settings: Mutex<Settings>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) faults: Faults,
    pub(super) streaming: Streaming,
    pub(super) bookmarks: Duration,
    pub(super) tokens: BTreeMap<String, User>,
}

/// Everything here is written whole: what panics elsewhere has not left it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn new(tokens: BTreeMap<String, User>) -> Self {
        let state = State::new();
        Self {
            news: watch::Sender::new(state.revision),
            state: Mutex::new(state),
            settings: Mutex::new(Settings {
                faults: Vec::new(),
                streaming: Streaming::Done,
                bookmarks: Duration::from_secs(1),
                tokens,
            }),
            counts: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// Does something to the objects, and tells watches of it.
    pub(super) fn change<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = body(&mut state);
        let revision = state.revision;
        drop(state);
        self.news.send_replace(revision);
        result
    }

    /// What goes wrong with a verb.
    pub(super) fn fault(&self, verb: &str) -> Option<Fault> {
        let settings = self.settings();
        let mut faults = settings.faults.iter();
        let fits = |(of, _): &&(Option<&'static str>, Fault)| of.is_none_or(|of| of == verb);
        faults.find(fits).map(|(_, fault)| *fault)
    }
}
