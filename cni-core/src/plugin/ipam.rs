//! Address management for configurations that ask for none, and for those whose request cannot be met.

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::backend::ValidAttachments;
use crate::error::{Error, ErrorKind, Result};
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, NetworkName};

/// No address management: nothing is handed out, and nothing is ever wrong with it (an L2 network).
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIpam;

#[async_trait]
impl Ipam for NoIpam {
    async fn allocate(&self, _: &IpamRequest<'_>) -> Result<AddResult> {
        Ok(AddResult::default())
    }

    async fn preview(&self, _: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        Ok(Some(AddResult::default()))
    }

    async fn held(&self, _: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        Ok(Some(Vec::new()))
    }

    async fn release(&self, _: &IpamRequest<'_>) -> Result<()> {
        Ok(())
    }

    async fn check(&self, _: &IpamRequest<'_>) -> Result<()> {
        Ok(())
    }

    async fn gc(&self, _: &NetworkName, _: &NetworkConfig, _: &ValidAttachments) -> Result<()> {
        Ok(())
    }

    async fn status(&self, _: &NetworkName, _: &NetworkConfig) -> Result<()> {
        Ok(())
    }
}

/// Address management that could not be set up: every request fails with the reason.
///
/// DEL gets this instead of failing at once, so that it still removes what stands in the kernel.
#[derive(Debug, Clone)]
pub struct UnusableIpam {
    kind: ErrorKind,
    reason: String,
}

impl UnusableIpam {
    /// Fails every request with `error`.
    pub fn new(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            reason: error.chain(),
        }
    }

    fn error(&self) -> Error {
        Error::new(self.kind, self.reason.clone())
    }
}

#[async_trait]
impl Ipam for UnusableIpam {
    async fn allocate(&self, _: &IpamRequest<'_>) -> Result<AddResult> {
        Err(self.error())
    }

    async fn preview(&self, _: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        Err(self.error())
    }

    async fn held(&self, _: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        Err(self.error())
    }

    async fn release(&self, _: &IpamRequest<'_>) -> Result<()> {
        Err(self.error())
    }

    async fn check(&self, _: &IpamRequest<'_>) -> Result<()> {
        Err(self.error())
    }

    async fn gc(&self, _: &NetworkName, _: &NetworkConfig, _: &ValidAttachments) -> Result<()> {
        Err(self.error())
    }

    async fn status(&self, _: &NetworkName, _: &NetworkConfig) -> Result<()> {
        Err(self.error())
    }
}
