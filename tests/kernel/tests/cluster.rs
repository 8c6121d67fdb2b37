//! A node of a large cluster: what an ADD asks of the kernel and of the disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use backend_bridge::Bridge;
use backend_host_gw::HostGw;
use backend_vxlan::Vxlan;
use cni_core::backend::{AddRequest, Context, DelRequest};
use cni_core::cluster::file::fingerprint;
use cni_core::host::netlink::{Address, NetlinkChange};
use cni_core::host::{Host, NetnsPath};
use cni_core::ipam::{HostLocal, Ipam};
use cni_core::node::{NodeBackend, Scheme};
use cni_core::spec::Attachment;
use cni_core::spec::config::{CniArgs, NetworkConfig};
use cni_core::testing::{Faults, Faulty};
use cni_core::{Cancel, NetworkBackend};
use cni_testkit::{Pod, Test, tests};
use serde_json::{Value, json};

use crate::crash::wait_until;
use crate::world::{apply, block, outside};

pub(crate) const TESTS: &[Test] = &tests![
    an_add_with_nothing_changed_asks_no_more_in_a_large_cluster::<Flow>,
    an_add_with_nothing_changed_asks_no_more_in_a_large_cluster::<Classic>,
    an_add_with_nothing_changed_asks_no_more_in_a_large_cluster::<Direct>,
];

/// A way from node to node.
trait Over {
    fn backend() -> NodeBackend;
    fn keys() -> Value;
}

struct Flow;
struct Classic;
struct Direct;

fn over(scheme: impl Scheme + 'static) -> NodeBackend {
    NodeBackend::new(scheme).with("bridge", Bridge)
}

impl Over for Flow {
    fn backend() -> NodeBackend {
        over(Vxlan)
    }
    fn keys() -> Value {
        json!({ "type": "vxlan", "dataPath": "flow" })
    }
}

impl Over for Classic {
    fn backend() -> NodeBackend {
        over(Vxlan)
    }
    fn keys() -> Value {
        json!({ "type": "vxlan", "dataPath": "classic" })
    }
}

impl Over for Direct {
    fn backend() -> NodeBackend {
        over(HostGw)
    }
    fn keys() -> Value {
        json!({ "type": "host-gw" })
    }
}

/// What one ADD asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// Requests that read the kernel's state, and changes to it.
    reads: u64,
    writes: u64,
    /// Calls of read(2) and bytes that they gave: the files.
    calls: u64,
    bytes: u64,
}

impl Cost {
    /// An ADD that finds the kernel behind asks it again: the smallest of some is that of one which had not to wait.
    fn lower_to(&mut self, other: Self) {
        self.reads = self.reads.min(other.reads);
        self.writes = self.writes.min(other.writes);
        self.calls = self.calls.min(other.calls);
        self.bytes = self.bytes.min(other.bytes);
    }

    /// Numbers in names and paths are longer or shorter, and so bytes are not compared.
    fn asks_as(&self, other: &Self) -> bool {
        let asked = |cost: &Self| (cost.reads, cost.writes, cost.calls);
        asked(self) == asked(other)
    }
}

fn an_add_with_nothing_changed_asks_no_more_in_a_large_cluster<P: Over>() {
    let sites = [3, 300].map(Site::new::<P>);
    let [mut small, mut large] = sites.each_ref().map(Site::cost);
    for round in 0..100 {
        if round >= 10 && large.asks_as(&small) {
            break;
        }
        small.lower_to(sites[0].cost());
        large.lower_to(sites[1].cost());
    }
    assert!(small.reads > 5 && small.calls > 5, "{small:?}");
    assert_eq!(small.reads, large.reads);
    assert_eq!(small.writes, large.writes);
    assert_eq!(small.calls, large.calls);
    // Numbers in names and paths are longer or shorter.
    assert!(large.bytes < small.bytes + 200, "{small:?} {large:?}");
}

/// A node of a cluster, up to date.
struct Site {
    node: Pod,
    _outside: Pod,
    backend: NodeBackend,
    config: NetworkConfig,
}

