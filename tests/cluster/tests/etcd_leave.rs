//! What `--cleanup` removes of a node from etcd, and what it leaves there.

use cni_testkit::cluster::{Cluster, Layout, Matrix, Segment, await_condition};
use cni_testkit::etcd::{Etcd, Kept};
use cni_testkit::{Test, tests};
use serde_json::json;

use crate::agent::{said, task};
use crate::agent_heal::{comes_back_to, settled};
use crate::etcd::{PREFIX, Site, await_peers, entry, prefixes, server};
use crate::world::{Flow, HostGw, Over, await_ready};

pub(crate) const TESTS: &[Test] = &tests![
    cleanup_takes_a_node_out_of_etcd_and_nothing_else::<Flow>,
    cleanup_takes_a_node_out_of_etcd_and_nothing_else::<HostGw>,
    a_prefix_that_pods_use_is_left_to_its_lease::<Flow>,
    where_etcd_cannot_be_reached_cleanup_says_what_is_left::<Flow>,
];

const CLEANUP: &[&str] = &["--node", "n1", "--cleanup"];

/// The keys that speak of a node.
fn of(etcd: &Etcd<'_>, name: &str) -> Vec<Kept> {
    let mut keys = etcd.keys(PREFIX);
    keys.retain(|kept| kept.value.contains(&format!("\"{name}\"")));
    keys
}

fn cleanup_takes_a_node_out_of_etcd_and_nothing_else<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    // An operator's reservation outlives the node.
    let reserved = format!("{PREFIX}/claims/10.244.7.0-24");
    etcd.put(&reserved, r#"{"uid":"n1","name":"n1"}"#, 0);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let node = site.node(0);
    let before = settled(node);
    let mut agents = site.agents();
    assert_eq!(prefixes(node)[0], "10.244.7.0/24");
    let all = etcd.keys(PREFIX);
    let refused = task(&site.net, 0, CLEANUP);
    assert!(!refused.status.success(), "an agent runs");
    // Another machine that is told the same name has no right to what is there.
    agents.remove(1).stop().expect("an end");
    let text = said(&task(&site.net, 1, CLEANUP));
    assert!(
        text.contains("another machine goes by this node's name"),
        "{text}"
    );
    assert_eq!(etcd.keys(PREFIX), all);
    let second = site.agent(1);
    await_ready(site.node(1), &second);
    await_peers(site.node(1), 1);
    agents.remove(0).stop().expect("an end");
    let text = said(&task(&site.net, 0, CLEANUP));
    assert!(
        text.contains(&format!("etcd: {PREFIX}/nodes/n1 removed")),
        "{text}"
    );
    let kept: Vec<String> = of(&etcd, "n1").into_iter().map(|kept| kept.key).collect();
    assert_eq!(kept, [reserved], "{text}");
    let others = all.into_iter().filter(|kept| kept.value.contains("\"n2\""));
    assert_eq!(of(&etcd, "n2"), others.collect::<Vec<_>>());
    await_peers(site.node(1), 0);
    comes_back_to(node, &before);
    assert_eq!(said(&task(&site.net, 0, CLEANUP)), "nothing to do\n");
}

fn a_prefix_that_pods_use_is_left_to_its_lease<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let node = site.node(0);
    let mut agents = site.agents();
    let pods = site.pods();
    let (own, claims) = (prefixes(node), of(&etcd, "n1"));
    agents.remove(0).stop().expect("an end");
    let text = said(&task(&site.net, 0, CLEANUP));
    assert!(
        text.contains("left: 1 of its addresses are pods'"),
        "{text}"
    );
    assert_eq!(entry(&etcd, "n1"), None);
    let kept = of(&etcd, "n1");
    let claims = claims
        .into_iter()
        .filter(|kept| kept.key.contains("/claims/"));
    assert_eq!(kept, claims.collect::<Vec<_>>());
    // Whoever starts the agent again has the node as it was, and its pods.
    let agent = site.agent(0);
    await_ready(node, &agent);
    await_peers(node, 1);
    assert_eq!(prefixes(node), own);
    await_peers(site.node(1), 1);
    Matrix::of(&pods).assert_all(4);
    node.detach(&site.net.chain, &pods[0]);
    agent.stop().expect("an end");
    said(&task(&site.net, 0, CLEANUP));
    assert_eq!(of(&etcd, "n1"), []);
}

fn where_etcd_cannot_be_reached_cleanup_says_what_is_left<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let node = site.node(0);
    let before = settled(node);
    let agents = site.agents();
    let held = of(&etcd, "n1");
    drop(agents);
    site.net.cluster.set_strangers_cable(Segment::A, false);
    let text = said(&task(&site.net, 0, CLEANUP));
    assert!(
        text.contains("is left: http://192.0.2.222:2379 cannot be reached"),
        "{text}"
    );
    assert!(
        text.contains("its entry ends 300 s after its last sign of life"),
        "{text}"
    );
    comes_back_to(node, &before);
    assert_eq!(of(&etcd, "n1"), held);
    // Once it can be, the entry's address says whose it is, though nothing on this machine does any more.
    site.net.cluster.set_strangers_cable(Segment::A, true);
    await_condition("the node reaches etcd", || {
        said(&task(&site.net, 0, CLEANUP)).contains("nodes/n1 removed")
    });
    assert_eq!(of(&etcd, "n1"), []);
}
