//! Network namespaces: opening one yields handles that stay bound to it; nobody ever "enters" one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
#[cfg(feature = "kernel")]
use std::{fs::File, io, os::fd::OwnedFd, sync::Arc};

use async_trait::async_trait;

use super::Sandbox;
use crate::error::Result;

#[cfg(feature = "kernel")]
mod kernel;

#[cfg(feature = "kernel")]
pub use kernel::KernelNamespaces;

/// The path of a network namespace (`CNI_NETNS`), such as `/var/run/netns/pod1` or `/proc/42/ns/net`.
///
/// The path of an opened [`Sandbox`] also holds the namespace itself: a change that is made by way of it (a veth's far
/// end) is sure to hit the same namespace, even if another one has been mounted at the path since. Two paths are equal
/// when they read the same.
#[derive(Clone)]
pub struct NetnsPath {
    path: PathBuf,
    #[cfg(feature = "kernel")]
    held: Option<Arc<OwnedFd>>,
}

impl NetnsPath {
    /// A namespace path as given; nothing is opened.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            #[cfg(feature = "kernel")]
            held: None,
        }
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// The namespace that this path holds, or else the one that is there now.
    #[cfg(feature = "kernel")]
    pub(crate) fn descriptor(&self) -> io::Result<Arc<OwnedFd>> {
        match &self.held {
            Some(held) => Ok(Arc::clone(held)),
            None => Ok(Arc::new(File::open(&self.path)?.into())),
        }
    }

    /// The same path, which from now on stands for this namespace.
    #[cfg(feature = "kernel")]
    pub(crate) fn holding(&self, namespace: Arc<OwnedFd>) -> Self {
        Self {
            path: self.path.clone(),
            held: Some(namespace),
        }
    }
}

impl PartialEq for NetnsPath {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for NetnsPath {}

impl Hash for NetnsPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl fmt::Debug for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NetnsPath").field(&self.path).finish()
    }
}

impl fmt::Display for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// Opens containers' namespaces.
#[async_trait]
pub trait NamespaceOpener: Send + Sync + fmt::Debug {
    /// Opens a namespace and binds handles to it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidNetns`](crate::ErrorKind::InvalidNetns) when the path cannot be opened or is no network
    /// namespace; [`ErrorKind::Io`](crate::ErrorKind::Io) when a handle cannot be made inside it.
    async fn open(&self, path: &NetnsPath) -> Result<Sandbox>;

    /// A namespace of nobody's, with `lo` alone, that ends when the sandbox is dropped: for trying out whether the kernel can do
    /// something, without doing it to anybody. Its path names nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the kernel refuses, or where there are no such namespaces.
    async fn scratch(&self) -> Result<Sandbox> {
        let message = "there are no namespaces to try something out in";
        Err(crate::Error::new(crate::ErrorKind::Io, message))
    }

    /// Whether the path is this process's own network namespace. A path that cannot be opened is not (`false`).
    async fn is_own(&self, path: &NetnsPath) -> bool;
}