impl Site {
    fn new<P: Over>(nodes: u32) -> Self {
        let node = Pod::new("node");
        let (outside, config) = node.run(|| prepare::<P>(nodes));
        let site = Self {
            node,
            _outside: outside,
            backend: P::backend(),
            config,
        };
        // The first brings the node up to date, the second makes the address store's index.
        for _ in 0..2 {
            site.cost();
        }
        site
    }

    fn cost(&self) -> Cost {
        self.node.run(|| add_and_del(&self.backend, &self.config))
    }
}

fn prepare<P: Over>(nodes: u32) -> (Pod, NetworkConfig) {
    let outside = outside(1500);
    let segment = "172.16.0.0/16".parse().expect("a prefix");
    apply(&[NetlinkChange::AddressAdd(Address::new("uplink", segment))]);
    let directory = format!("/run/large/{nodes}");
    fs::create_dir_all(&directory).expect("/run is the test's own");
    let file = format!("{directory}/cluster.json");
    fs::write(&file, cluster(nodes).to_string()).expect("a file");
    // One that has just been written is read by every ADD.
    wait_until(|| fingerprint(Path::new(&file)).is_ok_and(|seen| seen.is_settled()));
    let mut config = P::keys();
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "net".into();
    config["cluster"] = json!({ "file": file, "node": "n0" });
    config["stateDir"] = format!("{directory}/state").into();
    config["ipam"] = json!({ "type": "host-local", "dataDir": format!("{directory}/addresses") });
    let config = NetworkConfig::parse(config.to_string().as_bytes()).expect("a configuration");
    (outside, config)
}

fn add_and_del(backend: &NodeBackend, config: &NetworkConfig) -> Cost {
    let faults = Faults::new();
    let host = Faulty::host(&Host::open().expect("the kernel"), &faults);
    let ipam: Arc<dyn Ipam> = Arc::new(HostLocal::new());
    let (args, cancel, pod) = (CniArgs::default(), Cancel::new(), Pod::new("pod"));
    let attachment = Attachment {
        network: config.name().clone(),
        container: pod.id().parse().expect("a container's id"),
        interface: "eth0".parse().expect("an interface's name"),
    };
    let cx = Context {
        host: &host,
        ipam: ipam.as_ref(),
        cancel: &cancel,
        dry_run: false,
    };
    block(async {
        let netns = NetnsPath::new(pod.path());
        let sandbox = host.namespaces.open(&netns).await.expect("a namespace");
        let request = AddRequest {
            attachment: &attachment,
            sandbox: &sandbox,
            config,
            args: &args,
            prev_result: None,
        };
        let before = files();
        if let Err(error) = backend.add(&cx, &request).await {
            panic!("{}", error.chain());
        }
        let after = files();
        let cost = Cost {
            reads: faults.reads(),
            writes: faults.writes(),
            calls: after.0 - before.0,
            bytes: after.1 - before.1,
        };
        let request = DelRequest {
            attachment: &attachment,
            netns: Some(&netns),
            config,
            args: &args,
            prev_result: None,
        };
        backend.del(&cx, &request).await.expect("a DEL");
        cost
    })
}

/// Calls of read(2) by this thread, and bytes (`syscr` and `rchar` of proc_pid_io(5)).
fn files() -> (u64, u64) {
    let text = fs::read_to_string("/proc/thread-self/io").expect("the kernel accounts for it");
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let number = line.expect("a line").trim();
        number.parse().expect("a number")
    };
    (number("syscr:"), number("rchar:"))
}

/// This node and its peers, all in one segment.
fn cluster(nodes: u32) -> Value {
    let node = |number: u32| {
        let (high, low) = (number / 256, number % 256);
        json!({
            "name": format!("n{number}"),
            "podPrefixes": [format!("10.{}.{low}.0/24", 64 + high)],
            "addresses": [format!("172.16.{high}.{low}")],
        })
    };
    json!({ "nodes": (0..nodes).map(node).collect::<Vec<Value>>() })
}
