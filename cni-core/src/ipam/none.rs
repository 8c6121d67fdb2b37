//! No address management: the network is a wire.

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::{Ipam, IpamRequest};
use crate::error::Result;
use crate::spec::ValidAttachments;
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, NetworkName};

/// For configurations without `ipam.type`: hands out nothing, and has nothing to give back.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIpam {}

impl NoIpam {
    /// No address management.
    pub fn new() -> Self {
        Self {}
    }
}

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
