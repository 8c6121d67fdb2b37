//! The plugin brings the node up to date: many at once, killed on the way, and with files that make no sense.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

use cni_testkit::cluster::{Attached, Layout, Matrix, Node, await_condition};
use cni_testkit::{
    Invocation, Pod, Running, Snapshot, Test, at_every_moment, tests, workspace_plugin,
    workspace_plugin_dir,
};
use serde_json::{Value, json};

use crate::world::{CLUSTER, Classic, Flow, HostGw, Net, Over};

pub(crate) const TESTS: &[Test] = &tests![
    of_many_adds_at_once_one_brings_the_node_up_to_date::<Flow>,
    of_many_adds_at_once_one_brings_the_node_up_to_date::<HostGw>,
    an_update_killed_anywhere_is_completed_by_the_next_add::<Flow>,
    an_update_killed_anywhere_is_completed_by_the_next_add::<Classic>,
    an_update_killed_anywhere_is_completed_by_the_next_add::<HostGw>,
    an_update_that_waits_for_the_nodes_lock_ends_at_the_deadline::<Flow>,
    a_wrong_entry_is_named_and_what_worked_goes_on::<Flow>,
    a_wrong_entry_is_named_and_what_worked_goes_on::<HostGw>,
    with_an_agent_a_file_that_makes_no_sense_keeps_nobody_from_anything::<Flow>,
    pods_go_without_the_file::<Flow>,
    pods_go_without_the_file::<HostGw>,
    more_peers_than_the_kernel_has_room_for_are_told_by_number::<HostGw>,
];

const STATE: &str = "/run/cni-fabric/167/state.json";

fn of_many_adds_at_once_one_brings_the_node_up_to_date<P: Over>() {
    const COUNT: usize = 16;
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let pods: Vec<Pod> = (0..COUNT).map(|_| Pod::new("pod")).collect();
    settle(node);
    let running: Vec<Running> = node.run(|| {
        let start = |pod: &Pod| verb(&net, "ADD", pod).env("CNI_LOG", "debug").start();
        pods.iter().map(start).collect()
    });
    let outcomes: Vec<_> = running.into_iter().map(Running::finish).collect();
    let made = |outcome: &cni_testkit::Outcome| {
        let log = String::from_utf8_lossy(&outcome.output.stderr);
        log.contains("route to 10.244.2.0/24 of node n2 is missing")
    };
    let makers = outcomes.iter().filter(|outcome| made(outcome)).count();
    let results = outcomes.iter().map(cni_testkit::Outcome::result);
    let near = pods.into_iter().zip(results);
    let near: Vec<Attached> = near
        .map(|(pod, result)| attached(node, pod, result))
        .collect();
    let addresses: BTreeSet<IpAddr> = near.iter().map(|pod| pod.addresses[0]).collect();
    assert_eq!((makers, addresses.len()), (1, COUNT));
    // Every pod reaches the other node's, and is reached.
    let far = net.cluster.node(1).attach(&net.chain);
    for pod in &near {
        Matrix::of_all(&[pod, &far]).assert_all(4);
    }
}

fn attached(node: &Node, pod: Pod, result: Value) -> Attached {
    let ips = result["ips"].as_array().expect("addresses");
    let address = |ip: &Value| {
        let text = ip["address"].as_str().expect("an address");
        let address = text.split('/').next().unwrap_or_default();
        address.parse().expect("an address")
    };
    let addresses = ips.iter().map(address).collect();
    let node = node.name().to_owned();
    Attached {
        pod,
        node,
        result,
        addresses,
    }
}

/// Waits until the cluster file can be relied upon, so that no ADD reads it twice.
fn settle(node: &Node) {
    let path = std::path::Path::new(CLUSTER);
    let is_settled = || {
        let modified = std::fs::metadata(path).and_then(|data| data.modified());
        let age = modified.map(|modified| modified.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age > Duration::from_millis(150))
    };
    await_condition("the file is old enough", || node.run(is_settled));
}

