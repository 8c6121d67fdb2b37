//! Files that outlast a crash of the machine: written beside, made durable, and put in place as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Makes the file hold these bytes, with these permissions (`0o755`), in a directory that is there. At any moment, and after a
/// crash at any moment, the name leads to the old file or to the whole new one.
///
/// # Errors
/// Those of the file system; then the name leads to what it led to before.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)?;
    // What a killed process left there keeps its mode, and the process's mask counts when a file is made.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, path)?;
    settle(path)
}

/// Removes the file, and what a killed [`put`] left beside it; returns whether it was there.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<bool> {
    let beside = gone(fs::remove_file(beside(path)))?;
    let there = gone(fs::remove_file(path))?;
    if beside || there {
        settle(path)?;
    }
    Ok(there)
}

/// Always the same name: what a killed process left is overwritten by the next. It is hidden, and ends with nothing that a
/// container runtime takes for a configuration.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.cni-fabric-new"))
}

fn gone(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Names are the directory's: they last once that has been written.
fn settle(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_in_place_with_its_mode_over_what_a_killed_process_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vxlan");
        fs::write(beside(&path), "half of something longer").unwrap();
        fs::set_permissions(beside(&path), fs::Permissions::from_mode(0o600)).unwrap();
        put(&path, b"whole", 0o755).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        fs::write(beside(&path), "half").unwrap();
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vxlan");
        put(&path, b"old", 0o755).unwrap();
        fs::create_dir(beside(&path)).unwrap();
        assert!(put(&path, b"new", 0o755).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
