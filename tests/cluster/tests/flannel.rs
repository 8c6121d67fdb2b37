//! A node as Flannel makes it, by plain commands, in one cluster with ours.

use cni_testkit::cluster::{
    Attached, Families, Layout, Matrix, Node, flannel_mac, join_as_flannel,
};
use cni_testkit::{Test, require, tests};
use serde_json::json;

use crate::lab;
use crate::world::{DataPath, Net, device_mac};

pub(crate) const TESTS: &[Test] = &tests![
    a_node_made_as_flannel_makes_it_is_a_peer_among_ours_over_ipv4,
    a_node_made_as_flannel_makes_it_is_a_peer_among_ours_over_ipv6,
    with_both_families_one_reaches_a_node_made_as_flannel_makes_it,
];

fn a_node_made_as_flannel_makes_it_is_a_peer_among_ours_over_ipv4() {
    among_ours(Families::V4);
}

fn a_node_made_as_flannel_makes_it_is_a_peer_among_ours_over_ipv6() {
    among_ours(Families::V6);
}

fn among_ours(families: Families) {
    let _ = require(lab::which("ip"), "iproute2");
    let layout = Layout::new(3).pods(families).underlay(families);
    let net = Net::build(&layout, DataPath::Classic.plugin(&json!({})));
    let flannel = net.cluster.node(2);
    let mut file = net.cluster.describe(0..3);
    file["nodes"][2]["vtepMac"] = flannel_mac(flannel, &flannel.pod_prefixes()[0]).into();
    net.tell(&file);
    let ours = [net.cluster.node(0), net.cluster.node(1)];
    let mut pods: Vec<Attached> = ours.iter().map(|node| node.attach(&net.chain)).collect();
    join_as_flannel(flannel, &ours, |node: &Node, _| device_mac(node));
    pods.push(flannel.attach(&lab::bridge(flannel)));
    Matrix::of(&pods).assert_all(6);
    // Its own packets to our pods come from the address of its VXLAN device.
    let _servers: Vec<_> = pods.iter().map(Attached::serve).collect();
    for pod in &pods[..2] {
        let target = pod.addresses[0];
        let seen = flannel.network().run(|| Attached::seen_at(target, None));
        let base = flannel.pod_prefixes()[0]
            .split('/')
            .next()
            .map(str::to_owned);
        let seen = seen.unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(Some(seen.to_string()), base);
    }
    for node in ours {
        let target = pods[2].addresses[0];
        let seen = node.network().run(|| Attached::seen_at(target, None));
        seen.unwrap_or_else(|error| panic!("{} to {target}: {error}", node.name()));
    }
}

/// Flannel has a device for each family over an underlay of that family, ours is one over one.
fn with_both_families_one_reaches_a_node_made_as_flannel_makes_it() {
    let _ = require(lab::which("ip"), "iproute2");
    let net = Net::build(&Layout::new(3), DataPath::Classic.plugin(&json!({})));
    let flannel = net.cluster.node(2);
    let mut file = net.cluster.describe(0..3);
    let prefix = &flannel.pod_prefixes()[0];
    file["nodes"][2]["podPrefixes"] = json!([prefix]);
    file["nodes"][2]["vtepMac"] = flannel_mac(flannel, prefix).into();
    net.tell(&file);
    let ours = [net.cluster.node(0), net.cluster.node(1)];
    let mut pods: Vec<Attached> = ours.iter().map(|node| node.attach(&net.chain)).collect();
    join_as_flannel(flannel, &ours, |node: &Node, _| device_mac(node));
    Matrix::of(&pods).assert_all(4);
    let mut theirs = flannel.attach(&lab::bridge(flannel));
    theirs.addresses.retain(|address| address.is_ipv4());
    pods.push(theirs);
    Matrix::of(&pods).assert_all(8);
}
