//! A node of a cluster, as a CNI plugin sees it: pods are attached with the node's own prefixes, and a
//! [`Fabric`](crate::fabric::Fabric) connects the node with the others.
//!
//! A [`Scheme`] reads a configuration and says which fabric it asks for; with one, [`NodeBackend`] is a whole plugin. What the
//! fabrics of such plugins have in common is here once: the configuration's common keys ([`NodeConfig`]), the pure functions
//! ([`desired`]) from which a fabric's own are made, and what one process leaves for the next ([`state`]).

mod backend;
mod config;
pub mod desired;
mod former;
mod inner;
mod source;
pub mod state;
mod update;

use std::fmt;
use std::sync::Arc;

pub use backend::NodeBackend;
pub use config::{ClusterSource, Inner, NodeConfig, interface_name};
pub use source::identity;
pub use state::{State, StateDir};

use crate::error::Result;
use crate::fabric::Fabric;
use crate::spec::config::NetworkConfig;

/// A way of connecting nodes, before a configuration has been read.
pub trait Scheme: Send + Sync + fmt::Debug {
    /// Reads a configuration. Plugin and node agent read the same one.
    ///
    /// # Errors
    /// What is wrong in the configuration.
    fn network(&self, config: &NetworkConfig) -> Result<Network>;
}

/// What a configuration asks for.
#[derive(Debug, Clone)]
pub struct Network {
    /// What does not depend on how nodes are connected.
    pub node: NodeConfig,
    /// How they are. What it prints as (`Debug`) tells it from those of other configurations.
    pub fabric: Arc<dyn Fabric>,
}
