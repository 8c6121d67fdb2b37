//! The cluster's nodes: who they are, the file that says so, and what happens when it changes.
//!
//! # A file is a cluster
//!
//! The plugins `vxlan` and `host-gw` have to know the other nodes: which pods are where, and under which address the node is
//! reached. A JSON file says it, the same on every node; nothing else is needed, no server and no agent.
//!
//! ```
//! # use cni_core::cluster::ClusterFile;
//! # let file = ClusterFile::parse(br#"
//! {
//!     "clusterPrefixes": ["10.244.0.0/16", "fd00:244::/48"],
//!     "nodes": [
//!         {"name": "n1", "podPrefixes": ["10.244.1.0/24", "fd00:244:0:1::/64"], "addresses": ["192.0.2.1"]},
//!         {"name": "n2", "podPrefixes": ["10.244.2.0/24", "fd00:244:0:2::/64"], "addresses": ["192.0.2.2"]},
//!         {
//!             "name": "n3",
//!             "podPrefixes": ["10.244.3.0/24", "fd00:244:0:3::/64"],
//!             "addresses": ["192.0.2.3", "2001:db8::3"],
//!             "furtherAddresses": ["198.51.100.3"],
//!             "mtu": 9000
//!         }
//!     ]
//! }
//! # "#).unwrap();
//! # assert_eq!((file.cluster_prefixes.len(), file.nodes.len()), (2, 3));
//! # assert_eq!(file.nodes[2].mtu, Some(9000));
//! ```
//!
//! Of the file:
//!
//! | key | | meaning |
//! |---|---|---|
//! | `clusterPrefixes` | | prefixes that hold all pods of the cluster; each pod prefix has to be in one of them. With `host-gw` they spare firewalld a source for each node |
//! | `nodes` | required | all nodes, this one included; `[]` where there are none yet |
//!
//! Of a node:
//!
//! | key | | meaning |
//! |---|---|---|
//! | `name` | required | 1 to 253 bytes without spaces; every node has its own |
//! | `uid` | `name` | what the node is known by for as long as it exists; another machine that gets the name of a former one can have another |
//! | `podPrefixes` | required | prefixes of its pods, of either family, such as `10.244.1.0/24`, without bits after the length; `[]` for a node without pods. None overlaps another one, or holds a node's address |
//! | `addresses` | required | where the other nodes reach it: one address, or one of each family. Tunnels end there |
//! | `furtherAddresses` | `[]` | other addresses that its own processes send from: they reach pods by them, too. They may be in the node's own pod prefixes, as its bridge's is |
//! | `vtepMac` | from `uid` | hardware address of its tunnel device, such as `0a:58:0a:f4:01:00`: for a node that another program connects |
//! | `mtu` | unknown | MTU of its underlay in bytes, 1280 to 65535 |
//! | `capabilities` | this node's | data paths of which it is capable, `classic` and `flow`: for a node that another program connects |
//!
//! No key may be written otherwise or twice, and there are no others: a key that is misspelt would else be one that is missing.
//! Comments are no JSON. At most 64 MiB are read, which is some 400,000 nodes.
//!
//! # Errors
//!
//! Every error names line, column, entry, value and rule, and what to do, and nothing of the file is used:
//!
//! ```
//! # use cni_core::cluster::ClusterFile;
//! # let error = ClusterFile::parse(br#"{"nodes": [
//! #   {"name": "n1", "podPrefixes": ["10.244.1.0/24"], "addresses": ["192.0.2.1"]},
//! #   {"name": "n2", "podPrefixes": ["10.244.1.128/25"], "addresses": ["192.0.2.2"]}]}"#).unwrap_err();
//! # assert_eq!(format!("/etc/cni/cluster.json: {error}\n"), "\
//! /etc/cni/cluster.json: line 3, column 34: node `n2`: pod prefix 10.244.1.128/25 overlaps 10.244.1.0/24 of node `n1` in line 2; \
//! pod prefixes must not overlap
//! # ");
//! ```
//!
//! What was in force before stays in force: an error in the file never disconnects a node. A plugin that has to read a broken file
//! for the first time answers with code 7. Try a new file before it is spread: `node-agent --dry-run` reads it, and prints what it
//! would do.
//!
//! # Changes
//!
//! Without an agent, the next ADD on a node sees that the file is another one, by one `stat(2)`, and brings the node up to date
//! before it attaches its pod. With an agent, it is within 50 ms.
//!
//! | the file | is |
//! |---|---|
//! | written in place | read when the writer closes it, or has not written for 5 ms |
//! | replaced by `rename(2)`, as most editors and configuration managers do | read at once |
//! | behind symlinks, be it as a Kubernetes ConfigMap is mounted | read when any of them is turned, or any directory on the way is replaced |
//! | removed | awaited, with its directory if need be; nodes stay in force |
//! | the same as before | not looked into |
//! | broken | told of and awaited; nodes stay in force |
//! | changed on another machine (NFS), covered by a mount, written by `mmap(2)` | seen within 10 seconds: the kernel does not tell of it |
//!
//! Replace the file by a rename: then nobody ever reads half of it. Where the kernel grants no inotify watches
//! (`fs.inotify.max_user_instances`, `fs.inotify.max_user_watches`) a warning says so, and the file is looked at once a second.
//!
//! A node that is no longer in the file is removed from the kernel. An empty list of nodes removes all of them, an empty or missing
//! file none. A node that is itself not in the file goes on as it is.
//!
//! # Conflicts
//!
//! In one file there are none: what overlaps is an error. Sources that know nodes one by one may tell of two with one prefix. Then
//! the older claim ([`Node::claimed`]), else the lower uid, has it; the other node loses this prefix and keeps the rest. Every node
//! decides the same, whatever it heard of first; there are never two routes for one prefix. [`View::conflicts`] names both, in
//! health and metrics of the agent too. An address in another node's prefix is a conflict as well, and a prefix that contains its own
//! node's address is never used: the tunnel's packets would be sent into the tunnel.
//!
//! # In a program
//!
//! [`file::load`] reads the file once. A [`PeerSource`] tells of nodes as they change, and a [`View`] keeps what is known:
//!
//! ```no_run
//! # #[cfg(feature = "kernel")]
//! # async fn example() -> cni_core::Result<()> {
//! use std::path::Path;
//!
//! use cni_core::cluster::{FileSource, Identity, PeerSource, View};
//!
//! let mut source = FileSource::new(Path::new("/etc/cni/cluster.json"))?;
//! let mut view = View::new(Identity { name: Some("n1".to_owned()), addresses: Vec::new() });
//! loop {
//!     for change in view.apply(source.next().await) {
//!         println!("{}: {:?}", change.uid, change.after);
//!     }
//! }
//! # }
//! ```
//!
//! Another source, of a server's nodes, implements [`PeerSource`]; `testing::conformance::peer_source` tests it for what is written
//! there, and `testing::ScriptedPeers` tells a consumer what a test wants it to hear.
//!
//! [`file::load`]: crate::cluster::file::load
//! [`Node::claimed`]: crate::cluster::Node::claimed
//! [`PeerSource`]: crate::cluster::PeerSource
//! [`View`]: crate::cluster::View
//! [`View::conflicts`]: crate::cluster::View::conflicts
