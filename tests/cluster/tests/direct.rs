//! Peers in one segment, and those that are not: direct routing beside a tunnel, and host gateways.

use std::process::Command;

use cni_testkit::cluster::{Attached, Cluster, Layout, Matrix, Node, await_condition};
use cni_testkit::{Test, require, tests, workspace_plugin};
use serde_json::json;

use crate::agent_heal::{settled, state};
use crate::wire::{Seen, ports};
use crate::world::{Classic, DataPath, Flow, HostGw, NETWORK, Net, Over, PROTOCOL, page};

pub(crate) const TESTS: &[Test] = &tests![
    peers_in_a_segment_are_routed_to_and_others_tunnelled::<Flow>,
    peers_in_a_segment_are_routed_to_and_others_tunnelled::<Classic>,
    a_peer_moves_between_kinds_at_run_time_without_leftovers::<Flow>,
    a_peer_moves_between_kinds_at_run_time_without_leftovers::<Classic>,
    a_peer_behind_a_router_is_reported_by_name_and_the_others_work,
    a_foreign_route_stays_and_is_reported::<Flow>,
    a_foreign_route_stays_and_is_reported::<HostGw>,
];

fn peers_in_a_segment_are_routed_to_and_others_tunnelled<P: Over>() {
    let layout = Layout::new(3).behind_the_router(&[2]);
    let plugin = P::PATH.plugin(&json!({ "directRouting": true }));
    let (net, pods) = Net::with_pods(&layout, plugin);
    Matrix::of(&pods).assert_all(24);
    for family in 0..2 {
        assert!(!is_tunnelled(&net, P::PATH, &pods[0], &pods[1], family));
        assert!(is_tunnelled(&net, P::PATH, &pods[0], &pods[2], family));
        assert!(is_tunnelled(&net, P::PATH, &pods[2], &pods[1], family));
    }
}

fn is_tunnelled(net: &Net, path: DataPath, from: &Attached, to: &Attached, family: usize) -> bool {
    let target = to.addresses[family];
    let seen = Seen::between(net, from, to, target);
    if seen.wire.destination() == Some(target) {
        return false;
    }
    assert_eq!(ports(&seen.wire).1, path.port());
    true
}

fn a_peer_moves_between_kinds_at_run_time_without_leftovers<P: Over>() {
    // Two machines bear the name n3 in turn: the third, behind the router, and the fourth, beside the others.
    let layout = Layout::new(4).behind_the_router(&[2]);
    let cluster = Cluster::build(&layout);
    let far = cluster.describe(0..3);
    let mut near = far.clone();
    near["nodes"][2]["addresses"] = cluster.describe([3])["nodes"][0]["addresses"].clone();
    let net = Net::over(cluster, P::PATH.plugin(&json!({ "directRouting": true })));
    net.tell(&far);
    let _agents = net.start_agents(&[0, 1, 2]);
    let [first, third, fourth] = [0, 2, 3].map(|position| net.cluster.node(position));
    let pod = first.attach(&net.chain);
    let behind = third.attach(&net.chain);
    let moving = [pod, behind];
    Matrix::of(&moving).assert_all(4);
    assert!(is_tunnelled(&net, P::PATH, &moving[0], &moving[1], 0));
    let tunnelled = settled(first);
    let [pod, behind] = moving;

    net.tell(&near);
    third.detach(&net.chain, &behind);
    let _agent = net.start_agents(&[3]);
    let beside = fourth.attach(&net.chain);
    await_condition("the way to n3 is direct", || {
        let route = state(first);
        route != tunnelled && Matrix::of_all(&[&pod, &beside]).count() == (4, 4)
    });
    assert!(!is_tunnelled(&net, P::PATH, &pod, &beside, 0));
    await_condition("what a tunnel to it needed is gone", || {
        let direct = first.snapshot();
        let mut addresses = third.addresses().iter();
        addresses.all(|address| direct.lines(&address.to_string()).is_empty())
    });

    net.tell(&far);
    fourth.detach(&net.chain, &beside);
    await_condition(
        "the way to n3 is the tunnel, as if nothing had been",
        || state(first).since(&tunnelled).is_empty(),
    );
}

fn a_peer_behind_a_router_is_reported_by_name_and_the_others_work() {
    let layout = Layout::new(3).behind_the_router(&[2]);
    let net = Net::build(&layout, DataPath::HostGw.plugin(&json!({})));
    let first = net.cluster.node(0);
    let agents = net.start_agents(&[0, 1]);
    let pods = [0, 1].map(|position| net.cluster.node(position).attach(&net.chain));
    Matrix::of(&pods).assert_all(4);
    let log = agents[0].log();
    let told = |line: &&str| line.contains("WARN") && line.contains("n3");
    let told = log.lines().filter(told).count();
    assert_eq!(told, 1, "{log}");
    let health = page(first, "/healthz").expect("a page");
    assert!(health.contains("n3"), "{health}");
    first
        .check(&net.chain, &pods[0])
        .expect("nothing that could be is missing");
}

fn a_foreign_route_stays_and_is_reported<P: Over>() {
    let _ = require(crate::lab::which("ip"), "iproute2");
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let foreign = "ip route add 10.244.2.0/24 via 192.0.2.254 dev eth0\n\
                   ip -6 route add fd00:244:2::/64 via 2001:db8:a::fe dev eth0";
    node.sh(foreign);
    let before = node.snapshot();
    let agents = net.start_agents(&[0, 1, 2]);
    let nodes = net.cluster.nodes().iter();
    let pods: Vec<Attached> = nodes.map(|node| node.attach(&net.chain)).collect();
    Matrix::of(&pods).assert_all(12);
    let log = agents[0].log();
    assert!(log.contains("10.244.2.0/24"), "{log}");
    for (node, pod) in net.cluster.nodes().iter().zip(&pods) {
        node.detach(&net.chain, pod);
    }
    drop(agents);
    net.call(node, "GC").silent_success();
    cleanup(node);
    let strip =
        |state: cni_testkit::Snapshot| state.without("/var/lib/cni").without("/run/cni-fabric");
    strip(node.snapshot()).assert_unchanged_since(&strip(before));
    let routes = node.sh(&format!("ip route show proto {PROTOCOL}"));
    assert_eq!(routes, "");
}

fn cleanup(node: &Node) {
    let mut command = Command::new(workspace_plugin("node-agent"));
    command.args(["--config", NETWORK, "--cleanup"]).env_clear();
    let output = node.run(|| command.output()).expect("the agent runs");
    assert!(output.status.success(), "{output:?}");
}
