//! Files for others to read: replaced as a whole, and only when they say something else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Makes the file say this. A reader sees the old text or the new one, never a part. Returns whether it had to be written.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, text: &str) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = beside(path);
    fs::write(&new, text)?;
    fs::rename(&new, path)?;
    Ok(true)
}

/// Removes the file; that there is none is well.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Always the same name: what a killed agent left is overwritten by the next, and there is only one at a time.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_is_written_only_when_it_says_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/state");
        let inode = || fs::metadata(&path).unwrap().ino();
        assert!(replace(&path, "one").unwrap());
        let first = inode();
        assert!(!replace(&path, "one").unwrap());
        assert_eq!(inode(), first);
        // The leftover of an agent that was killed is no hindrance.
        fs::write(beside(&path), "half").unwrap();
        assert!(replace(&path, "two").unwrap());
        assert_ne!(inode(), first);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
