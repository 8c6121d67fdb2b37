//! A node of a cluster, as a CNI plugin sees it: pods are attached with the node's own prefixes, and a
//! [`Fabric`](crate::fabric::Fabric) connects the node with the others.
//!
//! What the fabrics of such plugins have in common is here once: the configuration's common keys ([`NodeConfig`]), and
//! the pure functions ([`desired`]) from which a fabric's own are made.

mod config;
pub mod desired;
pub mod state;

pub use config::{ClusterSource, Inner, NodeConfig, interface_name};
pub use state::{State, StateDir};
