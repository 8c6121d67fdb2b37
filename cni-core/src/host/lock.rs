//! A readers-writer lock over one network namespace, shared by all plugin processes on it.
//!
//! It is an advisory lock (`flock(2)`) on the namespace's own file, `/proc/thread-self/ns/net`: it needs no directory,
//! leaves no file, cannot go stale, and two namespaces never contend.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// Keeps a lock for as long as it lives.
pub trait Guard: Send + Sync + fmt::Debug {}

/// The lock that makes removing a shared object (a bridge) safe against an ADD that is about to use it.
#[async_trait]
pub trait HostLock: Send + Sync + fmt::Debug {
    /// Taken by every ADD while it works: shared objects stay.
    async fn shared(&self) -> Result<Box<dyn Guard>>;

    /// Taken, or not, before a shared object is removed. `None` when another process holds the lock: then the object
    /// is in use, and stays. The caller must have dropped its own shared guard.
    async fn try_exclusive(&self) -> Result<Option<Box<dyn Guard>>>;
}
