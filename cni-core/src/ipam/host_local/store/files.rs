//! Single files of the store.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::ipam::host_local::image::Stamp;
use crate::spec::names::hash128;

/// A new file of this name. A file that is there already is the leftover of a crash; it may be linked as a record, so
/// it must not be written to.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Writes a record in place; a failure removes it again.
pub(super) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes()).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Whether a write failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

pub(super) fn tag(owner: &str) -> u64 {
    hash128(&[owner]) as u64
}

pub(super) fn boot() -> u128 {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    hash128(&[boot.trim()])
}

pub(super) fn stamp(dir: &File, boot: u128) -> io::Result<Stamp> {
    let metadata = dir.metadata()?;
    Ok(Stamp {
        place: [metadata.dev(), metadata.ino()],
        times: [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ],
        boot,
    })
}

/// Now, with nanoseconds of chance.
pub(super) fn unrepeatable_time() -> SystemTime {
    let chance = RandomState::new().hash_one(std::process::id());
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let nanoseconds = (chance % 1_000_000_000) as u32;
    SystemTime::UNIX_EPOCH + Duration::new(now.as_secs(), nanoseconds)
}
