//! A node's own prefixes: several of one family, and others than before.

use cni_testkit::cluster::{Attached, Layout, Matrix};
use cni_testkit::{Test, tests};
use serde_json::{Value, json};

use crate::world::{Classic, Flow, HostGw, Net, Over};

pub(crate) const TESTS: &[Test] = &tests![
    a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full::<Flow>,
    a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full::<Classic>,
    a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full::<HostGw>,
    routed_pods_of_two_prefixes_reach_one_another::<Flow>,
];

fn a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full<P: Over>() {
    two_prefixes(P::PATH.plugin(&json!({})));
}

fn routed_pods_of_two_prefixes_reach_one_another<P: Over>() {
    two_prefixes(P::PATH.plugin(&json!({ "attach": { "type": "ptp" } })));
}

/// The first node's IPv4 prefixes: one with room for a single pod, and one more.
fn two_prefixes(plugin: Value) {
    let net = Net::build(&Layout::new(2), plugin);
    let mut file = net.cluster.describe([0, 1]);
    let prefixes = &mut file["nodes"][0]["podPrefixes"];
    *prefixes = json!(["10.244.1.0/30", "10.244.11.0/24", "fd00:244:1::/64"]);
    net.tell(&file);
    let node = net.cluster.node(0);
    let mut pods: Vec<Attached> = (0..3).map(|_| node.attach(&net.chain)).collect();
    let first = |pod: &Attached| pod.addresses[0].to_string();
    assert_eq!(first(&pods[0]), "10.244.1.2");
    assert_eq!(first(&pods[1]), "10.244.11.2");
    pods.push(net.cluster.node(1).attach(&net.chain));
    Matrix::of(&pods).assert_all(24);
    for pod in &pods[..3] {
        node.check(&net.chain, pod)
            .unwrap_or_else(|outcome| panic!("{outcome}"));
    }
    node.detach(&net.chain, &pods.remove(0));
    Matrix::of(&pods).assert_all(12);
}
