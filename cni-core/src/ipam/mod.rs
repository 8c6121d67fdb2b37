//! Address management: who gets which address.

use std::fmt;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::backend::ValidAttachments;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::NetnsPath;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::{AddResult, Attachment, NetworkName};

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
