//! Clusters whose nodes are known from a real etcd.

use std::process::Command;
use std::time::Duration;

use cni_testkit::cluster::{
    Attached, Cluster, Host, Layout, Matrix, Node, Segment, Stream, await_condition,
};
use cni_testkit::etcd::{Etcd, Kept};
use cni_testkit::{Process, Test, tests, workspace_plugin};
use serde_json::{Value, json};

use crate::agent_heal::{comes_back_to, settled};
use crate::world::{
    Classic, DataPath, Flow, HostGw, NETWORK, Net, Over, await_ready, metric, page,
};

pub(crate) const TESTS: &[Test] = &tests![
    nodes_that_claim_prefixes_reach_each_other::<Flow>,
    nodes_that_claim_prefixes_reach_each_other::<Classic>,
    nodes_that_claim_prefixes_reach_each_other::<HostGw>,
    what_is_written_to_etcd_reaches_the_kernel_of_a_node::<Flow>,
    without_an_agent_nobody_is_attached::<Flow>,
    a_restarted_agent_keeps_prefix_and_data_path::<Flow>,
    a_restarted_agent_keeps_prefix_and_data_path::<Classic>,
    a_restarted_agent_keeps_prefix_and_data_path::<HostGw>,
    a_record_that_is_no_good_is_left_out_by_name::<Flow>,
    a_record_that_is_no_good_is_left_out_by_name::<HostGw>,
    two_machines_of_one_name_are_not_both_that_node::<Flow>,
];

/// What all keys begin with.
pub(crate) const PREFIX: &str = "/cni/net";

/// A cluster with an etcd on its underlay, and agents.
pub(crate) struct Site {
    pub(crate) net: Net,
}

/// The host that etcd is on.
pub(crate) fn server(cluster: &Cluster) -> Host {
    cluster.stranger(Segment::A)
}

