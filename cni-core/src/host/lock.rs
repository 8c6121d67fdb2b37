//! A readers-writer lock over one network namespace, shared by all plugin processes on it.
//!
//! It is an advisory lock (`flock(2)`) on the namespace's own file, `/proc/thread-self/ns/net`: it needs no directory,
//! leaves no file, cannot go stale, and two namespaces never contend.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

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

    /// Taken by an ADD that has to make or mend a shared object, which happens once in a node's life: until it ends no
    /// other ADD can rely on what it made, so that a failure can take all of it back. Waits for the others.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] when cancelled, or after ten seconds.
    async fn exclusive(&self, cancel: &Cancel) -> Result<Box<dyn Guard>> {
        let start = Instant::now();
        loop {
            if let Some(guard) = self.try_exclusive().await? {
                return Ok(guard);
            }
            cancel.check("taking the exclusive lock of the network namespace")?;
            if start.elapsed() > Duration::from_secs(10) {
                let message = "other plugin processes have held the lock of the network namespace for ten seconds";
                return Err(Error::new(ErrorKind::TryAgain, message));
            }
            // Holders work for a millisecond; nothing else is to be done on this thread meanwhile.
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

#[cfg(feature = "kernel")]
pub use kernel::KernelLock;

#[cfg(feature = "kernel")]
mod kernel {
    use std::fs::{File, TryLockError};

    use async_trait::async_trait;

    use super::{Guard, HostLock};
    use crate::error::{Error, ErrorKind, Result};
    use crate::host::OWN_NETNS;

    /// `flock(2)` on the calling thread's network namespace.
    #[derive(Debug, Default)]
    pub struct KernelLock;

    impl KernelLock {
        /// The lock of the network namespace in which it is taken.
        pub fn new() -> Self {
            Self
        }
    }

    /// The lock is the open file description's: it ends with the file, and with the process at the latest.
    #[derive(Debug)]
    struct Held {
        _file: File,
    }

    impl Guard for Held {}

    #[async_trait]
    impl HostLock for KernelLock {
        async fn shared(&self) -> Result<Box<dyn Guard>> {
            let file = open()?;
            match file.try_lock_shared() {
                Ok(()) => {}
                // Somebody removes a shared object: a matter of milliseconds.
                Err(TryLockError::WouldBlock) => file.lock_shared().map_err(failed)?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            Ok(Box::new(Held { _file: file }))
        }

        async fn try_exclusive(&self) -> Result<Option<Box<dyn Guard>>> {
            let file = open()?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Box::new(Held { _file: file }))),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(failed(error)),
            }
        }
    }

    fn open() -> Result<File> {
        File::open(OWN_NETNS).map_err(failed)
    }

    fn failed(error: std::io::Error) -> Error {
        Error::new(ErrorKind::Io, format!("could not lock {OWN_NETNS}")).with_source(error)
    }
}
