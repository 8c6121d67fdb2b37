//! The plugins' verbs where other nodes come in.

use cni_testkit::cluster::{Layout, Matrix, await_condition};
use cni_testkit::{Test, tests};
use serde_json::json;

use crate::world::{Classic, DEVICE, Flow, HostGw, Net, Over, PROTOCOL, await_ready};

pub(crate) const TESTS: &[Test] = &tests![
    check_names_the_peer_whose_way_is_missing::<Flow>,
    check_names_the_peer_whose_way_is_missing::<Classic>,
    check_names_the_peer_whose_way_is_missing::<HostGw>,
    check_finds_a_missing_device::<Flow>,
    check_finds_a_missing_device::<Classic>,
    the_next_add_follows_the_file::<Flow>,
    the_next_add_follows_the_file::<Classic>,
    the_next_add_follows_the_file::<HostGw>,
    an_add_that_finds_nothing_changed_changes_nothing::<Flow>,
    an_add_that_finds_nothing_changed_changes_nothing::<HostGw>,
    a_broken_file_fails_the_add_that_needs_it_and_no_packet::<Flow>,
    status_tells_why_an_agent_is_not_ready::<Flow>,
    status_tells_why_an_agent_is_not_ready::<HostGw>,
];

fn check_names_the_peer_whose_way_is_missing<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.check(&net.chain, &pods[0])
        .expect("nothing is missing");
    assert!(node.flush_routes(PROTOCOL) > 0);
    let outcome = node
        .check(&net.chain, &pods[0])
        .expect_err("routes are missing");
    let failure = outcome.failure();
    let text = format!("{} {}", failure.msg, failure.details);
    assert!(text.contains("n2") && text.contains("n3"), "{text}");
}

fn check_finds_a_missing_device<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.delete_link(DEVICE);
    let outcome = node
        .check(&net.chain, &pods[0])
        .expect_err("a device is missing");
    let failure = outcome.failure();
    let text = format!("{} {}", failure.msg, failure.details);
    assert!(text.contains(DEVICE), "{text}");
}

fn the_next_add_follows_the_file<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    net.tell(&net.cluster.describe([0, 1]));
    let mut pods = vec![
        net.cluster.node(0).attach(&net.chain),
        net.cluster.node(1).attach(&net.chain),
    ];
    Matrix::of(&pods).assert_all(4);
    net.tell(&net.cluster.describe([0, 1, 2]));
    for node in net.cluster.nodes() {
        pods.push(node.attach(&net.chain));
    }
    Matrix::of(&pods).assert_all(40);
}

fn an_add_that_finds_nothing_changed_changes_nothing<P: Over>() {
    let (net, _pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(1);
    // A file that was written just now may change again within the same time stamp: until it is older, ADDs read it.
    await_condition("the file is known by its time stamp", || {
        node.detach(&net.chain, &node.attach(&net.chain));
        let state = node.read("/run/cni-fabric/167/state.json");
        state.is_some_and(|state| state.contains(r#""fingerprint":{"#))
    });
    let before = node.snapshot();
    let pod = node.attach(&net.chain);
    node.detach(&net.chain, &pod);
    // The addresses' store goes on with the next address.
    let strip = |state: cni_testkit::Snapshot| state.without("/var/lib/cni");
    strip(node.snapshot()).assert_unchanged_since(&strip(before));
}

fn a_broken_file_fails_the_add_that_needs_it_and_no_packet<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.write(
        crate::world::CLUSTER,
        "{ \"nodes\": [\n  { \"name\": \"n1\", }\n] }\n",
    );
    let pod = cni_testkit::Pod::new("late");
    let outcome = node
        .run(|| net.chain.add(&pod, "eth0"))
        .expect_err("a broken file");
    let failure = outcome.failure();
    let text = format!("{} {}", failure.msg, failure.details);
    assert!(
        text.contains(crate::world::CLUSTER) && text.contains("line 2"),
        "{text}"
    );
    Matrix::of(&pods).assert_all(24);
    node.write(
        crate::world::CLUSTER,
        &net.cluster.describe([0, 1, 2]).to_string(),
    );
    node.attach_pod(&net.chain, pod);
}

fn status_tells_why_an_agent_is_not_ready<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.write(crate::world::CLUSTER, "no JSON\n");
    let agent = net.start_agent(node);
    await_condition("the agent has looked at the file", || {
        crate::world::page(node, "/readyz").is_some_and(|page| page.contains("cluster.json"))
    });
    await_condition("plugins are told what the agent says", || {
        let failure = net.call(node, "STATUS").failure();
        assert_eq!(failure.code, 50, "{failure:?}");
        failure.msg.contains("node agent") && failure.msg.contains("cluster.json")
    });
    net.tell(&net.cluster.describe([0, 1, 2]));
    await_ready(node, &agent);
    await_condition("plugins are told that all is well", || {
        net.call(node, "STATUS").is_success()
    });
    net.call(node, "STATUS").silent_success();
}