/// What the plugin's `cluster` says.
pub(crate) fn source(host: &Host, keys: &Value) -> Value {
    let mut etcd = json!({
        "endpoints": [format!("http://{}:2379", host.addresses[0])],
        "podNetworks": [{ "prefix": "10.244.0.0/16" }, { "prefix": "fd00:244::/48" }],
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        etcd[key] = value.clone();
    }
    json!({ "etcd": etcd })
}

impl Site {
    /// Nodes that know where etcd is, and have no agent yet.
    pub(crate) fn over(cluster: Cluster, path: DataPath, host: &Host, keys: &Value) -> Self {
        let plugin = path.plugin(&json!({ "cluster": source(host, keys) }));
        let net = Net::over(cluster, plugin);
        Self { net }
    }

    pub(crate) fn node(&self, position: usize) -> &Node {
        self.net.cluster.node(position)
    }

    /// An agent that is told its node's name: all of a test's nodes have the machine's.
    pub(crate) fn agent(&self, position: usize) -> Process {
        self.agent_named(position, self.node(position).name())
    }

    pub(crate) fn agent_named(&self, position: usize, name: &str) -> Process {
        let mut command = Command::new(workspace_plugin("node-agent"));
        self.node(position).start(
            command
                .args(["--config", NETWORK, "--node", name])
                .env_clear(),
        )
    }

    /// Agents on all nodes, which know each other.
    pub(crate) fn agents(&self) -> Vec<Process> {
        let count = self.net.cluster.nodes().len();
        let agents: Vec<Process> = (0..count).map(|position| self.agent(position)).collect();
        for (position, agent) in agents.iter().enumerate() {
            await_ready(self.node(position), agent);
        }
        for node in self.net.cluster.nodes() {
            await_peers(node, count - 1);
        }
        agents
    }

    pub(crate) fn pods(&self) -> Vec<Attached> {
        let nodes = self.net.cluster.nodes().iter();
        nodes.map(|node| node.attach(&self.net.chain)).collect()
    }
}

/// Waits until a node's agent knows so many peers, and has done what follows from it.
pub(crate) fn await_peers(node: &Node, count: usize) {
    await_condition(&format!("{} has {count} peers", node.name()), || {
        metric(node, "cni_agent_peers") as usize == count
            && metric(node, "cni_agent_in_sync") == 1.0
    });
}

/// Waits until a page of a node's agent says a word.
pub(crate) fn await_word(node: &Node, word: &str) {
    await_condition(
        &format!(
            "{}'s agent says {word:?}: {:?}",
            node.name(),
            page(node, "/readyz")
        ),
        || page(node, "/readyz").is_some_and(|page| page.contains(word)),
    );
}

/// The prefixes that a node has, by what is published to the plugins.
pub(crate) fn prefixes(node: &Node) -> Vec<String> {
    let text = node
        .read("/run/cni-fabric/167/state.json")
        .unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    let prefixes = state["prefixes"].as_array().cloned().unwrap_or_default();
    prefixes
        .iter()
        .filter_map(|prefix| prefix.as_str().map(str::to_owned))
        .collect()
}

pub(crate) fn entry(etcd: &Etcd<'_>, name: &str) -> Option<Kept> {
    etcd.keys(&format!("{PREFIX}/nodes/{name}"))
        .into_iter()
        .next()
}

fn nodes_that_claim_prefixes_reach_each_other<P: Over>() {
    let cluster = Cluster::build(&Layout::new(3));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let _agents = site.agents();
    Matrix::of(&site.pods()).assert_all(12);
    let claims = etcd.keys(&format!("{PREFIX}/claims/"));
    assert_eq!(claims.len(), 6, "{claims:?}");
    for node in site.net.cluster.nodes() {
        let kept = entry(&etcd, node.name()).expect("the node's entry");
        let value: Value = serde_json::from_str(&kept.value).expect("an entry");
        let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(value["addresses"], json!(addresses));
        assert_eq!(value["podPrefixes"], json!(prefixes(node)));
        assert_eq!(
            (&value["uid"], &value["mtu"]),
            (&json!(node.name()), &json!(1500))
        );
        assert_eq!(value["vtepMac"].is_string(), P::PATH.is_tunnel());
        let own = claims
            .iter()
            .filter(|claim| claim.value.contains(&format!("\"{}\"", node.name())));
        for claim in own {
            assert!(claim.lease != 0 && kept.lease != 0 && claim.lease != kept.lease);
        }
    }
    let outcome = site.net.call(site.node(0), "STATUS");
    assert!(outcome.is_success(), "{outcome}");
}

/// A node that is nowhere, with its claim.
fn far(etcd: &Etcd<'_>, name: &str, prefix: &str, address: &str) {
    etcd.put(
        &format!("{PREFIX}/claims/{}", prefix.replace('/', "-")),
        &json!({ "uid": name, "name": name }).to_string(),
        0,
    );
    let entry = json!({ "name": name, "podPrefixes": [prefix], "addresses": [address] });
    etcd.put(&format!("{PREFIX}/nodes/{name}"), &entry.to_string(), 0);
}

fn what_is_written_to_etcd_reaches_the_kernel_of_a_node<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let _agents = site.agents();
    let node = site.node(0);
    let before = settled(node);
    let way = || node.sh("ip route show 10.244.77.0/24; ip nexthop show proto 167");
    far(&etcd, "far", "10.244.77.0/24", "192.0.2.77");
    await_condition("the new node's route", || way().contains("dst 192.0.2.77"));
    far(&etcd, "far", "10.244.77.0/24", "192.0.2.78");
    await_condition("the node's new address alone", || {
        let way = way();
        way.contains("dst 192.0.2.78") && !way.contains("192.0.2.77")
    });
    etcd.delete(&format!("{PREFIX}/nodes/far"));
    await_condition("nothing is left of it", || !way().contains("192.0.2.78"));
    comes_back_to(node, &before);
}

fn without_an_agent_nobody_is_attached<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let _etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let node = site.node(0);
    let refused = |verb: &str, code: u64| {
        let failure = match verb {
            "ADD" => {
                let pod = cni_testkit::Pod::new("pod");
                let outcome = node
                    .run(|| site.net.chain.add(&pod, "eth0"))
                    .expect_err("no agent");
                outcome.failure()
            }
            _ => site.net.call(node, verb).failure(),
        };
        assert_eq!(failure.code, code, "{verb}: {failure:?}");
        failure.msg
    };
    for (verb, code) in [("ADD", 11), ("STATUS", 50)] {
        let words = refused(verb, code);
        assert!(
            words.contains("no node agent runs here") && words.contains("cluster.etcd"),
            "{words}"
        );
    }
    let agents = site.agents();
    let pod = node.attach(&site.net.chain);
    drop(agents);
    refused("ADD", 11);
    // What is there can be taken down by the plugin alone.
    node.detach(&site.net.chain, &pod);
    let outcome = site.net.call(node, "GC");
    assert!(outcome.is_success(), "{outcome}");
}

