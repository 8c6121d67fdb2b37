//! An ADD on a node of a cluster, as the cluster grows: the plugin and its file alone, nothing changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use cni_core::cluster::file::fingerprint;
use cni_core::host::NetnsPath;
use cni_core::host::netlink::{
    Address, KernelNetlink, LinkSettings, Netlink, NetlinkChange, NetlinkExt, NewLink, NewLinkKind,
};
use cni_testkit::{Invocation, Pod};
use serde_json::{Value, json};

use crate::contestants::Contestants;
use crate::measure::{Series, counts, settle};

/// Nodes in the file, this one included.
const CLUSTERS: [u32; 2] = [10, 10_000];

/// A node with its cluster, or without one: then it is the bridge plugin alone.
struct Lane {
    name: String,
    program: PathBuf,
    config: Value,
    /// The node's namespace, the far end of its cable, and a pod.
    node: Pod,
    _outside: Pod,
    pod: Pod,
    first: Series,
    add: Series,
    del: Series,
}

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    let Some(ours) = contestants.all.first() else {
        return;
    };
    println!("\n== ADD on a node of a cluster, nothing changed since the last one, ms");
    let bridge = ours.directory.join("bridge");
    let mut lanes = vec![Lane::new("bridge", bridge, bridge_config())];
    for nodes in CLUSTERS {
        for kind in ["vxlan", "host-gw"] {
            let name = format!("{kind}, {nodes} nodes");
            let program = ours.directory.join(kind);
            lanes.push(Lane::new(&name, program, node_config(kind, nodes)));
        }
    }
    for lane in &mut lanes {
        lane.begin();
    }
    for _ in 0..runs {
        lanes.iter_mut().for_each(Lane::round);
    }
    println!(
        "{:<24} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "", "first ADD", "p50", "p99", "CPU", "netlink", "files", "DEL, p50"
    );
    for lane in &lanes {
        lane.print();
    }
    let p50 = |place: usize| {
        lanes
            .get(place)
            .map_or(f64::NAN, |lane| lane.add.percentile(50))
    };
    for (kind, small, large) in [("vxlan", 1, 3), ("host-gw", 2, 4)] {
        println!(
            "{kind}: {} nodes / {} nodes = {:.3}, {} nodes / bridge = {:.3} at p50",
            CLUSTERS[1],
            CLUSTERS[0],
            p50(large) / p50(small),
            CLUSTERS[1],
            p50(large) / p50(0)
        );
    }
}

fn bridge_config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "alone", "type": "bridge", "isGateway": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.64.0.0/24" }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dataDir": "/run/bench/alone"
        }
    })
}

/// The plugin's configuration, with a file of so many nodes: the first is this one.
fn node_config(kind: &str, nodes: u32) -> Value {
    let name = format!("{kind}-{nodes}");
    let directory = format!("/run/bench/{name}");
    fs::create_dir_all(&directory).expect("a directory of this process's own");
    let file = format!("{directory}/cluster.json");
    let list: Vec<Value> = (0..nodes).map(node).collect();
    fs::write(&file, json!({ "nodes": list }).to_string()).expect("a file");
    // One that has just been written is read by every ADD.
    while !fingerprint(Path::new(&file)).is_ok_and(|seen| seen.is_settled()) {
        settle();
    }
    json!({
        "cniVersion": "1.1.0", "name": name, "type": kind,
        "cluster": { "file": file, "node": "n0" },
        "stateDir": format!("{directory}/state"),
        "ipam": { "dataDir": format!("{directory}/addresses") }
    })
}

fn node(number: u32) -> Value {
    let (high, low) = (number / 256, number % 256);
    json!({
        "name": format!("n{number}"),
        "podPrefixes": [format!("10.{}.{low}.0/24", 64 + high)],
        "addresses": [format!("172.16.{high}.{low}")],
    })
}

impl Lane {
    fn new(name: &str, program: PathBuf, config: Value) -> Self {
        let (node, outside) = (Pod::new("node"), Pod::new("outside"));
        let far = NetnsPath::new(outside.path());
        node.run(|| {
            let kind = NewLinkKind::Veth {
                peer: "eth0".into(),
                peer_mac: None,
                peer_netns: Some(far),
            };
            let mut cable = NewLink::new("uplink", kind);
            cable.up = true;
            let address = "172.16.0.0/16".parse().expect("a prefix");
            let netlink = KernelNetlink::open().expect("the kernel");
            let changes = [
                NetlinkChange::LinkAdd(cable),
                NetlinkChange::AddressAdd(Address::new("uplink", address)),
            ];
            now(netlink.apply(&changes)).expect("an uplink");
        });
        outside.run(|| {
            let mut up = LinkSettings::default();
            up.up = Some(true);
            let change = NetlinkChange::LinkSet {
                link: "eth0".into(),
                settings: up,
            };
            let netlink = KernelNetlink::open().expect("the kernel");
            now(netlink.apply_one(change)).expect("the far end");
        });
        Self {
            name: name.to_owned(),
            program,
            config,
            node,
            _outside: outside,
            pod: Pod::new("pod"),
            first: Series::default(),
            add: Series::default(),
            del: Series::default(),
        }
    }

    fn invocation(&self, verb: &str) -> Invocation {
        Invocation::attachment(&self.program, verb, &self.pod).config(&self.config)
    }

    /// The ADD that brings the node up to date.
    fn begin(&mut self) {
        let (add, del) = (self.invocation("ADD"), self.invocation("DEL"));
        let Self { node, first, .. } = self;
        node.run(|| first.run(&add));
        node.run(|| del.run().silent_success());
    }

    fn round(&mut self) {
        let (of_add, of_del) = (self.invocation("ADD"), self.invocation("DEL"));
        let Self { node, add, del, .. } = self;
        node.run(|| {
            add.run(&of_add);
            del.run(&of_del);
        });
    }

    fn print(&self) {
        let environment = [
            ("CNI_COMMAND", "ADD".to_owned()),
            ("CNI_CONTAINERID", self.pod.id().to_owned()),
            ("CNI_NETNS", self.pod.path().display().to_string()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let program = self.program.display().to_string();
        let del = self.invocation("DEL");
        let counts = self.node.run(|| {
            let counts = counts(&environment, &program, &self.config.to_string());
            del.run().silent_success();
            counts
        });
        let text =
            |number: Option<usize>| number.map_or("-".to_owned(), |number| number.to_string());
        println!(
            "{:<24} {:>10.2} {:>8.2} {:>8.2} {:>8.2} {:>8} {:>8} {:>10.2}",
            self.name,
            self.first.percentile(50),
            self.add.percentile(50),
            self.add.percentile(99),
            self.add.cpu(),
            text(counts.as_ref().map(|counts| counts.netlink)),
            text(counts.as_ref().map(|counts| counts.files)),
            self.del.percentile(50),
        );
    }
}

/// The result of a future that never waits, as those of the kernel implementations.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
    }
}
