//! Address management for a configuration whose request cannot be met.

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::error::{Error, ErrorKind, Result};
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::ValidAttachments;
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, NetworkName};

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
