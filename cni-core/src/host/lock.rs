//! A readers-writer lock over one network namespace, shared by all plugin processes on it.
//!
//! It is an advisory lock (`flock(2)`) on the namespace's own file, `/proc/thread-self/ns/net`: it needs no directory,
//! leaves no file, cannot go stale, and two namespaces never contend. Beside it the file bears [`Sign`]s, which tell the
//! others what a process is about and end with it as well.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// How long the lock is waited for: longer than an ADD that has it alone may wait for its links and addresses.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a [`Sign::Waiting`] keeps others back. Who holds the lock holds it for milliseconds, so whoever has waited this
/// long behind one that shows it waits for a process that has been stopped.
const COURTESY: Duration = Duration::from_secs(5);

/// The pauses between attempts grow from the first of these to the second.
const PAUSES: [Duration; 2] = [Duration::from_micros(250), Duration::from_millis(16)];

/// Keeps a lock, or a sign, for as long as it lives.
pub trait Guard: Send + Sync + fmt::Debug {}

/// What a process lets the others know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// It waits to have the lock alone. Whoever wants to share it waits behind: else those who share it one after the other
    /// would keep it for ever.
    Waiting,
    /// It is an ADD that has made what it needs, and needs nothing but time: it does not hold the lock any more, but what is
    /// not sealed is no leftover.
    Working,
}

/// The lock that makes removing a shared object (a bridge) safe against an ADD that is about to use it.
#[async_trait]
pub trait HostLock: Send + Sync + fmt::Debug {
    /// Shares the lock; `None` when another process has it alone.
    async fn try_shared(&self) -> Result<Option<Box<dyn Guard>>>;

    /// Takes the lock alone; `None` when another process holds it. The caller must have dropped its own guard.
    async fn try_alone(&self) -> Result<Option<Box<dyn Guard>>>;

    /// Shows a sign for as long as the guard lives. Any number of processes may show the same one.
    async fn show(&self, sign: Sign) -> Result<Box<dyn Guard>>;

    /// Whether anybody shows it.
    async fn is_shown(&self, sign: Sign) -> Result<bool>;

    /// Which lock it is, for people.
    fn name(&self) -> String {
        "the lock of the network namespace".to_owned()
    }

    /// How long it is waited for.
    fn limit(&self) -> Duration {
        LIMIT
    }

    /// Waits between two attempts. In a plugin nothing else is to be done on the thread meanwhile; a process that has other
    /// things to do replaces this.
    async fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Taken by every ADD while it makes what it needs: shared objects stay.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] when cancelled, or when others hold it for longer than [`HostLock::limit`].
    async fn shared(&self, cancel: &Cancel) -> Result<Box<dyn Guard>> {
        let mut wait = Wait::new(cancel);
        loop {
            let behind = wait.begun.elapsed() < COURTESY && self.is_shown(Sign::Waiting).await?;
            if !behind && let Some(guard) = self.try_shared().await? {
                return Ok(guard);
            }
            let time = wait.next(self.limit(), || self.name())?;
            self.pause(time).await;
        }
    }

    /// Taken, or not, before a shared object or a leftover is removed. `None` when another process holds the lock or is at
    /// work: then the object is in use, and stays. The caller must have dropped its own guard.
    async fn try_exclusive(&self) -> Result<Option<Box<dyn Guard>>> {
        let guard = self.try_alone().await?;
        if guard.is_some() && self.is_shown(Sign::Working).await? {
            return Ok(None);
        }
        Ok(guard)
    }

    /// Taken to make, mend or remove a shared object, which happens once in a node's life: until it ends no ADD can begin to
    /// rely on what is made, so that a failure can take all of it back. Waits for the others, but not for those that only
    /// show that they work.
    ///
    /// # Errors
    /// Those of [`HostLock::shared`].
    async fn exclusive(&self, cancel: &Cancel) -> Result<Box<dyn Guard>> {
        let mut wait = Wait::new(cancel);
        let _sign = self.show(Sign::Waiting).await?;
        loop {
            if let Some(guard) = self.try_alone().await? {
                return Ok(guard);
            }
            let time = wait.next(self.limit(), || self.name())?;
            self.pause(time).await;
        }
    }
}

