//! Who an agent is to the Kubernetes API, and what it may.

use cni_testkit::cluster::{Cluster, Layout, await_condition};
use cni_testkit::kube::{self, ApiServer, Resource, User};
use cni_testkit::{Test, tests};
use serde_json::json;

use crate::etcd::{await_word, prefixes};
use crate::kube::{Site, far, put, server};
use crate::world::{Flow, Over, await_ready, page};

use Resource::NodeNetworks;

pub(crate) const TESTS: &[Test] = &tests![
    a_token_of_kubernetes_is_read_again_when_it_has_rotated::<Flow>,
    rights_that_are_missing_in_kubernetes_are_named::<Flow>,
    a_certificate_tells_kubernetes_who_the_agent_is::<Flow>,
];

/// Where a node has its token.
const TOKEN: &str = "/run/kube/token";

fn a_token_of_kubernetes_is_read_again_when_it_has_rotated<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let mut api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let node = site.node(0);
    site.tell(&api.kubeconfig_with_token_file(TOKEN));
    node.write(TOKEN, api.token(User::Agent));
    let agents = site.agents();
    let old = api.token(User::Agent).to_owned();
    let fresh = api.rotate(User::Agent);
    node.write(TOKEN, &fresh);
    api.revoke(User::Agent);
    await_condition("the old token is worth nothing", || {
        api.client_with(&old).list(NodeNetworks, "limit=1").code == 401
    });
    // A new connection has to say who it is.
    api.reset();
    put(&api, &far("far", P::PATH, "10.244.77.0/24", "192.0.2.77"));
    await_condition("what is new is followed", || {
        node.sh("ip nexthop show").contains("192.0.2.77")
    });
    for secret in [old, fresh] {
        assert!(!agents[0].log().contains(&secret), "a token is in the log");
        let page = page(node, "/readyz").unwrap_or_default();
        assert!(!page.contains(&secret), "a token is told");
    }
}

fn rights_that_are_missing_in_kubernetes_are_named<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let node = site.node(0);
    site.tell(&api.kubeconfig(User::Stranger));
    let agent = site.agent(0);
    await_word(node, "nodenetworks.cni-fabric.internal is forbidden");
    assert!(prefixes(node).is_empty());
    // The right ones are read when they are there: no restart.
    site.tell(&api.kubeconfig(User::Agent));
    await_ready(node, &agent);
    // No more than these are asked for.
    if !kube::is_real() {
        let before = api.counts();
        assert_eq!(before.of("delete") + before.of("update"), 0, "{before:?}");
    }
}

fn a_certificate_tells_kubernetes_who_the_agent_is<P: Over>() {
    kube::only_ours();
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let node = site.node(0);
    site.tell(&api.kubeconfig_with_certificate(false));
    let agent = site.agent(0);
    await_word(node, "Unauthorized");
    site.tell(&api.kubeconfig_with_certificate(true));
    await_ready(node, &agent);
    assert!(!agent.log().contains("PRIVATE KEY"));
}
