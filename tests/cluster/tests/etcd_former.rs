//! Which prefix a node asks for that had one: by what it remembers, and by what its pods have.

use cni_testkit::cluster::{Cluster, Layout, Matrix, Node, Segment, await_condition};
use cni_testkit::etcd::Etcd;
use cni_testkit::{Test, tests};
use node_agent::etcd::ranges::Range;
use serde_json::{Value, json};

use crate::agent::{said, task};
use crate::etcd::{PREFIX, Site, await_peers, await_word, prefixes, server};
use crate::world::{Flow, HostGw, Over, await_ready};

pub(crate) const TESTS: &[Test] = &tests![
    nodes_that_etcd_has_forgotten_get_the_same_prefixes_whoever_comes_first::<Flow>,
    nodes_that_etcd_has_forgotten_get_the_same_prefixes_whoever_comes_first::<HostGw>,
    what_a_node_had_last_counts_before_what_old_pods_have::<Flow>,
    a_node_that_remembers_nothing_asks_for_what_its_pods_have::<Flow>,
    cleanup_knows_what_was_the_nodes_before_it_was_withheld::<Flow>,
];

const NETWORK: &str = "10.244.0.0/23";

/// The prefixes of the network in the order in which a node of this name asks for them.
fn order(name: &str) -> Vec<String> {
    let range = Range::new(NETWORK.parse().expect("a prefix"), 24).expect("a range");
    range.order(name).map(|prefix| prefix.to_string()).collect()
}

/// Two prefixes for two nodes, which both ask for the same one first.
fn rivals() -> [String; 2] {
    let names = (1..).map(|number| format!("n{number}"));
    let first = "n1".to_owned();
    let same = names.skip(1).find(|name| order(name) == order(&first));
    [first, same.expect("one of very many")]
}

fn keys() -> Value {
    json!({ "podNetworks": [{ "prefix": NETWORK, "nodeLength": 24 }] })
}

/// An agent runs twice while etcd cannot be reached: what the first one withholds is all that the second one finds.
fn restart_twice(site: &Site, position: usize, name: &str) {
    for _ in 0..2 {
        let agent = site.agent_named(position, name);
        await_word(site.node(position), "etcd has not confirmed yet");
        agent.kill();
    }
    assert!(prefixes(site.node(position)).is_empty());
}

fn nodes_that_etcd_has_forgotten_get_the_same_prefixes_whoever_comes_first<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let mut etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &keys());
    let names = rivals();
    let start = |position: usize| {
        let agent = site.agent_named(position, &names[position]);
        await_ready(site.node(position), &agent);
        agent
    };
    let agents = [start(0), start(1)];
    let own: Vec<_> = (0..2).map(|node| prefixes(site.node(node))).collect();
    let asked = order(&names[0]);
    assert_eq!(own, [[asked[0].clone()], [asked[1].clone()]]);
    let pods = site.pods();
    etcd.lose_everything();
    for agent in agents {
        agent.kill();
    }
    for (position, name) in names.iter().enumerate() {
        restart_twice(&site, position, name);
    }
    etcd.restart();
    // The one whose first choice is the other one's comes first.
    let _second = start(1);
    let _first = start(0);
    for (position, own) in own.iter().enumerate() {
        assert_eq!(prefixes(site.node(position)), *own);
        await_peers(site.node(position), 1);
    }
    Matrix::of(&pods).assert_all(2);
}

/// What the node remembers of its prefixes, whether it may use them or not.
fn confirmed(node: &Node) -> Value {
    let text = node.read("/run/cni-fabric/167/state.json");
    let state: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    state["confirmed"].clone()
}

fn claim(prefix: &str) -> String {
    format!("{PREFIX}/claims/{}", prefix.replace('/', "-"))
}

fn what_a_node_had_last_counts_before_what_old_pods_have<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let mut etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &keys());
    let (node, asked) = (site.node(0), order("n1"));
    let agent = site.agent(0);
    await_ready(node, &agent);
    let pod = node.attach(&site.net.chain);
    agent.kill();
    // While it was away, its first choice has become another node's.
    etcd.put(&claim(&asked[0]), r#"{"uid":"heir","name":"heir"}"#, 0);
    let agent = site.agent(0);
    await_condition("another prefix is the node's", || {
        confirmed(node) == json!([asked[1]])
    });
    agent.kill();
    etcd.lose_everything();
    restart_twice(&site, 0, "n1");
    etcd.restart();
    // The heir has pods, too, and may come back any moment.
    let agent = site.agent(0);
    await_condition("it has claimed a prefix", || {
        !etcd.keys(&format!("{PREFIX}/claims/")).is_empty()
    });
    assert!(etcd.keys(&claim(&asked[0])).is_empty());
    node.detach(&site.net.chain, &pod);
    await_ready(node, &agent);
    assert_eq!(prefixes(node), [asked[1].clone()]);
}

fn a_node_that_remembers_nothing_asks_for_what_its_pods_have<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let mut etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &keys());
    let (node, asked) = (site.node(0), order("n1"));
    etcd.put(&claim(&asked[0]), r#"{"uid":"other","name":"other"}"#, 0);
    let agent = site.agent(0);
    await_ready(node, &agent);
    let _pod = node.attach(&site.net.chain);
    assert_eq!(prefixes(node), [asked[1].clone()]);
    agent.kill();
    etcd.lose_everything();
    etcd.restart();
    node.sh("rm -rf /run/cni-fabric");
    let agent = site.agent(0);
    await_ready(node, &agent);
    assert_eq!(prefixes(node), [asked[1].clone()]);
}

fn cleanup_knows_what_was_the_nodes_before_it_was_withheld<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &keys());
    let node = site.node(0);
    let agent = site.agent(0);
    await_ready(node, &agent);
    let own = claim(&prefixes(node).remove(0));
    agent.kill();
    // The entry's lease has run out, the claim's has not.
    etcd.delete(&format!("{PREFIX}/nodes/n1"));
    site.net.cluster.set_strangers_cable(Segment::A, false);
    restart_twice(&site, 0, "n1");
    site.net.cluster.set_strangers_cable(Segment::A, true);
    let removed = format!("etcd: {own} removed");
    await_condition("the node reaches etcd", || {
        let text = said(&task(&site.net, 0, &["--node", "n1", "--cleanup"]));
        assert!(
            text.contains(&removed) || text.contains("is left: "),
            "{text}"
        );
        text.contains(&removed)
    });
    assert_eq!(etcd.keys(PREFIX), []);
}
