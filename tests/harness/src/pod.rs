//! A network namespace of a test's own, with a path that a plugin can open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::netlink;

/// Where the namespaces' files are, as `ip netns` has it.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A network namespace: a pod's, another node's, or an outside host's. Kept by a bind mount below `/run/netns`, which is
/// the test's own, and gone when dropped.
#[derive(Debug)]
pub struct Pod {
    path: PathBuf,
    container: String,
}

impl Pod {
    /// A fresh namespace with `lo` up, as a runtime makes one. Names need not be unique.
    ///
    /// # Panics
    /// When the kernel refuses, which inside a test's own namespaces it does not.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let container = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(DIRECTORY).join(&container);
        fs::create_dir_all(DIRECTORY).expect("/run is the test's own");
        fs::File::create(&path).expect("/run/netns is the test's own");
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            netlink::set_loopback_up().expect("lo up");
            bind_own_namespace(&path).expect("a bind mount of the namespace");
        });
        Self { path, container }
    }

    /// The namespace's file, for `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A container id that no other pod of this test has, for `CNI_CONTAINERID`.
    pub fn id(&self) -> &str {
        &self.container
    }

    /// Runs `body` in a thread inside the namespace. A socket made there stays bound to it; a process started there
    /// runs in it. A panic inside is the caller's.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            let file = fs::File::open(&self.path).expect("the pod's namespace is still there");
            setns(file, CloneFlags::CLONE_NEWNET).expect("entering the pod's namespace");
            body()
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

fn bind_own_namespace(path: &Path) -> io::Result<()> {
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(io::Error::from)
}

pub(crate) fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(body)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
