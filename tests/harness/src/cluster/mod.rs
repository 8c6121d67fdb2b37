//! Clusters: nodes on an underlay of two segments with a router between them, and a host outside.
//!
//! ```text
//!   n1   n2 ...          n3 ...
//!    │    │               │
//!  ──┴────┴── segment A ──│──┐          192.0.2.0/24      2001:db8:a::/64
//!                         │  router ── outside host      203.0.113.7   2001:db8:f::7
//!             segment B ──┴──┘          198.51.100.0/24   2001:db8:b::/64
//! ```
//!
//! Router and outside host know no route to any pod. Segments are bridges in a namespace of their own; every node and
//! every pod has its own. Nothing of the machine's network is touched, no program is needed, and all of it ends with
//! the process.
//!
//! ```no_run
//! use cni_testkit::cluster::{Attached, Cluster, Layout, Matrix};
//! use cni_testkit::{Chain, workspace_plugin_dir};
//! use serde_json::json;
//!
//! let cluster = Cluster::build(&Layout::new(3).behind_the_router(&[2]));
//! let plugin = json!({
//!     "type": "vxlan",
//!     "cluster": { "file": "/run/cluster.json" },
//!     "ipam": { "type": "host-local" },
//! });
//! let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
//! let chain = Chain::new(list, &[&workspace_plugin_dir()]);
//! for node in cluster.nodes() {
//!     node.write("/run/cluster.json", &cluster.describe(0..3).to_string());
//! }
//! let pods: Vec<Attached> = cluster.nodes().iter().map(|node| node.attach(&chain)).collect();
//! Matrix::of(&pods).assert_all(12);
//! ```

mod attached;
mod damage;
mod flannel;
mod forge;
mod layout;
mod node;
mod stream;
mod wire;

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use attached::{Attached, Matrix, Way};
pub use damage::Damage;
pub use flannel::{flannel_mac, join_as_flannel};
pub use forge::Forged;
pub use layout::{Families, Layout, Segment};
pub use node::Node;
pub use stream::{Stream, Tally};

use crate::{Ping, Pod};
use layout::ROUTER;

/// How long a condition may take that comes by itself: a moment, and with many tests at once on few cores much longer. It guards
/// against waiting without an end, and tells nothing of speed. An agent's sweep, which finds what it was not told of, is rarer.
const PATIENCE: Duration = Duration::from_secs(45);

/// The number of the outside host in its segment.
const OUTSIDE: u8 = 7;

/// An underlay with nodes. See the [module](self).
#[derive(Debug)]
pub struct Cluster {
    switches: Pod,
    router: Pod,
    outside: Host,
    nodes: Vec<Node>,
    layout: Layout,
}

/// A host that is no node.
#[derive(Debug)]
pub struct Host {
    /// Its namespace; the interface is `eth0`.
    pub pod: Pod,
    /// Its addresses, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
}

impl Cluster {
    /// Builds the underlay and the nodes, and waits until every node reaches the outside host.
    ///
    /// # Panics
    /// When the kernel refuses, or the underlay does not carry packets within 20 seconds.
    pub fn build(layout: &Layout) -> Self {
        node::share_pod_namespaces();
        let switches = Pod::new("switches");
        switches.run(|| {
            // Switches need no addresses.
            set("net/ipv6/conf/default/disable_ipv6", "1");
            for segment in [Segment::A, Segment::B] {
                wire::add_bridge(segment.switch()).expect("a bridge");
            }
        });
        let (router, outside) = build_router(layout, &switches);
        let mut cluster = Self {
            switches,
            router,
            outside,
            nodes: Vec::new(),
            layout: layout.clone(),
        };
        for segment in &layout.segments {
            cluster.add_node(*segment);
        }
        cluster.settle();
        cluster
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its position.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn node(&self, position: usize) -> &Node {
        &self.nodes[position]
    }

    /// The router between the segments and to the outside: `a`, `b` and `out` are its interfaces.
    pub fn router(&self) -> &Pod {
        &self.router
    }

    /// The host outside, which knows the nodes and no pod.
    pub fn outside(&self) -> &Host {
        &self.outside
    }

    /// Adds one more node to a segment; its position.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn add_node(&mut self, segment: Segment) -> usize {
        let position = self.nodes.len();
        let number = u8::try_from(position + 1).expect("the address plan has room");
        let name = format!("n{number}");
        let network = Pod::new(&name);
        let addresses = segment.addresses(self.layout.underlay, number);
        self.plug_in(&name, segment, &network, &addresses);
        let view = node::view_of(&network);
        let mac = network.run(|| mac_of("eth0"));
        self.nodes.push(Node {
            network,
            view,
            name,
            number,
            segment,
            addresses: bare(&addresses),
            pod_prefixes: layout::pod_prefixes(self.layout.pods, number),
            mac,
        });
        position
    }

    /// A host in a segment that is no node of the cluster: a sender that is no peer. At most one in each.
    ///
    /// # Panics
    /// When the kernel refuses, or its cable does not carry packets within 20 seconds.
    pub fn stranger(&self, segment: Segment) -> Host {
        let pod = Pod::new("stranger");
        let addresses = segment.addresses(self.layout.underlay, 222);
        let port = format!("stranger{}", segment.switch());
        self.plug_in(&port, segment, &pod, &addresses);
        // A switch forwards to a new port once the kernel has looked at its carrier, which on a busy machine takes its time.
        await_way("the stranger", &pod, &self.outside.addresses);
        let addresses = bare(&addresses);
        Host { pod, addresses }
    }

