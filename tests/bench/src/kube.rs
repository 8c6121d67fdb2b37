//! Thousands of nodes that follow one API server: one real agent with its kernel, and as many watches as there are nodes.
//!
//! The server is the test kit's, so what it spends says nothing of a real one; what is asked of it, and what it has to send, is
//! the same with either.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::Process;
use cni_testkit::cluster::{Cluster, Families, Layout, Segment, await_condition};
use cni_testkit::kube::{ApiServer, Counts, Resource, User};
use serde_json::{Value, json};

use crate::follow::{CHANGES, NETWORK, changes, milliseconds, place, resident, routes, wire};

const CONFIG: &str = "/run/kube/config";
/// So long nobody changes anything, to see what an agent asks of its own accord.
const QUIET: Duration = Duration::from_secs(10);
/// Changes that all watches get.
const TURNS: usize = 10;

/// What one number of nodes came to.
struct Found {
    nodes: usize,
    start: Duration,
    memory: f64,
    /// Sorted.
    times: Vec<Duration>,
    start_bytes: u64,
    change_bytes: u64,
    asked_at_start: String,
    asked_for_changes: String,
    asked_in_quiet: String,
    to_all: Duration,
}

pub(crate) fn run(plugins: &Path) {
    println!("\n== Kubernetes as the source of nodes");
    let all: Vec<Found> = [500, 1000, 5000]
        .map(|nodes| measure(plugins, nodes))
        .into();
    println!("One node among so many, a real agent with its kernel:");
    println!(
        "{:>6} {:>9} {:>11} {:>8} {:>8} {:>8} {:>12} {:>14} {:>15} {:>12}",
        "nodes",
        "start, s",
        "agent, MiB",
        "p50, ms",
        "p99, ms",
        "max, ms",
        "start, KiB",
        "change, bytes",
        "to all, MiB",
        "to all, ms"
    );
    for found in &all {
        let last = found.times.len().saturating_sub(1);
        let at = |share: f64| {
            let position = (last as f64 * share).round() as usize;
            milliseconds(found.times.get(position).copied().unwrap_or_default())
        };
        let change = found.change_bytes as f64 / CHANGES as f64;
        println!(
            "{:>6} {:>9.2} {:>11.1} {:>8.1} {:>8.1} {:>8.1} {:>12.1} {change:>14.0} {:>15.2} {:>12.1}",
            found.nodes,
            found.start.as_secs_f64(),
            found.memory,
            at(0.5),
            at(0.99),
            at(1.0),
            found.start_bytes as f64 / 1024.0,
            change * found.nodes as f64 / f64::from(1 << 20),
            milliseconds(found.to_all),
        );
    }
    println!("What the agent has asked the server:");
    for found in &all {
        println!(
            "{:>6} at the start: {}; for {CHANGES} changes: {}; in {} quiet seconds: {}",
            found.nodes,
            found.asked_at_start,
            found.asked_for_changes,
            QUIET.as_secs(),
            found.asked_in_quiet
        );
    }
    println!(
        "start: until the agent has all nodes in its kernel, and what it has sent and received on the wire for it; p50, p99, max: from a \
         change's write to its event in the node's kernel ({CHANGES} changes, one after the other); change, bytes: on the node's wire for \
         each; to all, MiB: that, times the nodes; to all, ms: until as many watches as there are nodes have it, from the test kit's \
         server and within its process"
    );
}

