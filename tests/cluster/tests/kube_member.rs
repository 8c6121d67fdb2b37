//! A node's own part in Kubernetes, against a server.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cni_core::cluster::{Node, NodeUid};
use cni_testkit::cluster::await_condition;
use cni_testkit::kube::{ApiServer, Resource, User, named};
use cni_testkit::{Pod, Test, tests};
use node_agent::kube::KubernetesSource;
use node_agent::kube::access::Origin;
use node_agent::kube::client::{Client, Trouble};
use node_agent::kube::layout::Layout;
use node_agent::kube::member::{Member, withdraw};
use node_agent::remote::facts::{Facts, Knows};
use node_agent::remote::pods::Pods;
use node_agent::status::Status;
use node_agent::telling::Telling;
use node_agent::tenure::{Standing, Tenure};
use serde_json::{Value, json};

use crate::kube_source::{LOOPBACK, NETWORK, Seen, in_pod, layout, origin};

pub(crate) const TESTS: &[Test] = &tests![
    a_node_tells_others_of_itself_and_puts_it_right,
    a_nodes_readiness_is_told_when_it_changes,
    new_pods_wait_for_the_node_and_its_prefixes,
    a_node_that_was_replaced_waits_for_its_former_pods,
    flannels_annotations_are_written_and_put_right,
    what_is_a_nodes_own_is_removed_and_nothing_else,
];

/// A node at 192.0.2.1.
#[derive(Debug)]
struct Somewhere;

#[async_trait]
impl Knows for Somewhere {
    async fn facts(&self, _local: Option<IpAddr>) -> Result<Facts, String> {
        Ok(Facts {
            addresses: vec![IpAddr::from([192, 0, 2, 1])],
            ..Facts::default()
        })
    }
}

/// Addresses that pods hold.
#[derive(Debug, Default)]
struct Held(Mutex<Vec<IpAddr>>);

impl Pods for Held {
    fn outside(&self, prefixes: &[ipnetwork::IpNetwork]) -> Result<Vec<IpAddr>, String> {
        let held = self.0.lock().expect("nobody panics");
        let outside = held
            .iter()
            .filter(|ip| !prefixes.iter().any(|prefix| prefix.contains(**ip)));
        Ok(outside.copied().collect())
    }
}

/// A member, and what it tells.
struct Own {
    seen: Seen<KubernetesSource>,
    tenure: Tenure,
    telling: Telling,
    pods: Arc<Held>,
}

impl Own {
    fn start(origin: Origin, layout: Layout) -> Self {
        let (telling, heard) = Telling::new();
        let pods = Arc::new(Held::default());
        let member = Member::new(
            &named("n1"),
            Arc::new(Somewhere),
            Arc::clone(&pods) as _,
            heard,
        );
        let tenure = Tenure::new("not yet");
        let source = KubernetesSource::member(origin, layout, member, tenure.clone());
        Self {
            seen: Seen::of(source),
            tenure,
            telling,
            pods,
        }
    }

    /// Takes events until the standing is so.
    async fn stands(&mut self, what: &str, so: impl Fn(&Standing) -> bool) {
        let tenure = self.tenure.clone();
        self.seen.until(what, |_| so(&tenure.standing())).await;
    }

    async fn holds(&mut self, prefix: &str) {
        let held = Standing::Holds(vec![prefix.parse().expect("a prefix")]);
        self.stands(&format!("it holds {prefix}"), |standing| *standing == held)
            .await;
    }

    async fn waits(&mut self, words: &str) {
        self.stands(
            words,
            |standing| matches!(standing, Standing::Withheld(why) if why.contains(words)),
        )
        .await;
    }

    fn tell(&self, ready: bool) {
        let mut node = Node::new(NodeUid::new("n1"), "n1");
        node.prefixes
            .push("10.244.1.0/24".parse().expect("a prefix"));
        let errors = if ready {
            Vec::new()
        } else {
            vec!["no route".to_owned()]
        };
        self.telling.tell(&Status {
            me: Some(Arc::new(node)),
            in_sync: true,
            compared: true,
            errors,
            ..Status::default()
        });
    }
}

