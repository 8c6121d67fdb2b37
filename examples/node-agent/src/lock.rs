//! One agent at a time for each route protocol number: two would undo each other's work.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use cni_core::{Error, ErrorKind, Result};

/// Held for as long as it lives, and no longer than the process. Plugins look whether somebody holds it.
#[derive(Debug)]
pub struct AgentLock {
    _file: File,
}

/// The lock's path below the directory of state.
pub fn path(state_dir: &Path, protocol: u8) -> PathBuf {
    state_dir.join(protocol.to_string()).join("agent.lock")
}

impl AgentLock {
    /// Takes the lock (`flock(2)`), making directory and file where they are missing. The file stays: to remove it would
    /// let two processes hold locks on files of one name.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] when another agent holds it, [`ErrorKind::Io`] when it cannot be made.
    pub fn take(state_dir: &Path, protocol: u8) -> Result<Self> {
        let path = path(state_dir, protocol);
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("could not lock {}", path.display()))
                .with_source(error)
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::NotAvailable,
                format!(
                    "another agent runs for route protocol {protocol}: it holds {}; stop it first",
                    path.display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_holds_the_lock_of_a_protocol_and_its_end_releases_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = AgentLock::take(directory.path(), 167).unwrap();
        let error = AgentLock::take(directory.path(), 167).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAvailable);
        assert!(error.to_string().contains("route protocol 167"), "{error}");
        AgentLock::take(directory.path(), 168).unwrap();
        drop(first);
        AgentLock::take(directory.path(), 167).unwrap();
    }
}
