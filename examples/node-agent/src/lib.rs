//! The node agent: keeps a node connected with its cluster.
//!
//! ```text
//!   source of nodes ──► View ──────► changes ─┐
//!                                             ├─► Pace: when? ──► Programmer: the engine of cni_core::fabric ──► kernel
//!   kernel events ────► does it concern us? ──┘                        │
//!   signals, sweep, retries ──► ┘                                      └──► Status ──► log, pages, systemd, plugins
//! ```
//!
//! # Run it
//!
//! ```console
//! # node-agent --config /etc/cni/net.d/10-pods.conflist --dry-run   # the commands that it would do the work of
//! # node-agent --config /etc/cni/net.d/10-pods.conflist             # keeps this node connected until it is told to stop
//! # node-agent --config /etc/cni/net.d/10-pods.conflist --cleanup   # removes all that is ours, and nothing else
//! ```
//!
//! The configuration is the one that the plugin (`vxlan` or `host-gw`) has, so that both mean the same: `cluster.file` lists
//! the nodes, or `cluster.etcd` or `cluster.kubernetes` says where they are ([`cni_core::manual::etcd`], [`cni_core::manual::kubernetes`]), and which of them this is follows from `--node`, `cluster.node`, the host's name or its addresses, in this
//! order. `--help` tells all arguments. It needs `CAP_NET_ADMIN` and the host's network namespace; `systemd/node-agent.service`
//! is a unit that grants that and little else.
//!
//! On Kubernetes it comes in a container, with plugins (`examples/node-agent/README.md`): `--install` puts these on the node,
//! `--publish-conflist` tells the runtime of the network once the node is connected, and `--uninstall` takes everything out
//! again ([`install`], [`conflist`], [`uninstall`]).
//!
//! An agent is not needed for a cluster to work that is known from a file: without one, each ADD brings its node up to date. With one, changes of the
//! cluster and damage are acted upon when they happen, and an ADD relies on it.
//!
//! # What happens when
//!
//! | | |
//! |---|---|
//! | it starts | nothing is changed before the file has told of all nodes; then everything is compared once, and what differs is made. What is right already is not written, whoever made it: an earlier agent, a plugin |
//! | it stops, or is killed | nothing: traffic goes on. The next one takes over what is there |
//! | a node comes, changes or goes | its own entries are changed, and nothing is read. Many changes at once are one batch |
//! | somebody changes what is ours | some milliseconds later everything is compared and put right: device, addresses, neighbours, forwarding entries, next hops, routes, rules, nftables. Against a program that does so all the time, it takes a fifth of the time at most |
//! | another program has a route to a peer's pods | it is left alone, ours takes precedence, and it is reported |
//! | firewalld is reloaded, starts, or somebody takes out what it was told | it is told again at once, by a thread that may wait for it; from the start on, also where the source is away: then what an earlier agent or a plugin told it. Health says what it does not know, or that it does not answer |
//! | the uplink goes, comes, or gets another name or address | what depends on it is made anew |
//! | the file breaks or goes | what worked stays in force, and is repaired; the pages say line, column and what to do |
//! | this node is not in the file | it keeps what it has, is not ready, and says so |
//! | two nodes claim one prefix or address | the better claim has it, the other one is reported: [`View`](cni_core::cluster::View) |
//! | something cannot be done | everything else is; it is tried again after 0.1 s, then ever later, up to 30 s |
//! | SIGHUP | the configuration is read again. One that cannot be used leaves the old one in force; `name`, `routeProtocol` and `stateDir` say what is ours, and cannot change while it runs |
//! | nothing | it waits, and uses no processor time until the next sweep (`--sweep`) |
//!
//! # Pages
//!
//! On `--listen`, by default the loopback interface's port 9473:
//!
//! | page | status | text |
//! |---|---|---|
//! | `/healthz` | 200; 503 when one step takes more than a minute; no answer while the kernel keeps one of its calls waiting | how it is, for people |
//! | `/readyz` | 200 while this node is connected, else 503 | `ready` or `not ready`, then a line for each reason, and for what is wrong with others: peers that cannot be reached, claims, clashes, a source that is away or broken |
//! | `/metrics` | 200 | for Prometheus |
//!
//! | metric (`cni_agent_...`) | |
//! |---|---|
//! | `ready`, `in_sync`, `source_connected`, `source_rejected` | 0 or 1 |
//! | `peers`, `peers_unreachable`, `conflicts`, `clashes` | how many there are |
//! | `mtu_bytes` | the largest packet of a pod |
//! | `changes_total{kind}` | changes made in the kernel: `base` (device, addresses, parameters), `table`, `element`, `fdb`, `neighbour`, `nexthop`, `route`, `rule` |
//! | `drift_found_total`, `drift_repaired_total` | what others had changed, and what of it was put right |
//! | `write_errors_total`, `file_errors_total` | changes that the kernel refused; files that could not be written |
//! | `full_passes_total`, `last_full_pass_seconds`, `updates_total` | comparisons of everything, and batches of changed nodes |
//! | `event_to_kernel_seconds` | histogram: from a node's change to its end in the kernel |
//! | `repair_seconds` | histogram: from the first sign of damage to the end of its repair |
//! | `filter_drops_total{reason}` | packets that the tunnel's filter refused: `stranger` (no peer sent it), `vni` (of another network; in the classic data path the kernel drops it unless another device of this node has that VNI), `source` (not the peer's or its pods'). Counted over repairs |
//! | `build_info{version}` | and, without prefix, `process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds` |
//!
//! # Files
//!
//! | file | |
//! |---|---|
//! | `/run/cni-fabric/PROTOCOL/state.json` | what our plugins are told ([`cni_core::node::state`]); STATUS answers with its reason while the node is not connected |
//! | `/run/cni-fabric/PROTOCOL/zones.json` | what was put into firewalld's zones, where it runs ([`cni_core::node::zones`]) |
//! | `/run/cni-fabric/PROTOCOL/agent.lock` | held while an agent lives: there is one for each route protocol number |
//! | `--subnet-env`, as `/run/flannel/subnet.env` | what Flannel's own CNI plugin reads, where that is used: the prefixes that new pods may have addresses of, and no file while an etcd or Kubernetes has not confirmed any. Flannel's plugin asks neither whether an agent lives nor until when a prefix counts, as ours do: an agent that has ended, or is stopped where it is (`SIGSTOP`), cannot take the file back |
//! | `--publish-conflist`, as `/etc/cni/net.d/10-pods.conflist` | the configuration, for the container runtime: put there when the node is connected for the first time, replaced when it has changed, left when the agent ends |
//! | `--install DIR`: `DIR/.cni-fabric.json` | which plugins in `DIR` are ours |
//!
//! systemd is told when the node is connected (`READY=1`), how it is (`STATUS=`), and that the agent lives (`WATCHDOG=1`).
//! A line is logged for each change, each repair and whatever firewalld is told, at most twenty in a second, then their number.
//!
//! # How it is made
//!
//! All runs on one thread, but for what is asked of firewalld: the kernel answers within the call, and there is one writer. While a
//! step waits for others (the lock of the network namespace, `iptables-legacy`: [`unhurried`]), the thread serves pages, keeps
//! leases, and takes orders. What is decided when ([`pace`]) is pure; who does it are traits ([`programmer`], and the sources and
//! monitors of `cni_core`).

pub mod agent;
pub mod args;
pub mod conflist;
pub mod connector;
pub mod drops;
pub mod durable;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(feature = "etcd")]
mod etcd_setup;
pub mod files;
pub mod heart;
pub mod histogram;
pub mod http;
pub mod install;
#[cfg(feature = "kubernetes")]
pub mod kube;
#[cfg(feature = "kubernetes")]
mod kube_setup;
mod limit;
mod luck;
pub mod metrics;
pub mod moved;
pub mod news;
pub mod notify;
pub mod pace;
mod pending;
pub mod process;
pub mod programmer;
pub mod publish;
#[cfg(feature = "http-client")]
pub mod remote;
pub mod run;
pub mod setup;
pub mod signals;
pub mod site;
pub mod status;
pub mod subnet_env;
pub mod telling;
pub mod tenure;
pub mod unhurried;
pub mod uninstall;
pub mod zoning;
