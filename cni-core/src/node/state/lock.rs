//! The locks of a state directory: `flock(2)`, which ends with the process at the latest.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::failed;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// Names of the files.
pub(super) const AGENT: &str = "agent.lock";
pub(super) const UPDATE: &str = "update.lock";

/// A plugin that looks whether there is an agent holds the lock too, for microseconds.
const LOOKS: Duration = Duration::from_millis(500);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// Says for as long as it lives that an agent does.
#[derive(Debug)]
pub struct AgentLock {
    _file: File,
}

/// Keeps other plugin processes from bringing the node up to date for as long as it lives.
#[derive(Debug)]
pub struct UpdateLock {
    _file: File,
}

impl AgentLock {
    pub(super) fn take(path: &Path, protocol: u8) -> Result<Self> {
        let file = open(path)?;
        let taken = take_within(&file, LOOKS).map_err(|error| failed("lock", path, error))?;
        if !taken {
            let message = format!(
                "another agent runs for route protocol {protocol}: it holds {}; stop it first",
                path.display()
            );
            return Err(Error::new(ErrorKind::NotAvailable, message));
        }
        Ok(Self { _file: file })
    }
}

impl UpdateLock {
    pub(super) fn take(path: &Path, cancel: &Cancel) -> Result<Self> {
        let file = open(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    let what = format!("another process gave up {}", path.display());
                    cancel.check(&what)?;
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", path, error)),
            }
        }
    }
}

/// Takes the lock of a file, and waits for others for so long; whether it has been taken.
pub(in crate::node) fn take_within(file: &File, patience: Duration) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether somebody holds the lock alone. Those who look share it, so that none of them takes another for the holder.
pub(super) fn is_held(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("open", path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed("lock", path, error)),
    }
}

fn open(path: &Path) -> Result<File> {
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|error| failed("open", path, error))
}
