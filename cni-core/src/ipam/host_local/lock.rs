//! The store's lock: `flock(2)` on the file `lock`, which the reference plugin takes as well.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// How often a waiting caller asks whether it has been cancelled.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Which lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

/// Locks an open file, waiting until it is free or `cancel` says no.
///
/// The wait is the kernel's, in a thread of its own, so that waiters are served in order and at once. When it is given
/// up, that thread may get the lock later: it lets go of it at once.
pub(super) fn lock(file: File, path: &Path, mode: Mode, cancel: &Cancel) -> Result<File> {
    match try_lock(&file, mode) {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(failed(path, error)),
    }
    let abandoned = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let seen = Arc::clone(&abandoned);
    let waiter = move || {
        let locked = match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Exclusive => file.lock(),
        };
        if !seen.load(Ordering::Acquire) {
            // A receiver that has gone drops the file here, and with it the lock.
            let _ = sender.send(locked.map(|()| file));
        }
    };
    std::thread::Builder::new()
        .name("ipam-lock".to_owned())
        .spawn(waiter)
        .map_err(|error| failed(path, error))?;
    loop {
        match receiver.recv_timeout(ASK_EVERY) {
            Ok(Ok(file)) => return Ok(file),
            Ok(Err(error)) => return Err(failed(path, error)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(failed(path, io::Error::other("the waiting thread ended")));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let what = format!("another process gave up the lock {}", path.display());
        if let Err(error) = cancel.check(&what) {
            abandoned.store(true, Ordering::Release);
            return Err(error);
        }
    }
}

/// Locks an open file if nobody else holds it.
pub(super) fn try_lock(file: &File, mode: Mode) -> Result<(), TryLockError> {
    match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("could not lock the address store by {}", path.display()),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_for_a_lock_that_is_never_given_up_ends_with_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let holder = File::create(&path).unwrap();
        holder.lock().unwrap();
        let cancel = Cancel::new().with_deadline(Instant::now() + Duration::from_millis(50));
        let file = File::open(&path).unwrap();
        let error = lock(file, &path, Mode::Exclusive, &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TryAgain);
        // The abandoned waiter does not keep what it gets.
        drop(holder);
        let file = File::open(&path).unwrap();
        assert!(lock(file, &path, Mode::Exclusive, &Cancel::new()).is_ok());
    }

    #[test]
    fn a_lock_that_becomes_free_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let holder = File::create(&path).unwrap();
        holder.lock().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                lock(
                    File::open(&path).unwrap(),
                    &path,
                    Mode::Exclusive,
                    &Cancel::new(),
                )
                .is_ok()
            });
            drop(holder);
            assert!(waiting.join().unwrap());
        });
    }
}
