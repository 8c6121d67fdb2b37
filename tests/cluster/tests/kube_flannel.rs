//! Our nodes and Flannel's in one Kubernetes: the annotations, a node as Flannel makes it, and the way from one to the other.

use std::fmt::Write as _;
use std::time::Duration;

use cni_testkit::cluster::{
    Attached, Cluster, Families, Layout, Matrix, Node, Stream, await_condition, flannel_mac,
    join_as_flannel,
};
use cni_testkit::kube::{ApiServer, Resource, User};
use cni_testkit::{Chain, Process, Test, reference_plugin, require, tests, workspace_plugin_dir};
use serde_json::{Value, json};

use crate::etcd::{await_peers, await_word};
use crate::kube::{Site, condition, entry, name, server};
use crate::lab;
use crate::world::{Classic, DataPath, NETWORK, Over, await_ready, device_mac, page};

pub(crate) const TESTS: &[Test] = &tests![
    a_cluster_of_kubernetes_moves_from_flannel_node_by_node::<Classic>,
    a_flannel_node_becomes_ours_in_place_with_its_pods,
];

const PREFIX: &str = "flannel.alpha.coreos.com/";

/// What Flannel's daemon writes on its Node.
fn annotate(api: &ApiServer<'_>, node: &Node, backend: &str) {
    let mac = flannel_mac(node, &node.pod_prefixes()[0]);
    let mut annotations = json!({});
    for (key, value) in [
        ("backend-type", backend.to_owned()),
        ("backend-data", format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)),
        ("public-ip", node.addresses()[0].to_string()),
        ("kube-subnet-manager", "true".to_owned()),
    ] {
        annotations[format!("{PREFIX}{key}")] = value.into();
    }
    // As Flannel does: by the status.
    let path = format!(
        "{}/{}/status?fieldManager=flannel",
        Resource::Nodes.path(),
        name(node)
    );
    let patch = json!({ "metadata": { "annotations": annotations } });
    let kind = "application/strategic-merge-patch+json";
    api.admin().call("PATCH", &path, kind, Some(&patch)).ok();
}

fn annotation(api: &ApiServer<'_>, node: &Node, key: &str) -> String {
    let object = api.admin().get(Resource::Nodes, &name(node)).ok();
    let value = &object["metadata"]["annotations"][format!("{PREFIX}{key}")];
    value.as_str().unwrap_or_default().to_owned()
}

/// What Flannel's daemon does with what it finds on the Nodes.
fn follow_as_flannel(api: &ApiServer<'_>, flannel: &Node, peers: &[&Node]) {
    let mut script = String::new();
    for peer in peers {
        assert_eq!(annotation(api, peer, "backend-type"), "vxlan");
        assert_eq!(annotation(api, peer, "kube-subnet-manager"), "true");
        let data: Value =
            serde_json::from_str(&annotation(api, peer, "backend-data")).expect("JSON");
        assert_eq!(data["VNI"], 1);
        let mac = data["VtepMAC"].as_str().expect("a hardware address");
        assert_eq!(mac, device_mac(peer));
        let address = annotation(api, peer, "public-ip");
        let object = api.admin().get(Resource::Nodes, &name(peer)).ok();
        let subnet = object["spec"]["podCIDR"].as_str().expect("a prefix");
        let base = subnet.split('/').next().unwrap_or_default();
        let _ = writeln!(
            script,
            "ip neigh replace {base} lladdr {mac} dev flannel.1 nud permanent\n\
             bridge fdb append {mac} dev flannel.1 dst {address}\n\
             ip route replace {subnet} via {base} dev flannel.1 onlink"
        );
    }
    flannel.sh(&script);
}

