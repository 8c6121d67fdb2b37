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
//! [`VxlanConfig`] is what is read; [`VxlanFabric`] is what is declared, as pure functions; with [`Vxlan`] cni-core's
//! [`NodeBackend`](cni_core::node::NodeBackend) is a plugin, and its [engine](cni_core::fabric) what an agent needs.
//!
//! # Two data paths
//!
//! | | classic | flow |
//! |---|---|---|
//! | on the wire | VXLAN, an Ethernet frame inside | VXLAN-GPE, the IP packet inside |
//! | bytes added over IPv4, IPv6 | 50, 70 | 36, 56 |
//! | UDP port | 8472 (Linux, Flannel) | 4790 (IANA's for GPE) |
//! | outer family | one for the whole network | each peer's: IPv4 where both ends have it, else IPv6 |
//! | in the kernel for each peer | FDB entry, and for each family a neighbour and a next hop | one next hop for both families |
//! | besides, in both | a route for each prefix, one for each address of the peer's own | |
//! | needs | | Linux 5.3 (next-hop objects) for `auto`; any that knows GPE by `dataPath` |
//! | others that speak it | Flannel, and whatever is made by hand | no other network program that we know of |
//!
//! In both, pods and underlay may each be IPv4, IPv6 or both, in all combinations. `auto` takes the flow where this kernel has
//! next-hop objects and no node of the cluster says in `capabilities` that it cannot, else the classic one. Every node decides
//! for itself: where kernels differ in that, say it in the cluster file or by `dataPath`. A peer with the other one is reported by
//! name.
//!
//! # The way of a packet
//!
//! ```text
//!   pod 10.244.1.5 ──► cni0 ──► rule: from 10.244.1.0/24 lookup 167      is it for a node's own address? else
//!                          ──► route: 10.244.2.0/24 nhid 1290…           main table
//!                          ──► next hop: flow: encap ip id 1 dst 192.0.2.2 dev vxlan.1
//!                                        classic: via 10.244.2.0 onlink ► neighbour ► FDB ► 192.0.2.2
//!                          ──► nftables postrouting: stays in the cluster, not masqueraded
//!                          ──► eth0: 192.0.2.1 ► 192.0.2.2, UDP
//!   node 192.0.2.2:        ──► nftables input: VNI ours? 192.0.2.1 a peer? may it send for 10.244.1.5? else dropped, and counted
//!                          ──► vxlan.1 ──► route: 10.244.2.0/24 dev cni0 ──► pod
//! ```
//!
//! The node's own packets to pods of others go the same way, with the address of `vxlan.1` as their source unless the
//! program has chosen one. What pods send to other nodes' own addresses goes through the tunnel too, by the table of the policy
//! rule: both ways are the same, and no filter in the underlay sees a pod's address.
//!
//! # Keys
//!
//! Those of every network of nodes (`cluster`, `mtu`, `attach`, `routeProtocol`, `masquerade` and so on) are in
//! [`cni_core::node`]. Besides:
//!
//! | key | default | |
//! |---|---|---|
//! | `dataPath` | `auto` | `auto`, `classic`, `flow` |
//! | `vni` | 1 | VXLAN network identifier, 1 to 16777215 |
//! | `port` | 8472, 4790 | UDP port of the tunnel; the same on every node |
//! | `device` | `vxlan.VNI` | name of the device, at most 15 bytes |
//! | `underlay` | `auto` | outer family: `auto`, `ipv4`, `ipv6`. Classic `auto`: IPv4 where every node has it, else IPv6 where every node has that |
//! | `directRouting` | `false` | peers in a segment of this node are routed to without the tunnel, as by `host-gw` |
//! | `sourcePorts` | the kernel's | lowest and highest outer source port, as `[32768, 60999]`. One flow has one port: routers and network cards spread by it |
//! | `filter` | `true` | only peers' packets come in by the tunnel, and only with addresses of their own or their pods' |
//!
//! The MTU is that of the links that bear this node's underlay addresses, or the smallest that a node of the cluster file tells of
//! where that is less, without the bytes added; the larger overhead where an outer packet may be IPv6. `mtu` can lower it.
//!
//! # What it keeps on the host
//!
//! | what | told by |
//! |---|---|
//! | the device, with the base address of the node's first prefix of each family (10.244.1.0/32) | name and alias `cni:NETWORK` |
//! | its neighbours and FDB entries, permanent ones | the device |
//! | next hops, routes, an `unreachable` route with metric 4096 for each own prefix, rules with priority 31000 | protocol number 167 |
//! | nftables table `inet cni_fabric_` and 8 characters of the network's name ([`tables`](cni_core::fabric::tables)) | its name |
//! | `ip_forward`, `net/ipv6/conf/all/forwarding` 1; of the device `rp_filter` 2, `accept_ra` 0 | |
//! | `/run/cni-fabric/167/` ([`cni_core::node::state`]) | |
//! | where firewalld runs: members of its zone, and the tunnel's port ([`cni_core::node::zones`]) | `zones.json` there |
//!
//! Everything else is others' and stays as it is; `node-agent --cleanup` removes all of it but the parameters. A changed option
//! changes the device in place where the kernel allows that (MTU, hardware address), else makes it anew.
//!
//! # In one cluster with Flannel
//!
//! Set `"dataPath": "classic"` and leave `vni` and `port` as they are. In the cluster file Flannel's nodes have `vtepMac`, the
//! hardware address of their `flannel.1`, and their pod prefix; Flannel has to be told of ours: of the prefix, the
//! underlay address, and the hardware address of `vxlan.1`, which is a function of the node's `uid` and never changes.
//!
//! Flannel has a device for each family, `flannel.1` over IPv4 for IPv4 pods and `flannel-v6.1` over IPv6 for IPv6 pods; ours is one
//! device over one family for pods of both. So with Flannel's nodes
//!
//! * IPv4 pods on an IPv4 underlay work, and IPv6 pods on an IPv6 underlay (`"underlay": "ipv6"`, or nodes without IPv4 addresses);
//! * in a dual-stack cluster one family of pods reaches Flannel's nodes: that of `underlay`. Leave the other prefix out of the entries
//!   of Flannel's nodes. Between our own nodes both families work;
//! * `flow` does not.
//!
//! # Traps
//!
//! * All nodes need the same `vni`, `port` and data path, and different prefixes and `uid`s: two nodes of one hardware address lose each
//!   other's packets.
//! * UDP to `port` has to pass between nodes; `filter` refuses packets but opens no firewall, except firewalld's
//!   ([`cni_core::manual::firewall`]). With it, an underlay that translates
//!   nodes' addresses makes strangers of them: list the address that arrives.
//! * VXLAN neither encrypts nor authenticates. `filter` believes the outer source address; an underlay in which it can be forged
//!   needs IPsec or WireGuard below.
//! * An IPv6 outer packet without UDP checksum is dropped by receivers (RFC 6935): all of ours have one. None is switched off anywhere: the
//!   widespread advice to do so costs most of the throughput, and is for kernels before 5.7.
//! * A packet that is larger than the MTU because the underlay carries less than its links say (another tunnel below, a cloud)
//!   is lost silently: set `mtu` of the nodes in the cluster file.
//! * Two networks on a node need different `device`s, `routeProtocol`s and bridges, and ports or, if both are `classic`, `vni`s. So
//!   does a network of others: a classic one with a `vni` of its own runs beside Flannel's on one port. What comes for another
//!   network is counted with the `vni` reason, and let through to it: so firewalld is not told to let everybody in there
//!   ([`cni_core::manual::firewall`]).

mod config;
mod desired;
mod exposure;
mod scheme;

pub use config::{Underlay, VxlanConfig};
pub use desired::VxlanFabric;
pub use scheme::Vxlan;
