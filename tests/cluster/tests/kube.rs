//! Clusters whose nodes are known from the Kubernetes API: the test kit's server, or with KUBECONFIG a real one.

use std::process::Command;
use std::time::Duration;

use cni_testkit::cluster::{
    Attached, Cluster, Host, Layout, Matrix, Node, Segment, Stream, await_condition,
};
use cni_testkit::kube::{ApiServer, Resource, User, named};
use cni_testkit::{Process, Test, tests, workspace_plugin};
use serde_json::{Value, json};

use crate::agent_heal::{comes_back_to, settled};
use crate::etcd::{await_peers, await_word, prefixes};
use crate::world::{
    Classic, DataPath, Flow, HostGw, NETWORK, Net, Over, await_ready, metric, page,
};

use Resource::{NodeNetworks, Nodes};

pub(crate) const TESTS: &[Test] = &tests![
    nodes_of_kubernetes_reach_each_other::<Flow>,
    nodes_of_kubernetes_reach_each_other::<Classic>,
    nodes_of_kubernetes_reach_each_other::<HostGw>,
    what_is_written_to_kubernetes_reaches_the_kernel_of_a_node::<Flow>,
    with_kubernetes_a_restarted_agent_keeps_prefix_and_data_path::<Flow>,
    a_node_removed_from_kubernetes_goes_and_the_own_entry_is_put_right::<Flow>,
    a_node_that_kubernetes_says_is_unavailable_is_put_right::<Flow>,
    an_object_of_kubernetes_that_is_no_good_is_left_out_by_name::<Flow>,
    without_prefixes_of_kubernetes_nobody_is_attached_until_they_come::<Flow>,
];

/// Where a node has its kubeconfig.
pub(crate) const CONFIG: &str = "/run/kube/config";

/// The CNI network's name, which agents select by.
const LABEL: &str = "cni-fabric.internal/network";

/// A cluster with an API server on its underlay, and agents.
pub(crate) struct Site {
    pub(crate) net: Net,
    /// Whose kubeconfig the agents have.
    pub(crate) user: User,
}

/// The host that the API server is on.
pub(crate) fn server(cluster: &Cluster) -> Host {
    cluster.stranger(Segment::A)
}

/// What a node is called.
pub(crate) fn name(node: &Node) -> String {
    named(node.name())
}

/// What the plugin's `cluster` says.
fn source(keys: &Value) -> Value {
    let mut section = json!({
        "kubeconfig": CONFIG,
        "podNetworks": ["10.244.0.0/16", "fd00:244::/32"],
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        section[key] = value.clone();
    }
    json!({ "kubernetes": section })
}

/// A node's own object.
pub(crate) fn entry(api: &ApiServer<'_>, name: &str) -> Option<Value> {
    let answer = api.admin().get(NodeNetworks, name);
    match answer.code {
        404 => None,
        _ => Some(answer.ok()),
    }
}

/// A condition of an object by its type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array();
    let mut all = all.into_iter().flatten();
    all.find(|one| one["type"] == kind).unwrap_or(&Value::Null)
}

/// A node that is nowhere.
pub(crate) fn far(name: &str, path: DataPath, prefix: &str, address: &str) -> Value {
    let kind = if path.is_tunnel() { "vxlan" } else { "host-gw" };
    json!({
        "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork",
        "metadata": { "name": named(name), "labels": { LABEL: "net" } },
        "spec": {
            "network": "net", "nodeUID": named(name), "podCIDRs": [prefix], "addresses": [address],
            "backend": { "type": kind },
        },
    })
}

/// Writes an object, whatever was there.
#[track_caller]
pub(crate) fn put(api: &ApiServer<'_>, object: &Value) -> Value {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let admin = api.admin();
    admin.apply(NodeNetworks, name, "test", true, object).ok()
}

impl Site {
    /// Nodes that the API server knows, with their prefixes, and that know where it is; they have no agent yet.
    pub(crate) fn over(
        cluster: Cluster,
        path: DataPath,
        api: &ApiServer<'_>,
        keys: &Value,
    ) -> Self {
        let plugin = path.plugin(&json!({ "cluster": source(keys) }));
        let net = Net::over(cluster, plugin);
        for node in net.cluster.nodes() {
            register(api, node, node.pod_prefixes());
        }
        let flannel = keys["layout"] == "flannel";
        let user = if flannel {
            User::FlannelAgent
        } else {
            User::Agent
        };
        let site = Self { net, user };
        site.tell(&api.kubeconfig(user));
        site
    }

