//! A lock that is not waited for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::host::HostLock;
use crate::host::lock::{Guard, Sign};

/// The same lock; every wait for it ends at once with the error of one that has taken too long.
#[derive(Debug)]
pub struct Impatient(pub Arc<dyn HostLock>);

#[async_trait]
impl HostLock for Impatient {
    async fn try_shared(&self) -> Result<Option<Box<dyn Guard>>> {
        self.0.try_shared().await
    }

    async fn try_alone(&self) -> Result<Option<Box<dyn Guard>>> {
        self.0.try_alone().await
    }

    async fn show(&self, sign: Sign) -> Result<Box<dyn Guard>> {
        self.0.show(sign).await
    }

    async fn is_shown(&self, sign: Sign) -> Result<bool> {
        self.0.is_shown(sign).await
    }

    fn limit(&self) -> Duration {
        Duration::ZERO
    }
}