fn an_update_killed_anywhere_is_completed_by_the_next_add<P: Over>() {
    let net = Net::build(&Layout::new(1), P::PATH.plugin(&json!({})));
    let (node, pod) = (net.cluster.node(0), Pod::new("pod"));
    let clusters = [0, 100].map(|first| large_cluster(&net, first));
    let run = |name: &str| node.run(|| verb(&net, name, &pod).run());
    let clean = clusters.each_ref().map(|cluster| {
        net.tell(cluster);
        run("ADD").result();
        run("DEL").silent_success();
        state(node)
    });
    let died = at_every_moment(|number| {
        let which = number % 2;
        net.tell(&clusters[which]);
        let fate = node.run(|| verb(&net, "ADD", &pod).killed_at(number));
        run("DEL").silent_success();
        run("ADD").result();
        run("DEL").silent_success();
        let changes = state(node).since(&clean[which]);
        assert!(changes.is_empty(), "ADD {fate}:\n{changes}");
        fate
    });
    assert!(died > 20, "{died} moments");
}

/// A node with a hundred peers, which are not there.
fn large_cluster(net: &Net, first: u32) -> Value {
    let mut cluster = net.cluster.describe([0]);
    let nodes = cluster["nodes"].as_array_mut().expect("nodes");
    nodes.extend((0..100).map(|number| {
        // Half of them are in both clusters, some with other prefixes or addresses.
        let name = first / 2 + number;
        json!({
            "name": format!("peer{name}"),
            "podPrefixes": [format!("10.245.{}.0/24", number), format!("fd00:245:{name:x}::/64")],
            "addresses": [format!("192.0.2.{}", 20 + name), format!("2001:db8:a::{:x}", 0x100 + number)],
        })
    }));
    cluster
}

/// The node's state; files are the plugin's own affair, and the bridge loses carrier and MTU a moment after its last port.
fn state(node: &Node) -> Snapshot {
    let state = node.snapshot().without("/var/lib/cni").without("/run/");
    state.without("dst fe80::").without("link cni0 ")
}

fn an_update_that_waits_for_the_nodes_lock_ends_at_the_deadline<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let before = state(node);
    let lock = node.run(|| File::open("/proc/thread-self/ns/net").expect("a namespace"));
    lock.lock().expect("nobody holds it");
    let pod = Pod::new("pod");
    let add = verb(&net, "ADD", &pod).env("CNI_TIMEOUT_MS", "100");
    let failure = node.run(|| add.run()).failure();
    assert_eq!(failure.code, 11, "{failure:?}");
    assert!(
        failure.msg.contains("the deadline has passed"),
        "{failure:?}"
    );
    let changes = state(node).since(&before);
    assert!(changes.is_empty(), "{changes}");
}

/// What is wrong with a file, how it becomes so, and what the error says.
type Wrong = (&'static str, fn(&mut Value), &'static str);

fn a_wrong_entry_is_named_and_what_worked_goes_on<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let late = Pod::new("late");
    let before = state(node);
    let good = net.cluster.describe([0, 1, 2]);
    let wrongs: [Wrong; 9] = [
        (
            "an overlapping prefix",
            |file| file["nodes"][2]["podPrefixes"] = json!(["10.244.0.0/22"]),
            "node `n3`",
        ),
        (
            "a prefix twice",
            |file| file["nodes"][1]["podPrefixes"][0] = json!("10.244.3.0/24"),
            "node `n3`",
        ),
        (
            "a name twice",
            |file| file["nodes"][2]["name"] = json!("n2"),
            "`name` is \"n2\"",
        ),
        (
            "an address twice",
            |file| file["nodes"][2]["addresses"] = json!(["192.0.2.2"]),
            "node `n3`",
        ),
        (
            "an address among pods",
            |file| file["nodes"][2]["addresses"] = json!(["10.244.2.9"]),
            "node `n3`",
        ),
        (
            "host bits",
            |file| file["nodes"][2]["podPrefixes"][0] = json!("10.244.3.7/24"),
            "node `n3`",
        ),
        (
            "a prefix outside",
            |file| file["clusterPrefixes"] = json!(["10.244.0.0/23", "fd00:244::/32"]),
            "node `n2`",
        ),
        (
            "no addresses",
            |file| file["nodes"][1]["addresses"] = Value::Null,
            "node `n2`",
        ),
        (
            "a misspelt key",
            |file| file["nodes"][1]["podPrefix"] = json!([]),
            "node `n2`",
        ),
    ];
    for (what, spoil, words) in wrongs {
        let mut file = good.clone();
        spoil(&mut file);
        net.tell(&file);
        let failure = node.run(|| verb(&net, "ADD", &late).run()).failure();
        assert_eq!(failure.code, 7, "{what}: {failure:?}");
        for words in [CLUSTER, "line 1, column ", words] {
            assert!(
                failure.msg.contains(words),
                "{what}: {words} in {failure:?}"
            );
        }
        let changes = state(node).since(&before);
        assert!(changes.is_empty(), "{what}:\n{changes}");
        let status = net.call(node, "STATUS").failure();
        assert_eq!(status.code, 50, "{what}: {status:?}");
    }
    Matrix::of(&pods).assert_all(24);
    net.tell(&good);
    node.attach_pod(&net.chain, late);
}

