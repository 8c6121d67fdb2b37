//! Keeps a zone as it is wanted for as long as an agent lives, on a thread: firewalld may take its time.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Passed, Wanted, pass};
use crate::channel::{Receiver, Sender, channel};
use crate::host::zones::{Following, HostZones, ZoneMember};
use crate::node::StateDir;

/// From one look to the next at the least: whoever undoes what is done here is not to occupy firewalld.
const PAUSE: Duration = Duration::from_millis(100);

/// From a look after which something was amiss to the next one.
const RETRY: Duration = Duration::from_secs(3);

/// How many members are remembered for whoever asks what was changed.
const CHANGES_MAX: usize = 1000;

/// Keeps the zone: at each change of what is wanted, whenever firewalld tells of a change, and when it is asked to.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    news: Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing before the first look; without members, it is looked at whether firewalld runs.
    wanted: Option<Asked>,
    /// There is reason to have a look.
    due: bool,
    ended: bool,
    last: Passed,
    changes: Changes,
}

/// What was changed in zones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// What was put into zones.
    pub added: Vec<ZoneMember>,
    /// What was taken out of them.
    pub removed: Vec<ZoneMember>,
}

/// What is wanted, and whether others are taken out.
type Asked = (Option<Arc<Wanted>>, bool);

impl Keeper {
    /// Begins; nothing is done before something is wanted.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(zones: Arc<dyn HostZones>, dir: StateDir) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (sender, news) = channel();
        let worker = Worker {
            shared: Arc::clone(&shared),
            zones,
            dir,
            news: sender,
            following: None,
            followed: false,
        };
        thread::Builder::new()
            .name("zones".to_owned())
            .stack_size(256 << 10)
            .spawn(move || worker.run())?;
        Ok(Self { shared, news })
    }

    /// Looks whether firewalld runs. Until it does, nobody has to know what it is to be told.
    pub fn watch(&self) {
        let mut state = self.shared.lock();
        state.wanted.get_or_insert((None, false));
        state.due = true;
        self.shared.wake.notify_all();
    }

    /// This is wanted now. Others than that are taken out where `removal` says so. What is as it was is looked at anew where `look`
    /// says so.
    pub fn want(&self, wanted: Wanted, removal: bool, look: bool) {
        let mut state = self.shared.lock();
        let is_same =
            |(known, before): &Asked| known.as_deref() == Some(&wanted) && *before == removal;
        if !look && state.wanted.as_ref().is_some_and(is_same) {
            return;
        }
        state.wanted = Some((Some(Arc::new(wanted)), removal));
        state.due = true;
        self.shared.wake.notify_all();
    }

    /// Whether it has been said what is wanted.
    pub fn is_told(&self) -> bool {
        matches!(&self.shared.lock().wanted, Some((Some(_), _)))
    }

    /// What came of the last look.
    pub fn last(&self) -> Passed {
        self.shared.lock().last.clone()
    }

    /// What was changed since this was asked last: of very many, the first ones.
    pub fn changes(&self) -> Changes {
        std::mem::take(&mut self.shared.lock().changes)
    }

    /// Waits until there has been a look. May be dropped, and loses nothing.
    pub async fn looked(&mut self) {
        if self.news.next().await.is_none() {
            std::future::pending().await
        }
    }
}

impl Changes {
    fn add(&mut self, passed: &Passed) {
        for (known, new) in [
            (&mut self.added, &passed.added),
            (&mut self.removed, &passed.removed),
        ] {
            let room = CHANGES_MAX.saturating_sub(known.len());
            known.extend(new.iter().take(room).cloned());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Waits for a reason to have a look; `None` at the end.
    fn due(&self, retry: Option<Instant>) -> Option<Asked> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let now = Instant::now();
            state.due |= retry.is_some_and(|retry| retry <= now);
            if state.due
                && let Some(wanted) = state.wanted.clone()
            {
                state.due = false;
                return Some(wanted);
            }
            state = match retry {
                Some(retry) if state.wanted.is_some() => {
                    let left = retry.saturating_duration_since(now);
                    let waited = self.wake.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => {
                    let waited = self.wake.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    zones: Arc<dyn HostZones>,
    dir: StateDir,
    news: Sender<()>,
    following: Option<Box<dyn Following>>,
    /// There has been a message bus.
    followed: bool,
}

impl Worker {
    fn run(mut self) {
        let mut retry = None;
        while let Some((wanted, removal)) = self.shared.due(retry) {
            // Before the look: what happens from here on is told.
            self.follow();
            let goes_on = || !self.shared.has_ended();
            let zones = self.zones.as_ref();
            let mut passed = match wanted {
                Some(wanted) => pass(zones, &self.dir, &wanted, removal, &goes_on),
                None => watched(zones),
            };
            // One that has ended meanwhile does not answer, and there is nothing wrong with that.
            if passed.running && !passed.flaws.is_empty() && matches!(zones.is_running(), Ok(false))
            {
                passed.running = false;
                passed.flaws.clear();
            }
            let lost = self.followed && self.following.is_none();
            retry = (lost || !passed.flaws.is_empty()).then(|| Instant::now() + RETRY);
            let mut state = self.shared.lock();
            state.changes.add(&passed);
            state.last = passed;
            drop(state);
            self.news.alter(|waiting| {
                waiting.clear();
                waiting.push_back(());
            });
            thread::sleep(PAUSE);
        }
    }

    fn follow(&mut self) {
        if self
            .following
            .as_ref()
            .is_some_and(|following| following.is_alive())
        {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let tell = move || {
            if let Some(shared) = shared.upgrade() {
                shared.lock().due = true;
                shared.wake.notify_all();
            }
        };
        self.following = match self.zones.follow(Box::new(tell)) {
            Ok(following) => Some(following),
            Err(error) => {
                tracing::debug!(
                    error = error.chain(),
                    "firewalld does not tell of its changes"
                );
                None
            }
        };
        self.followed |= self.following.is_some();
    }
}

/// A bus that does not answer on a host of which nobody knows that it has a firewalld is no flaw.
fn watched(zones: &dyn HostZones) -> Passed {
    let running = zones.is_running().unwrap_or_else(|error| {
        tracing::debug!(error = error.chain(), "whether firewalld runs is not told");
        false
    });
    Passed {
        running,
        ..Passed::default()
    }
}
