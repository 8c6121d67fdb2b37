//! The nodes, and the two files that a person writes: who the nodes are, and what the network is.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_testkit::cluster::{Cluster, Host, Layout, Node, Segment};
use cni_testkit::{Chain, Snapshot};
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Backend, ClusterArgs, Source};

/// Where both files are on every node. `/etc/cni` in earnest; only `/run` and `/var/lib` are the nodes' own here.
const CLUSTER: &str = "/run/cni/cluster.json";
pub(super) const NETWORK: &str = "/run/cni/net.d/10-demo.conflist";

/// What the attachments of a pod's network go through; the plugin's defaults.
pub(super) const BRIDGE: &str = "cni0";
pub(super) const TUNNEL: &str = "vxlan.1";

/// The protocol number of the routes of a node's network; the plugin's default.
pub(super) const PROTOCOL: u8 = 167;

pub(super) struct Site {
    pub(super) args: ClusterArgs,
    pub(super) cluster: Cluster,
    pub(super) binaries: PathBuf,
    pub(super) chain: Chain,
    /// The host that an etcd is on, where nodes know each other from one.
    pub(super) store: Option<Host>,
    plugin: Value,
    /// The files that a person writes: where they are, and their text.
    files: Vec<(&'static str, String)>,
}

impl Site {
    /// Builds nodes and underlay, and gives every node the files.
    pub(super) fn build(args: &ClusterArgs, binaries: &Path) -> Result<Self> {
        let mut layout = Layout::new(args.nodes);
        if args.router {
            layout = layout.behind_the_router(&[args.nodes - 1]);
        }
        let cluster = Cluster::build(&layout);
        let store = (args.source == Source::Etcd).then(|| cluster.stranger(Segment::A));
        let source = match &store {
            Some(host) => etcd_section(host)?,
            None => format!("{{ \"file\": \"{CLUSTER}\" }}"),
        };
        let plugin = plugin(args, &source);
        let network = format!(
            "{{ \"cniVersion\": \"1.1.0\", \"name\": \"demo\", \"plugins\": [\n  {plugin}\n] }}\n"
        );
        let mut files = vec![(NETWORK, network.clone())];
        if store.is_none() {
            files.insert(0, (CLUSTER, cluster_file(&cluster)));
        }
        for (path, text) in &files {
            cluster
                .nodes()
                .iter()
                .for_each(|node| node.write(path, text));
        }
        let parsed = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
        Ok(Self {
            args: *args,
            cluster,
            binaries: binaries.to_owned(),
            chain: Chain::new(parsed(&network)?, &[binaries]),
            store,
            plugin: parsed(&plugin)?,
            files,
        })
    }

    pub(super) fn nodes(&self) -> &[Node] {
        self.cluster.nodes()
    }

    pub(super) fn node(&self, position: usize) -> Result<&Node> {
        let node = self.nodes().get(position);
        node.ok_or_else(|| format!("there is no node {}", position + 1))
    }

    /// The name of the tunnel's device, where there is a tunnel.
    pub(super) fn tunnel(&self) -> Option<&'static str> {
        (self.args.backend == Backend::Vxlan).then_some(TUNNEL)
    }

    /// What a runtime that garbage-collects hands the plugin when no attachment is valid any more.
    pub(super) fn collection(&self) -> Value {
        let mut config = self.plugin.clone();
        if let Some(object) = config.as_object_mut() {
            for (key, value) in [
                ("cniVersion", json!("1.1.0")),
                ("name", json!("demo")),
                ("cni.dev/valid-attachments", json!([])),
            ] {
                object.insert(key.to_owned(), value);
            }
        }
        config
    }

    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        let states = self.nodes().iter().map(Node::snapshot);
        // What stays in the address store is its memory of the last address.
        let states = states.map(|state| state.without("/var/lib/cni"));
        states.map(without_locks).collect()
    }

    pub(super) fn say_goodbye(&self) {
        let count = self.args.nodes;
        println!(
            "\nNothing is left on any of the {count} nodes, but for empty files that were locks."
        );
    }

    /// Every node is as it was.
    pub(super) fn nothing_changed(&self, before: &[Snapshot]) -> Result<()> {
        let states = self.snapshots();
        for (node, (now, before)) in self.nodes().iter().zip(states.iter().zip(before)) {
            let changes = now.since(before);
            if !changes.is_empty() {
                return Err(format!("{} is not as it was:\n{changes}", node.name()));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in self.nodes() {
            writeln!(f, "{:<9} eth0  {}", node.name(), join(node.addresses()))?;
        }
        if self.args.router {
            let last = self.args.nodes;
            writeln!(f, "router          between n{last} and the others")?;
        }
        let outside = &self.cluster.outside().addresses;
        writeln!(f, "outside   eth0  {}", join(outside))?;
        if let Some(host) = &self.store {
            writeln!(f, "etcd      eth0  {}", join(&host.addresses))?;
        }
        writeln!(
            f,
            "\nNeither router nor outside host knows a route to any pod. On every node:"
        )?;
        for (path, text) in &self.files {
            write!(f, "\n{path}\n{text}")?;
        }
        Ok(())
    }
}

pub(super) fn join(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join("  ")
}

/// The locks of an agent and of plugins are empty files that stay: one that is taken away while somebody waits for it could be
/// held twice. What else is in their directory counts.
fn without_locks(state: Snapshot) -> Snapshot {
    const LOCKS: &str = "/run/cni-fabric";
    let files = ["agent.lock", "update.lock"].map(|file| format!("{LOCKS}/{PROTOCOL}/{file} "));
    let directories = [format!("{LOCKS} "), format!("{LOCKS}/{PROTOCOL} ")];
    let all = files.iter().chain(&directories);
    all.fold(state, |state, path| state.without(path))
}

/// The network's plugin, as a person writes it.
fn plugin(args: &ClusterArgs, source: &str) -> String {
    let path = args
        .data_path
        .map(|path| format!("\"dataPath\": \"{path}\", "));
    let (name, path) = (args.backend.name(), path.unwrap_or_default());
    format!(
        "{{ \"type\": \"{name}\", {path}\"cluster\": {source}, \"ipam\": {{ \"type\": \"host-local\" }} }}"
    )
}

/// Where etcd is, and which prefixes nodes may claim there.
fn etcd_section(host: &Host) -> Result<String> {
    let address = host.addresses.first().ok_or("etcd's host has no address")?;
    Ok(format!(
        "{{ \"etcd\": {{\n    \"endpoints\": [\"http://{address}:{}\"],\n    \
         \"podNetworks\": [{{ \"prefix\": \"10.244.0.0/16\" }}, {{ \"prefix\": \"fd00:244::/48\" }}]\n  }} }}",
        cni_testkit::etcd::PORT
    ))
}

/// A node a line.
fn cluster_file(cluster: &Cluster) -> String {
    let line = |node: &Node| {
        let (name, prefixes, addresses) = (node.name(), node.pod_prefixes(), node.addresses());
        format!(
            "  {{ \"name\": {}, \"podPrefixes\": {}, \"addresses\": {} }}",
            json!(name),
            list(prefixes),
            list(addresses)
        )
    };
    let lines: Vec<String> = cluster.nodes().iter().map(line).collect();
    format!("{{ \"nodes\": [\n{}\n] }}\n", lines.join(",\n"))
}

fn list<T: fmt::Display>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("[{}]", texts.join(", "))
}