    /// Pulls a node's cable out of its switch, or puts it back.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn set_cable(&self, node: &Node, plugged: bool) {
        self.switches
            .run(|| wire::set_up(&node.name, plugged))
            .expect("the switch has a port for each node");
    }

    /// Pulls the cable of the stranger in a segment out of its switch, or puts it back.
    ///
    /// # Panics
    /// When there is no stranger.
    pub fn set_strangers_cable(&self, segment: Segment, plugged: bool) {
        let port = format!("stranger{}", segment.switch());
        self.switches
            .run(|| wire::set_up(&port, plugged))
            .expect("the switch has a port for the stranger");
    }

    /// What a cluster file says about the nodes at these positions.
    pub fn describe(&self, positions: impl IntoIterator<Item = usize>) -> Value {
        let nodes: Vec<Value> = positions
            .into_iter()
            .map(|position| self.node(position).describe())
            .collect();
        json!({ "nodes": nodes })
    }

    fn plug_in(&self, port: &str, segment: Segment, host: &Pod, addresses: &[(IpAddr, u8)]) {
        prepare(host);
        self.switches.run(|| {
            let peer = ("eth0", &open(host));
            wire::add_cable(port, Some(segment.switch()), self.layout.mtu, peer).expect("a cable");
        });
        let gateways = bare(&segment.addresses(self.layout.underlay, ROUTER));
        host.run(|| raise("eth0", addresses, &gateways));
    }

    fn settle(&self) {
        for node in &self.nodes {
            await_way(&node.name, &node.network, &self.outside.addresses);
        }
    }
}

impl Node {
    /// What a cluster file says about this node.
    pub fn describe(&self) -> Value {
        json!({
            "name": self.name,
            "podPrefixes": self.pod_prefixes,
            "addresses": self.addresses,
        })
    }
}

fn build_router(layout: &Layout, switches: &Pod) -> (Pod, Host) {
    let (router, pod) = (Pod::new("router"), Pod::new("outside"));
    prepare(&router);
    prepare(&pod);
    for (segment, leg) in [(Segment::A, "a"), (Segment::B, "b")] {
        switches.run(|| {
            let peer = (leg, &open(&router));
            let port = format!("router-{leg}");
            wire::add_cable(&port, Some(segment.switch()), layout.mtu, peer).expect("a cable");
        });
        let addresses = segment.addresses(layout.underlay, ROUTER);
        router.run(|| raise(leg, &addresses, &[]));
    }
    router.run(|| {
        wire::add_cable("out", None, layout.mtu, ("eth0", &open(&pod))).expect("a cable");
        raise("out", &layout::outside(layout.underlay, ROUTER), &[]);
    });
    let addresses = layout::outside(layout.underlay, OUTSIDE);
    let gateways = bare(&layout::outside(layout.underlay, ROUTER));
    pod.run(|| raise("eth0", &addresses, &gateways));
    let addresses = bare(&addresses);
    (router, Host { pod, addresses })
}

fn await_way(name: &str, host: &Pod, targets: &[IpAddr]) {
    for target in targets {
        let target = target.to_string();
        await_condition(&format!("{name} reaches {target}"), || {
            let ping = || Ping::to(&target).timeout(Duration::from_millis(50)).send();
            host.run(ping).is_ok()
        });
    }
}

/// Waits for a condition that takes a moment by itself.
///
/// # Panics
/// When it does not hold within 45 seconds.
#[track_caller]
pub fn await_condition(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < end,
            "this does not hold within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// `ip address add ADDRESS/LENGTH dev INTERFACE nodad` in the calling thread's namespace.
///
/// # Errors
/// What the kernel says.
pub fn add_address(interface: &str, address: IpAddr, length: u8) -> io::Result<()> {
    wire::add_address(interface, address, length)
}

/// All IP addresses in the calling thread's namespace.
///
/// # Panics
/// When they cannot be read.
pub fn addresses_here() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().expect("the list of interfaces");
    all.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
    })
    .collect()
}

/// Forwarding on, and no waiting for duplicate addresses, which would cost every link a second.
fn prepare(host: &Pod) {
    host.run(|| {
        set("net/ipv4/ip_forward", "1");
        // A machine may have IPv6 switched off.
        for scope in ["all", "default"] {
            let _ = try_set(&format!("net/ipv6/conf/{scope}/forwarding"), "1");
            let _ = try_set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0");
        }
    });
}

fn raise(interface: &str, addresses: &[(IpAddr, u8)], gateways: &[IpAddr]) {
    wire::set_up(interface, true).expect("an end of a cable");
    for (address, length) in addresses {
        wire::add_address(interface, *address, *length).expect("a free address");
    }
    for gateway in gateways {
        wire::add_default_route(*gateway).expect("no default route yet");
    }
}

fn set(key: &str, value: &str) {
    try_set(key, value).unwrap_or_else(|error| panic!("{key}={value}: {error}"));
}

fn try_set(key: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{key}"), value)
}

fn open(pod: &Pod) -> File {
    File::open(pod.path()).expect("a namespace's file")
}

fn bare(addresses: &[(IpAddr, u8)]) -> Vec<IpAddr> {
    addresses.iter().map(|(address, _)| *address).collect()
}

fn mac_of(interface: &str) -> [u8; 6] {
    nix::ifaddrs::getifaddrs()
        .expect("the list of interfaces")
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr()?.addr())
        .expect("a hardware address")
}