fn a_restarted_agent_keeps_prefix_and_data_path<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let mut agents = site.agents();
    let pods = site.pods();
    let node = site.node(0);
    let (own, kept, before) = (prefixes(node), etcd.keys(PREFIX), settled(node));
    let stream = Stream::start(&pods[0].pod, pods[1].addresses[0], Duration::from_millis(2));
    for _ in 0..10 {
        agents.remove(0).kill();
        let agent = site.agent(0);
        await_ready(node, &agent);
        await_peers(node, 1);
        assert_eq!(prefixes(node), own);
        agents.insert(0, agent);
    }
    // A boot: whatever is in /run has gone.
    agents.remove(0).stop().expect("an end");
    node.sh("rm -rf /run/cni-fabric");
    let agent = site.agent(0);
    await_ready(node, &agent);
    assert_eq!(prefixes(node), own);
    stream.await_sent(21);
    let tally = stream.finish();
    assert!(tally.sent > 20 && tally.lost == 0, "{tally:?}");
    assert_eq!(
        etcd.keys(PREFIX),
        kept,
        "the same keys under the same leases, and nothing written"
    );
    settled(node)
        .without("/run/")
        .assert_unchanged_since(&before);
}

fn a_record_that_is_no_good_is_left_out_by_name<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let _agents = site.agents();
    let pods = site.pods();
    let node = site.node(0);
    let before = settled(node);
    let own = prefixes(site.node(1)).remove(0);
    let node_entry = |name: &str, prefixes: Value, addresses: Value| {
        json!({ "name": name, "podPrefixes": prefixes, "addresses": addresses }).to_string()
    };
    let big = json!({ "name": "big", "x": "y".repeat(100_000) }).to_string();
    let smuggled = "{\"name\":\"s\",\"podPrefixes\":[],\"addresses\":[\"192.0.2.9\"]},{\"name\":\"t\",\"podPrefixes\":[],\"addresses\":[\"192.0.2.8\"]}";
    for (name, value, words) in [
        ("junk", "\u{0}\u{1}not json".to_owned(), "no JSON"),
        ("big", big, "4096 bytes"),
        ("smuggler", smuggled.to_owned(), "no JSON"),
        (
            "outside",
            node_entry("outside", json!(["192.168.0.0/16"]), json!(["192.0.2.9"])),
            "192.168.0.0/16",
        ),
        (
            "everything",
            node_entry("everything", json!(["0.0.0.0/0"]), json!(["192.0.2.9"])),
            "0.0.0.0/0",
        ),
        (
            "thief",
            node_entry("thief", json!([own]), json!(["192.0.2.9"])),
            "has claimed it",
        ),
        (
            "free",
            node_entry("free", json!(["10.244.99.0/24"]), json!(["192.0.2.9"])),
            "nobody has claimed it",
        ),
        (
            "me",
            node_entry("me", json!([]), json!(["192.0.2.1"])),
            "this node's own",
        ),
        (
            "liar",
            node_entry("n2", json!([]), json!(["192.0.2.9"])),
            "not that of its key",
        ),
        (
            "nowhere",
            node_entry("nowhere", json!([]), json!(["127.0.0.1"])),
            "loopback",
        ),
    ] {
        let key = format!("{PREFIX}/nodes/{name}");
        etcd.put(&key, &value, 0);
        await_word(node, words);
        let text = page(node, "/readyz").expect("a page");
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains(&format!("node `{name}`")),
            "{text}"
        );
        // The rest goes on, beside it.
        far(&etcd, "good", "10.244.78.0/24", "192.0.2.79");
        await_condition("a good one is followed", || {
            node.sh("ip nexthop show").contains("192.0.2.79")
        });
        etcd.delete(&format!("{PREFIX}/nodes/good"));
        assert_eq!(metric(node, "cni_agent_source_rejected"), 1.0);
        etcd.delete(&key);
        await_condition(&format!("{name} is forgotten"), || {
            let left = node.sh("ip nexthop show").contains("192.0.2.79");
            !left && metric(node, "cni_agent_source_rejected") == 0.0
        });
    }
    comes_back_to(node, &before);
    Matrix::of(&pods).assert_all(4);
}

fn two_machines_of_one_name_are_not_both_that_node<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let first = site.agent_named(0, "n1");
    await_ready(site.node(0), &first);
    let kept = etcd.keys(PREFIX);
    let _second = site.agent_named(1, "n1");
    await_word(site.node(1), "give this machine a name of its own");
    assert!(prefixes(site.node(1)).is_empty());
    assert_eq!(etcd.keys(PREFIX), kept);
    let failure = site.net.call(site.node(1), "STATUS").failure();
    assert_eq!(failure.code, 50, "{failure:?}");
}
