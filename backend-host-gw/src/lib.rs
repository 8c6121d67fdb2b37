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
//! them knows nothing of pods. A peer behind one is reported by name, and the others work; the backend `vxlan` reaches it, with
//! `directRouting` by a tunnel for such peers alone.
//!
//! [`HostGwConfig`] is what is read; [`HostGwFabric`] is what is declared, as pure functions; with [`HostGw`] cni-core's
//! [`NodeBackend`](cni_core::node::NodeBackend) is a plugin, and its [engine](cni_core::fabric) what an agent needs.
//!
//! # The way of a packet
//!
//! ```text
//!   pod 10.244.1.5 ──► cni0 ──► route: 10.244.2.0/24 nhid 1290…  ──► next hop: via 192.0.2.2 dev eth0
//!                          ──► nftables postrouting: stays in the cluster, not masqueraded ──► eth0
//!   node 192.0.2.2:        ──► route: 10.244.2.0/24 dev cni0 ──► pod
//! ```
//!
//! A peer is in the same segment where its underlay address is in a prefix of one of this node's links: by an address of the link
//! or by another program's route without a gateway. The link with the longest such prefix is used, whatever it is called, and
//! another one when it moves. IPv4 pods go through a peer's IPv4 address, IPv6 pods through its IPv6 address; with next-hop objects
//! IPv4 pods go through an IPv6 address too, where there is no other. (An IPv4 address is no next hop of an IPv6 route.)
//!
//! # Keys
//!
//! Those of every network of nodes, and none of its own: [`cni_core::node`]. `mtu` is that of the link, or the smallest that a node of
//! the cluster file tells of where that is less.
//!
//! # What it keeps on the host
//!
//! | what | told by |
//! |---|---|
//! | a next hop for each peer and family, a route for each prefix, an `unreachable` route with metric 4096 for each own prefix | protocol number 167 |
//! | nftables table `inet cni_fabric_` and 8 characters of the network's name: the masquerade ([`tables`](cni_core::fabric::tables)) | its name |
//! | `ip_forward`, `net/ipv6/conf/all/forwarding` 1; `gc_thresh2`, `gc_thresh3` where they are too low | |
//! | `/run/cni-fabric/167/` ([`cni_core::node::state`]) | |
//! | where firewalld runs: members of its zone ([`cni_core::node::zones`]) | `zones.json` there |
//!
//! Everything else is others' and stays as it is; `node-agent --cleanup` removes all of it but the parameters.
//!
//! # Many peers
//!
//! Each peer that there is traffic for takes an entry of the kernel's neighbour table, which has room for 1024
//! (`net/ipv4/neigh/default/gc_thresh3`, and the same of IPv6) in all namespaces together, containers' too. Where there are more than 512
//! peers in this node's segments, the limit is raised to twice their number or more, and never lowered. Only the host's first
//! network namespace shows it: where this process is in another one or may not write, STATUS and the agent's health say so once the
//! peers do not fit. No peer goes without its route because of it.
//!
//! # Traps
//!
//! * Some clouds drop packets whose source or destination is not the machine's own address. Switch that off ("source/destination
//!   check", "IP forwarding"), or use `vxlan`.
//! * A strict `rp_filter` (1) on `eth0` drops what comes in by another link than the way back: asymmetric links need 2.
//! * A firewall between nodes sees pods' addresses. firewalld on the nodes is told of them ([`cni_core::manual::firewall`]).
//! * There is no filter as for a tunnel: whoever is in the segment can send with any source address, as always in a segment.

mod config;
mod desired;
mod scheme;

pub use config::HostGwConfig;
pub use desired::HostGwFabric;
pub use scheme::HostGw;
