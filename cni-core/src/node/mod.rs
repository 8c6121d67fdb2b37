//! A node of a cluster, as a CNI plugin sees it: pods are attached with the node's own prefixes, and a
//! [`Fabric`] connects the node with the others.
//!
//! ```text
//!   configuration ──► Scheme ──► Network { node: NodeConfig, fabric: Fabric }
//!                                   │                         │
//!   cluster file ──► View ──────────┼──► fabric's engine ◄────┘    the node's part: device, next hops, routes, table
//!                                   │        │ prefixes, MTU
//!   ADD ──► NodeBackend ────────────┴────────┴──► inner backend    the pod's part: bridge (or ptp), addresses
//! ```
//!
//! A [`Scheme`] reads a configuration and says which fabric it asks for; with one, [`NodeBackend`] is a whole plugin. What the
//! fabrics of such plugins have in common is here once: the configuration's common keys ([`NodeConfig`]), the pure functions
//! ([`desired`]) from which a fabric's own are made, and what one process leaves for the next ([`state`]).
//!
//! # Configuration
//!
//! ```json
//! {
//!     "cniVersion": "1.1.0", "name": "pods",
//!     "plugins": [{ "type": "vxlan", "cluster": { "file": "/etc/cni/cluster.json" } }]
//! }
//! ```
//!
//! is a whole one. The keys of every network of nodes, besides those of `vxlan` alone:
//!
//! | key | default | |
//! |---|---|---|
//! | `cluster.file` | this or another | absolute path of the file that lists the nodes ([`manual::cluster`](crate::manual::cluster)) |
//! | `cluster.etcd` | | the nodes are in an etcd, which only the node agent speaks to ([`manual::etcd`](crate::manual::etcd)) |
//! | `cluster.kubernetes` | | the nodes are in Kubernetes, which only the node agent speaks to ([`manual::kubernetes`](crate::manual::kubernetes)). Exactly one of these three |
//! | `cluster.node` | | which of them this is; else the one with the host's name, else the one with an address of the host's |
//! | `mtu` | 0 | largest packet of a pod in bytes, 576 to 65535; 0: what fits. More than fits is lowered |
//! | `routeProtocol` | 167 | marks our routes, next hops and rules, and is the number of our routing table: 5 to 252, without those that others are known to use. Each network on a node has its own |
//! | `nextHopObjects` | `true` | next-hop objects, where the kernel has them (Linux 5.3). Without, each route has its own metric and next hop |
//! | `masquerade` | `true` | what pods send to anybody but pods and nodes gets the node's address |
//! | `firewalldZone` | `trusted` | where firewalld runs: the zone that lets the network's packets through ([`zones`]) |
//! | `stateDir` | `/run/cni-fabric` | absolute path of the directory below which [`state`] is kept |
//! | `attach` | `{"type": "bridge"}` | how pods are attached: `bridge` or `ptp`, with keys of that plugin beside. Without those that follow from the rest: `mtu`, `ipam`, `gateways`, `isGateway`, `isDefaultGateway`, `ipMasq` |
//! | `ipam` | `{"type": "host-local"}` | keys of `host-local` (`dataDir`, `routes`, `resolvConf`), but no ranges: they are the node's own prefixes, one address of each family; when a prefix is full, the next one of its family |
//!
//! The node agent reads the same configuration, so that both mean the same. Where the nodes are known from a service, the agent
//! has to live: without it ADD and CHECK answer with code 11, and STATUS with 50.
//!
//! # Verbs
//!
//! | verb | without an agent | with one |
//! |---|---|---|
//! | ADD | brings the node up to date with the file, if the file, this configuration, the boot or the links that it rests on have changed since that was done last; then attaches the pod. Code 7 for what is wrong in the file | relies on it; code 11 while it has not connected the node |
//! | DEL, GC | need neither file nor agent: what belongs to pods goes, what belongs to the node stays | |
//! | CHECK | compares everything, firewalld's zone included, and names the peer whose entry is missing or wrong; a pod whose address is in no prefix of the node any more fails | the same; while the file makes no sense, the pod's part alone |
//! | STATUS | 50: the file cannot be used, no address is left; 51: a peer is not reached, something clashes, firewalld does not know the network's packets, pods hold addresses of former prefixes | 50, 51 with the agent's reason |
//!
//! Where nothing has changed an ADD costs the same however large the cluster is: it reads `state.json`, looks at the file's time stamps
//! and at one or two links, and asks nothing of routes and peers. Of several ADDs at once one brings the node up to date, the
//! others wait for it. One that is killed is made good by the next.
//!
//! Where firewalld runs, an ADD without an agent asks it whether it still knows the network, and tells it again what it has
//! forgotten. An answer is waited for three seconds, after which nothing more is asked, and no pod goes without its network for that.
//!
//! # When a node's own prefixes change
//!
//! New pods get addresses of the new ones. Pods that are there keep theirs, and the bridge its former gateway: the node and its
//! other pods reach them (new pods are masqueraded on the way, as to the world outside). Other nodes do not, and neither does the
//! world outside: their routes lead elsewhere, or to the prefix's new owner. STATUS (code 51) and CHECK name the addresses until
//! these pods have been made anew. Where Kubernetes or an etcd gives prefixes, new pods wait for that. The former gateway's
//! address goes with the bridge (a GC with no pods left, a boot), or by `ip address del`.

mod backend;
mod config;
pub mod desired;
mod former;
mod inner;
mod source;
pub mod state;
mod update;
mod zoned;
pub mod zones;

use std::fmt;
use std::sync::Arc;

pub use backend::NodeBackend;
pub use config::{ClusterSource, Inner, NodeConfig, Origin, interface_name};
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
    /// What peers' pods send may come by the uplink, and not by the tunnel's device alone.
    pub direct: bool,
}
