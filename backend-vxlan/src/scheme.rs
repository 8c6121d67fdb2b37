//! From a configuration to its fabric.

use std::sync::Arc;

use cni_core::Result;
use cni_core::node::{Network, Scheme};
use cni_core::spec::config::NetworkConfig;

use crate::{VxlanConfig, VxlanFabric};

/// Reads configurations of type `vxlan`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vxlan;

impl Scheme for Vxlan {
    fn network(&self, config: &NetworkConfig) -> Result<Network> {
        let config = VxlanConfig::parse(config)?;
        Ok(Network {
            node: config.node.clone(),
            direct: config.direct_routing,
            fabric: Arc::new(VxlanFabric::new(config)),
        })
    }
}