fn with_an_agent_a_file_that_makes_no_sense_keeps_nobody_from_anything<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    net.tell(&json!({ "nodes": "none" }));
    let outcome = node
        .check(&net.chain, &pods[0])
        .expect_err("no agent has seen the node");
    assert!(outcome.failure().msg.contains(CLUSTER), "{outcome}");
    // What an agent does for as long as it lives.
    node.sh("touch /run/cni-fabric/167/agent.lock");
    let lock = node.run(|| File::open("/run/cni-fabric/167/agent.lock").expect("a file"));
    lock.lock().expect("nobody else holds it");
    node.check(&net.chain, &pods[0])
        .unwrap_or_else(|outcome| panic!("{outcome}"));
    net.call(node, "STATUS").silent_success();
    let late = node.attach(&net.chain);
    Matrix::of_all(&[&late, &pods[1]]).assert_all(4);
    node.detach(&net.chain, &late);
}

fn pods_go_without_the_file<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.sh(&format!("rm {CLUSTER} {STATE}"));
    node.detach(&net.chain, &pods[0]);
    net.call(node, "GC").silent_success();
    let links = node.sh("ls /sys/class/net");
    assert!(!links.contains("veth"), "{links}");
    let held = node.sh("ls /var/lib/cni/networks/net");
    assert!(!held.contains("10.244.1."), "{held}");
    node.sh("ip route show 10.244.2.0/24 | grep -q proto");
    let failure = net.call(node, "STATUS").failure();
    assert_eq!(failure.code, 50, "{failure:?}");
    assert!(failure.msg.contains(CLUSTER), "{failure:?}");
}

/// In a namespace that is not the first, whose limits only the first one shows.
fn more_peers_than_the_kernel_has_room_for_are_told_by_number<P: Over>() {
    let net = Net::build(&Layout::new(1), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.sh("ip address add 172.16.0.1/16 dev eth0");
    let peers = |count: u32| {
        let mut file = net.cluster.describe([0]);
        file["nodes"][0]["addresses"] = json!(["172.16.0.1"]);
        let nodes = file["nodes"].as_array_mut().expect("nodes");
        nodes.extend((1..=count).map(|number| {
            let (high, low) = (number / 256, number % 256);
            json!({
                "name": format!("peer{number}"),
                "podPrefixes": [format!("10.{}.{low}.0/24", 64 + high)],
                "addresses": [format!("172.16.{}.{low}", 1 + high)],
            })
        }));
        net.tell(&file);
        let pod = node.attach(&net.chain);
        let routes = node.sh("ip route show proto 167 | grep -c nhid");
        assert_eq!(routes.trim(), count.to_string());
        node.detach(&net.chain, &pod);
    };
    peers(1024);
    net.call(node, "STATUS").silent_success();
    peers(1025);
    let failure = net.call(node, "STATUS").failure();
    assert_eq!(failure.code, 51, "{failure:?}");
    let words = "more than 1024 peers are reached through IPv4 neighbours";
    assert!(failure.msg.contains(words), "{failure:?}");
    assert!(
        failure.msg.contains("gc_thresh3 to at least 4096"),
        "{failure:?}"
    );
}

/// A verb of the network's plugin for a pod, as libcni runs it.
fn verb(net: &Net, verb: &str, pod: &Pod) -> Invocation {
    let mut config = net.plugin.clone();
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "net".into();
    let program = workspace_plugin(net.plugin["type"].as_str().expect("a type"));
    Invocation::attachment(program, verb, pod)
        .env("CNI_PATH", workspace_plugin_dir())
        .config(&config)
}
