//! A node's own prefixes: several of one family, and others than before.

use cni_testkit::cluster::{Attached, Layout, Matrix};
use cni_testkit::{Ping, Test, tests};
use serde_json::{Value, json};

use crate::world::{Classic, Flow, HostGw, Net, Over};

pub(crate) const TESTS: &[Test] = &tests![
    a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full::<Flow>,
    a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full::<Classic>,
    a_pod_gets_an_address_of_the_second_prefix_where_the_first_is_full::<HostGw>,
    routed_pods_of_two_prefixes_reach_one_another::<Flow>,
    pods_of_a_former_prefix_stay_reachable_on_their_node_and_are_told::<Flow>,
    pods_of_a_former_prefix_stay_reachable_on_their_node_and_are_told::<Classic>,
    pods_of_a_former_prefix_stay_reachable_on_their_node_and_are_told::<HostGw>,
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

/// A node's entry has other prefixes than before, and a pod holds an address of one that it had.
fn pods_of_a_former_prefix_stay_reachable_on_their_node_and_are_told<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let [node, other] = [net.cluster.node(0), net.cluster.node(1)];
    let [former, elsewhere] = [&pods[0], &pods[1]];
    net.call(node, "STATUS").silent_success();

    let mut file = net.cluster.describe([0, 1, 2]);
    file["nodes"][0]["podPrefixes"] = json!(["10.244.21.0/24", "fd00:244:21::/64"]);
    net.tell(&file);
    let fresh: Vec<Attached> = [node, other, net.cluster.node(2)]
        .map(|node| node.attach(&net.chain))
        .into();
    assert_eq!(fresh[0].addresses[0].to_string(), "10.244.21.2");
    Matrix::of(&fresh).assert_all(12);
    // They still reach all pods of their node; for these they are the world outside, so that what begins there is masqueraded.
    let near = Matrix::of_all(&[former, &pods[3], &fresh[0]]);
    assert_eq!(near.count(), (8, 12), "\n{near}");
    assert!(near.ways.iter().all(|way| way.ping.is_ok()), "\n{near}");
    // Other nodes have no way there.
    assert_eq!(Matrix::of_all(&[former, elsewhere]).count(), (0, 4));
    for address in &former.addresses {
        let ping = Ping::to(&address.to_string());
        assert!(node.run(|| ping.send()).is_ok(), "{address} from its node");
    }

    let failure = net.call(node, "STATUS").failure();
    assert_eq!(failure.code, 51, "{failure:?}");
    let words = "outside its prefixes (10.244.21.0/24, fd00:244:21::/64): 10.244.1.2, 10.244.1.3, fd00:244:1::2, fd00:244:1::3;";
    assert!(failure.msg.contains(words), "{failure:?}");
    net.call(other, "STATUS").silent_success();
    let outcome = node.check(&net.chain, former).expect_err("an old address");
    assert!(outcome.failure().msg.contains("10.244.1.2"), "{outcome}");
    node.check(&net.chain, &fresh[0])
        .unwrap_or_else(|outcome| panic!("{outcome}"));
    if P::PATH.is_tunnel() {
        let addresses = node.sh("ip -o address show dev vxlan.1");
        assert!(
            addresses.contains("10.244.21.0/32") && !addresses.contains("10.244.1.0"),
            "{addresses}"
        );
    }

    node.detach(&net.chain, former);
    node.detach(&net.chain, &pods[3]);
    net.call(node, "STATUS").silent_success();
}