/// Lets tasks of the runtime work until this is so.
async fn awaits(what: &str, so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !so() {
        assert!(
            std::time::Instant::now() < end,
            "not within 30 seconds: {what}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn own(server: &ApiServer<'_>) -> Value {
    server
        .admin()
        .get(Resource::NodeNetworks, &named("n1"))
        .body
}

fn node(server: &ApiServer<'_>) -> Value {
    server.admin().get(Resource::Nodes, &named("n1")).body
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

fn a_node_tells_others_of_itself_and_puts_it_right() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    let uid = server.add_node(&named("n1"), &["10.244.1.0/24"])["metadata"]["uid"].clone();
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        let mut own_part = Own::start(origin, layout(""));
        own_part.holds("10.244.1.0/24").await;
        own_part.seen.has(1).await;
        let wanted = json!({
            "network": NETWORK, "nodeUID": uid, "podCIDRs": ["10.244.1.0/24"], "addresses": ["192.0.2.1"],
            "backend": { "type": "host-gw" },
        });
        let is_so = || {
            let own = own(&server);
            let owner = &own["metadata"]["ownerReferences"][0];
            own["spec"] == wanted
                && own["metadata"]["labels"]["cni-fabric.internal/network"] == NETWORK
                && (&owner["kind"], &owner["uid"]) == (&json!("Node"), &uid)
        };
        assert!(is_so(), "{}", own(&server));
        let admin = server.admin();
        let name = named("n1");
        for change in [
            json!({ "spec": { "addresses": ["192.0.2.66"] } }),
            json!({ "spec": { "podCIDRs": ["10.244.66.0/24"] } }),
            json!({ "spec": { "network": "other" } }),
            json!({ "metadata": { "labels": { "cni-fabric.internal/network": "other" } } }),
            json!({ "metadata": { "ownerReferences": null } }),
        ] {
            admin.merge(Resource::NodeNetworks, &name, &change).ok();
            awaits(&format!("{change} is put right"), is_so).await;
        }
        admin.delete(Resource::NodeNetworks, &name).ok();
        awaits("it is there again", is_so).await;
        own_part.holds("10.244.1.0/24").await;
        // Neither was taken for a peer that has left.
        own_part.seen.has(1).await;
        assert_eq!(own_part.seen.removed(), 0);
    });
}

fn a_nodes_readiness_is_told_when_it_changes() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    server.add_node(&named("n1"), &["10.244.1.0/24"]);
    let taint = json!({ "status": { "conditions": [{
        "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated",
    }] } });
    let status = format!("{}/status", named("n1"));
    server.admin().merge(Resource::Nodes, &status, &taint).ok();
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        let mut own_part = Own::start(origin, layout(""));
        own_part.holds("10.244.1.0/24").await;
        assert_eq!(own(&server)["status"], Value::Null);
        own_part.tell(true);
        let is = |status: &str, message: &str| {
            let own = own(&server);
            let ready = condition(&own, "Ready");
            ready["status"] == status && ready["message"] == message
        };
        awaits("ready", || is("True", "")).await;
        let is_available = || {
            let node = node(&server);
            let condition = condition(&node, "NetworkUnavailable");
            condition["status"] == "False" && condition["reason"] == "CniFabricIsUp"
        };
        awaits("the network is available", is_available).await;
        let version = own(&server)["metadata"]["resourceVersion"].clone();
        own_part.tell(true);
        own_part.tell(false);
        awaits("not ready", || is("False", "no route")).await;
        assert_ne!(own(&server)["metadata"]["resourceVersion"], version);
        assert!(is_available(), "what others have of the node goes on");
        own_part.tell(true);
        awaits("ready again", || is("True", "")).await;
        let generation = own(&server)["metadata"]["generation"].clone();
        assert_eq!(generation, 1, "its readiness is no news for peers");
    });
}

fn new_pods_wait_for_the_node_and_its_prefixes() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        let mut own_part = Own::start(origin, layout(""));
        own_part.waits("is not there").await;
        server.add_node(&named("n1"), &[]);
        own_part.waits("allocate-node-cidrs").await;
        assert_eq!(own(&server)["kind"], "Status");
        let prefixes =
            json!({ "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"] } });
        server
            .admin()
            .merge(Resource::Nodes, &named("n1"), &prefixes)
            .ok();
        own_part.holds("10.244.1.0/24").await;
        server.remove_node(&named("n1"));
        own_part.waits("is not there").await;
        // What it had stays connected.
        own_part.seen.has(1).await;
        assert_eq!(own_part.seen.removed(), 0);
    });
}

fn a_node_that_was_replaced_waits_for_its_former_pods() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    server.add_node(&named("n1"), &["10.244.1.0/24"]);
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        let mut own_part = Own::start(origin, layout(""));
        own_part.holds("10.244.1.0/24").await;
        let address = "10.244.1.7".parse().expect("an address");
        own_part.pods.0.lock().expect("nobody panics").push(address);
        server.remove_node(&named("n1"));
        let uid = server.add_node(&named("n1"), &["10.244.9.0/24"])["metadata"]["uid"].clone();
        own_part.waits("10.244.1.7").await;
        assert_eq!(own(&server)["spec"]["nodeUID"], uid);
        own_part.pods.0.lock().expect("nobody panics").clear();
        own_part.holds("10.244.9.0/24").await;
    });
}

