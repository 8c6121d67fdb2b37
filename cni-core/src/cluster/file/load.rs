//! The file as it lies on disk.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{ClusterFile, FileError};
use crate::error::{Error, ErrorKind, Result};

/// Between two ticks of the clock that files are stamped by, at the least: ten milliseconds where the kernel has 100 of
/// them in a second.
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

/// Reads a cluster file at once; for those that do not stay to see it change.
///
/// # Errors
/// [`ErrorKind::Io`] when it cannot be read. [`ErrorKind::InvalidConfig`] when something is wrong in it, with path, line and
/// column.
pub fn load(path: &Path) -> Result<ClusterFile> {
    let text = read(path).map_err(|error| unread(path, error))?;
    ClusterFile::parse(&text).map_err(|error| error.in_file(path))
}

/// The fingerprint of a file: one call of `stat(2)`, symlinks followed.
///
/// # Errors
/// [`ErrorKind::Io`] when there is no such file.
pub fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let metadata = std::fs::metadata(path).map_err(|error| unread(path, error))?;
    Ok(Fingerprint::of(&metadata))
}

/// The text of a file, as far as one is read: one byte more than is accepted tells that there is more.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // To open a pipe would wait for somebody who writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = File::open(path)?;
    let most = ClusterFile::MAX_BYTES as u64 + 1;
    let mut text = Vec::with_capacity(file.metadata()?.len().min(most) as usize + 1);
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

pub(super) fn unread(path: &Path, error: io::Error) -> Error {
    let message = format!("could not read the cluster's nodes from {}", path.display());
    Error::new(ErrorKind::Io, message).with_source(error)
}

impl FileError {
    fn in_file(self, path: &Path) -> Error {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("{}: {self}", path.display()),
        )
    }
}

impl Fingerprint {
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

    const ONE: &str = r#"{"nodes": [{"name": "n1", "podPrefixes": ["10.0.1.0/24"], "addresses": ["192.0.2.1"]}]}"#;

    #[test]
    fn a_file_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.json");
        fs::write(&path, ONE).unwrap();
        assert_eq!(load(&path).unwrap().nodes.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_path_line_and_column() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.json");
        fs::write(&path, "{\n  \"nodes\": 1}").unwrap();
        let error = load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let place = format!("{}: line 2, column 12: ", path.display());
        assert!(error.to_string().starts_with(&place), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_path_and_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("cluster.json");
        for (path, reason) in [
            (missing.as_path(), "No such file"),
            (directory.path(), "no regular file"),
            (Path::new("/dev/zero"), "no regular file"),
        ] {
            let error = load(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let text = error.chain();
            assert!(
                text.contains(&path.display().to_string()) && text.contains(reason),
                "{text}"
            );
        }
        assert_eq!(fingerprint(&missing).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn a_fingerprint_is_of_the_file_behind_the_links_and_changes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.json");
        let link = directory.path().join("link");
        fs::write(&path, ONE).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let first = fingerprint(&path).unwrap();
        assert_eq!(fingerprint(&link).unwrap(), first);
        assert_eq!(fingerprint(&link).unwrap().to_string(), first.to_string());

        let other = directory.path().join("other");
        fs::write(&other, ONE).unwrap();
        fs::rename(&other, &path).unwrap();
        let renamed = fingerprint(&path).unwrap();
        assert_ne!(renamed, first);
        fs::write(&path, format!("{ONE}\n")).unwrap();
        assert_ne!(fingerprint(&path).unwrap().to_string(), renamed.to_string());
    }

    #[test]
    fn a_change_that_keeps_size_and_time_of_the_content_shows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.json");
        fs::write(&path, ONE).unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        let before = fingerprint(&path).unwrap();
        // One tick of the clock for files later.
        while fingerprint(&path).unwrap().changed == before.changed {
            fs::write(&path, ONE.replace("n1", "n2")).unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        let after = fingerprint(&path).unwrap();
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
