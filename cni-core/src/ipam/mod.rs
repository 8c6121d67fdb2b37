//! Address management: who gets which address.

#[cfg(feature = "plugin")]
mod delegated;
mod host_local;
mod none;
mod ranges;
mod requested;
mod static_addresses;

use std::fmt;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

#[cfg(feature = "plugin")]
pub use self::delegated::Delegated;
pub use self::host_local::{DEFAULT_DATA_DIR, HostLocal};
pub use self::none::NoIpam;
pub use self::ranges::{Range, RangeSet, RangeSpec};
pub use self::static_addresses::Static;
use crate::cancel::Cancel;
use crate::error::{ErrorKind, Result};
use crate::host::NetnsPath;
use crate::spec::ValidAttachments;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::{AddResult, Attachment, NetworkName};

/// Code 110: all addresses of a range set are reserved. STATUS says it beforehand, with code 50.
///
/// Not [`ErrorKind::TryAgain`]: only the operator, or a container that ends, can change it, and a runtime's retries
/// should not hide it.
pub const EXHAUSTED: ErrorKind = ErrorKind::Plugin(110);

/// Code 111: the attachment holds an address of the range set already; it has to be released first (DEL).
pub const ALREADY_HELD: ErrorKind = ErrorKind::Plugin(111);

/// Code 112: a requested address is reserved for another attachment.
pub const ADDRESS_TAKEN: ErrorKind = ErrorKind::Plugin(112);

/// Address management as `ipam.type` asks for it.
///
/// * absent or empty: [`NoIpam`];
/// * `host-local` and `static`: in this process, always, also when a plugin of that name lies on `CNI_PATH`. They keep
///   to the reference plugins' store and configuration, and a child process would cost more than all the rest of ADD;
/// * anything else: [`Delegated`], found on `path` (`CNI_PATH`), with the environment variables `environment`.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for a name with a path separator in it; the decoding errors of the configuration.
#[cfg(feature = "plugin")]
pub fn from_config(
    config: &NetworkConfig,
    path: &[std::path::PathBuf],
    environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<Box<dyn Ipam>> {
    Ok(match config.ipam_type()?.as_deref() {
        None => Box::new(NoIpam::new()),
        Some("host-local") => Box::new(HostLocal::new()),
        Some("static") => Box::new(Static::new()),
        Some(other) => Box::new(Delegated::new(other, path, environment)?),
    })
}

/// Hands out addresses. Implementations: `host-local` and `static`, in this process; any other plugin, executed.
#[async_trait]
pub trait Ipam: Send + Sync + fmt::Debug {
    /// Reserves addresses for the attachment: the result has `ips`, `routes` and `dns`, no interfaces.
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult>;

    /// What `allocate` would answer, without reserving anything (a dry run). `None` when it cannot be told.
    async fn preview(&self, request: &IpamRequest<'_>) -> Result<Option<AddResult>>;

    /// The addresses that the attachment holds, when that can be told without asking another program; else `None`.
    async fn held(&self, request: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>>;

    /// Gives back what the attachment holds. Nothing held is success.
    async fn release(&self, request: &IpamRequest<'_>) -> Result<()>;

    /// Whether the attachment still holds its addresses.
    async fn check(&self, request: &IpamRequest<'_>) -> Result<()>;

    /// Gives back what attachments hold that are not valid any more.
    async fn gc(
        &self,
        network: &NetworkName,
        config: &NetworkConfig,
        valid: &ValidAttachments,
    ) -> Result<()>;

    /// Whether an address could be handed out now.
    async fn status(&self, network: &NetworkName, config: &NetworkConfig) -> Result<()>;
}

/// What address management is asked about.
#[derive(Debug, Clone, Copy)]
pub struct IpamRequest<'a> {
    /// For whom.
    pub attachment: &'a Attachment,
    /// The container's namespace, which a delegated plugin is told.
    pub netns: Option<&'a NetnsPath>,
    /// The network's configuration, `ipam` section included, with its original bytes.
    pub config: &'a NetworkConfig,
    /// `CNI_ARGS`.
    pub args: &'a CniArgs,
    /// When to stop waiting for a lock or a child.
    pub cancel: &'a Cancel,
}
