//! The configuration's own keys.

use cni_core::Result;
use cni_core::node::NodeConfig;
use cni_core::spec::config::NetworkConfig;

/// What a configuration asks of this backend: nothing that is not common to all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostGwConfig {
    /// What does not depend on how the nodes are connected.
    pub node: NodeConfig,
}

impl HostGwConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// As for [`NodeConfig::parse`].
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        Ok(Self {
            node: NodeConfig::parse(config)?,
        })
    }
}
