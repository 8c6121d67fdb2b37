//! Our nodes and Flannel's in one Kubernetes: the annotations, a node as Flannel makes it, and the way from one to the other.

use std::fmt::Write as _;
use std::time::Duration;

use cni_testkit::cluster::{
    Attached, Cluster, Families, Layout, Matrix, Node, Stream, await_condition, flannel_mac,
    join_as_flannel,
};
use cni_testkit::kube::{ApiServer, Resource, User};
use cni_testkit::{Process, Test, require, tests};
use serde_json::{Value, json};

use crate::etcd::{await_peers, await_word};
use crate::kube::{Site, condition, entry, name, server};
use crate::lab;
use crate::world::{Classic, NETWORK, Over, await_ready, device_mac};

pub(crate) const TESTS: &[Test] =
    &tests![a_cluster_of_kubernetes_moves_from_flannel_node_by_node::<Classic>,];

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
    await_word(site.node(0), "its backend is \"udp\"");
    annotate(&api, flannel, "vxlan");
    await_peers(site.node(0), 2);
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
    let mut plugin = site.net.plugin.clone();
    plugin["cluster"]["kubernetes"]["layout"] = "native".into();
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
    for position in 0..2 {
        let node = site.node(position);
        agents.remove(0).stop().expect("an end");
        node.write(NETWORK, &list.to_string());
        node.write(crate::kube::CONFIG, &api.kubeconfig(User::Agent));
        let agent = site.agent(position);
        await_ready(node, &agent);
        await_peers(node, 1);
        agents.push(agent);
    }
    for stream in &streams {
        stream.stop();
    }
    for stream in streams {
        let tally = stream.finish();
        assert!(tally.sent > 20 && tally.lost == 0, "{tally:?}");
    }
    Matrix::of(&pods[..2]).assert_all(2);
}
