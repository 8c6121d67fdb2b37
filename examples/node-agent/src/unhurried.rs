//! The parts of a host that may have to be waited for, so that the loop's thread can do something else meanwhile: everything
//! else the kernel answers within the call.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cni_core::host::firewall::Family;
use cni_core::host::legacy::{LegacyChange, LegacyRule};
use cni_core::host::lock::{Guard, Sign};
use cni_core::host::{Host, HostLock, LegacyTables};
use cni_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// The same host, for a runtime of tokio's.
pub fn unhurried(mut host: Host) -> Host {
    host.lock = Arc::new(Lock(host.lock));
    host.legacy = Arc::new(Tables(host.legacy));
    host
}

/// Other processes hold the lock for as long as they like.
#[derive(Debug)]
struct Lock(Arc<dyn HostLock>);

#[async_trait]
impl HostLock for Lock {
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

    fn name(&self) -> String {
        self.0.name()
    }

    fn limit(&self) -> Duration {
        self.0.limit()
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// `iptables-legacy` waits for others of its kind.
#[derive(Debug)]
struct Tables(Arc<dyn LegacyTables>);

#[async_trait]
impl LegacyTables for Tables {
    async fn rules(&self, family: Family, chain: &str) -> Result<Option<Vec<LegacyRule>>> {
        let (tables, chain) = (Arc::clone(&self.0), chain.to_owned());
        beside(async move { tables.rules(family, &chain).await }).await
    }

    async fn apply(&self, change: &LegacyChange) -> Result<()> {
        let (tables, change) = (Arc::clone(&self.0), change.clone());
        beside(async move { tables.apply(&change).await }).await
    }
}

/// Runs something that blocks beside the runtime's thread.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime = Handle::current();
    let done = spawn_blocking(move || runtime.block_on(work)).await;
    done.unwrap_or_else(|error| {
        let message = "a thread beside the loop has ended";
        Err(Error::new(ErrorKind::Internal, message).with_source(error))
    })
}