fn a_cluster_of_kubernetes_moves_from_flannel_node_by_node<P: Over>() {
    let _ = require(lab::which("ip"), "iproute2");
    let layout = Layout::new(3).pods(Families::V4).underlay(Families::V4);
    let cluster = Cluster::build(&layout);
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let keys = json!({ "layout": "flannel", "podNetworks": ["10.244.0.0/16"] });
    let site = Site::over(cluster, P::PATH, &api, &keys);
    let flannel = site.node(2);
    annotate(&api, flannel, "vxlan");
    let mut agents: Vec<Process> = (0..2).map(|position| site.agent(position)).collect();
    for (position, agent) in agents.iter().enumerate() {
        await_ready(site.node(position), agent);
        await_peers(site.node(position), 2);
    }
    let mut pods: Vec<Attached> = (0..2)
        .map(|position| site.node(position).attach(&site.net.chain))
        .collect();
    join_as_flannel(flannel, &[], |_, _| String::new());
    follow_as_flannel(&api, flannel, &[site.node(0), site.node(1)]);
    pods.push(flannel.attach(&lab::bridge(flannel)));
    Matrix::of(&pods).assert_all(6);
    for position in 0..2 {
        let node = site.node(position);
        let object = entry(&api, &name(node)).expect("it is told to others of ours already");
        assert_eq!(object["spec"]["podCIDRs"], json!(node.pod_prefixes()));
        await_condition("the node is told to have a network", || {
            let own = api.admin().get(Resource::Nodes, &name(node)).ok();
            condition(&own, "NetworkUnavailable")["status"] == "False"
        });
    }
    // One that speaks another tunnel is told by name, and left out; it comes back when it speaks ours again.
    annotate(&api, flannel, "udp");
    for position in 0..2 {
        await_word(site.node(position), "its backend is \"udp\"");
    }
    annotate(&api, flannel, "vxlan");
    for position in 0..2 {
        await_peers(site.node(position), 2);
    }
    Matrix::of(&pods).assert_all(6);
    // Flannel's node leaves, and ours go on without the annotations, one after the other.
    api.remove_node(&name(flannel));
    for position in 0..2 {
        await_peers(site.node(position), 1);
    }
    let streams = [
        Stream::start(&pods[0].pod, pods[1].addresses[0], Duration::from_millis(2)),
        Stream::start(&pods[1].pod, pods[0].addresses[0], Duration::from_millis(2)),
    ];
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [site.net.plugin] });
    go_on_without_annotations(&site, &api, &mut agents, list);
    streams.iter().for_each(|stream| stream.await_sent(21));
    for stream in &streams {
        stream.stop();
    }
    for stream in streams {
        let tally = stream.finish();
        assert!(tally.sent > 20 && tally.lost == 0, "{tally:?}");
    }
    Matrix::of(&pods[..2]).assert_all(2);
}

/// Gives each of the first nodes an agent with layout `native` in place of the one it has, one after the other; the configuration
/// that they have now.
fn go_on_without_annotations(
    site: &Site,
    api: &ApiServer<'_>,
    agents: &mut Vec<Process>,
    mut list: Value,
) -> Value {
    list["plugins"][0]["cluster"]["kubernetes"]["layout"] = "native".into();
    for position in 0..agents.len() {
        let node = site.node(position);
        agents.remove(0).stop().expect("an end");
        node.write(NETWORK, &list.to_string());
        node.write(crate::kube::CONFIG, &api.kubeconfig(User::Agent));
        let agent = site.agent(position);
        await_ready(node, &agent);
        await_peers(node, agents.len());
        agents.push(agent);
    }
    list
}

/// What Flannel calls its network, and pods' addresses are kept under.
const CBR0: &str = "cbr0";

/// What Flannel's CNI plugin delegates to: the reference plugins `bridge` and `host-local`.
fn delegate(node: &Node) -> Chain {
    let bridge = require(reference_plugin("bridge"), "the reference plugins");
    let directory = bridge.parent().expect("a directory");
    let plugin = json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
        "hairpinMode": true, "ipMasq": false, "mtu": 1450,
        "ipam": {
            "type": "host-local", "ranges": [[{ "subnet": node.pod_prefixes()[0] }]],
            "routes": [{ "dst": "10.244.0.0/16" }],
        },
    });
    let list = json!({ "cniVersion": "1.0.0", "name": CBR0, "plugins": [plugin] });
    Chain::new(list, &[directory])
}

/// The rules of `--ip-masq` with `EnableNFTables`.
fn masquerade_as_flannel(node: &Node) {
    let own = &node.pod_prefixes()[0];
    let rules = format!(
        "meta mark 0x4000 return
         ip saddr {own} ip daddr 10.244.0.0/16 return
         ip saddr 10.244.0.0/16 ip daddr {own} return
         ip saddr != {own} ip daddr {own} return
         ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
         ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random"
    );
    node.sh(&format!(
        "nft -f - <<END
         table ip flannel-ipv4 {{
         chain postrtg {{
         type nat hook postrouting priority srcnat
         {rules}
         }}
         }}
END"
    ));
}

/// Nodes that Flannel has made, with pods, and nothing of ours.
fn flannels(site: &Site, api: &ApiServer<'_>) -> Vec<Attached> {
    let nodes = site.net.cluster.nodes();
    for node in nodes {
        annotate(api, node, "vxlan");
        let peers: Vec<&Node> = nodes
            .iter()
            .filter(|peer| peer.name() != node.name())
            .collect();
        join_as_flannel(node, &peers, flannel_mac);
        masquerade_as_flannel(node);
    }
    nodes
        .iter()
        .map(|node| node.attach(&delegate(node)))
        .collect()
}

