//! Plugin and file alone: no agent, no server. The ADD brings the node up to date.

use cni_testkit::cluster::{Attached, Cluster, Families, Layout, Matrix, Node};
use cni_testkit::{Chain, Test, tests, workspace_plugin_dir};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = &tests![
    plugin_and_file_alone_connect_all_pods_over_the_flow,
    plugin_and_file_alone_connect_all_pods_over_the_classic_data_path,
    plugin_and_file_alone_connect_all_pods_by_plain_routes,
    pods_are_attached_by_ptp_as_well,
];

const FILE: &str = "/run/cluster.json";

fn plugin_and_file_alone_connect_all_pods_over_the_flow() {
    let layout = Layout::new(3).behind_the_router(&[2]);
    let cluster = connected(&layout, &json!({ "type": "vxlan", "dataPath": "flow" }), 12);
    let entries = cluster.node(0).sh("ip nexthop show");
    assert!(entries.contains("encap ip"), "{entries}");
}

fn plugin_and_file_alone_connect_all_pods_over_the_classic_data_path() {
    let layout = Layout::new(3).behind_the_router(&[2]);
    let cluster = connected(
        &layout,
        &json!({ "type": "vxlan", "dataPath": "classic" }),
        12,
    );
    let entries = cluster.node(0).sh("bridge fdb show dev vxlan.1");
    assert_eq!(entries.lines().count(), 2, "{entries}");
}

fn plugin_and_file_alone_connect_all_pods_by_plain_routes() {
    connected(&Layout::new(3), &json!({ "type": "host-gw" }), 12);
}

fn pods_are_attached_by_ptp_as_well() {
    let layout = Layout::new(2).underlay(Families::V4);
    let attach = json!({ "type": "vxlan", "attach": { "type": "ptp" } });
    let cluster = connected(&layout, &attach, 4);
    let links = cluster.node(0).sh("ip -o link show type bridge");
    assert!(links.is_empty(), "{links}");
}

/// A cluster with a pod on each node, all of which reach one another.
fn connected(layout: &Layout, plugin: &Value, ways: usize) -> Cluster {
    let cluster = Cluster::build(layout);
    let nodes = 0..cluster.nodes().len();
    let file = cluster.describe(nodes).to_string();
    let attach = |node: &Node| -> Attached {
        node.write(FILE, &file);
        node.attach(&chain(plugin))
    };
    let pods: Vec<Attached> = cluster.nodes().iter().map(attach).collect();
    Matrix::of(&pods).assert_all(ways);
    for (node, pod) in cluster.nodes().iter().zip(&pods) {
        if let Err(outcome) = node.check(&chain(plugin), pod) {
            panic!("CHECK on {}: {outcome}", node.name());
        }
        node.detach(&chain(plugin), pod);
    }
    cluster
}

fn chain(plugin: &Value) -> Chain {
    let mut plugin = plugin.clone();
    plugin["cluster"] = json!({ "file": FILE });
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
    Chain::new(list, &[&workspace_plugin_dir()])
}
