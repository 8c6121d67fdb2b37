//! Limits of a pod's traffic, and tuning of its interface: the plugins `bandwidth` and `tuning`.
//!
//! Both follow another plugin in a list of plugins, and have the keys of the reference plugins of their names:
//!
//! ```json
//! {
//!     "cniVersion": "1.1.0", "name": "pods",
//!     "plugins": [
//!         { "type": "bridge", "ipMasq": true, "isDefaultGateway": true,
//!           "ipam": { "type": "host-local", "subnet": "10.88.0.0/16" } },
//!         { "type": "bandwidth", "capabilities": { "bandwidth": true } },
//!         { "type": "tuning", "mtu": 1400, "sysctl": { "net.core.somaxconn": "512" } }
//!     ]
//! }
//! ```
//!
//! # `bandwidth`
//!
//! | key | meaning |
//! |---|---|
//! | `ingressRate`, `ingressBurst` | into the pod: bits a second, and bits of which that many at once |
//! | `egressRate`, `egressBurst` | out of the pod |
//!
//! They stand in the plugin's own configuration, or come from the runtime as the capability `bandwidth` (annotations
//! `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`). Where the configuration has any of the four, it wins as a
//! whole. A rate needs a burst and a burst a rate; 0 is no limit. The rate is of whole frames: of TCP's payload some
//! 95 % of it at an MTU of 1500. A packet waits no longer than 25 ms.
//!
//! ```console
//! # tc qdisc show dev vethrnnixnsgtcl                  # into the pod
//! qdisc tbf c41: root refcnt 2 rate 100Mbit burst 125000b lat 25ms
//! qdisc ingress ffff: parent ffff:fff1 ----------------
//! # tc qdisc show dev ifbrnnixnsgtcl                   # out of the pod
//! qdisc tbf c41: root refcnt 2 rate 10Mbit burst 12500b lat 25ms
//! ```
//!
//! What is not as in the reference:
//!
//! * A container may have several interfaces on one network, each with limits: the device has a name of network, container and
//!   interface.
//! * A burst with less room than one packet gets that room, with a warning. Otherwise no full packet would ever pass.
//! * CHECK compares rate, burst, latency, the redirection and the device, and names what differs.
//! * DEL removes everything, also where the pair stays, and needs neither namespace nor result nor configuration. GC removes
//!   devices of attachments that are not valid.
//! * DEL removes the reference's device, too, as long as the pair is there whose traffic goes through it.
//! * STATUS makes all of it in a namespace of its own that ends at once; 50 where the kernel lacks something.
//! * ADD over what an ADD that died has left completes it. Where somebody else has set a discipline at the root, ADD
//!   fails and says so; where somebody has filters of what comes in, ours is one beside them.
//!
//! What the kernel does not do: a veth pair is needed, whose end on the host is what is limited. Another interface (`macvlan`,
//! `ipvlan`, a device of the host) is an error. Bursts are less than 4 GiB of bytes. Traffic between a pod and its own node is
//! limited as any other.
//!
//! # `tuning`
//!
//! | key | meaning |
//! |---|---|
//! | `sysctl` | kernel parameters below `net`, by names with dots or slashes; `IFNAME` stands for the interface |
//! | `mac` | the hardware address; overruled by `MAC` of `CNI_ARGS`, that by the capability `mac`, that by `args.cni.mac` |
//! | `mtu` | bytes, of the pod's end alone |
//! | `promisc`, `allmulti` | promiscuous mode (`true` only), all-multicast mode |
//! | `txQLen` | transmit queue length in packets |
//! | `dataDir` | where it is kept what was before, `/run/cni/tuning` |
//!
//! `args.cni` has the same keys, and overrules. A parameter that is named twice, in whichever spelling, is an error. Where
//! `/etc/cni/tuning/allowlist.conf` exists, a parameter is set only when one of its lines, regular expressions, matches the name as the
//! configuration or as sysctl(8) writes it: `^net\.ipv4\.conf\.IFNAME\.[a-z_]*$`.
//!
//! An address that a plugin before has bound something to is better given to that one: `bridge` with `macspoofchk` drops what
//! comes from another than it knows, so let the runtime pass the capability `mac` to it.
//!
//! DEL puts back what was before ADD changed it: settings of the interface, and parameters that are still as ADD has set them.
//! Nothing has to be put back of what is gone. The file is the reference's with two members more, so that a node can be
//! changed over while pods run.
//!
//! What is not as in the reference:
//!
//! * Parameters are put back, too.
//! * A hardware address is changed while the interface is up, so that no route is lost. A driver that cannot do that is an error.
//! * A repeated ADD keeps the first backup. An ADD that fails has changed nothing.
//! * CHECK names each difference, numbers of a parameter separated by whatever, and says nothing about modes that nobody asked for.
//! * The MTU goes into the result, where the version knows it.
//! * GC removes files of attachments that are not valid, STATUS looks for the directory and the list.