    /// Gives all nodes a kubeconfig.
    pub(crate) fn tell(&self, text: &str) {
        for node in self.net.cluster.nodes() {
            node.write(CONFIG, text);
        }
    }

    pub(crate) fn node(&self, position: usize) -> &Node {
        self.net.cluster.node(position)
    }

    pub(crate) fn agent(&self, position: usize) -> Process {
        let node = self.node(position);
        let mut command = Command::new(workspace_plugin("node-agent"));
        let command = command.args(["--config", NETWORK, "--node", &name(node)]);
        node.start(command.env_clear())
    }

    /// Agents on all nodes, which know each other.
    pub(crate) fn agents(&self) -> Vec<Process> {
        let count = self.net.cluster.nodes().len();
        let agents: Vec<Process> = (0..count).map(|position| self.agent(position)).collect();
        for (position, agent) in agents.iter().enumerate() {
            await_ready(self.node(position), agent);
        }
        for node in self.net.cluster.nodes() {
            await_peers(node, count - 1);
        }
        agents
    }

    pub(crate) fn pods(&self) -> Vec<Attached> {
        let nodes = self.net.cluster.nodes().iter();
        nodes.map(|node| node.attach(&self.net.chain)).collect()
    }
}

/// What kubelet and controller manager do for a node.
pub(crate) fn register(api: &ApiServer<'_>, node: &Node, prefixes: &[String]) {
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    api.add_node(&name(node), &prefixes);
    let addresses = node.addresses().iter();
    let addresses: Vec<Value> = addresses
        .map(|address| json!({ "type": "InternalIP", "address": address }))
        .collect();
    let unavailable = json!({
        "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "lastHeartbeatTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({ "status": { "addresses": addresses, "conditions": [unavailable] } });
    let path = format!("{}/status", name(node));
    api.admin().merge(Nodes, &path, &status).ok();
}

fn nodes_of_kubernetes_reach_each_other<P: Over>() {
    let cluster = Cluster::build(&Layout::new(3));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let agents = site.agents();
    Matrix::of(&site.pods()).assert_all(12);
    for (position, node) in site.net.cluster.nodes().iter().enumerate() {
        let own = api.admin().get(Nodes, &name(node)).ok();
        await_condition("the agent has told that it is ready", || {
            let object = entry(&api, &name(node)).unwrap_or_default();
            condition(&object, "Ready")["status"] == "True"
        });
        let object = entry(&api, &name(node)).expect("the node's object");
        let spec = &object["spec"];
        let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(spec["addresses"], json!(addresses));
        assert_eq!(spec["podCIDRs"], json!(node.pod_prefixes()));
        assert_eq!(spec["podCIDRs"], own["spec"]["podCIDRs"]);
        assert_eq!(spec["nodeUID"], own["metadata"]["uid"]);
        assert_eq!(
            (&spec["network"], &spec["mtu"]),
            (&json!("net"), &json!(1500))
        );
        assert_eq!(spec["backend"]["vtepMAC"].is_string(), P::PATH.is_tunnel());
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&json!("Node"), &own["metadata"]["uid"])
        );
        assert_eq!(object["metadata"]["labels"][LABEL], "net");
        assert_eq!(
            condition(&object, "Ready")["observedGeneration"],
            object["metadata"]["generation"]
        );
        await_condition("the node is told to have a network", || {
            let own = api.admin().get(Nodes, &name(node)).ok();
            let said = condition(&own, "NetworkUnavailable");
            said["status"] == "False" && said["reason"] == "CniFabricIsUp"
        });
        let secret = api.token(User::Agent);
        assert!(
            !agents[position].log().contains(secret),
            "the token is in the log"
        );
    }
    let outcome = site.net.call(site.node(0), "STATUS");
    assert!(outcome.is_success(), "{outcome}");
}

