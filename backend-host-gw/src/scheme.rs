//! From a configuration to its fabric.

use std::sync::Arc;

use cni_core::Result;
use cni_core::node::{Network, Scheme};
use cni_core::spec::config::NetworkConfig;

use crate::{HostGwConfig, HostGwFabric};

/// Reads configurations of type `host-gw`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostGw;

impl Scheme for HostGw {
    fn network(&self, config: &NetworkConfig) -> Result<Network> {
        let config = HostGwConfig::parse(config)?;
        Ok(Network {
            node: config.node.clone(),
            direct: true,
            fabric: Arc::new(HostGwFabric::new(config)),
        })
    }
}
