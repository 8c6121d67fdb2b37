//! That the loop makes progress, for the service manager.

use tokio::time::Instant;

use crate::agent::Shared;
use crate::notify::Notify;

/// Beats twice within the time after which the service manager loses patience, for as long as there is progress.
#[derive(Debug, Default)]
pub struct Heart {
    /// The service manager.
    pub notify: Notify,
    /// When the next beat is due; never where nobody waits for one.
    due: Option<Instant>,
}

impl Heart {
    /// A heart that beats at once.
    pub fn new(notify: Notify) -> Self {
        Self {
            due: notify.interval().map(|_| Instant::now()),
            notify,
        }
    }

    /// When the next beat is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Beats if it is time to, unless a step takes so long that the loop is stuck.
    pub fn beat(&mut self, alive: bool) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            self.due = self.notify.interval().map(|interval| now + interval);
            if alive {
                self.notify.alive();
            }
        }
    }

    /// Beats for ever.
    pub async fn beat_on(&mut self, status: &Shared) {
        while let Some(due) = self.due {
            tokio::time::sleep_until(due).await;
            let alive = status.lock().is_alive(Instant::now());
            self.beat(alive);
        }
        std::future::pending().await
    }
}
