//! Pods of all nodes in one network by plain routes, where the nodes share a segment.
//!
//! ```text
//!   node n1, 192.0.2.1                                      node n2, 192.0.2.2
//!  ┌────────────────────────────────────┐                  ┌──────────────────────────────┐
//!  │ pod ── cni0 ── 10.244.2.0/24 via   │                  │                              │
//!  │                192.0.2.2 ── eth0 ──┼── one segment ───┼─ eth0 ── route ── cni0 ── pod │
//!  └────────────────────────────────────┘                  └──────────────────────────────┘
//! ```
//!
//! Nothing is wrapped and nothing is lost of the MTU; but each node has to be a neighbour of every other: a router between
//! them knows nothing of pods. A peer behind one is reported by name, and the others work.
//!
//! [`HostGwConfig`] is what is read; [`HostGwFabric`] is what is declared, as pure functions; with [`HostGw`] cni-core's `NodeBackend` is a plugin.

mod config;
mod desired;
mod scheme;

pub use config::HostGwConfig;
pub use desired::HostGwFabric;
pub use scheme::HostGw;
