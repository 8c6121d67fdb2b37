//! Network namespaces: opening one yields handles that stay bound to it; nobody ever "enters" one.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::Sandbox;
use crate::error::Result;

/// The path of a network namespace (`CNI_NETNS`), such as `/var/run/netns/pod1` or `/proc/42/ns/net`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetnsPath(PathBuf);

impl NetnsPath {
    /// A namespace path as given; nothing is opened.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
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

    /// Whether the path is this process's own network namespace. A path that cannot be opened is not (`false`).
    async fn is_own(&self, path: &NetnsPath) -> bool;
}
