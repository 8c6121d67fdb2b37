//! Entering fresh namespaces while the process still has one thread.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

use crate::netlink;

/// Why fresh namespaces could not be had. Its text says what to do about it.
#[derive(Debug)]
pub struct Refused {
    step: String,
    source: io::Error,
    user_namespace: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.source)?;
        if self.user_namespace {
            write!(
                f,
                "; this machine does not let an ordinary user make user namespaces. Allow it (as root: \
                 `sysctl -w user.max_user_namespaces=10000`, on Debian also \
                 `sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu also \
                 `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; in a container, also a seccomp profile \
                 that permits unshare(2)), or run the same command as root"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Moves this process into fresh network and mount namespaces, and, unless it is root with the right to do so, into a
/// fresh user namespace in which it is root. `/run` and `/var/lib` become empty, `/sys` shows the new namespace, `lo` is
/// up. What lies below the covered directories and is in `keep` stays reachable.
///
/// # Errors
/// [`Refused`] when the kernel or the machine's policy does not allow it, or when the process has more than one thread
/// already: call it first thing in `main`.
pub fn enter(keep: &[&Path]) -> Result<(), Refused> {
    KEPT.get_or_init(|| keep.iter().map(|path| (*path).to_owned()).collect());
    let both = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let privileged = Uid::effective().is_root() && unshare(both).is_ok();
    if !privileged {
        enter_user_namespace(both)?;
    }
    make_mounts_private()?;
    for directory in ["/run", "/var/lib"] {
        cover(Path::new(directory), keep)?;
    }
    // Refused where the surrounding container hides parts of /sys; only tests that read /sys notice.
    let _ = mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    );
    netlink::set_loopback_up().map_err(|source| refused("set lo up in the new namespace", source))
}

static KEPT: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// What [`enter`] was told to keep, for those who cover the same directories again.
pub(crate) fn kept() -> &'static [PathBuf] {
    KEPT.get().map_or(&[], Vec::as_slice)
}

fn enter_user_namespace(both: CloneFlags) -> Result<(), Refused> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER | both).map_err(|errno| Refused {
        step: "make a user namespace".to_owned(),
        source: errno.into(),
        user_namespace: true,
    })?;
    // AppArmor on Ubuntu lets the namespace be made but withholds the capabilities in it, which shows here.
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        fs::write(file, text).map_err(|source| Refused {
            step: format!("write {file}"),
            source,
            user_namespace: true,
        })?;
    }
    Ok(())
}

fn make_mounts_private() -> Result<(), Refused> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|errno| Refused {
        step: "make the new namespace's mounts private".to_owned(),
        source: errno.into(),
        user_namespace: !Uid::effective().is_root(),
    })
}

/// An empty file system over `directory`, through which the kept paths still show.
pub(crate) fn cover(directory: &Path, keep: &[&Path]) -> Result<(), Refused> {
    let Ok(directory) = directory.canonicalize() else {
        return Ok(());
    };
    let kept: Vec<(PathBuf, fs::File)> = keep
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .filter(|path| path.starts_with(&directory) && path.is_dir())
        .filter_map(|path| Some((path.clone(), fs::File::open(path).ok()?)))
        .collect();
    let step = || format!("cover {}", directory.display());
    mount(
        Some("tmpfs"),
        &directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .map_err(|errno| refused(&step(), errno.into()))?;
    for (path, handle) in &kept {
        fs::create_dir_all(path).map_err(|source| refused(&step(), source))?;
        let behind = format!("/proc/self/fd/{}", handle.as_raw_fd());
        mount(
            Some(behind.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .map_err(|errno| refused(&step(), errno.into()))?;
    }
    Ok(())
}

fn refused(step: &str, source: io::Error) -> Refused {
    Refused {
        step: step.to_owned(),
        source,
        user_namespace: false,
    }
}
