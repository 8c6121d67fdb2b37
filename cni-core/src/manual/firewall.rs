//! `firewall`: pods beside the host's own rules, and beside each other.
//!
//! Put it behind the plugin that attaches the container:
//!
//! ```json
//! {
//!     "cniVersion": "1.0.0", "name": "pods",
//!     "plugins": [
//!         { "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
//!           "ipam": { "type": "host-local", "subnet": "10.88.0.0/16" } },
//!         { "type": "firewall", "ingressPolicy": "same-bridge" }
//!     ]
//! }
//! ```
//!
//! # Keys
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `backend` | firewalld where it runs | `nftables`; `iptables`, which is taken for it; `firewalld`, which must run then |
//! | `iptablesAdminChainName` | `CNI-ADMIN` | the operator's chain in the table `inet cni_firewall`: a letter, then letters, digits, `-`, `_`, `.`; 28 bytes at most; no keyword of nft |
//! | `firewalldZone` | `trusted` | where firewalld runs: the zone that the pod's addresses are put into |
//! | `ingressPolicy` | `open` | `same-bridge`, `isolated` |
//!
//! # What is let through
//!
//! What a pod sends, what answers it (connection state `established` or `related`), and what is sent to it through somebody's
//! address translation, such as a published port. What else is forwarded to a pod is for the host's own rules to decide.
//!
//! Nftables has no rule that overrules another table's drop. So the decision is passed on by bit 12 of the packet's mark
//! (0x1000), which is set and cleared within the forward hook, and one rule for each family accepts packets that bear it:
//!
//! | the host's rules | where the rule is |
//! |---|---|
//! | `iptables-nft`, Docker's among them | at the head of `FORWARD` in `ip filter` and `ip6 filter`, when that chain exists and drops by its policy or has rules |
//! | `iptables-legacy` | the same, by the program `iptables-legacy`. It is run only where the namespace has such a table, which the kernel tells root alone: not in a user namespace |
//! | firewalld | none: the address is put into the zone |
//! | nftables tables of the operator's | none: add it yourself, ahead of what drops: `meta mark & 0x1000 == 0x1000 accept` |
//!
//! The rule is one, however many pods there are; its comment says `cni: accepted by inet cni_firewall`, it lists in
//! `iptables -S` as any other, and goes with the last attachment. Who flushes it (a `dockerd` that starts anew does not) is told
//! by CHECK, and the next ADD puts it back. A network of IPv4 alone needs and touches nothing of IPv6. The networks of
//! [`cluster`](super::cluster)s have rules of their own in the same places, two for each of the node's prefixes, for all that
//! its pods send and are sent (`-s 10.244.1.0/24 -j ACCEPT`, `-d 10.244.1.0/24 -j ACCEPT`; in an operator's nftables they are the
//! operator's to add); there the agent puts them back at once (in legacy tables, of which the kernel tells no changes, at its next sweep).
//!
//! A host that uses bit 12 for something else, between the routing decision and what is behind the forward hook, loses it there.
//!
//! # firewalld and the networks of clusters
//!
//! Where firewalld runs, a network of `vxlan` or `host-gw` puts into its zone (`firewalldZone` of that plugin, `trusted` by default)
//!
//! | what | where |
//! |---|---|
//! | the node's own pod prefixes | in both |
//! | the tunnel's device | `vxlan` |
//! | the prefixes that hold all pods of the cluster (`clusterPrefixes`, Flannel's `Network`, `podNetworks`), or else each peer's | `host-gw`, `directRouting` |
//!
//! and opens the tunnel's UDP port in the zone of the links that bear the underlay's addresses, as long as nobody but peers is heard
//! there. That is not so with `"filter": false`, nor where a device of others that has no filter hears at the same port, as Flannel's does at that of
//! the classic data path. Then it is the operator's to do, for the nodes alone, and the agent's health page says so until there is such a rule.
//! A device that comes later is noticed by the agent's next sweep, and without one when the node is brought up to date the next time:
//!
//! ```console
//! # firewall-cmd --permanent --zone=public --add-rich-rule='rule family="ipv4" source address="192.0.2.0/24" port port="8472" protocol="udp" accept'
//! # firewall-cmd --reload
//! ```
//!
//! In the operator's words all of it is
//!
//! ```console
//! # firewall-cmd --zone=trusted --add-interface=vxlan.1
//! # firewall-cmd --zone=trusted --add-source=10.244.1.0/24
//! # firewall-cmd --zone=public --add-port=4790/udp
//! ```
//!
//! * It is firewalld's running configuration, which a reload or a start forgets. The agent follows firewalld on the message bus and
//!   tells it again at once, also one that starts while its source of nodes is away; without an agent the next ADD does. Until then CHECK and STATUS (51) say
//!   `firewalld does not know ...`. What is in the permanent configuration is not touched: put it there to be independent of that.
//! * What somebody else has told firewalld stays, and what he has put into another zone is left there and reported.
//! * Another `firewalldZone` gets at once, or with the next ADD, what the former one was given.
//! * `node-agent --cleanup` and `--uninstall` take out what was put in, and nothing else. Where firewalld's rules are in force and they do not
//!   reach it, they fail, and say what stays and by which commands it goes.
//! * Pods reach all of the node's ports then, as with the reference plugin. Where that is too much, name a zone of your own, and have
//!   a policy of firewalld's accept what is forwarded from there.
//! * What the processes of other nodes send to pods comes by the uplink with `host-gw`, from an address that is no pod's: put the
//!   nodes' addresses into a zone yourself where firewalld is to let it through (`firewall-cmd --zone=trusted --add-source=...`).
//! * firewalld that does not answer holds nobody up: an ADD goes on after three seconds, the agent's first comparison after two and any
//!   other at once, and health says so.
//! * An agent in a container needs the host's `/run/dbus`, which `deploy/components/firewalld` of the node agent gives it: root on that
//!   bus is root on the host. Without it the agent logs that firewalld's rules are there and that it does not reach it.
//!
//! # The operator's chain
//!
//! It comes first, and sees all that is forwarded:
//!
//! ```console
//! $ nft add rule inet cni_firewall CNI-ADMIN ip daddr 10.0.0.0/8 tcp dport 25 drop
//! ```
//!
//! What it drops is dropped. What it accepts is accepted, also by the host's `FORWARD`, whatever the policies of networks say.
//! It is never emptied, and stays when the last pod goes as long as there is a rule in it. It may be made in advance:
//! `nft add table inet cni_firewall; nft add chain inet cni_firewall CNI-ADMIN`. An `iptables` chain of that name is not
//! looked at.
//!
//! # Policies
//!
//! | policy | reaches the pod | does not |
//! |---|---|---|
//! | `open` | everybody | |
//! | `same-bridge` | pods on its bridge, open networks, the host, hosts outside | pods of other networks that have a policy |
//! | `isolated` | open networks, the host, hosts outside | the same, and pods on its bridge |
//!
//! A policy is the bridge's: where two networks share one, the stricter holds. Published ports pass all of them. Behind `ptp`, where
//! each pod has an interface of its own, both policies keep pods from each other. Inside of a bridge the frames themselves are
//! dropped, with `br_netfilter` or without. A policy behind a plugin that makes no interface on the host (`macvlan`) is refused.
//!
//! # What is different from the reference plugin
//!
//! | there | here |
//! |---|---|
//! | rules for each pod, found again by `prevResult` | elements of sets, found by the attachment's mark: DEL needs nothing else |
//! | needs `iptables` and `ip6tables`, also for IPv4 alone | needs no program, but where there are legacy tables |
//! | CHECK creates chains that are missing | CHECK changes nothing, and names each difference |
//! | policies leave their rules behind, `ptp`'s for each pod | nothing is left |
//! | `isolated` works with `br_netfilter` alone | with and without |
//! | with firewalld: the zone, no admin chain, no policy | the zone, and all of it |
//! | published ports do not pass a `FORWARD` that drops, nor a policy | they do |
//!
//! # Verbs
//!
//! STATUS answers 50 where nftables cannot be used, firewalld is asked for and does not run, or has no such zone. GC removes what
//! bears the network's mark and is not valid, zones included. `CNI_DRY_RUN` prints what would be done.
