//! What broke in other plugins, and how ours behaves.
//!
//! The left side was measured with, or reported against, the reference plugins (v1.9.1) and libraries.
//!
//! # Cleaning up
//!
//! | elsewhere | here |
//! |---|---|
//! | DEL with an empty or vanished namespace leaves masquerade rules behind (plugins#810, #1078) | DEL finds everything by names that follow from the attachment; it needs neither namespace nor previous result |
//! | two interfaces of one container in one network share names: the DEL of one breaks the other | names and marks contain the interface |
//! | an ADD that fails leaves links, bridges or addresses behind (plugins#29, #32, #97) | an ADD that fails leaves the state as it was; every single write is made to fail in a test |
//! | an ADD into a namespace that does not exist makes the bridge all the same | the namespace is opened before anything is changed |
//! | the process dies half-way and its link blocks the next ADD | what is not sealed is a leftover, and the next ADD clears it away; what is sealed is an error |
//! | GC is not implemented, though forwarding it is a must (plugins#1047) | GC removes links, nftables elements and reservations of the network that are not valid, and is forwarded to the delegate; an empty set means all, an absent one nothing |
//! | an unreadable `prevResult` makes DEL fail, and the container stays | DEL does without it |
//! | the runtime stops at the first DEL that fails, and leaks what comes after (cni#924) | [`runtime`](crate::runtime) goes on, and reports all |
//!
//! # Data path
//!
//! | elsewhere | here |
//! |---|---|
//! | a reused address is unreachable for up to a minute: neighbours remember the old hardware address (plugins#756) | the address is announced by ARP and neighbour advertisement, after the bridge port forwards |
//! | the first pod of a dual-stack network reaches its gateway two seconds after ADD has returned | gateway addresses skip duplicate address detection, and ADD returns when the path works |
//! | IPv6 detection delays every ADD by one to two seconds | it is off unless `enabledad` asks for it |
//! | a bridge changes its hardware address when ports come and go, and an address of zeros fails | the bridge gets a derived address when it is made |
//!
//! # Filters
//!
//! | elsewhere | here |
//! |---|---|
//! | accepts of a pod stay when its DEL comes without the result, or after an ADD that was killed (22 of 120), and a pod that gets the address inherits them | elements bear the attachment's mark, and are found by it |
//! | `isolated` lets everything pass where `br_netfilter` is off | the bridge's own rules drop the frames |
//! | CHECK creates what is missing, and then finds it | CHECK reads |
//! | where Docker makes FORWARD drop, pods of other programs are cut off until somebody writes a rule | one rule is put there, and told when it is gone |
//!
//! # Between nodes
//!
//! Measured with Flannel (master of August 2026, Linux 6.18) where no other name or number stands.
//!
//! | elsewhere | here |
//! |---|---|
//! | the VXLAN device goes down and up, and the node is alone until somebody restarts the daemon; deleted, it comes back empty | an agent puts it right within milliseconds; without one, the next ADD |
//! | peers that left while the daemon was down stay in the kernel for good (flannel#2554); so does the forwarding entry of a peer whose hardware address changed | what bears our mark and no node wants goes, once all nodes are known |
//! | hardware addresses of tunnels are random each time they are made, and IPv6-only changes of peers are dropped (k3s#9957) | they follow from the node's uid; each value is compared, whatever event brought it |
//! | one MTU for both outer families: over IPv6 each destination costs a lost packet (flannel#1781); a new MTU is not applied to the device | 36, 50, 56 or 70 bytes by data path and outer family; a changed option changes the device |
//! | 10,000 peers take 6 s, as plain routes 59 s: IPv4 routes with gateways on one device are quadratic in the kernel | next-hop objects; where the kernel has none, a metric for each peer |
//! | plain routes to a peer behind a router are refused by the kernel, told once, and tried every 10 s without a word; the daemon exits (kindnet#46) | the peer is named in STATUS and health with the segment that it is not in; all others work |
//! | more than 1,023 peers in a segment overflow the neighbour table (OpenAI, 2018) | the limit is raised when peers could fill half of it; where that is not allowed, STATUS and health say so |
//! | masquerade rewrites what the node itself and host-network pods send to remote pods, and pods to nodes (flannel#964) | what stays among pods and nodes is never translated, whatever source address it has |
//! | rules of the nftables variant are written once and never looked at again; its last one is never reached | one table, made in one transaction and compared like everything else |
//! | anybody in the underlay can put packets into the tunnel, straight into a pod | only peers, only our VNI, and only sources that are the peer's own or its pods' |
//! | a prefix that moves to another node leads to the old one (kind#2941), or to two (antrea#1526) | one route, replaced; of two claims the older one counts on every node, and both are reported |
//! | a daemon's own routes, deleted by others, are back after 10 s, or not at all if they are direct (flannel#1070) | an event from the kernel brings them back |
//! | IPv6 packets in an encapsulating route have no UDP checksum, and are dropped without a word | they have one |
//! | checksum offload switched off on the tunnel for a bug of kernels before 5.7: a fifth of the throughput is left | never touched |
//! | an unused pod address of the node's own leaves by the default route, and comes back | unreachable |
//! | the log has a dump of every peer: 9.6 MB at 10,000 | a line for each change, twenty in a second at most |
//!
//! # Time
//!
//! | elsewhere | here |
//! |---|---|
//! | tens of `iptables` or `nft` processes for an ADD, and their lock (plugins#510, #464) | one netlink transaction; no program is run, none needs to be installed |
//! | `host-local` reads every reservation for each ADD: 64 ms at 10 000 | an index finds a free address by reading a few hundred bytes, in the same store |
//! | a plugin that hangs is killed, and its children stay (cni#687) | SIGTERM and `CNI_TIMEOUT_MS` unwind; delegates are process groups, and are stopped with their children |
//!
//! # Protocol
//!
//! | elsewhere | here |
//! |---|---|
//! | the own-namespace check comes after the work: two documents on stdout, and the attachment stays | it comes first |
//! | a panic ends with an empty stdout (cni#732) | one error object, and ADD is undone |
//! | a result that cannot be written (closed pipe, full disk) leaves the pod attached | it is undone |
//! | error objects have no `cniVersion`; VERSION ignores the input's | both carry the input's |
//! | `1.0` is taken for `1.0.0` | exact strings |
//! | numbers above 2^53 are rounded, and keys sorted, on their way through the runtime | the text of members is passed on as it is |
//! | kept results are written in place: empty files after a crash (cni#1055), and names that two attachments share | written beside, synced and renamed, under names that no two attachments share; the reference library's are still read |
//! | "text file busy" while a plugin is replaced fails pods (cni#855) | tried again for two seconds |
//! | nobody knows where logs go | silent by default; `CNI_LOG` and `CNI_LOG_FILE` say |
