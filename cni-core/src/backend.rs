//! The trait that a way of connecting pods implements, and what it is asked.

use std::fmt;

use async_trait::async_trait;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::{Host, NetnsPath, Sandbox};
use crate::ipam::Ipam;
use crate::plan::Plan;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::{AddResult, Attachment, NetworkName, ValidAttachments};

/// A way of connecting pods.
///
/// # Contract
///
/// * `add` either returns a result and has made everything it says, or returns an error and has left the host, the
///   container and the address store as they were. It creates exclusively: what it finds under the attachment's own
///   names is either the leftover of an ADD that died (unsealed, see [`NetworkBackend::seal`]), which it clears away,
///   or a finished attachment, which is an error.
/// * `del` succeeds when nothing is there, and however often it is asked: namespace gone or not given, `prev_result`
///   absent, only half made. It attempts every step, and reports all failures together.
/// * `check` changes nothing, and names every drift in what `add` made.
/// * `gc` removes what bears the network's mark and is not in the valid set; it goes on past failures.
/// * `status` answers quickly, and changes nothing.
/// * Calls for different attachments may run at the same time, in other processes too; calls for one attachment do not.
///
/// [`testing::conformance`](crate::testing) proves all of this of any backend with one line.
#[async_trait]
pub trait NetworkBackend: Send + Sync + fmt::Debug {
    /// Attaches the container.
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added>;

    /// Called once the result has been handed to the runtime: marks the attachment as finished. Until then it counts
    /// as the leftover of a process that died.
    async fn seal(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        let _ = (cx, request);
        Ok(())
    }

    /// Detaches the container.
    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()>;

    /// What `del` would do, for a dry run; it changes nothing. `None` when the backend cannot tell.
    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let _ = (cx, request);
        Ok(None)
    }

    /// Compares what `add` made with what is there.
    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()>;

    /// Removes this network's attachments that are not valid any more.
    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        let _ = (cx, request);
        Ok(())
    }

    /// Whether an ADD could work now.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`](crate::ErrorKind::NotAvailable) (50) or
    /// [`ErrorKind::LimitedConnectivity`](crate::ErrorKind::LimitedConnectivity) (51), with the reason.
    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        let _ = (cx, request);
        Ok(())
    }
}

/// What every verb gets: the host's handles, address management, and when to stop.
#[derive(Debug)]
pub struct Context<'a> {
    /// The host's side of the kernel.
    pub host: &'a Host,
    /// Address management as the configuration's `ipam` asks for it.
    pub ipam: &'a dyn Ipam,
    /// When to stop.
    pub cancel: &'a Cancel,
    /// Plan, but change nothing: neither the kernel nor the address store.
    pub dry_run: bool,
}

/// ADD.
#[derive(Debug)]
pub struct AddRequest<'a> {
    /// Who is attached to what.
    pub attachment: &'a Attachment,
    /// The container's namespace.
    pub sandbox: &'a Sandbox,
    /// The network's configuration.
    pub config: &'a NetworkConfig,
    /// `CNI_ARGS`.
    pub args: &'a CniArgs,
    /// The result of the plugin before this one in a chain.
    pub prev_result: Option<&'a AddResult>,
}

/// DEL.
#[derive(Debug)]
pub struct DelRequest<'a> {
    /// Who is detached from what.
    pub attachment: &'a Attachment,
    /// The container's namespace, when the runtime named one. It may be gone.
    pub netns: Option<&'a NetnsPath>,
    /// The network's configuration.
    pub config: &'a NetworkConfig,
    /// `CNI_ARGS`.
    pub args: &'a CniArgs,
    /// The result of the ADD, when the runtime still knows it.
    pub prev_result: Option<&'a AddResult>,
}

/// CHECK.
#[derive(Debug)]
pub struct CheckRequest<'a> {
    /// Which attachment.
    pub attachment: &'a Attachment,
    /// The container's namespace.
    pub sandbox: &'a Sandbox,
    /// The network's configuration.
    pub config: &'a NetworkConfig,
    /// `CNI_ARGS`.
    pub args: &'a CniArgs,
    /// The result of the ADD.
    pub prev_result: &'a AddResult,
}

/// GC.
#[derive(Debug)]
pub struct GcRequest<'a> {
    /// Which network.
    pub network: &'a NetworkName,
    /// The network's configuration.
    pub config: &'a NetworkConfig,
    /// Attachments that are still valid (`cni.dev/valid-attachments`). An absent list never gets here: it says that
    /// the runtime does not know, and then nothing is collected.
    pub valid: &'a ValidAttachments,
}

/// STATUS.
#[derive(Debug)]
pub struct StatusRequest<'a> {
    /// Which network.
    pub network: &'a NetworkName,
    /// The network's configuration.
    pub config: &'a NetworkConfig,
}

/// What ADD made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Added {
    /// The result for the runtime.
    pub result: AddResult,
    /// What was done, or in a dry run what would be.
    pub plan: Plan,
}

impl Added {
    /// A result and the plan that made it true.
    pub fn new(result: AddResult, plan: Plan) -> Self {
        Self { result, plan }
    }
}