fn flannels_annotations_are_written_and_put_right() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    server.add_node(&named("n1"), &["10.244.1.0/24"]);
    let origin = origin(&server.kubeconfig(User::FlannelAgent));
    let key = |key: &str| format!("flannel.alpha.coreos.com/{key}");
    let value = |name: &str| node(&server)["metadata"]["annotations"][key(name)].clone();
    // As Flannel leaves a Node.
    let other = named("n2");
    server.add_node(&other, &["10.244.2.0/24"]);
    let annotations = |address: &str| {
        json!({ "metadata": { "annotations": {
            key("backend-type"): "host-gw", key("backend-data"): "null",
            key("kube-subnet-manager"): "true", key("public-ip"): address,
        } } })
    };
    let admin = server.admin();
    admin
        .merge(Resource::Nodes, &other, &annotations("192.0.2.2"))
        .ok();
    in_pod(&pod, async || {
        let flannel = layout(",\"layout\":\"flannel\"");
        let mut own_part = Own::start(origin, flannel);
        own_part.holds("10.244.1.0/24").await;
        own_part.seen.has(2).await;
        assert_eq!(value("public-ip"), "192.0.2.1");
        assert_eq!(value("backend-type"), "host-gw");
        assert_eq!(own(&server)["spec"]["addresses"], json!(["192.0.2.1"]));
        admin
            .merge(Resource::Nodes, &named("n1"), &annotations("192.0.2.66"))
            .ok();
        awaits("it is put right", || value("public-ip") == "192.0.2.1").await;
        admin
            .merge(Resource::Nodes, &other, &annotations("192.0.2.22"))
            .ok();
        let address: IpAddr = "192.0.2.22".parse().expect("an address");
        let uid = NodeUid::new(&other);
        own_part
            .seen
            .until("the other's address", |view| {
                view.known(&uid)
                    .is_some_and(|node| node.underlay == [address])
            })
            .await;
        assert_eq!(own_part.seen.removed(), 0);
    });
}

fn what_is_a_nodes_own_is_removed_and_nothing_else() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    server.add_node(&named("n1"), &["10.244.1.0/24"]);
    let others = json!({ "metadata": { "annotations": { "flannel.alpha.coreos.com/public-ip-overwrite": "192.0.2.1" } } });
    server
        .admin()
        .merge(Resource::Nodes, &named("n1"), &others)
        .ok();
    let origin = origin(&server.kubeconfig(User::FlannelAgent));
    in_pod(&pod, async || {
        {
            let flannel = layout(",\"layout\":\"flannel\"");
            let mut own_part = Own::start(origin.clone(), flannel);
            own_part.holds("10.244.1.0/24").await;
            own_part.tell(true);
            awaits("the network is available", || {
                condition(&node(&server), "NetworkUnavailable")["status"] == "False"
            })
            .await;
        }
        let withdrawn = async |user: User, network: &str| {
            let origin = crate::kube_source::origin(&server.kubeconfig(user));
            let mut client = Client::new(origin);
            client.connect().await.expect("a connection");
            withdraw(&mut client, &named("n1"), network).await
        };
        let refused = |left: &[Trouble]| {
            let forbidden = |trouble: &Trouble| matches!(trouble, Trouble::No { code: 403, .. });
            left.len() == 1 && left.iter().all(forbidden)
        };
        // Whoever may not do all of it does the rest, and says what has been left.
        let (done, left) = withdrawn(User::FlannelAgent, NETWORK).await;
        assert!(done.len() == 2 && refused(&left), "{done:?} {left:?}");
        let (done, left) = withdrawn(User::Cleaner, "another").await;
        assert!(done.is_empty() && left.is_empty(), "{done:?} {left:?}");
        let (done, left) = withdrawn(User::Cleaner, NETWORK).await;
        assert!(done.len() == 1 && left.is_empty(), "{done:?} {left:?}");
        await_condition("its object is gone", || own(&server)["kind"] == "Status");
        let left = &node(&server)["metadata"]["annotations"];
        assert_eq!(
            left.as_object().map(serde_json::Map::len),
            Some(1),
            "{left}"
        );
        assert_eq!(
            condition(&node(&server), "NetworkUnavailable"),
            &Value::Null
        );
    });
}
