//! Nodes in Kubernetes: how to set it up, what stands where, and what happens when something does.
//!
//! Kubernetes gives each Node the prefixes of its pods. What the nodes have to know of each other beside those (where a node is, how
//! packets get to it) each node's agent writes to a small object of its own, a `NodeNetwork`, and follows those of the others.
//!
//! ```json
//! {
//!     "cniVersion": "1.1.0", "name": "pods",
//!     "plugins": [{
//!         "type": "vxlan",
//!         "cluster": { "kubernetes": { "podNetworks": ["10.244.0.0/16", "fd00:244::/48"] } }
//!     }]
//! }
//! ```
//!
//! The same file on every node; which Node this is follows from `--node`, `cluster.node` or the host's name (in a pod, the first, from
//! the field `spec.nodeName`). `node-agent` has to run: the plugins do not speak to Kubernetes, and answer ADD with code 11 and
//! STATUS with 50 where no agent lives. DEL and GC need neither.
//!
//! # Keys of `cluster.kubernetes`
//!
//! | key | default | |
//! |---|---|---|
//! | `podNetworks` | required | prefixes that hold all pods: what the controller manager has as `--cluster-cidr` |
//! | `kubeconfig` | the pod's service account | path of a kubeconfig; its current context counts |
//! | `server` | as said there | the API server's address, `https://HOST[:PORT]`, where the service's is not to be relied upon (it is kube-proxy that makes it work) |
//! | `addresses` | from the Node | where the other nodes reach this one. Else the first `InternalIP` of each family that the host has. Without one, the address from which the server is reached; a family that is missing has the address that the same link has had longest, temporary and deprecated ones aside |
//! | `layout` | `native` | `flannel`: Nodes are followed, by Flannel's annotations, see below |
//!
//! Of a kubeconfig, these are understood: of a cluster `server`, `certificate-authority`, `certificate-authority-data`,
//! `tls-server-name`; of a user `token`, `tokenFile`, `client-certificate`, `client-key` and their `-data`. What is left out is refused
//! by name, with what to use instead: `exec` and `auth-provider` (an agent runs no programs for credentials),
//! `insecure-skip-tls-verify`, `proxy-url`, `username`, `as`. A token or a certificate goes over TLS alone, and the
//! authority has to be named: what the host trusts for the web does not count.
//!
//! All of it is read again with each connection, a token also when the server does not take it any more: what was renewed counts
//! without a restart. No credential is in any log.
//!
//! # What is written where
//!
//! | object | what | by |
//! |---|---|---|
//! | `NodeNetwork` (`cni-fabric.internal/v1alpha1`, short `nnet`), named as the Node | label `cni-fabric.internal/network` (the CNI network's name), the Node as owner; `spec`: `network`, `nodeUID`, `podCIDRs`, `addresses`, `backend` (`type`, `vni`, `port`, `dataPaths`, `vtepMAC`), `mtu` | server-side apply, field manager `cni-fabric`, which takes precedence |
//! | its `status` | condition `Ready`, `agentVersion`; when readiness or its reason changes | the same |
//! | the Node's `status` | condition `NetworkUnavailable` = `False`, reason `CniFabricIsUp`, once this node is connected | the same |
//! | the Node, in layout `flannel` | `flannel.alpha.coreos.com/` `backend-type`, `backend-data`, `backend-v6-data`, `public-ip`, `public-ipv6`, `kube-subnet-manager` | the same |
//!
//! `kubectl get nnet` shows the nodes of all networks with prefixes, addresses and whether they are connected. A `NodeNetwork` goes
//! with its Node, by Kubernetes' garbage collector; deleting one by hand takes the node out until its agent has put it back, a
//! second later at most.
//!
//! Others use of an object what is sound: prefixes inside `podNetworks`, addresses that are not their own, the same backend, VNI
//! and port, an owner that is the Node of its name, at most 8 prefixes and 64 KiB. One that is not is left out and told by name
//! (`/readyz`, `source_rejected`); the rest goes on, and so does what the same node told before. Of two nodes with one prefix,
//! the one whose object is older has it.
//!
//! # Rights
//!
//! | resource | verbs |
//! |---|---|
//! | `nodes` | get |
//! | `nodes/status` | patch |
//! | `nodenetworks.cni-fabric.internal` | get, list, watch, create, patch |
//! | `nodenetworks/status` | patch |
//! | `nodes`, in layout `flannel` | list, watch, patch, too |
//! | `nodenetworks`, for `--cleanup` | delete, too |
//!
//! Kubernetes' rights do not tell one node from another: an agent whose token was stolen can write any node's object, and so move its
//! traffic. What others check of a record is no proof of who wrote it. Where that matters, an admission policy can compare the
//! object's name with the claim `authentication.kubernetes.io/node-name` that tokens of pods have.
//!
//! # What happens when
//!
//! | | |
//! |---|---|
//! | it starts | all objects of the network are streamed by the watch that then follows them; an older server, or one whose etcd is, is read by pages of 500 first |
//! | the server cannot be reached | nothing: what is known stays in force and is repaired, and new pods go on. A try every half second |
//! | it is there again | what has changed meanwhile is told from the version that was known; all of it is compared by value where the server has forgotten that (410), or counts anew after a restore |
//! | it answers with errors, nonsense, or less than a whole list | it is away, and left alone for ever longer, up to 30 s. After 429 as long as it says, up to a minute, and some more by chance |
//! | it ends the watch (5 to 10 minutes) | it is followed from there; nobody is told |
//! | the agent starts anew | the same prefix, device and hardware address (where `device` is configured, that of the device that is there); nothing is written. New pods wait until Kubernetes has confirmed it |
//! | it starts anew while the server is away | what an earlier agent made stays, and pods with it; new pods wait |
//! | the Node has no `podCIDRs` yet | no new pods; it is looked for every few seconds |
//! | the Node is not there | no new pods, `/readyz` says so; what is there stays connected. Other nodes forget this one with its object |
//! | the Node was made anew, with other `podCIDRs` | its object tells the new ones. New pods wait while pods of this node have addresses of the former ones, which may be another node's by now; `/readyz` and STATUS say which. An agent in a container needs `/var/lib/cni/networks` (`ipam.dataDir`) for that, to read; the manifests mount it |
//! | somebody changes or removes this node's object, condition or annotations | object and annotations are put right, once a second at most; the condition with the next look at the Node, 5 to 8 minutes later at most |
//! | a Node goes | other nodes remove it when they are told that its object has gone, or that a whole list has it not; never because a connection broke |
//! | a right is missing | what may be done is; `/readyz` names it |
//!
//! | `/readyz` says | what to do |
//! |---|---|
//! | `... refuses /apis/cni-fabric.internal/...: ... (404)` | apply the definition of `NodeNetwork` |
//! | `... (403)` | give the rights above to whom the message names |
//! | `... (401)` | the token has passed or is another cluster's |
//! | `Node n1 is not there` | compare `--node` with `kubectl get nodes` |
//! | `Node n1 has no podCIDRs yet` | the controller manager needs `--allocate-node-cidrs=true` and `--cluster-cidr` |
//! | `... is not in cluster.kubernetes.podNetworks` | let both be the same |
//! | `the API server is reached over the loopback interface` | set `addresses`, or let kubelet have `--node-ip` |
//!
//! # From Flannel, node by node
//!
//! With `"layout": "flannel"`, `"dataPath": "classic"` and the VNI and port of Flannel's `net-conf.json`, an agent reads and writes what
//! Flannel's does with `--kube-subnet-mgr`, so that both form one network: the prefixes are the Nodes' already.
//!
//! 1. Apply the definition and the rights, with those of layout `flannel`.
//! 2. Write the conflist. Three names in it are Flannel's: `name` that of its conflist (`cbr0`), under which `host-local` keeps the
//!    pods' addresses: **under another name new pods get addresses that pods of Flannel's have**; `device` that of its tunnel, `flannel.1`;
//!    and the bridge `cni0`, which is the default. With a `dataDir` in Flannel's `delegate`, `ipam` has the same.
//! 3. Node by node: keep Flannel's pod off it (a label that its `DaemonSet`'s node selector does not have); when it has ended, let an agent
//!    with layout `flannel` run there, and put its conflist in the place of Flannel's. Between the two no pod can be attached; those that
//!    are there go on.
//!     * The device stays as it is, with its hardware address, so that no packet is lost and other nodes notice nothing. It is taken where
//!       it is a VXLAN device of that name with our VNI, port and outer address, without learning; else `/readyz` says what
//!       differs. It stays bound to its link, and is made anew without that when it has gone.
//!     * Its neighbours and forwarding entries are ours from then on. Routes as Flannel makes them, through that device, go once ours are there.
//!       Those to peers in the same segment (`DirectRouting`, `host-gw`) are told as clashes, ours before them: remove them by hand.
//!     * Pods that are there keep their addresses, new ones get others, and all reach all. Old ones are detached by either conflist; Flannel's
//!       files in `/var/lib/cni/flannel` can go when no pod of its time is left on the node.
//!     * Flannel's rules stay, and go on to masquerade what pods send to nodes, or nodes to pods. Remove them: `nft delete table ip flannel-ipv4` and
//!       `ip6 flannel-ipv6`; where it used `iptables`, `iptables -t nat -D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG`
//!       and `iptables -D FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD`, and both chains with `-F` and `-X`.
//! 4. When no node has Flannel any more: node by node, layout `native`, with the same `name` and `device`. Agents of layout `flannel` publish
//!    their `NodeNetwork`s, so that those of layout `native` know them; the other way round, annotations of a node stay on it until
//!    `--cleanup`, and are good as long as its address is. When all are native, `dataPath` can go.
//!
//! Back to Flannel, before step 4: end the agent, `node-agent --cleanup`, Flannel's conflist and Flannel's pod again. Pods keep their addresses,
//! but from the cleanup, which takes the device along, until Flannel is up, the node is cut off from the others.
//!
//! Flannel's VXLAN has a device for each family; `podNetworks` are of one family therefore, and the other half of a Flannel node
//! with two is not used. `host-gw` has no such limit. `public-ip-overwrite` and `public-ipv6-overwrite` are heeded: an address that this
//! host has.
//!
//! # Take it away
//!
//! `node-agent --cleanup` removes what is ours from the node, its `NodeNetwork`, our annotations and our condition; where the server
//! cannot be reached, or does not allow it, it says what has been left, and ends with status 1.
//!
//! # Try it on a server
//!
//! The project's tests ask a server of their own. The same tests run on a real one, that tests may make and remove Nodes on,
//! when `KUBECONFIG` names it: `KUBECONFIG=/path cargo test -p cni-cluster-tests`. Where it has Nodes that are not the tests', it is
//! left alone unless `CNI_TEST_KUBE_IN_USE=1` says that this is meant.
