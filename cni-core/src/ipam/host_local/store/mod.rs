//! The store: a directory with one file for each reserved address, shared with the reference plugin.
//!
//! | file | mode | content |
//! |---|---|---|
//! | `DATADIR/NETWORK/` | 0755 | |
//! | `DATADIR/NETWORK/IP` | 0600 | `CONTAINER\r\nINTERFACE`; from very old plugins only `CONTAINER` |
//! | `DATADIR/NETWORK/last_reserved_ip.SET` | 0600 | the last address handed out of the set |
//! | `DATADIR/NETWORK/lock` | 0750 | empty; `flock(2)` |
//! | `DATADIR/.index/NETWORK` | 0600 | ours: the [index](super::image); a network's name cannot begin with a dot |
//!
//! The record files are the truth, the index is a hint. It is trusted while the directory is exactly as the index's
//! last writer left it. The kernel's time stamps are too coarse to tell that (two changes within one tick look the
//! same), so the writer *sets* the directory's modification time to a value that the kernel's clock will not repeat:
//! whatever anybody else adds or removes afterwards replaces it. Everything else (a reference plugin's ADD or DEL, a
//! crash half-way, a restored backup, another boot) leads to one walk of the directory and a new index.
//!
//! Nothing is synced to disk, as in the reference plugin: a reservation outlives the process, and after a power
//! failure its container is gone too. An empty record, which a crash may leave, has no owner and is reused.

mod files;
mod locked;

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) use self::locked::Locked;
use super::lock::{self, Mode};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{Attachment, ContainerId, NetworkName};

/// Where a network's reservations are.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
    index: PathBuf,
    fresh: PathBuf,
}

/// Who a record says holds its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// There is no record.
    Absent,
    /// The record is empty: whoever wrote it died. Nobody holds the address.
    Abandoned,
    /// What lies there is no file. It is nobody's record, but the address cannot be handed out.
    Foreign,
    /// The content, trimmed.
    Owner(String),
}

/// What a record of this attachment says.
pub(super) fn owner(attachment: &Attachment) -> String {
    format!("{}\r\n{}", attachment.container, attachment.interface)
}

/// What a record by a very old plugin says, which knew no interfaces.
pub(super) fn old_owner(container: &ContainerId) -> String {
    container.to_string()
}

impl Store {
    /// The store of a network below `data_dir`.
    pub(super) fn new(data_dir: &Path, network: &NetworkName) -> Self {
        let beside = data_dir.join(".index");
        Self {
            dir: data_dir.join(network.as_str()),
            index: beside.join(network.as_str()),
            fresh: beside.join(format!(".{network}.new")),
        }
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the store if need be, and locks it for changing.
    pub(super) fn create(&self, cancel: &Cancel) -> Result<Locked<'_>> {
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.dir)
                .map_err(|error| self.failed("make", &self.dir, error))?;
            if let Some(locked) = self.change(cancel)? {
                return Ok(locked);
            }
            cancel.check("the address store was locked")?;
        }
    }

    /// Locks an existing store for changing; `None` when there is none.
    pub(super) fn change(&self, cancel: &Cancel) -> Result<Option<Locked<'_>>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o750);
        let locked = self.lock(&self.dir.join("lock"), &options, Mode::Exclusive, cancel)?;
        locked
            .map(|lock| Locked::open(self, lock, true))
            .transpose()
    }

    /// Locks an existing store for reading; `None` when there is none. Nothing is written.
    pub(super) fn read(&self, cancel: &Cancel) -> Result<Option<Locked<'_>>> {
        let mut options = OpenOptions::new();
        options.read(true);
        let mut locked = self.lock(&self.dir.join("lock"), &options, Mode::Shared, cancel)?;
        if locked.is_none() {
            // A store without the file, from a backup or a very old plugin. The first change makes it; until then
            // nobody needs to be kept out, and the directory will do.
            locked = self.lock(&self.dir, &options, Mode::Shared, cancel)?;
        }
        locked
            .map(|lock| Locked::open(self, lock, false))
            .transpose()
    }

    fn lock(
        &self,
        path: &Path,
        options: &OpenOptions,
        mode: Mode,
        cancel: &Cancel,
    ) -> Result<Option<File>> {
        loop {
            let file = match options.open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed("open", path, error)),
            };
            let file = lock::lock(file, path, mode, cancel)?;
            // Whoever removed the directory while we waited removed the lock as well: ours would guard nothing.
            let same = |ours: &Metadata, theirs: &Metadata| {
                (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
            };
            let ours = file
                .metadata()
                .map_err(|error| self.failed("examine", path, error))?;
            if fs::metadata(path).is_ok_and(|theirs| same(&ours, &theirs)) {
                return Ok(Some(file));
            }
            cancel.check("the address store was locked")?;
        }
    }

    /// How many records of addresses that `wanted` accepts there are, without a lock.
    pub(super) fn count(&self, wanted: impl Fn(IpAddr) -> bool) -> Result<u128> {
        let mut count = 0;
        self.each_record(|ip| {
            count += u128::from(wanted(ip));
            Ok(())
        })?;
        Ok(count)
    }

    /// What the record of an address says.
    pub(super) fn record(&self, ip: IpAddr) -> Result<Record> {
        let path = self.path(ip);
        let mut text = Vec::new();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::Absent),
            Err(error) => return Err(self.failed("open", &path, error)),
        };
        match file.take(4096).read_to_end(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Ok(Record::Foreign);
            }
            Err(error) => return Err(self.failed("read", &path, error)),
        }
        let text = String::from_utf8_lossy(&text);
        Ok(match text.trim() {
            "" => Record::Abandoned,
            owner => Record::Owner(owner.to_owned()),
        })
    }

    /// Visits the address of each record, without a lock.
    pub(super) fn each_record(&self, mut visit: impl FnMut(IpAddr) -> Result<()>) -> Result<()> {
        #[cfg(test)]
        tests::count_walk();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed("list", &self.dir, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| self.failed("list", &self.dir, error))?;
            if let Some(ip) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                visit(ip)?;
            }
        }
        Ok(())
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.dir.join(ip.to_string())
    }

    fn failed(&self, what: &str, path: &Path, error: io::Error) -> Error {
        Error::new(
            ErrorKind::Io,
            format!("could not {what} {} of the address store", path.display()),
        )
        .with_source(error)
    }
}
