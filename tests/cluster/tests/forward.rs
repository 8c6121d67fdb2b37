//! Nodes whose own rules drop what they forward.

use std::process::Command;

use cni_testkit::cluster::{Layout, Matrix, Node, await_condition};
use cni_testkit::{Ping, Test, skip, tests, workspace_plugin};
use serde_json::json;

use crate::world::{CLUSTER, Classic, Flow, HostGw, NETWORK, Net, Over, metric};

pub(crate) const TESTS: &[Test] = &tests![
    pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards::<Flow>,
    pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards::<Classic>,
    pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards::<HostGw>,
    a_legacy_table_gets_the_rules_and_loses_them::<Flow>,
    rules_for_a_prefix_that_a_node_has_no_longer_go::<Flow>,
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

/// How many of our rules a node's chains have.
fn rules(list: &str) -> usize {
    list.matches("cni: accepted by inet cni_fabric_").count()
}

/// What comes from the node's pods, and what goes to them, in each family.
const RULES: usize = 4;

/// The rules for these prefixes are there as `iptables` lists them, and no others of ours.
#[track_caller]
fn has_rules_for(list: &str, prefixes: &[String]) {
    for prefix in prefixes {
        for (option, word) in [("-s", "from"), ("-d", "to")] {
            let found = list.lines().filter(|line| {
                line.starts_with(&format!(
                    "-A FORWARD {option} {prefix} -m comment --comment \"cni: accepted by "
                )) && line.ends_with(&format!(" {word} {prefix}\" -j ACCEPT"))
            });
            assert_eq!(found.count(), 1, "{option} {prefix}:\n{list}");
        }
    }
    assert_eq!(rules(list), prefixes.len() * 2, "{list}");
    assert!(!list.contains("incompatible"), "{list}");
}

fn pods_of_all_nodes_talk_where_every_node_drops_what_it_forwards<P: Over>() {
    let net = closed::<P>();
    let nodes = net.cluster.nodes();
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    Matrix::of(&pods).assert_all(12);
    for node in nodes {
        has_rules_for(&node.sh(LIST), node.pod_prefixes());
    }
    // One more pod adds no rule.
    nodes[0].attach(&net.chain);
    assert_eq!(rules(&nodes[0].sh(LIST)), RULES);
}

fn a_legacy_table_gets_the_rules_and_loses_them<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let nodes = net.cluster.nodes();
    let closed =
        nodes[0].try_sh("iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP");
    if !closed.status.success() {
        skip(&format!("there are no legacy tables here: {closed:?}"));
    }
    // In a user namespace the kernel does not tell that there are such tables, and none are touched.
    let told = nodes[0]
        .try_sh("cat /proc/thread-self/net/ip_tables_names")
        .status
        .success();
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    let list = "iptables-legacy -S FORWARD; ip6tables-legacy -S FORWARD";
    let prefixes = nodes[0].pod_prefixes();
    match told {
        true => {
            has_rules_for(&nodes[0].sh(list), prefixes);
            Matrix::of(&pods).assert_all(4);
            let moved = move_first(&net);
            has_rules_for(&nodes[0].sh(list), &moved);
        }
        false => assert_eq!(rules(&nodes[0].sh(list)), 0),
    }
    cleanup(&nodes[0]);
    assert_eq!(rules(&nodes[0].sh(list)), 0);
}

fn rules_for_a_prefix_that_a_node_has_no_longer_go<P: Over>() {
    let net = closed::<P>();
    let node = net.cluster.node(0);
    drop(node.attach(&net.chain));
    let own = node.pod_prefixes();
    has_rules_for(&node.sh(LIST), own);
    // Others' rules stay, whatever they look like.
    let others = own[0].replace("/24", "/25");
    node.sh(&format!("iptables-nft -A FORWARD -s {others} -j ACCEPT"));
    let moved = move_first(&net);
    let list = node.sh(LIST);
    has_rules_for(&list, &moved);
    assert!(
        list.contains(&format!("-A FORWARD -s {others} -j ACCEPT")),
        "{list}"
    );
}

/// Gives the first node other prefixes, which an ADD brings into force there.
fn move_first(net: &Net) -> [String; 2] {
    let moved = ["10.244.77.0/24", "fd00:244:77::/64"].map(str::to_owned);
    let mut described = net.cluster.describe(0..net.cluster.nodes().len());
    described["nodes"][0]["podPrefixes"] = json!(moved);
    let node = net.cluster.node(0);
    node.write(CLUSTER, &described.to_string());
    node.attach(&net.chain);
    moved
}

fn cleanup(node: &Node) {
    let mut cleanup = Command::new(workspace_plugin("node-agent"));
    cleanup.args(["--config", NETWORK, "--cleanup"]).env_clear();
    let output = node.run(|| cleanup.output()).expect("the agent");
    assert!(output.status.success(), "{output:?}");
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
        await_condition("the rule is there", || rules(&node.sh(LIST)) == RULES);
    }
    Matrix::of(&pods).assert_all(12);
    let node = &nodes[0];
    for _ in 0..3 {
        let repaired = metric(node, "cni_agent_drift_repaired_total");
        node.sh(FLUSH);
        await_condition("the rule is there again, and told", || {
            rules(&node.sh(LIST)) == RULES
                && metric(node, "cni_agent_drift_repaired_total") > repaired
        });
        for target in &pods[1].addresses {
            let answer = pods[0].pod.run(|| Ping::to(&target.to_string()).send());
            assert!(answer.is_ok(), "no way to {target}: {answer:?}");
        }
    }
    drop(agents);
    // What is ours goes with the rest, and nothing else.
    cleanup(node);
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
    // So far apart that each would be looked at by itself.
    let churn = "iptables-nft -A FORWARD -s 198.51.100.1 -j ACCEPT; iptables-nft -D FORWARD -s 198.51.100.1 -j ACCEPT; sleep 0.05;";
    node.sh(&churn.repeat(15));
    // What comes behind it shows that it has been seen.
    node.sh(FLUSH);
    await_condition("the rule is there again, and told", || {
        rules(&node.sh(LIST)) == RULES && metric(node, "cni_agent_drift_repaired_total") > repaired
    });
    let more = metric(node, "cni_agent_full_passes_total") - passes;
    assert!(more < 15.0, "{more} comparisons");
}