fn what_is_written_to_kubernetes_reaches_the_kernel_of_a_node<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let _agents = site.agents();
    let node = site.node(0);
    let before = settled(node);
    let way = || node.sh("ip route show 10.244.77.0/24; ip nexthop show proto 167");
    put(&api, &far("far", P::PATH, "10.244.77.0/24", "192.0.2.77"));
    await_condition("the new node's route", || way().contains("dst 192.0.2.77"));
    put(&api, &far("far", P::PATH, "10.244.77.0/24", "192.0.2.78"));
    await_condition("the node's new address alone", || {
        let way = way();
        way.contains("dst 192.0.2.78") && !way.contains("192.0.2.77")
    });
    // One family alone.
    let mut both = far("far", P::PATH, "10.244.77.0/24", "192.0.2.78");
    both["spec"]["podCIDRs"] = json!(["10.244.77.0/24", "fd00:244:77::/64"]);
    put(&api, &both);
    await_condition("the other family's prefix", || {
        node.sh("ip -6 route show").contains("fd00:244:77::/64")
    });
    api.admin().delete(NodeNetworks, &named("far")).ok();
    await_condition("nothing is left of it", || !way().contains("192.0.2.78"));
    comes_back_to(node, &before);
}

fn with_kubernetes_a_restarted_agent_keeps_prefix_and_data_path<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let mut api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let mut agents = site.agents();
    let pods = site.pods();
    let node = site.node(0);
    let (own, before) = (prefixes(node), settled(node));
    assert_eq!(own, node.pod_prefixes());
    let stream = Stream::start(&pods[0].pod, pods[1].addresses[0], Duration::from_millis(2));
    await_condition("all is told", || {
        let object = entry(&api, &name(node)).unwrap_or_default();
        condition(&object, "Ready")["status"] == "True"
    });
    let kept = entry(&api, &name(node)).expect("the node's object");
    for _ in 0..5 {
        agents.remove(0).kill();
        let agent = site.agent(0);
        await_ready(node, &agent);
        await_peers(node, 1);
        assert_eq!(prefixes(node), own);
        agents.insert(0, agent);
    }
    let after = entry(&api, &name(node)).expect("the node's object");
    assert_eq!(after["spec"], kept["spec"]);
    assert_eq!(after["metadata"]["uid"], kept["metadata"]["uid"]);
    assert_eq!(
        after["metadata"]["generation"],
        kept["metadata"]["generation"]
    );
    // With the server away.
    api.cut();
    agents.remove(0).kill();
    agents.insert(0, site.agent(0));
    await_word(node, "not ready");
    for _ in 0..50 {
        let ping = cni_testkit::Ping::to(&pods[1].addresses[1].to_string());
        let answer = pods[0].pod.run(|| ping.send());
        assert!(answer.is_ok(), "{answer:?}");
    }
    api.heal();
    await_ready(node, &agents[0]);
    await_peers(node, 1);
    assert_eq!(prefixes(node), own);
    stream.await_sent(21);
    let tally = stream.finish();
    assert!(tally.sent > 20 && tally.lost == 0, "{tally:?}");
    settled(node)
        .without("/run/")
        .assert_unchanged_since(&before);
}