/// A wait for the lock.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    cancel: &'a Cancel,
    begun: Instant,
    pause: Duration,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(cancel: &'a Cancel) -> Self {
        let [pause, _] = PAUSES;
        Self {
            cancel,
            begun: Instant::now(),
            pause,
        }
    }

    /// How long to pause before the next attempt.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] when cancelled, or after the limit.
    pub(crate) fn next(&mut self, limit: Duration, name: impl Fn() -> String) -> Result<Duration> {
        let waited = self.begun.elapsed();
        if self.cancel.is_cancelled() {
            let what = format!("taking {}, which others hold", name());
            self.cancel.check(&what)?;
        }
        if waited >= limit {
            let message = format!(
                "other processes have held {} for {} seconds: /proc/locks tells which",
                name(),
                waited.as_secs()
            );
            return Err(Error::new(ErrorKind::TryAgain, message));
        }
        let [_, longest] = PAUSES;
        let pause = self.pause;
        self.pause = (pause * 2).min(longest);
        Ok(pause)
    }
}

#[cfg(feature = "kernel")]
pub use kernel::KernelLock;

#[cfg(feature = "kernel")]
mod kernel {
    use std::fs::{self, File, TryLockError};

    use async_trait::async_trait;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::{Guard, HostLock, Sign};
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
        async fn try_shared(&self) -> Result<Option<Box<dyn Guard>>> {
            let file = open()?;
            let outcome = file.try_lock_shared();
            held(file, outcome)
        }

        async fn try_alone(&self) -> Result<Option<Box<dyn Guard>>> {
            let file = open()?;
            let outcome = file.try_lock();
            held(file, outcome)
        }

        async fn show(&self, sign: Sign) -> Result<Box<dyn Guard>> {
            let file = open()?;
            let range = range(sign, libc::F_RDLCK);
            fcntl(&file, FcntlArg::F_OFD_SETLK(&range)).map_err(|errno| failed(errno.into()))?;
            Ok(Box::new(Held { _file: file }))
        }

        async fn is_shown(&self, sign: Sign) -> Result<bool> {
            let file = open()?;
            // Whether a lock for writing would be possible: nobody is asked for one, which needs a file open for writing.
            let mut range = range(sign, libc::F_WRLCK);
            fcntl(&file, FcntlArg::F_OFD_GETLK(&mut range))
                .map_err(|errno| failed(errno.into()))?;
            Ok(libc::c_int::from(range.l_type) != libc::F_UNLCK)
        }

        fn name(&self) -> String {
            let namespace = fs::read_link(OWN_NETNS).unwrap_or_default();
            let namespace = namespace.display();
            format!("the lock of the network namespace ({OWN_NETNS}, {namespace})")
        }
    }

    /// A sign is a lock for reading (`F_OFD_SETLK` in `fcntl(2)`) on one byte of the file, which has none: such locks and
    /// `flock(2)` know nothing of each other.
    fn range(sign: Sign, kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: match sign {
                Sign::Waiting => 0,
                Sign::Working => 1,
            },
            l_len: 1,
            l_pid: 0,
        }
    }

    fn held(
        file: File,
        outcome: std::result::Result<(), TryLockError>,
    ) -> Result<Option<Box<dyn Guard>>> {
        match outcome {
            Ok(()) => Ok(Some(Box::new(Held { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn open() -> Result<File> {
        File::open(OWN_NETNS).map_err(failed)
    }

    fn failed(error: std::io::Error) -> Error {
        Error::new(ErrorKind::Io, format!("could not lock {OWN_NETNS}")).with_source(error)
    }
}
