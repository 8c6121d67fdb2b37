//! What the kernel says of files.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Longer than any tick of the clock that files are stamped by: the slowest kernels have 100 of them in a second.
const TICKS: Duration = Duration::from_millis(100);

/// Which file is behind a path, and which state of it: while two are equal, so is what the file says.
///
/// Device, inode, size, and the times of the last change of content and of the inode. The last one is nobody's to set: a
/// change that keeps the time of the content (`cp -p`, `rsync -t`) shows there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Whether this process may make files in a directory (`access(2)`): permissions, capabilities and read-only mounts
/// together.
#[cfg(feature = "kernel")]
pub(crate) fn can_be_written(dir: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Without system calls of our own, what the directory's mode says.
#[cfg(not(feature = "kernel"))]
pub(crate) fn can_be_written(dir: &Path) -> bool {
    dir.metadata()
        .is_ok_and(|metadata| !metadata.permissions().readonly())
}

impl Fingerprint {
    /// One call of `stat(2)`, symlinks followed.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the last change is so long ago that another one has another fingerprint: the kernel stamps files by a clock
    /// with ticks of up to ten milliseconds, and two changes within one may look alike. A fingerprint that is not settled
    /// is not to be kept for later.
    pub fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.modified.max(self.changed);
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return true;
        };
        let last = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
        // A file from the future is never settled: the clock was set back, and may come there again.
        last.and_then(|last| SystemTime::now().duration_since(last).ok())
            .is_some_and(|age| age > TICKS)
    }
}

impl fmt::Display for Fingerprint {
    /// `device.inode.size.modified.changed`, times in seconds and nanoseconds: to be kept and compared as text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (modified, changed) = (self.modified, self.changed);
        write!(
            f,
            "{}.{}.{}.{}.{:09}.{}.{:09}",
            self.device, self.inode, self.size, modified.0, modified.1, changed.0, changed.1
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_that_keeps_size_and_time_of_the_content_shows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.json");
        fs::write(&path, "one").unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        let before = Fingerprint::read(&path).unwrap();
        // One tick of the clock for files later.
        while Fingerprint::read(&path).unwrap().changed == before.changed {
            fs::write(&path, "two").unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        let after = Fingerprint::read(&path).unwrap();
        assert_eq!((after.size, after.modified), (before.size, before.modified));
        assert_ne!(after, before);
    }

    #[test]
    fn a_file_is_settled_some_time_after_its_last_change() {
        let at = |modified: i64, changed: i64| Fingerprint {
            device: 1,
            inode: 1,
            size: 1,
            modified: (modified, 0),
            changed: (changed, 0),
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        assert!(at(now - 10, now - 10).is_settled());
        assert!(at(-1, -1).is_settled());
        assert!(!at(now - 10, now + 10).is_settled());
        assert!(!at(now + 10, now - 10).is_settled());
    }
}