fn a_node_removed_from_kubernetes_goes_and_the_own_entry_is_put_right<P: Over>() {
    let cluster = Cluster::build(&Layout::new(3));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let mut agents = site.agents();
    let pods = site.pods();
    let (node, gone) = (site.node(0), site.node(2));
    let admin = api.admin();
    let stream = Stream::start(&pods[0].pod, pods[1].addresses[0], Duration::from_millis(2));
    // Others change and remove what is this node's.
    let before = entry(&api, &name(node)).expect("the node's object");
    let theirs = json!({ "spec": { "addresses": ["192.0.2.99"] }, "metadata": { "labels": { LABEL: "net" } } });
    admin.merge(NodeNetworks, &name(node), &theirs).ok();
    await_condition("it is put right", || {
        entry(&api, &name(node)).is_some_and(|object| object["spec"] == before["spec"])
    });
    admin.delete(NodeNetworks, &name(node)).ok();
    await_condition("it is made anew", || {
        entry(&api, &name(node)).is_some_and(|object| {
            object["spec"] == before["spec"]
                && object["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        })
    });
    await_condition("its readiness is told anew", || {
        let object = entry(&api, &name(node)).unwrap_or_default();
        condition(&object, "Ready")["status"] == "True"
    });
    await_peers(site.node(1), 2);
    // A node leaves for good: the garbage collector takes what it owned.
    agents.remove(2).stop().expect("an end");
    api.remove_node(&name(gone));
    for node in [site.node(0), site.node(1)] {
        await_peers(node, 1);
        await_condition("no route leads to it", || {
            let routes = node.sh("ip route show table all");
            !routes.contains(&gone.pod_prefixes()[0])
        });
    }
    stream.await_sent(21);
    let tally = stream.finish();
    assert!(tally.sent > 20, "{tally:?}");
    Matrix::of(&pods[..2]).assert_all(4);
}

fn a_node_that_kubernetes_says_is_unavailable_is_put_right<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let mut api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let _agents = site.agents();
    let node = site.node(0);
    let is = |wanted: &str| {
        let object = api.admin().get(Nodes, &name(node)).ok();
        condition(&object, "NetworkUnavailable")["status"] == wanted
    };
    await_condition("it is told to have a network", || is("False"));
    let theirs = json!({ "status": { "conditions": [{
        "type": "NetworkUnavailable", "status": "True", "reason": "Other", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    api.admin()
        .merge(Nodes, &format!("{}/status", name(node)), &theirs)
        .ok();
    assert!(is("True"));
    // With the next reading of the Node, which a new connection brings.
    api.reset();
    let is = |wanted: &str| {
        let object = api.admin().get(Nodes, &name(node)).ok();
        condition(&object, "NetworkUnavailable")["status"] == wanted
    };
    await_condition("it is put right", || is("False"));
}

fn an_object_of_kubernetes_that_is_no_good_is_left_out_by_name<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let _agents = site.agents();
    let pods = site.pods();
    let node = site.node(0);
    let before = settled(node);
    let own = prefixes(site.node(1)).remove(0);
    let mut owned = far("liar", P::PATH, "10.244.90.0/24", "192.0.2.9");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": name(site.node(1)),
        "uid": api.admin().get(Nodes, &name(site.node(1))).ok()["metadata"]["uid"],
    }]);
    let mut other = far("other", P::PATH, "10.244.91.0/24", "192.0.2.9");
    other["spec"]["backend"]["type"] = if P::PATH.is_tunnel() {
        "host-gw"
    } else {
        "vxlan"
    }
    .into();
    for (object, words) in [
        (
            far("outside", P::PATH, "192.168.0.0/16", "192.0.2.9"),
            "192.168.0.0/16",
        ),
        (
            far("everything", P::PATH, "0.0.0.0/0", "192.0.2.9"),
            "0.0.0.0/0",
        ),
        (far("thief", P::PATH, &own, "192.0.2.9"), own.as_str()),
        (
            far("me", P::PATH, "10.244.92.0/24", "192.0.2.1"),
            "this node's own",
        ),
        (
            far("nowhere", P::PATH, "10.244.93.0/24", "127.0.0.1"),
            "loopback",
        ),
        (owned, "name and nodeUID are others"),
        (other, "its backend is"),
    ] {
        put(&api, &object);
        let bad = object["metadata"]["name"].as_str().expect("a name");
        await_word(node, words);
        let text = page(node, "/readyz").expect("a page");
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains(bad),
            "{text}"
        );
        // The rest goes on, beside it.
        put(&api, &far("good", P::PATH, "10.244.78.0/24", "192.0.2.79"));
        await_condition("a good one is followed", || {
            node.sh("ip nexthop show").contains("192.0.2.79")
        });
        api.admin().delete(NodeNetworks, &named("good")).ok();
        api.admin().delete(NodeNetworks, bad).ok();
        await_condition(&format!("{bad} is forgotten"), || {
            metric(node, "cni_agent_source_rejected") == 0.0
                && !node.sh("ip nexthop show").contains("192.0.2.79")
                && page(node, "/readyz").is_some_and(|page| !page.contains(bad))
        });
    }
    comes_back_to(node, &before);
    Matrix::of(&pods).assert_all(4);
}

fn without_prefixes_of_kubernetes_nobody_is_attached_until_they_come<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let late = site.node(1);
    api.remove_node(&name(late));
    let agents = [site.agent(0), site.agent(1)];
    await_ready(site.node(0), &agents[0]);
    await_word(late, "is not there");
    register(&api, late, &[]);
    await_word(late, "podCIDRs");
    let pod = cni_testkit::Pod::new("early");
    let failure = late
        .run(|| site.net.chain.add(&pod, "eth0"))
        .expect_err("no prefix")
        .failure();
    assert_eq!(failure.code, 11, "{failure:?}");
    let patch = json!({ "spec": { "podCIDRs": late.pod_prefixes() } });
    api.admin().merge(Nodes, &name(late), &patch).ok();
    await_ready(late, &agents[1]);
    assert_eq!(prefixes(late), late.pod_prefixes());
    for node in site.net.cluster.nodes() {
        await_peers(node, 1);
    }
    Matrix::of(&site.pods()).assert_all(4);
}
