//! [`NamespaceOpener`] on the kernel.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use async_trait::async_trait;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::{NamespaceOpener, NetnsPath};
use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::KernelNetlink;
use crate::host::sysctl::{Sysctl, read_file, write_file};
use crate::host::{OWN_NETNS, Sandbox};

/// Opens namespaces by a thread for each, which enters the namespace, opens the sockets, and then serves the reads and
/// writes of kernel parameters: `/proc/sys/net` shows the namespace of the thread that opens a file in it. The calling
/// thread stays where it is. The thread ends when the sandbox is dropped.
#[derive(Debug, Default)]
pub struct KernelNamespaces;

impl KernelNamespaces {
    /// The kernel's namespaces.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl NamespaceOpener for KernelNamespaces {
    async fn open(&self, path: &NetnsPath) -> Result<Sandbox> {
        let namespace = open_file(path)?;
        let inside = Arc::clone(&namespace);
        let enter = move || setns(inside, CloneFlags::CLONE_NEWNET);
        Ok(Sandbox {
            path: path.holding(namespace),
            ..served_by_a_thread(path, enter)?
        })
    }

    async fn scratch(&self) -> Result<Sandbox> {
        served_by_a_thread(&NetnsPath::new("a namespace of its own"), || {
            unshare(CloneFlags::CLONE_NEWNET)
        })
    }

    async fn is_own(&self, path: &NetnsPath) -> bool {
        let identity = |path: &std::path::Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let own = identity(OWN_NETNS.as_ref());
        own.is_some() && own == identity(path.as_path())
    }
}

/// The handles of the namespace that `enter` brings a new thread into.
fn served_by_a_thread(
    path: &NetnsPath,
    enter: impl FnOnce() -> nix::Result<()> + Send + 'static,
) -> Result<Sandbox> {
    let (jobs, received) = sync_channel(0);
    let (ready, opened) = sync_channel(1);
    std::thread::Builder::new()
        .name("netns".to_owned())
        .stack_size(STACK)
        .spawn(move || work(enter, &ready, &received))
        .map_err(|error| {
            Error::new(
                ErrorKind::Io,
                format!("could not start a thread for namespace {path}"),
            )
            .with_source(error)
        })?;
    let netlink = opened.recv().unwrap_or(Err(Inside::Gone));
    let netlink = netlink.map_err(|error| error.explain(path))?;
    Ok(Sandbox {
        path: path.clone(),
        netlink: Arc::new(netlink),
        sysctl: Arc::new(SandboxSysctl { jobs }),
    })
}

/// Stack of a namespace's thread: it only opens sockets and small files.
const STACK: usize = 256 * 1024;

fn open_file(path: &NetnsPath) -> Result<Arc<OwnedFd>> {
    if let Some(held) = &path.held {
        return Ok(Arc::clone(held));
    }
    // A named pipe would block.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path.as_path());
    match file {
        Ok(file) => Ok(Arc::new(OwnedFd::from(file))),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "does not exist",
                io::ErrorKind::PermissionDenied => "may not be opened by this user",
                _ => "cannot be opened",
            };
            Err(Error::new(
                ErrorKind::InvalidNetns,
                format!("network namespace {path} {hint}"),
            )
            .with_source(error))
        }
    }
}

/// A failure on the namespace's thread.
enum Inside {
    Enter(Errno),
    Socket(io::Error),
    Gone,
}

impl Inside {
    fn explain(self, path: &NetnsPath) -> Error {
        match self {
            Self::Enter(Errno::EINVAL) => Error::new(
                ErrorKind::InvalidNetns,
                format!("{path} is not a network namespace"),
            ),
            Self::Enter(Errno::EPERM) => Error::new(
                ErrorKind::InvalidNetns,
                format!(
                    "no permission to enter network namespace {path}: it takes CAP_SYS_ADMIN in it and in the \
                     plugin's own user namespace"
                ),
            )
            .with_source(Errno::EPERM),
            Self::Enter(error) => Error::new(
                ErrorKind::InvalidNetns,
                format!("could not enter network namespace {path}"),
            )
            .with_source(error),
            Self::Socket(error) => Error::new(
                ErrorKind::Io,
                format!("could not open a netlink socket in namespace {path}"),
            )
            .with_source(error),
            Self::Gone => Error::new(
                ErrorKind::Internal,
                format!("the thread for namespace {path} has died"),
            ),
        }
    }
}

/// The namespace's thread: enters, hands the socket out, then serves until nobody can ask any more.
fn work(
    enter: impl FnOnce() -> nix::Result<()>,
    ready: &SyncSender<Result<KernelNetlink, Inside>>,
    jobs: &Receiver<Job>,
) {
    let opened = enter()
        .map_err(Inside::Enter)
        .and_then(|()| KernelNetlink::open().map_err(Inside::Socket));
    let failed = opened.is_err();
    if ready.send(opened).is_err() || failed {
        return;
    }
    for job in jobs {
        match job {
            Job::Read(key, reply) => drop(reply.send(read_file(&key))),
            Job::Write(key, value, reply) => drop(reply.send(write_file(&key, &value))),
        }
    }
}

/// A kernel parameter to read or write inside the namespace.
enum Job {
    Read(String, SyncSender<Result<Option<String>>>),
    Write(String, String, SyncSender<Result<()>>),
}

/// Kernel parameters of a container's namespace.
#[derive(Debug)]
struct SandboxSysctl {
    jobs: SyncSender<Job>,
}

impl SandboxSysctl {
    fn ask<T>(&self, job: impl FnOnce(SyncSender<Result<T>>) -> Job) -> Result<T> {
        let dead = || Error::new(ErrorKind::Internal, "the namespace's thread has died");
        let (reply, answer) = sync_channel(1);
        self.jobs.send(job(reply)).map_err(|_| dead())?;
        answer.recv().map_err(|_| dead())?
    }
}

#[async_trait]
impl Sysctl for SandboxSysctl {
    async fn read(&self, key: &str) -> Result<Option<String>> {
        self.ask(|reply| Job::Read(key.to_owned(), reply))
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        self.ask(|reply| Job::Write(key.to_owned(), value.to_owned(), reply))
    }
}
