//! What the kernel says of files, where the standard library does not ask it.

use std::path::Path;

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
