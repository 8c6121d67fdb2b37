//! Clusters of our own making, by the plugin's binary and a cluster file alone, or with agents.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Attached, Cluster, Families, Layout, Node, await_condition};
use cni_testkit::{Chain, Invocation, Outcome, Process, workspace_plugin, workspace_plugin_dir};
use serde_json::{Value, json};

/// Where every node has its files.
pub(crate) const CLUSTER: &str = "/run/cni/cluster.json";
pub(crate) const NETWORK: &str = "/run/cni/net.d/10-net.conflist";

/// The default of `routeProtocol`.
pub(crate) const PROTOCOL: u8 = 167;

/// The default of `device`.
pub(crate) const DEVICE: &str = "vxlan.1";

/// How packets get from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataPath {
    Flow,
    Classic,
    HostGw,
}

/// A test's parameter.
pub(crate) trait Over {
    const PATH: DataPath;
}

pub(crate) struct Flow;
pub(crate) struct Classic;
pub(crate) struct HostGw;

impl Over for Flow {
    const PATH: DataPath = DataPath::Flow;
}

impl Over for Classic {
    const PATH: DataPath = DataPath::Classic;
}

impl Over for HostGw {
    const PATH: DataPath = DataPath::HostGw;
}

/// A cluster with its network.
pub(crate) struct Net {
    pub(crate) cluster: Cluster,
    pub(crate) plugin: Value,
    pub(crate) chain: Chain,
}

impl DataPath {
    /// The plugin's configuration, with these keys over the usual ones.
    pub(crate) fn plugin(self, keys: &Value) -> Value {
        let mut plugin =
            json!({ "cluster": { "file": CLUSTER }, "ipam": { "type": "host-local" } });
        plugin["type"] = match self {
            Self::Flow | Self::Classic => "vxlan".into(),
            Self::HostGw => "host-gw".into(),
        };
        if self.is_tunnel() {
            plugin["dataPath"] = self.name().into();
        }
        for (key, value) in keys.as_object().into_iter().flatten() {
            plugin[key] = value.clone();
        }
        plugin
    }

    /// The configuration's word for it, or the plugin's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Classic => "classic",
            Self::HostGw => "host-gw",
        }
    }

    pub(crate) fn is_tunnel(self) -> bool {
        self != Self::HostGw
    }

    /// The port of the tunnel.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Flow => 4790,
            Self::Classic => 8472,
            Self::HostGw => panic!("there is no tunnel"),
        }
    }

    /// What the way adds to a packet on an underlay of a family, in bytes: IP, UDP and VXLAN, and with the classic one
    /// Ethernet.
    pub(crate) fn overhead(self, ipv6: bool) -> usize {
        let outer = if ipv6 { 40 } else { 20 };
        match self {
            Self::Flow => outer + 8 + 8,
            Self::Classic => outer + 8 + 8 + 14,
            Self::HostGw => 0,
        }
    }

    /// The families of underlays that carry pods of these families.
    pub(crate) fn underlays(self, pods: Families) -> Vec<Families> {
        match (self, pods) {
            // An IPv4 address is no next hop of an IPv6 route; the reverse works.
            (Self::HostGw, Families::V6 | Families::Dual) => vec![Families::V6, Families::Dual],
            _ => vec![Families::V4, Families::V6, Families::Dual],
        }
    }
}

impl Net {
    /// A cluster whose nodes have both files, and nothing else yet.
    pub(crate) fn build(layout: &Layout, plugin: Value) -> Self {
        let cluster = Cluster::build(layout);
        let all = 0..cluster.nodes().len();
        let net = Self::over(cluster, plugin);
        net.tell(&net.cluster.describe(all));
        net
    }

