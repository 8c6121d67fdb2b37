//! A packet's way: container networking for newcomers, hop by hop.
//!
//! No knowledge is assumed but what an IP address and a route are. Every picture can be looked at on a real kernel: the demo
//! builds it in namespaces of its own (`cargo run --release --bin demo`, and `-- --nodes 3 --backend vxlan` for what
//! concerns several nodes), and the commands below each picture show the same things on a node.
//!
//! # 1. A namespace: a network of one's own
//!
//! A container is a process that sees its own file system, its own process numbers, and its own *network namespace*: links,
//! addresses, routes, firewall rules and sockets that nobody else sees. A new one has nothing but `lo`, and `lo` is down.
//!
//! ```text
//!   the host's namespace                    the pod's namespace
//!  ┌───────────────────────────┐           ┌──────────────────┐
//!  │ eth0 192.0.2.1   lo       │           │ lo               │
//!  └───────────────────────────┘           └──────────────────┘
//! ```
//!
//! `ip netns list`, `ip netns exec NAME ip address`. A pod is a set of containers that share one.
//!
//! # 2. A veth pair: a cable
//!
//! A *veth* is a cable with two plugs. What goes in at one end comes out at the other. One end is put into the pod's
//! namespace and called `eth0`; the other stays on the host, by a name that tells us whose it is.
//!
//! ```text
//!  ┌───────────────────────────┐           ┌──────────────────┐
//!  │ eth0       vethk3xa81bc2d ├───────────┤ eth0 10.244.1.5  │
//!  └───────────────────────────┘           └──────────────────┘
//! ```
//!
//! `ip link show type veth`. The number behind the `@` is the other end's index, in its own namespace.
//!
//! # 3. A bridge: a switch
//!
//! Three pods are three cables. A *bridge* is a switch made of software: each host's end is plugged into it, and it learns
//! which hardware address is behind which port, as a switch on a desk does. The bridge has an address of its own, and
//! that is the pods' gateway.
//!
//! ```text
//!   pod A 10.244.1.5 ──veth──┐
//!                            ├── cni0 10.244.1.1/24 ── the host's routes
//!   pod B 10.244.1.6 ──veth──┘
//! ```
//!
//! A packet from A to B: A sees that 10.244.1.6 is in its own prefix, asks "who has 10.244.1.6?" (ARP), the bridge floods
//! the question, B answers with its hardware address, and from then on the bridge switches frames between the two
//! ports. The host's routes are not asked. `bridge link`, `bridge fdb show br cni0`.
//!
//! `ptp` does without the bridge: each cable ends at the host as a route for one address, and everything is routed.
//!
//! # 4. NAT: out into the world
//!
//! The world knows 192.0.2.1, and nobody outside has a route to 10.244.1.5: an answer would never arrive. So what leaves gets the
//! node's address on its way out (*masquerade*, a kind of source NAT), and the kernel remembers the connection
//! (*conntrack*) to turn the answers back.
//!
//! ```text
//!   pod A                         the node                              outside
//!   10.244.1.5 ──► 198.51.100.7   10.244.1.5 becomes 192.0.2.1 ──►      sees 192.0.2.1
//!   10.244.1.5 ◄──                192.0.2.1 becomes 10.244.1.5 ◄──      answers 192.0.2.1
//! ```
//!
//! `nft list table inet cni_masquerade`, `conntrack -L`. What stays inside the cluster must *not* be translated: a pod that
//! is talked to sees who talks. That is the Kubernetes network model in one sentence: every pod reaches every pod by its own
//! address, without NAT.
//!
//! # 5. Two nodes: who has 10.244.2.7?
//!
//! Every node gets a prefix of its own for its pods: node 1 has 10.244.1.0/24, node 2 has 10.244.2.0/24. When A sends to C at
//! 10.244.2.7, that is outside of A's prefix, so A hands the packet to its gateway, the bridge, and now it is the host's
//! turn to route. It has to be told that 10.244.2.0/24 is behind node 2. There are two ways.
//!
//! # 6. The host gateway: just a route
//!
//! If the nodes are in one segment (one switch apart, no router between), a route is enough:
//!
//! ```text
//!   node 1 (192.0.2.1)                            node 2 (192.0.2.2)
//!   ┌──────────────────────────────┐              ┌──────────────────────────────┐
//!   │ A ── cni0    eth0 ───────────┼── switch ────┼── eth0    cni0 ── C          │
//!   │ 10.244.2.0/24 via 192.0.2.2  │              │ 10.244.1.0/24 via 192.0.2.1  │
//!   └──────────────────────────────┘              └──────────────────────────────┘
//!
//!   on the wire:  [ Ethernet | IP 10.244.1.5 → 10.244.2.7 | ... ]
//! ```
//!
//! The packet is on the wire as A sent it. Nothing is added, nothing is slower than the network itself. But a router
//! between the nodes would not know 10.244.2.0/24, and throw it away; and some clouds refuse packets whose addresses they
//! have not given out. `ip route show proto 167`.
//!
//! # 7. The overlay: a packet in a packet
//!
//! Where the underlay must not see pods' addresses, node 1 puts the whole packet into another one that the underlay does
//! understand: from node 1 to node 2, UDP. Node 2 unpacks it. That is VXLAN (RFC 7348).
//!
//! ```text
//!   ┌─────────────── outer ────────────────┐┌──────── inner: as A sent it ────────┐
//!   [ IP 192.0.2.1 → 192.0.2.2 | UDP | VXLAN | IP 10.244.1.5 → 10.244.2.7 | ... ]
//! ```
//!
//! To the host a tunnel is a link as any other; what differs is how it knows the outer address.
//!
//! * *classic* (what Flannel does): inside is an Ethernet frame, so that three tables are asked one after the other. The
//!   route says "10.244.2.0/24 via 10.244.2.0"; the neighbour table says "10.244.2.0 has hardware address 02:…";
//!   the forwarding table says "02:… is behind 192.0.2.2". 50 bytes are added over IPv4, 70 over IPv6.
//! * *flow*: inside is the IP packet itself (VXLAN-GPE), and the next hop of the route carries the outer address. One object
//!   for each peer serves both families. 36 bytes over IPv4, 56 over IPv6.
//!
//! `ip -d link show vxlan.1`, `ip nexthop show proto 167`, `bridge fdb show dev vxlan.1`, `ip neighbour show dev vxlan.1`.
//!
//! Because of the added bytes a pod's packets have to be smaller than the underlay's: the *MTU* of the pods' links is the
//! uplink's less the overhead. Too large an MTU is the classic failure in which `ping` works and web pages hang.
//!
//! # 8. The whole way, with the tables that are asked
//!
//! ```text
//!  pod A on node 1                                   pod C on node 2
//!  1 route   10.244.0.0/16? default via 10.244.1.1   12 eth0: for me
//!  2 ARP     10.244.1.1 is cni0's hardware address   11 bridge: port of C
//!    │                                                 ▲
//!    ▼ veth, bridge                                    │ veth
//!  node 1                                            node 2
//!  3 route   10.244.2.0/24 nhid 1234…                10 route   10.244.2.0/24 dev cni0
//!  4 nftables: inside the cluster, not masqueraded    9 nftables: may 192.0.2.1 send for 10.244.1.0/24?
//!  5 next hop: VNI 1, to 192.0.2.2, dev vxlan.1       8 VXLAN: VNI 1, unpacked
//!  6 route   192.0.2.2 dev eth0                       7 UDP port open for peers only
//!    │                                                 ▲
//!    └──────────────────── the underlay ───────────────┘
//! ```
//!
//! When a packet does not arrive, look at the tables in this order; `node-agent --dry-run` names the first one that is not
//! as it should be, and CHECK of the plugin names the peer.
//!
//! # Who does what
//!
//! | when | who | what |
//! |---|---|---|
//! | a pod starts | the plugin (`vxlan`, `host-gw`, `bridge`), run by the container runtime | steps 1 to 3 of the picture: namespace, cable, bridge, addresses |
//! | a node joins, leaves or moves | the node agent ([`fabric`](crate::fabric)), told by the cluster ([`cluster`](crate::cluster)) | routes, next hops, tunnel entries, who may send |
//! | something is damaged | the node agent, told by the kernel | the same, again |
