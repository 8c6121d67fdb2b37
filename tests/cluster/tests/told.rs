//! Whatever damages a node's connections is told by the kernel's monitor in a way that the engine knows to concern it: without
//! that an agent would find it by the next sweep only.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cni_core::cluster::{Identity, Node, NodeUid, PeerEvent, View};
use cni_core::fabric::{Engine, Fabric, Removal};
use cni_core::host::monitor::KernelMonitor;
use cni_core::host::{Host, KernelEvent, Monitor};
use cni_core::spec::NetworkConfig;
use cni_testkit::{Test, tests};
use serde_json::json;

use crate::world::DataPath;

pub(crate) const TESTS: &[Test] = &tests![
    damage_to_the_classic_data_path_is_told,
    damage_to_the_flow_is_told,
    damage_to_plain_routes_is_told,
    what_does_not_concern_the_network_is_not_taken_for_damage,
];

/// What others may do to any node: a name, and commands.
const ANY: &[(&str, &str)] = &[
    (
        "routes flushed",
        "for to in $(ip route show proto 167 | grep nhid | cut -d' ' -f1); do ip route del $to; done",
    ),
    (
        "IPv6 routes flushed",
        "for to in $(ip -6 route show proto 167 | grep nhid | cut -d' ' -f1); do ip -6 route del $to; done",
    ),
    ("a route removed", "ip route del 10.244.2.0/24 proto 167"),
    (
        "the own prefix's route removed",
        "ip route del unreachable 10.244.1.0/24",
    ),
    ("next hops flushed", "ip nexthop flush proto 167"),
    (
        "a next hop replaced by something else",
        "id=$(ip nexthop show proto 167 | head -1 | cut -d' ' -f2)
         ip nexthop replace id $id blackhole 2>/dev/null || ip -6 nexthop replace id $id blackhole",
    ),
    ("nftables flushed", "nft flush ruleset"),
    (
        "a foreign route on a peer's prefix",
        "ip route prepend 10.244.2.0/24 via 192.0.2.9",
    ),
    (
        "a foreign IPv6 route on a peer's prefix",
        "ip -6 route add fd00:244:2::/64 via 2001:db8::9 metric 1",
    ),
    (
        "a peer's route replaced",
        "ip route replace 10.244.3.0/24 via 192.0.2.9",
    ),
    ("uplink down", "ip link set eth0 down"),
    (
        "uplink up",
        "ip link set eth0 up; ip -6 address replace 2001:db8::1/64 dev eth0 nodad",
    ),
    ("uplink renamed", "ip link set eth0 name wan0"),
    ("uplink renamed back", "ip link set wan0 name eth0"),
    ("uplink's MTU altered", "ip link set eth0 mtu 1400"),
    ("uplink readdressed", "ip address del 192.0.2.1/24 dev eth0"),
    (
        "uplink given its address again",
        "ip address add 192.0.2.1/24 dev eth0",
    ),
];

const TUNNEL: &[(&str, &str)] = &[
    ("device deleted", "ip link del vxlan.1"),
    ("device down", "ip link set vxlan.1 down"),
    (
        "device flapped",
        "ip link set vxlan.1 down; ip link set vxlan.1 up",
    ),
    ("device's MTU altered", "ip link set vxlan.1 mtu 1300"),
    ("device renamed", "ip link set vxlan.1 name other"),
    (
        "device's address removed",
        "ip address del 10.244.1.0/32 dev vxlan.1",
    ),
    (
        "device's IPv6 address removed",
        "ip address del fd00:244:1::/128 dev vxlan.1",
    ),
    (
        "device taken by a stranger's",
        "ip link del vxlan.1; ip link add vxlan.1 up type vxlan id 9 dstport 9999",
    ),
    ("the stranger's deleted", "ip link del vxlan.1"),
    ("rules flushed", "ip rule del table 167"),
    ("IPv6 rule removed", "ip -6 rule del table 167"),
    (
        "the table for nodes flushed",
        "for to in $(ip route show table 167 | cut -d' ' -f1); do ip route del $to table 167; done",
    ),
];

const CLASSIC: &[(&str, &str)] = &[
    (
        "device's MAC altered",
        "ip link set vxlan.1 address 02:00:00:00:00:77",
    ),
    (
        "neighbours flushed",
        "ip neigh flush dev vxlan.1 nud permanent",
    ),
    (
        "IPv6 neighbours flushed",
        "ip -6 neigh flush dev vxlan.1 nud permanent",
    ),
    (
        "a neighbour replaced",
        "ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:77 dev vxlan.1 nud reachable",
    ),
    (
        "forwarding entries removed",
        "bridge fdb show dev vxlan.1 | while read mac rest; do bridge fdb del $mac dev vxlan.1; done",
    ),
    (
        "a forwarding entry replaced",
        "bridge fdb replace $(bridge fdb show dev vxlan.1 | head -1 | cut -d' ' -f1) dev vxlan.1 dst 192.0.2.77",
    ),
];

fn damage_to_the_classic_data_path_is_told() {
    check(DataPath::Classic, &[ANY, TUNNEL, CLASSIC].concat());
}

fn damage_to_the_flow_is_told() {
    check(DataPath::Flow, &[ANY, TUNNEL].concat());
}

fn damage_to_plain_routes_is_told() {
    check(DataPath::HostGw, ANY);
}

