//! Kernel parameters below `/proc/sys/net`.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// Kernel parameters of one network namespace.
///
/// Keys are paths below `/proc/sys`, with slashes, because interface names may hold dots: `net/ipv4/ip_forward`.
#[async_trait]
pub trait Sysctl: Send + Sync + fmt::Debug {
    /// The value without its final newline; `None` when the kernel has no such parameter.
    async fn read(&self, key: &str) -> Result<Option<String>>;

    /// Writes the value. A missing parameter is an error of kind [`ErrorKind::Io`](crate::ErrorKind::Io).
    async fn write(&self, key: &str, value: &str) -> Result<()>;
}