fn measure(plugins: &Path, nodes: usize) -> Found {
    let cluster = Cluster::build(&Layout::new(1).pods(Families::V4).underlay(Families::V4));
    let host = cluster.stranger(Segment::A);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    fill(&api, nodes);
    let node = cluster.node(0);
    let own: Vec<&str> = node.pod_prefixes().iter().map(String::as_str).collect();
    api.add_node("n1", &own);
    let section = json!({ "kubeconfig": CONFIG, "podNetworks": ["10.0.0.0/8"] });
    let list = json!({
        "cniVersion": "1.1.0", "name": "net",
        "plugins": [{ "type": "vxlan", "cluster": { "kubernetes": section } }],
    });
    node.write(NETWORK, &list.to_string());
    node.write(CONFIG, &api.kubeconfig(User::Agent));
    let before = (wire(node), api.counts());
    let begin = Instant::now();
    let mut command = Command::new(plugins.join("node-agent"));
    let command = command.args(["--config", NETWORK, "--node", "n1"]);
    let agent = node.start(command.env_clear());
    await_condition("the agent has made all nodes", || routes(node) >= nodes);
    let start = begin.elapsed();
    let start_bytes = wire(node) - before.0;
    await_condition("the agent has told of itself", || has_told(&api));
    let started = api.counts();
    let wire_before = wire(node);
    let mut times = changes(node, |number| {
        put(&api, number, 1);
    });
    times.sort_unstable();
    let (change_bytes, changed) = (wire(node) - wire_before, api.counts());
    thread::sleep(QUIET);
    let quiet = api.counts();
    let memory = resident(agent.id());
    drop::<Process>(agent);
    Found {
        nodes,
        start,
        memory,
        times,
        start_bytes,
        change_bytes,
        asked_at_start: asked(&started, &before.1),
        asked_for_changes: asked(&changed, &started),
        asked_in_quiet: asked(&quiet, &changed),
        to_all: watched(&api, nodes),
    }
}

/// Whether the agent has written all that it writes.
fn has_told(api: &ApiServer<'_>) -> bool {
    let object = api.admin().get(Resource::NodeNetworks, "n1");
    let is_ready = |object: &Value| object["status"]["conditions"][0]["status"] == "True";
    object.code == 200 && is_ready(&object.body)
}

/// `get nodes 1, patch nodes 1, ...`
fn asked(now: &Counts, before: &Counts) -> String {
    let new = now.requests.iter().filter_map(|((verb, resource), count)| {
        let had = before.requests.get(&(*verb, *resource)).copied();
        let new = count - had.unwrap_or_default();
        (new > 0).then(|| format!("{verb} {} {new}", resource.plural()))
    });
    let all: Vec<String> = new.collect();
    match all.is_empty() {
        true => "nothing".to_owned(),
        false => all.join(", "),
    }
}

/// The object of a node that is nowhere; `turn` gives it another address.
fn put(api: &ApiServer<'_>, number: usize, turn: usize) {
    let (prefix, address) = place(number, turn);
    let name = format!("far-{number}");
    let object = json!({
        "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork",
        "metadata": { "name": name, "labels": { "cni-fabric.internal/network": "net" } },
        "spec": {
            "network": "net", "nodeUID": name, "podCIDRs": [prefix], "addresses": [address],
            "backend": { "type": "vxlan", "vni": 1, "port": 8472, "dataPaths": ["flow"] }, "mtu": 1500,
        },
    });
    let admin = api.admin();
    admin
        .apply(Resource::NodeNetworks, &name, "bench", true, &object)
        .ok();
}

fn fill(api: &ApiServer<'_>, nodes: usize) {
    for number in 0..nodes {
        put(api, number, 0);
    }
}

/// How long a change takes to as many watches as there are nodes, in the middle.
fn watched(api: &ApiServer<'_>, nodes: usize) -> Duration {
    let client = api.client(Some(User::Agent));
    let list = client.list(Resource::NodeNetworks, "limit=1").ok();
    let revision = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let parameters =
        format!("resourceVersion={revision}&labelSelector=cni-fabric.internal%2Fnetwork%3Dnet");
    let begin = || client.watch(Resource::NodeNetworks, &parameters);
    let watches: Vec<_> = (0..nodes)
        .map(|_| begin().unwrap_or_else(|answer| panic!("a watch: {answer:?}")))
        .collect();
    let mut times: Vec<Duration> = (0..TURNS)
        .map(|turn| {
            let begin = Instant::now();
            put(api, turn, 2);
            for watch in &watches {
                watch.event();
            }
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(TURNS / 2).copied().unwrap_or_default()
}
