//! The file as it lies on disk.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::{ClusterFile, FileError};
use crate::error::{Error, ErrorKind, Result};
use crate::host::disk::Fingerprint;

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
    Fingerprint::read(path).map_err(|error| unread(path, error))
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
    pub(super) fn in_file(self, path: &Path) -> Error {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("{}: {self}", path.display()),
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
}
