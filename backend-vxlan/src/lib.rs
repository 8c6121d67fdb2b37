//! Pods of all nodes in one network over VXLAN (RFC 7348).
//!
//! ```text
//!   node n1                                                     node n2
//!  ┌──────────────────────────────────┐                        ┌──────────────────────────────────┐
//!  │ pod ── cni0 ── route ── vxlan.1 ─┼─ UDP between underlay ─┼─ vxlan.1 ── route ── cni0 ── pod │
//!  │        10.244.1.1/24  10.244.1.0 │       addresses        │  10.244.2.0  10.244.2.1/24       │
//!  └──────────────────────────────────┘                        └──────────────────────────────────┘
//! ```
//!
//! There are two data paths. The *classic* one carries Ethernet, and has a forwarding entry, a neighbour and a next hop for
//! each peer: on the wire and in the kernel it is what Flannel makes, and both can be in one cluster. The *flow* carries IP
//! (VXLAN-GPE), by one device that takes the outer header from the route: one next-hop object for each peer, both families
//! of pods, 14 bytes less. In both, pods and underlay may each be IPv4, IPv6 or both.
//!
//! [`VxlanConfig`] is what is read; [`VxlanFabric`] is what is declared, as pure functions; with [`Vxlan`] cni-core's `NodeBackend` is a plugin.

mod config;
mod desired;
mod scheme;

pub use config::{Underlay, VxlanConfig};
pub use desired::VxlanFabric;
pub use scheme::Vxlan;
