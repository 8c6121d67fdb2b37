//! Nodes whose own rules drop what they forward.

use std::process::Command;

use cni_testkit::cluster::{Layout, Matrix, await_condition};
use cni_testkit::{Ping, Test, skip, tests, workspace_plugin};
use serde_json::json;

use crate::world::{Classic, Flow, HostGw, NETWORK, Net, Over, metric};

pub(crate) const TESTS: &[Test] = &tests![
    pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards::<Flow>,
    pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards::<Classic>,
    pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards::<HostGw>,
    an_agent_mends_the_rule_that_somebody_flushes::<Flow>,
    an_agent_mends_the_rule_that_somebody_flushes::<HostGw>,
    what_others_do_in_their_own_chains_costs_an_agent_no_comparison::<Flow>,
];

const LIST: &str = "iptables-nft -S FORWARD; ip6tables-nft -S FORWARD";
const FLUSH: &str = "iptables-nft -F FORWARD; ip6tables-nft -F FORWARD";

/// A cluster of nodes that forward nothing by themselves.
fn closed<P: Over>() -> Net {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    close(&net);
    net
}

fn close(net: &Net) {
    for node in net.cluster.nodes() {
        let set = node.try_sh("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP");
        if set.status.code() == Some(127) {
            skip("iptables-nft is not installed");
        }
        assert!(set.status.success(), "{set:?}");
    }
}

/// How many of our rules a node's chains have, one for each family.
fn rules(list: &str) -> usize {
    list.matches("cni: accepted by inet cni_fabric_").count()
}

fn pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards<P: Over>() {
    let net = closed::<P>();
    let nodes = net.cluster.nodes();
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    Matrix::of(&pods).assert_all(12);
    for node in nodes {
        let list = node.sh(LIST);
        assert_eq!(rules(&list), 2, "{list}");
        assert!(!list.contains("incompatible"), "{list}");
    }
    // One more pod adds no rule.
    nodes[0].attach(&net.chain);
    assert_eq!(rules(&nodes[0].sh(LIST)), 2);
}

fn an_agent_mends_the_rule_that_somebody_flushes<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let agents = net.start_agents(&[0, 1, 2]);
    let nodes = net.cluster.nodes();
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    Matrix::of(&pods).assert_all(12);
    // Somebody closes the nodes later, as a Docker does that is started then.
    close(&net);
    for node in nodes {
        await_condition("the rule is there", || rules(&node.sh(LIST)) == 2);
    }
    Matrix::of(&pods).assert_all(12);
    let node = &nodes[0];
    for _ in 0..3 {
        let repaired = metric(node, "cni_agent_drift_repaired_total");
        node.sh(FLUSH);
        await_condition("the rule is there again, and told", || {
            rules(&node.sh(LIST)) == 2 && metric(node, "cni_agent_drift_repaired_total") > repaired
        });
        for target in &pods[1].addresses {
            let answer = pods[0].pod.run(|| Ping::to(&target.to_string()).send());
            assert!(answer.is_ok(), "no way to {target}: {answer:?}");
        }
    }
    drop(agents);
    // What is ours goes with the rest, and nothing else.
    let mut cleanup = Command::new(workspace_plugin("node-agent"));
    cleanup.args(["--config", NETWORK, "--cleanup"]).env_clear();
    let output = node.run(|| cleanup.output()).expect("the agent");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(rules(&node.sh(LIST)), 0);
    assert!(node.sh(LIST).contains("-P FORWARD DROP"));
}

fn what_others_do_in_their_own_chains_costs_an_agent_no_comparison<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    close(&net);
    let _agents = net.start_agents(&[0, 1]);
    let node = net.cluster.node(0);
    let repaired = metric(node, "cni_agent_drift_repaired_total");
    let passes = metric(node, "cni_agent_full_passes_total");
    let churn = "iptables-nft -A FORWARD -s 198.51.100.1 -j ACCEPT; iptables-nft -D FORWARD -s 198.51.100.1 -j ACCEPT;";
    node.sh(&churn.repeat(15));
    // What comes behind it shows that it has been seen.
    node.sh(FLUSH);
    await_condition("the rule is there again, and told", || {
        rules(&node.sh(LIST)) == 2 && metric(node, "cni_agent_drift_repaired_total") > repaired
    });
    let more = metric(node, "cni_agent_full_passes_total") - passes;
    assert!(more < 15.0, "{more} comparisons");
}
