//! Nodes in an etcd: how to set it up, what stands in it, and what happens when something does.
//!
//! A cluster file has to be the same on every node, and somebody has to write it. With an etcd (v3, 3.4 or later) nobody has: each
//! node's agent claims a prefix of the pods' network, says where the node is, and follows the others.
//!
//! ```json
//! {
//!     "cniVersion": "1.1.0", "name": "pods",
//!     "plugins": [{
//!         "type": "vxlan",
//!         "cluster": { "etcd": {
//!             "endpoints": ["https://192.0.2.7:2379", "https://192.0.2.8:2379"],
//!             "caFile": "/etc/cni/etcd/ca.pem",
//!             "certFile": "/etc/cni/etcd/node.pem", "keyFile": "/etc/cni/etcd/node.key",
//!             "podNetworks": [
//!                 { "prefix": "10.244.0.0/16", "nodeLength": 24 },
//!                 { "prefix": "fd00:244::/48", "nodeLength": 64 }
//!             ]
//!         } }
//!     }]
//! }
//! ```
//!
//! The same file on every node; which node this is follows from `--node`, `cluster.node` or the host's name, and has to be another
//! on every machine. `node-agent` has to run: the plugins do not speak to etcd, and answer ADD with code 11 and STATUS with 50
//! where no agent lives. DEL and GC need neither.
//!
//! # Keys of `cluster.etcd`
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoints` | required | the servers, `http://HOST:PORT` or `https://HOST:PORT`; the next one is tried when one fails |
//! | `podNetworks` | required, but with Flannel's keys | at most one network of each family: `prefix`, and `nodeLength`, the length of a node's prefix (24, 64). Each node gets one prefix of each |
//! | `prefix` | `/cni/NAME` | what all keys begin with; NAME is the network's |
//! | `caFile` | with https required | PEM: who may have signed the servers' certificates. What the host trusts for the web does not count |
//! | `certFile`, `keyFile` | | PEM: this node's certificate, where the servers ask for one |
//! | `user`, `passwordFile` | | a user of etcd's |
//! | `tokenFile` | | a token of etcd's (what `/v3/auth/authenticate` gives), which somebody else keeps fresh: signed ones (`--auth-token jwt`) end with their time and with each change of users and roles, others with the user's password or after five minutes without use |
//! | `leaseSeconds` | 300 | how long a node's entry lives after the node was heard of last: 5 to 604800 |
//! | `graceSeconds` | 86400 | how long nobody else gets its prefixes after that: at least `leaseSeconds` |
//! | `addresses` | from the way to etcd | where the other nodes reach this one: the address from which it reaches etcd, and of the other family the one that the same link has had longest, temporary and deprecated ones aside |
//! | `layout` | `nodes` | `flannel`: the keys are Flannel's, see below |
//!
//! Files are read again with each connection, password and token also when the server does not take them any more: what was renewed
//! counts without a restart. Their contents are in no log.
//!
//! # Rights
//!
//! Reading and writing keys below the prefix is enough; leases need no right of their own in etcd:
//!
//! ```console
//! $ etcdctl role add nodes
//! $ etcdctl role grant-permission --prefix=true nodes readwrite /cni/pods/
//! $ etcdctl user add agent && etcdctl user grant-role agent nodes
//! ```
//!
//! etcd's gateway does not take a certificate's name for a user: with `auth enable`, a user and a password are needed beside the
//! certificate. Whoever may write the keys can move any node's traffic: a record is checked, but that is no proof of who wrote it.
//!
//! # What stands in etcd
//!
//! | key | value | lease |
//! |---|---|---|
//! | `PREFIX/nodes/UID` | the node, as an entry of a [cluster file](super::cluster) | `leaseSeconds` |
//! | `PREFIX/claims/10.244.7.0-24` | `{"uid": UID, "name": NAME}`: whose the prefix is | `graceSeconds` |
//!
//! A node asks for prefixes in an order that follows from its uid, so that a thousand nodes that begin at once meet rarely; which of
//! two has one is decided by etcd, in one transaction that writes claims and entry. A claim without a lease is a reservation: written
//! by an operator, it gives a node a certain prefix for good. Deleting both keys takes a node out.
//!
//! Others use of an entry what is sound: prefixes inside `podNetworks` and claimed by that node, addresses that are not their own, 4
//! KiB at most. What is not is left out and told by name (`/readyz`, `source_rejected`); the rest goes on.
//!
//! # What happens when
//!
//! | | |
//! |---|---|
//! | etcd cannot be reached | nothing: what is known stays in force and is repaired. A try every half second; a server that answers with errors is left alone for longer, up to 30 s |
//! | it is there again | what has changed meanwhile is read by its revision; all of it where that has been compacted, or where it is another etcd than it was |
//! | it has lost what it held | nodes write themselves anew, with the prefixes that they had; whoever is missing is kept for ten seconds, counted while etcd is reached |
//! | it answers nonsense | it is away, and the next server is asked |
//! | longer than `leaseSeconds` | no new pods on this node (ADD 11, STATUS 50); those that are there go on. When it is back, the node gets the same prefixes again, and whoever seems to have gone has ten seconds for coming back |
//! | longer than `graceSeconds` | others may get its prefixes. A node that finds that takes others. New pods wait while pods of this node have addresses of the former ones, which may be another node's by now; `/readyz` and STATUS say which (an agent in a container needs `/var/lib/cni/networks`, or `ipam.dataDir`, for that, to read). Therefore let `graceSeconds` be longer than any outage, or pause of a machine |
//! | the agent is stopped where it is, or the machine sleeps | its plugins attach nobody from `leaseSeconds` after its last sign of life on (ADD 11, STATUS 50), by the boot clock: sleep counts, a clock that is set does not. What is there goes on, and can be taken down. Flannel's own plugin knows no such end: the file of `--subnet-env` is removed by an agent that runs, and cannot be taken back by one that does not |
//! | the agent starts anew | the same prefixes, under the same leases; nothing is written. New pods wait until etcd has confirmed it |
//! | it starts anew, and etcd has forgotten the node | it asks for the prefixes that it had last, by `state.json` (`confirmed`), whatever has been withheld since; where that file has gone, for those that its pods have addresses of; only then for others. New nodes ask for any that nobody has claimed: let none join an etcd that was emptied, or set back to an older copy, before the others are there again |
//! | a node's keys are deleted or overwritten | it makes them good, once a second at most |
//! | `node-agent --cleanup` | removes the node's entry and its claims, guarded by their revisions, and only those that are this machine's by address or by what it remembers. A claim stays while pods have addresses of its prefix, and ends with its lease; reservations stay. Where etcd cannot be reached, it says what is left, cleans the node all the same, and ends with 0: the leases see to the rest |
//! | two machines have one name | the second one waits, is not ready, and says why |
//! | a node gets another address, or its uplink another MTU | its entry says so at once: the agent follows the kernel. Where the way to etcd went with the address, as soon as there is another |
//!
//! # Together with Flannel
//!
//! With `"layout": "flannel"`, `"dataPath": "classic"` and one network of IPv4 the keys are those of Flannel's etcd mode,
//! `/coreos.com/network/subnets/10.244.7.0-24`, and so are the values: our nodes and Flannel's form one network, and a
//! machine can go over from one to the other. Nodes are known by their addresses there: an entry with this node's address is taken over
//! with its prefix. The lease is a day by default, as Flannel's, and there is no other grace than that. Entries of other backends are
//! told by name and left out.
//!
//! Flannel's own configuration, `/coreos.com/network/config`, is read with each connection: `Network`, `SubnetLen`, `SubnetMin` and
//! `SubnetMax` say where prefixes come from, so that `podNetworks` can be left out. What is set on both sides has to be the same:
//! `podNetworks`, the backend's type, `VNI` (`vni`), `Port` (`port`) and `DirectRouting` (`directRouting`). Where it is not, the node is
//! not ready and says both values; it goes on once that has been put right. Without the key, `podNetworks` is needed.
//!
//! A Flannel network with IPv6 is joined by IPv4 alone. Flannel has two tunnels there, one over IPv4 for IPv4 and one over IPv6 for IPv6,
//! with a device for each; a device of ours has one, which listens in one family. Keys of two families
//! (`10.244.7.0-24&fd00:244:0:7::-64`) are read as far as that goes, and left as they are.
