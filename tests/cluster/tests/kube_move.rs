//! Nodes whose addresses change, and which tell Kubernetes so.

use cni_testkit::cluster::{Cluster, Layout, Matrix, await_condition};
use cni_testkit::kube::{ApiServer, Resource::Nodes};
use cni_testkit::{Test, tests};
use serde_json::json;

use crate::kube::{Site, entry, name, server};
use crate::world::{Flow, Over, await_ready};

pub(crate) const TESTS: &[Test] =
    &tests![a_nodes_new_address_is_told_to_kubernetes_at_once::<Flow>];

fn a_nodes_new_address_is_told_to_kubernetes_at_once<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let node = site.node(0);
    // The Node says which of several addresses is meant.
    node.sh("ip -6 address add 2001:db8:a::99/64 dev eth0 nodad");
    let internal = |address: &str| json!({ "type": "InternalIP", "address": address });
    let addresses = ["192.0.2.1", "2001:db8:a::99"].map(internal);
    let path = format!("{}/status", name(node));
    let status = json!({ "status": { "addresses": addresses } });
    api.admin().merge(Nodes, &path, &status).ok();
    let agents = site.agents();
    let pods = site.pods();
    let spec = || entry(&api, &name(node)).unwrap_or_default()["spec"].take();
    assert_eq!(spec()["addresses"], json!(["192.0.2.1", "2001:db8:a::99"]));
    node.sh("ip -6 address del 2001:db8:a::99/64 dev eth0; ip -6 address del 2001:db8:a::1/64 dev eth0; ip -6 address add 2001:db8:a::77/64 dev eth0 nodad");
    await_condition("the object has the new IPv6 address", || {
        spec()["addresses"] == json!(["192.0.2.1", "2001:db8:a::77"])
    });
    // The connection with the server goes with its address.
    node.sh("ip address del 192.0.2.1/24 dev eth0; ip address add 192.0.2.77/24 dev eth0");
    await_condition("the object has the new IPv4 address", || {
        spec()["addresses"] == json!(["192.0.2.77", "2001:db8:a::77"])
    });
    await_condition("the other node follows", || {
        let hops = site.node(1).sh("ip nexthop show");
        hops.contains(" 192.0.2.77 ") && !hops.contains(" 192.0.2.1 ")
    });
    await_ready(node, &agents[0]);
    await_condition("pods reach each other", || {
        Matrix::of(&pods).count() == (4, 4)
    });
    node.sh("ip link set eth0 mtu 1400");
    await_condition("the object has the new MTU", || spec()["mtu"] == 1400);
}
