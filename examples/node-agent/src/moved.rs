//! The host's addresses may have changed.

use std::sync::Arc;

use tokio::sync::Notify;

/// Says so, to the one who waits for that. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Moved(Arc<Notify>);

impl Moved {
    /// They may have changed.
    pub fn tell(&self) {
        self.0.notify_one();
    }

    /// Returns when somebody has said so since it did last. It may be dropped at any await point, and loses nothing.
    pub async fn told(&self) {
        self.0.notified().await;
    }
}