    /// The network on a cluster that is there.
    pub(crate) fn over(cluster: Cluster, plugin: Value) -> Self {
        let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin.clone()] });
        for node in cluster.nodes() {
            node.write(NETWORK, &list.to_string());
        }
        Self {
            cluster,
            chain: Chain::new(list, &[&workspace_plugin_dir()]),
            plugin,
        }
    }

    /// A cluster with a pod on each node, and a second one on the first.
    pub(crate) fn with_pods(layout: &Layout, plugin: Value) -> (Self, Vec<Attached>) {
        let net = Self::build(layout, plugin);
        let nodes = net.cluster.nodes().iter();
        let mut pods: Vec<Attached> = nodes.map(|node| node.attach(&net.chain)).collect();
        pods.push(net.cluster.node(0).attach(&net.chain));
        (net, pods)
    }

    /// Puts a cluster file in place on every node.
    pub(crate) fn tell(&self, cluster: &Value) {
        for node in self.cluster.nodes() {
            node.write(CLUSTER, &cluster.to_string());
        }
    }

    /// The node of a pod.
    pub(crate) fn node_of(&self, pod: &Attached) -> &Node {
        let mut nodes = self.cluster.nodes().iter();
        nodes
            .find(|node| node.name() == pod.node)
            .expect("a pod's node")
    }

    /// A verb that is about no attachment, on a node: GC of all attachments, or STATUS.
    pub(crate) fn call(&self, node: &Node, verb: &str) -> Outcome {
        let mut config = self.plugin.clone();
        config["cniVersion"] = "1.1.0".into();
        config["name"] = "net".into();
        if verb == "GC" {
            config["cni.dev/valid-attachments"] = json!([]);
        }
        let program = self.plugin["type"].as_str().expect("a type");
        let run = Invocation::new(workspace_plugin(program), verb)
            .env("CNI_PATH", workspace_plugin_dir())
            .config(&config);
        node.run(|| run.run())
    }

    /// Starts an agent on a node.
    pub(crate) fn start_agent(&self, node: &Node) -> Process {
        let mut command = Command::new(workspace_plugin("node-agent"));
        node.start(command.args(["--config", NETWORK]).env_clear())
    }

    /// Starts agents on these nodes, and waits until all are ready.
    pub(crate) fn start_agents(&self, nodes: &[usize]) -> Vec<Process> {
        let start = |position: &usize| {
            let node = self.cluster.node(*position);
            let agent = self.start_agent(node);
            await_ready(node, &agent);
            agent
        };
        nodes.iter().map(start).collect()
    }
}

/// Waits until the agent of a node says that it is ready.
pub(crate) fn await_ready(node: &Node, agent: &Process) {
    await_condition(
        &format!("{} is ready: {}", node.name(), agent.log()),
        || page(node, "/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200")),
    );
}

/// A page of the agent of a node.
pub(crate) fn page(node: &Node, path: &str) -> Option<String> {
    page_at(node, 9473, path)
}

/// A page of a process on a node that serves at this port of the loopback interface.
pub(crate) fn page_at(node: &Node, port: u16, path: &str) -> Option<String> {
    node.run(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    })
}

/// The hardware address of a node's VXLAN device.
pub(crate) fn device_mac(node: &Node) -> String {
    node.run(|| {
        let path = format!("/sys/class/net/{DEVICE}/address");
        let text = fs::read_to_string(path).expect("the node has its device");
        text.trim_end().to_owned()
    })
}

/// A hardware address as bytes.
pub(crate) fn mac(text: &str) -> [u8; 6] {
    let mut parts = text.split(':').map(|part| u8::from_str_radix(part, 16));
    [(); 6].map(|()| parts.next().expect("six parts").expect("a number"))
}

/// How many families.
pub(crate) fn count(families: Families) -> usize {
    families.each((), ()).len()
}

/// Every address in a list of the given one's family.
pub(crate) fn like(all: &[IpAddr], one: IpAddr) -> impl Iterator<Item = IpAddr> {
    let alike = all.iter().copied();
    alike.filter(move |address| address.is_ipv4() == one.is_ipv4())
}

/// The value of a metric without labels.
pub(crate) fn metric(node: &Node, name: &str) -> f64 {
    // It answers between two steps, and one that compares ten thousand peers takes long on a busy machine.
    let end = Instant::now() + Duration::from_secs(240);
    let metrics = loop {
        // An agent that is busy for long closes connections without an answer.
        let metrics = page(node, "/metrics");
        if let Some(metrics) = metrics.filter(|page| page.starts_with("HTTP/1.1 200")) {
            break metrics;
        }
        assert!(Instant::now() < end, "the agent has no page of metrics");
        std::thread::sleep(Duration::from_millis(5));
    };
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("the agent tells no number of {name}:\n{metrics}"))
}
