//! Ports of the host that lead to pods: the plugin `portmap`, for those who operate it.
//!
//! It stands behind a main plugin in a list. A runtime passes ports as the capability `portMappings`:
//!
//! ```json
//! {
//!     "cniVersion": "1.1.0", "name": "podman",
//!     "plugins": [
//!         { "type": "bridge", "isDefaultGateway": true, "ipMasq": true, "ipam": { "type": "host-local", "subnet": "10.88.0.0/16" } },
//!         { "type": "portmap", "capabilities": { "portMappings": true } }
//!     ]
//! }
//! ```
//!
//! # Keys
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `snat` | `true` | connections whose answers would miss the host get the host's address: those of the pod itself, of its neighbours, and of 127.0.0.1 |
//! | `masqAll` | `false` | all connections do; nothing without `snat` |
//! | `markMasqBit` | none | this bit (0 to 31) is set in the mark of the first packet of a connection that will be masqueraded |
//! | `conditionsV4`, `conditionsV6` | none | packets must match these, in the words of iptables or of nft |
//! | `backend` | | `iptables` and `nftables` are accepted; it is always nftables |
//! | `externalSetMarkChain` | | refused (code 2): nftables cannot jump to a chain of iptables |
//! | `runtimeConfig.portMappings` | none | `hostPort`, `containerPort`, `protocol` (`tcp`, `udp`, `sctp`, in any case), `hostIP` |
//!
//! Conditions: `-s`, `-d`, `-i`, `-o`, `-p`, each with `!` before it or not, lists with commas; or `ip saddr`, `ip daddr`
//! (`ip6` in `conditionsV6`), `iifname`, `oifname`, `meta l4proto`, `meta mark`, each with a value, `!=` and a value, or a set
//! `{ a, b }`. Anything else is an error that names the word. They hold for their own attachment, whatever others have.
//!
//! # From where a port is reached
//!
//! | from | to | |
//! |---|---|---|
//! | other hosts | the host's addresses | the pod sees the asker's address |
//! | the host | its own addresses | likewise |
//! | the host | 127.0.0.1, and all of 127.0.0.0/8 | with `snat`; the pod sees the bridge's address |
//! | the host | ::1 | refused at once: the kernel takes answers to ::1 on `lo` alone |
//! | the pod itself, its neighbours | the host's addresses | with `snat`; the pod sees the bridge's address |
//! | pods of other networks | the host's addresses | |
//!
//! Only what is sent to an address of this host is ever translated (the routing table `local` says which).
//!
//! `hostIP` is one address; absent, empty, `0.0.0.0` and `::` are all addresses, the last two of their family alone. A mapping whose
//! address is of a family that the pod has not is left out. Of the pod's addresses the first of each family is led to.
//!
//! For 127.0.0.1 the parameter `route_localnet` of the interface that leads to the pod is turned on. Loopback addresses on that
//! interface, which it would let in as well, are dropped by rules of ours. Where it is on already, both are left as they are.
//!
//! Where bridged packets pass the host's rules (`net.bridge.bridge-nf-call-iptables` is 1, which loading `br_netfilter` does), the pod's port
//! of the bridge gets hairpin mode, without which the kernel does not lead a pod back to itself. That is done for ports that our
//! `bridge` has made; behind another program's set `hairpinMode`. Before Linux 5.7 neighbours are recognised only there.
//!
//! # Whose port it is
//!
//! A port that another attachment has is an error (code 7) that names the holder, and changes nothing. A port of all addresses and the
//! same port of one address are the same port, as they are for sockets; the reference lets the latter win. What an earlier ADD of the
//! same attachment has left is replaced.
//!
//! A listener of the host on the port gets nothing while the port is published, and everything again after DEL: UDP flows of exactly
//! this port are forgotten at ADD and at DEL. Connections of TCP and SCTP that are open go on to their end.
//!
//! DEL needs network, container and interface, and nothing else. What a lost DEL leaves keeps its ports taken until GC.
//!
//! # Other than in the reference plugin
//!
//! * Two attachments cannot have one port; DEL of one leaves the other's; DEL works without `runtimeConfig`; GC and STATUS are real.
//! * Conditions are each attachment's own. Protocols are matched in any case.
//! * Ports without an address that they could lead to are an error.
//! * Neighbours are those that come by the pod's interface, not those of its subnet.
//! * No mark is used unless `markMasqBit` is given.
//!
//! # What is kept where
//!
//! All of it is in the nftables table `inet cni_portmap` ([`portmap`](crate::chained::portmap) shows it). DEL of the last attachment leaves
//! the empty table; GC removes it, and turns off what it guarded.