fn check(path: DataPath, damages: &[(&str, &str)]) {
    let mut node = Agent::new(path);
    for (name, commands) in damages {
        shell(commands);
        let events = node.told();
        let concern: Vec<_> = events
            .iter()
            .filter(|event| node.engine.concerns(event))
            .collect();
        assert!(!concern.is_empty(), "{path:?}: {name}: {events:#?}");
        node.repair();
    }
    node.assert_right();
}

fn what_does_not_concern_the_network_is_not_taken_for_damage() {
    for path in [DataPath::Classic, DataPath::Flow, DataPath::HostGw] {
        let mut node = Agent::new(path);
        for commands in [
            "ip link add veth7 type veth peer name pod7; ip link set veth7 up; ip link set pod7 up",
            "ip link add name cni0 type bridge; ip link set cni0 up; ip link set veth7 master cni0",
            "ip address add 10.99.0.1/16 dev cni0; ip address add fd99::1/48 dev cni0 nodad",
            "ip neigh add 10.99.0.7 lladdr 02:00:00:00:00:07 dev cni0 nud reachable",
            "ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:07 dev eth0 nud reachable",
            "ip route add 10.98.0.0/16 via 10.99.0.7; ip rule add from 10.98.0.0/16 lookup 98",
            "ip nexthop add id 98 via 10.99.0.7 dev cni0",
            "ip link del veth7; ip link del cni0",
        ] {
            shell(commands);
            let mut events = node.told();
            events.retain(|event| node.engine.concerns(event));
            assert_eq!(events, [], "{path:?}: {commands}");
        }
    }
}

/// How many changes were made to be recognised.
static FENCES: AtomicU32 = AtomicU32::new(0);

/// A node's engine with the monitor of its namespace.
struct Agent {
    engine: Engine,
    monitor: KernelMonitor,
    view: View,
    runtime: tokio::runtime::Runtime,
}

impl Agent {
    /// A node with two peers in its segment, connected.
    fn new(path: DataPath) -> Self {
        shell(
            "ip link del eth0 2>/dev/null || true
            echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode
            ip link add eth0 type veth peer name far
            ip address add 192.0.2.1/24 dev eth0
            ip address add 2001:db8::1/64 dev eth0 nodad
            ip link set far up
            ip link set eth0 up
            until ip link show eth0 | grep -q 'state UP'; do :; done
            until ip -6 route show table local dev eth0 | grep -q 2001:db8::1; do :; done",
        );
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let mut view = View::new(Identity {
            name: Some("n1".to_owned()),
            addresses: Vec::new(),
        });
        view.apply(PeerEvent::Reset((1..=3).map(self::node).collect()));
        view.apply(PeerEvent::InSync);
        let mut node = Self {
            engine: Engine::new(Host::open().unwrap(), fabric(path)),
            monitor: KernelMonitor::open().unwrap(),
            view,
            runtime: builder.enable_time().build().unwrap(),
        };
        node.repair();
        node.assert_right();
        node
    }

    fn assert_right(&self) {
        let difference = self.runtime.block_on(self.engine.compare(&self.view));
        let difference = difference.unwrap();
        assert!(difference.is_empty(), "{difference}");
    }

    /// Everything as it must be, as far as it goes; afterwards there is nothing more to be done, and what the repair itself
    /// caused has been told.
    fn repair(&mut self) {
        let Self {
            engine,
            view,
            runtime,
            ..
        } = self;
        runtime.block_on(engine.full(view, Removal::Allowed));
        self.told();
        let Self {
            engine,
            view,
            runtime,
            ..
        } = self;
        let report = runtime.block_on(engine.full(view, Removal::Allowed));
        assert_eq!(report.changes(), 0, "{report:#?}");
        self.told();
    }

    /// Everything that is told until now: up to changes that are made to be recognised. The second one comes after what the
    /// kernel told on its other sockets.
    fn told(&mut self) -> Vec<KernelEvent> {
        let mut all = Vec::new();
        for _ in 0..2 {
            let [.., high, low] = FENCES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            let address = format!("127.1.{high}.{low}/32");
            shell(&format!("ip address add {address} dev lo"));
            loop {
                let Self {
                    monitor, runtime, ..
                } = self;
                let next =
                    async { tokio::time::timeout(Duration::from_secs(30), monitor.next()).await };
                match runtime.block_on(next).expect("there is no event") {
                    KernelEvent::Address { index: 1, .. } => break,
                    event => all.push(event),
                }
            }
        }
        all
    }
}

fn node(number: u32) -> Node {
    let mut node = Node::new(
        NodeUid::new(&format!("uid-{number}")),
        &format!("n{number}"),
    );
    node.prefixes = vec![
        format!("10.244.{number}.0/24").parse().unwrap(),
        format!("fd00:244:{number}::/64").parse().unwrap(),
    ];
    node.underlay = vec![
        format!("192.0.2.{number}").parse().unwrap(),
        format!("2001:db8::{number}").parse().unwrap(),
    ];
    node
}

fn fabric(path: DataPath) -> Arc<dyn Fabric> {
    let plugin = path.plugin(&json!({ "cniVersion": "1.1.0", "name": "pods" }));
    let config = NetworkConfig::parse(plugin.to_string().as_bytes()).unwrap();
    match path {
        DataPath::HostGw => {
            let config = backend_host_gw::HostGwConfig::parse(&config).unwrap();
            Arc::new(backend_host_gw::HostGwFabric::new(config))
        }
        DataPath::Classic | DataPath::Flow => {
            let config = backend_vxlan::VxlanConfig::parse(&config).unwrap();
            Arc::new(backend_vxlan::VxlanFabric::new(config))
        }
    }
}

fn shell(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {error}");
}
