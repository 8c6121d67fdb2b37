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
