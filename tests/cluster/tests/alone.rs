//! Plugin and file alone: no agent, no server. The ADD brings the node up to date.

use std::fs::File;

use cni_testkit::cluster::{Attached, Cluster, Families, Layout, Matrix, Node, await_condition};
use cni_testkit::{Chain, Invocation, Pod, Test, tests, workspace_plugin, workspace_plugin_dir};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = &tests![
    plugin_and_file_alone_connect_all_pods_over_the_flow,
    plugin_and_file_alone_connect_all_pods_over_the_classic_data_path,
    plugin_and_file_alone_connect_all_pods_by_plain_routes,
    pods_are_attached_by_ptp_as_well,
    the_next_add_follows_the_file,
    an_add_does_nothing_for_a_node_that_is_up_to_date_and_mends_one_whose_device_is_gone,
    a_dry_run_prints_the_nodes_part_and_changes_nothing,
    a_wrong_file_is_told_with_its_place_and_what_worked_goes_on,
    del_needs_neither_file_nor_a_valid_configuration,
    a_failed_attachment_leaves_the_nodes_part_and_nothing_else,
    status_tells_whether_an_add_would_work_and_pods_reach_one_another,
    with_an_agent_add_relies_on_what_it_says,
    two_networks_of_one_route_protocol_are_told_apart,
    check_names_the_peer_whose_entry_is_missing_or_wrong,
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

fn the_next_add_follows_the_file() {
    let cluster = Cluster::build(&Layout::new(3));
    let plugin = json!({ "type": "vxlan" });
    let node = cluster.node(0);
    node.write(FILE, &cluster.describe(0..2).to_string());
    let first = node.attach(&chain(&plugin));
    let routes = || node.sh("ip route show proto 167");
    assert!(routes().contains("10.244.2.0/24") && !routes().contains("10.244.3.0/24"));
    node.write(FILE, &cluster.describe([0, 2]).to_string());
    let second = node.attach(&chain(&plugin));
    assert!(!routes().contains("10.244.2.0/24") && routes().contains("10.244.3.0/24"));
    assert_ne!(first.addresses, second.addresses);
    node.sh("ip rule | grep -q 'from 10.244.1.0/24 lookup 167'");
}

fn an_add_does_nothing_for_a_node_that_is_up_to_date_and_mends_one_whose_device_is_gone() {
    let (cluster, pods) = two_nodes(&json!({ "type": "vxlan" }));
    let node = cluster.node(0);
    let plugin = chain(&json!({ "type": "vxlan" }));
    // A file that has just been written is not relied upon.
    await_condition("the file is known by its time stamp", || {
        node.detach(&plugin, &node.attach(&plugin));
        let state = node.read("/run/cni-fabric/167/state.json");
        state.is_some_and(|state| state.contains(r#""fingerprint":{"#))
    });
    node.sh("ip route del 10.244.2.0/24");
    let _ = node.attach(&plugin);
    let routes = node.sh("ip route show 10.244.2.0/24");
    assert_eq!(routes, "", "nobody looked at the routes");
    node.delete_link("vxlan.1");
    let _ = node.attach(&plugin);
    Matrix::of(&pods).assert_all(4);
}

fn a_dry_run_prints_the_nodes_part_and_changes_nothing() {
    let cluster = Cluster::build(&Layout::new(2));
    let node = cluster.node(0);
    node.write(FILE, &cluster.describe(0..2).to_string());
    let pod = Pod::new("dry");
    let before = node.snapshot();
    let config = config(&json!({ "type": "vxlan" }));
    let outcome = node.run(|| {
        call("ADD", &config, Some(&pod))
            .env("CNI_DRY_RUN", "1")
            .run()
    });
    assert!(outcome.is_success(), "{outcome}");
    let said = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
    for command in [
        "ip link add vxlan.1",
        "ip route add 10.244.2.0/24",
        "ip link add cni0",
    ] {
        assert!(said.contains(command), "{command} in {said}");
    }
    node.snapshot().assert_unchanged_since(&before);
}

fn a_wrong_file_is_told_with_its_place_and_what_worked_goes_on() {
    let (cluster, pods) = two_nodes(&json!({ "type": "vxlan" }));
    let node = cluster.node(0);
    let config = config(&json!({ "type": "vxlan" }));
    let mut wrong = cluster.describe(0..2);
    wrong["nodes"][1]["podPrefixes"][0] = json!("10.244.1.0/24");
    node.write(FILE, &wrong.to_string());
    let pod = Pod::new("late");
    let failure = node
        .run(|| call("ADD", &config, Some(&pod)).run())
        .failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(
        failure.msg.contains(FILE) && failure.msg.contains("node `n2`"),
        "{failure:?}"
    );
    assert!(failure.msg.contains("line 1, column "), "{failure:?}");
    let failure = node.run(|| call("STATUS", &config, None).run()).failure();
    assert_eq!(failure.code, 50, "{failure:?}");
    Matrix::of(&pods).assert_all(4);
    node.sh(&format!("rm {FILE}"));
    let failure = node
        .run(|| call("ADD", &config, Some(&pod)).run())
        .failure();
    assert!(
        failure.code == 5 && failure.msg.contains(FILE),
        "{failure:?}"
    );
    node.write(FILE, &cluster.describe(1..2).to_string());
    let failure = node
        .run(|| call("ADD", &config, Some(&pod)).run())
        .failure();
    assert!(
        failure.msg.contains("192.0.2.1") && failure.msg.contains("\"cluster.node\""),
        "{failure:?}"
    );
    Matrix::of(&pods).assert_all(4);
}

fn del_needs_neither_file_nor_a_valid_configuration() {
    let (cluster, pods) = two_nodes(&json!({ "type": "vxlan" }));
    let node = cluster.node(0);
    node.sh(&format!("rm {FILE}"));
    let mut config =
        config(&json!({ "type": "vxlan", "vni": "one", "attach": 7, "routeProtocol": 2 }));
    config["cluster"] = json!({});
    for _ in 0..2 {
        let del = node.run(|| call("DEL", &config, Some(&pods[0].pod)).run());
        del.silent_success();
    }
    let ports = node.sh("ip -o link show master cni0");
    assert_eq!(ports, "");
    let reserved = node.sh("ls /var/lib/cni/networks/net");
    assert!(!reserved.contains("10.244.1.2"), "{reserved}");
}

fn a_failed_attachment_leaves_the_nodes_part_and_nothing_else() {
    let cluster = Cluster::build(&Layout::new(2));
    let node = cluster.node(0);
    node.write(FILE, &cluster.describe(0..2).to_string());
    // The bridge's name is taken by something else.
    node.sh("ip link add cni0 type veth peer name other");
    let config = config(&json!({ "type": "vxlan" }));
    let pod = Pod::new("refused");
    let inside = pod.run(cni_testkit::Snapshot::take);
    let failure = node
        .run(|| call("ADD", &config, Some(&pod)).run())
        .failure();
    assert!(
        failure.msg.contains("cni0") || failure.details.contains("cni0"),
        "{failure:?}"
    );
    pod.run(cni_testkit::Snapshot::take)
        .assert_unchanged_since(&inside);
    let reserved = node.sh("ls /var/lib/cni/networks/net || true");
    assert!(!reserved.contains("10.244.1.2"), "{reserved}");
    node.sh("ip link show vxlan.1 && ip route show | grep 10.244.2.0/24");
}

fn status_tells_whether_an_add_would_work_and_pods_reach_one_another() {
    let cluster = Cluster::build(&Layout::new(3).behind_the_router(&[2]));
    let node = cluster.node(0);
    let config = config(&json!({ "type": "host-gw" }));
    let status = || node.run(|| call("STATUS", &config, None).run());
    assert_eq!(status().failure().code, 50);
    node.write(FILE, &cluster.describe(0..2).to_string());
    status().silent_success();
    let pod = node.attach(&chain(&json!({ "type": "host-gw" })));
    status().silent_success();
    node.write(FILE, &cluster.describe(0..3).to_string());
    let _second = node.attach(&chain(&json!({ "type": "host-gw" })));
    let failure = status().failure();
    assert_eq!(failure.code, 51, "{failure:?}");
    assert!(
        failure.msg.contains("198.51.100.3 of node n3"),
        "{failure:?}"
    );
    let other = cluster.node(1);
    other.write(FILE, &cluster.describe(0..3).to_string());
    let other = other.attach(&chain(&json!({ "type": "host-gw" })));
    Matrix::of(&[pod, other]).assert_all(4);
}

fn with_an_agent_add_relies_on_what_it_says() {
    let cluster = Cluster::build(&Layout::new(1));
    let node = cluster.node(0);
    let config = config(&json!({ "type": "vxlan" }));
    let (directory, pod) = ("/run/cni-fabric/167", Pod::new("relying"));
    node.sh(&format!(
        "mkdir -p {directory} && touch {directory}/agent.lock"
    ));
    let path = format!("{directory}/agent.lock");
    let lock = node.run(|| File::open(&path).expect("the lock's file"));
    lock.lock().expect("the lock");
    let ask = |verb: &str, pod: Option<&Pod>| node.run(|| call(verb, &config, pod).run());
    assert_eq!(ask("ADD", Some(&pod)).failure().code, 11);
    assert_eq!(ask("STATUS", None).failure().code, 50);
    let say = |ready: bool| {
        let state = json!({
            "network": "net", "node": "n1", "prefixes": ["10.244.77.0/24"], "mtu": 1400, "device": null, "ready": ready,
            "reason": "the source is away", "unreachable": 0, "unreachableWords": [], "problems": [], "choices": [],
            "fingerprint": null,
        });
        node.write(&format!("{directory}/state.json"), &state.to_string());
    };
    say(false);
    let failure = ask("STATUS", None).failure();
    assert!(
        failure.code == 51 && failure.msg.contains("the source is away"),
        "{failure:?}"
    );
    say(true);
    ask("STATUS", None).silent_success();
    let result = ask("ADD", Some(&pod)).result();
    assert_eq!(result["ips"][0]["address"], "10.244.77.2/24");
    let links = node.sh("ip -o link show");
    assert!(
        !links.contains("vxlan.1"),
        "that is the agent's to make: {links}"
    );
}

fn two_networks_of_one_route_protocol_are_told_apart() {
    let (cluster, _pods) = two_nodes(&json!({ "type": "vxlan" }));
    let node = cluster.node(0);
    let mut config = config(&json!({ "type": "vxlan", "vni": 2, "attach": { "bridge": "cni1" } }));
    config["name"] = json!("other");
    let pod = Pod::new("other");
    let failure = node
        .run(|| call("ADD", &config, Some(&pod)).run())
        .failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    let sentence = "route protocol 167 is used by network `net`";
    assert!(failure.msg.contains(sentence), "{failure:?}");
}

fn check_names_the_peer_whose_entry_is_missing_or_wrong() {
    let plugin = json!({ "type": "vxlan", "dataPath": "classic" });
    let (cluster, pods) = two_nodes(&plugin);
    let node = cluster.node(0);
    let mac = node.sh("bridge fdb show dev vxlan.1 | cut -d' ' -f1");
    let (mac, wrong) = (mac.trim(), "192.0.2.99");
    for damage in [
        "ip route del 10.244.2.0/24".to_owned(),
        "ip neigh del 10.244.2.0 dev vxlan.1".to_owned(),
        format!("bridge fdb replace {mac} dev vxlan.1 dst {wrong} self permanent"),
        "ip nexthop flush proto 167".to_owned(),
    ] {
        node.check(&chain(&plugin), &pods[0])
            .unwrap_or_else(|outcome| panic!("{outcome}"));
        node.sh(&damage);
        let outcome = node.check(&chain(&plugin), &pods[0]).expect_err("a drift");
        let failure = outcome.failure();
        assert!(failure.msg.contains("n2"), "after {damage}: {failure:?}");
        node.sh(&format!("touch {FILE}"));
        let another = node.attach(&chain(&plugin));
        node.detach(&chain(&plugin), &another);
    }
}

/// Two nodes with a pod each.
fn two_nodes(plugin: &Value) -> (Cluster, Vec<Attached>) {
    let cluster = Cluster::build(&Layout::new(2));
    let file = cluster.describe(0..2).to_string();
    let attach = |node: &Node| {
        node.write(FILE, &file);
        node.attach(&chain(plugin))
    };
    let pods: Vec<Attached> = cluster.nodes().iter().map(attach).collect();
    Matrix::of(&pods).assert_all(4);
    (cluster, pods)
}

/// What libcni puts on stdin.
fn config(plugin: &Value) -> Value {
    let mut config = plugin.clone();
    config["cniVersion"] = json!("1.1.0");
    config["name"] = json!("net");
    config["cluster"] = json!({ "file": FILE });
    config
}

/// One verb of one plugin, on a node.
fn call(verb: &str, config: &Value, pod: Option<&Pod>) -> Invocation {
    let program = workspace_plugin(config["type"].as_str().expect("a type"));
    let call = match pod {
        Some(pod) => Invocation::attachment(program, verb, pod),
        None => Invocation::new(program, verb),
    };
    call.env("CNI_PATH", workspace_plugin_dir()).config(config)
}
