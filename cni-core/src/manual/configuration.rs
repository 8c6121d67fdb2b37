//! Configuration, variables, codes and files, for those who operate plugins.
//!
//! # Configuration
//!
//! Keys are matched exactly first and else without regard to ASCII case; `null` is the same as absent. What a plugin does
//! not know it ignores. A value of the wrong type or range is an error that names its path, the value and the rule.
//! Every plugin's own keys are those of the reference plugin of its name. `bridge` has one more: `gateways`, addresses with prefix
//! lengths that the bridge bears besides the gateway of the container's own address, where containers get addresses of several
//! prefixes of a family.
//!
//! | key | meaning |
//! |---|---|
//! | `cniVersion` | 0.1.0 to 1.1.0, as an exact string; absent: 0.1.0 |
//! | `name` | the network: a letter or digit, then letters, digits, `_`, `.` and `-` |
//! | `ipam.type` | `host-local` and `static` run inside the plugin's process; any other name is a program in `CNI_PATH` |
//! | `dns` | overrules what address management says |
//! | `args.cni` | overrules `CNI_ARGS` |
//! | `runtimeConfig` | capability arguments; overrule both |
//!
//! # Networks of nodes
//!
//! `vxlan` and `host-gw` connect the pods of all nodes. This is a whole configuration, the same on every node:
//!
//! ```json
//! {
//!     "cniVersion": "1.1.0", "name": "pods",
//!     "plugins": [{ "type": "vxlan", "cluster": { "file": "/etc/cni/cluster.json" } }]
//! }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `cluster.file` | this or the next | the file that lists the nodes: [`cluster`](super::cluster) |
//! | `cluster.etcd` | | the nodes are in an etcd, which the node agent speaks to: [`etcd`](super::etcd) |
//! | `cluster.node` | by the host's name or addresses | which of them this is |
//! | `attach` | `{"type": "bridge"}` | how pods are attached to their node: `bridge` or `ptp`, with its keys |
//! | `ipam` | `{"type": "host-local"}` | without ranges: they are the node's own prefixes |
//! | `mtu` | 0: what fits | bytes |
//! | `masquerade` | `true` | of what leaves the cluster |
//! | `routeProtocol` | 167 | marks what is ours in the kernel; a number for each network on a node |
//! | `nextHopObjects` | `true` | where the kernel has them |
//! | `stateDir` | `/run/cni-fabric` | |
//! | `dataPath` | `auto` | `vxlan`: `classic` as Flannel's, `flow`, or what all nodes can |
//! | `vni`, `port`, `device` | 1; 8472 or 4790; `vxlan.VNI` | `vxlan`: identifier, UDP port, name of the tunnel's device |
//! | `underlay` | `auto` | `vxlan`: family of outer packets, `ipv4` or `ipv6` |
//! | `directRouting` | `false` | `vxlan`: no tunnel to peers in the same segment |
//! | `sourcePorts` | the kernel's | `vxlan`: outer source ports, `[32768, 60999]` |
//! | `filter` | `true` | `vxlan`: nobody but peers gets in, and with no addresses but theirs |
//!
//! In full, and what each verb does: [`node`](crate::node), and the pages of the crates `backend-vxlan` and `backend-host-gw`.
//!
//! # Variables
//!
//! | variable | verbs | meaning |
//! |---|---|---|
//! | `CNI_COMMAND` | all | `ADD`, `DEL`, `CHECK`, `GC`, `STATUS`, `VERSION`; unset: the plugin introduces itself |
//! | `CNI_CONTAINERID` | ADD DEL CHECK | required |
//! | `CNI_NETNS` | ADD CHECK (DEL) | path of the namespace; DEL does without |
//! | `CNI_IFNAME` | ADD DEL CHECK | the interface's name in the container, at most 15 bytes |
//! | `CNI_ARGS` | ADD DEL CHECK | `KEY=VALUE;...`; unknown keys are an error unless `IgnoreUnknown=1` |
//! | `CNI_PATH` | GC; else for delegates | directories of plugins, separated by colons |
//! | `CNI_NETNS_OVERRIDE` | ADD DEL | `1` or `true`: `CNI_NETNS` may be the plugin's own namespace |
//! | `CNI_TIMEOUT_MS` | all | an ADD that takes longer unwinds and answers with code 11 |
//! | `CNI_DRY_RUN` | ADD DEL | `1` or `true`: print the plan on stderr, change nothing |
//! | `CNI_LOG` | all | `error` to `trace`; unset: no log |
//! | `CNI_LOG_FORMAT` | all | `text` or `json` (one object a line, the attachment in the first of its `spans`, the change in the second) |
//! | `CNI_LOG_FILE` | all | a file to append to; unset: stderr |
//! | `TRACEPARENT` | all | W3C trace context; delegates get it with this request's span as the parent |
//!
//! # Exit status and codes
//!
//! 0 and a result, or nothing; 1 and an error object on stdout (`cniVersion`, `code`, `msg`, `details`). Codes are listed
//! at [`ErrorKind`](crate::ErrorKind); 110 to 112 are address management's
//! ([`EXHAUSTED`](crate::ipam::EXHAUSTED), [`ALREADY_HELD`](crate::ipam::ALREADY_HELD),
//! [`ADDRESS_TAKEN`](crate::ipam::ADDRESS_TAKEN)).
//!
//! SIGTERM or SIGINT during a request unwinds it, with code 11. The same happens after 20 seconds of waiting for other plugin
//! processes, which takes milliseconds unless one of them has been stopped: the message says by which lock `/proc/locks` tells it.
//!
//! # What is kept where
//!
//! | what | where |
//! |---|---|
//! | attachments | the kernel: names of links, aliases, comments of nftables elements; there is no state file |
//! | reservations | `/var/lib/cni/networks/NETWORK/` (`ipam.dataDir`), shared with the reference `host-local` |
//! | masquerade | nftables, `table inet cni_masquerade` |
//! | the firewall | nftables, `table inet cni_firewall` and `table bridge cni_firewall`; a rule in the host's `FORWARD` where that may drop: [`firewall`](super::firewall) |
//! | connections of nodes | the kernel: a protocol number, an alias, a table's name; `/run/cni-fabric/PROTOCOL/` (`stateDir`) says what came of it |
//! | ... `state.json` | the node's prefixes, MTU, device, what is wrong, and what it was made from: [`node::state`](crate::node::state). May be removed at any time |
//! | ... `agent.lock` | held while an agent lives: then plugins rely on it |
//! | ... `update.lock` | held by the plugin that brings the node up to date |
//! | results | the runtime's; [`runtime`](crate::runtime) keeps them in `/var/lib/cni/results/` |