/// Lets an agent run on a node that Flannel's daemon has left, with all that it had made.
fn take_over(site: &Site, api: &ApiServer<'_>, position: usize) -> Process {
    let node = site.node(position);
    let device =
        || node.sh("cat /sys/class/net/flannel.1/ifindex /sys/class/net/flannel.1/address");
    let told = || annotation(api, node, "backend-data");
    let before = (device(), told());
    let agent = site.agent(position);
    await_ready(node, &agent);
    await_peers(node, 2);
    assert_eq!(
        (device(), told()),
        before,
        "device and annotation stay as they were"
    );
    await_condition("ours have taken the place of Flannel's routes", || {
        node.sh("ip route show proto boot dev flannel.1").is_empty()
    });
    let ours = node.sh("ip route show proto 167 dev flannel.1");
    assert_eq!(ours.lines().count(), 2, "{ours}");
    let ready = page(node, "/readyz").expect("a page");
    assert!(
        ready.trim_end().ends_with("ready"),
        "nothing is in the way: {ready}"
    );
    // What is Flannel's own and bears no mark of ours is the operator's to remove.
    node.sh("nft delete table ip flannel-ipv4");
    agent
}

/// A pod of ours beside those that are there: with an address of its own, and everybody reaches everybody.
fn attach_beside(node: &Node, chain: &Chain, pods: &mut Vec<Attached>) {
    let pod = node.attach(chain);
    let taken = pods.iter().any(|other| other.addresses == pod.addresses);
    assert!(!taken, "{:?} is another pod's", pod.addresses);
    pods.push(pod);
    Matrix::of(pods).assert_all(pods.len() * (pods.len() - 1));
}

fn a_flannel_node_becomes_ours_in_place_with_its_pods() {
    let _ = require(lab::which("ip"), "iproute2");
    let _ = require(lab::which("nft"), "nft");
    let layout = Layout::new(3).pods(Families::V4).underlay(Families::V4);
    let cluster = Cluster::build(&layout);
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let keys = json!({ "layout": "flannel", "podNetworks": ["10.244.0.0/16"] });
    let site = Site::over(cluster, DataPath::Classic, &api, &keys);
    let mut plugin = site.net.plugin.clone();
    // The device, and the name under which pods' addresses are kept, are Flannel's.
    plugin["device"] = "flannel.1".into();
    let list = json!({ "cniVersion": "1.1.0", "name": CBR0, "plugins": [plugin] });
    let chain = Chain::new(list.clone(), &[&workspace_plugin_dir()]);
    let mut pods = flannels(&site, &api);
    Matrix::of(&pods).assert_all(6);
    let mut streams = Vec::new();
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let pace = Duration::from_millis(2);
        streams.push(Stream::start(&pods[from].pod, pods[to].addresses[0], pace));
    }
    let mut agents = Vec::new();
    for position in 0..3 {
        site.node(position).write(NETWORK, &list.to_string());
        agents.push(take_over(&site, &api, position));
        attach_beside(site.node(position), &chain, &mut pods);
    }
    // All are ours: node by node they go on without the annotations.
    let native = go_on_without_annotations(&site, &api, &mut agents, list);
    for node in site.net.cluster.nodes() {
        let keys = [
            "backend-type",
            "backend-data",
            "public-ip",
            "kube-subnet-manager",
        ];
        let gone = keys.map(|key| (format!("{PREFIX}{key}"), Value::Null));
        let gone: serde_json::Map<_, _> = gone.into_iter().collect();
        let patch = json!({ "metadata": { "annotations": gone } });
        api.admin().merge(Resource::Nodes, &name(node), &patch).ok();
    }
    let chain = Chain::new(native, &[&workspace_plugin_dir()]);
    attach_beside(site.node(0), &chain, &mut pods);
    streams.iter().for_each(|stream| stream.await_sent(101));
    streams.iter().for_each(Stream::stop);
    for stream in streams {
        let tally = stream.finish();
        assert!(tally.sent > 100 && tally.lost == 0, "{tally:?}");
    }
    for pod in &pods[3..] {
        site.net
            .node_of(pod)
            .check(&chain, pod)
            .expect("it is as it was made");
    }
    // Some runtimes detach by the list that a pod was attached by, others by the one that is there now.
    let [kept, now] = [&pods[0], &pods[1]];
    let (first, second) = (site.net.node_of(kept), site.net.node_of(now));
    first.detach(&delegate(first), kept);
    second.detach(&chain, now);
    for (node, pod) in [(first, kept), (second, now)] {
        let file = format!("/var/lib/cni/networks/{CBR0}/{}", pod.addresses[0]);
        assert_eq!(node.read(&file), None, "the address is free again");
        node.sh("ip link show cni0");
    }
    Matrix::of(&pods[2..]).assert_all(20);
}
