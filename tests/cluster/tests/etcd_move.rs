//! A node that gets other addresses: all others follow.

use cni_testkit::cluster::{Cluster, Families, Layout, Matrix, await_condition};
use cni_testkit::etcd::Etcd;
use cni_testkit::{Test, tests};
use serde_json::{Value, json};

use crate::etcd::{Site, await_peers, prefixes, server};
use crate::world::{Classic, Flow, HostGw, Over, await_ready};

pub(crate) const TESTS: &[Test] = &tests![
    a_nodes_new_address_is_told_at_once::<Flow>,
    a_nodes_new_address_is_told_at_once::<HostGw>,
    a_node_in_flannels_keys_keeps_its_prefix_when_its_address_changes::<Classic>,
];

/// Replaces the node's address of a family that is not the one by which it speaks with etcd, and then the one that is. Neither is
/// noticed by a sign of life, of which there is one in 30 seconds.
fn a_nodes_new_address_is_told_at_once<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let agents = site.agents();
    let pods = site.pods();
    let (node, own) = (site.node(0), prefixes(site.node(0)));
    let addresses = || {
        let kept = crate::etcd::entry(&etcd, "n1")?;
        let value: Value = serde_json::from_str(&kept.value).expect("an entry");
        Some(value["addresses"].clone())
    };
    // What nothing new is to begin with is not told, though it has been there longer.
    node.sh("ip -6 address add 2001:db8:a::77/64 dev eth0 nodad; ip -6 address change 2001:db8:a::1/64 dev eth0 preferred_lft 0");
    await_condition("the entry has the new IPv6 address", || {
        addresses() == Some(json!(["192.0.2.1", "2001:db8:a::77"]))
    });
    // An address that came later, and may go to another node, is not told.
    node.sh("ip -6 address add 2001:db8:a::99/64 dev eth0 nodad; ip address del 192.0.2.1/24 dev eth0; ip address add 192.0.2.77/24 dev eth0");
    await_condition("the entry has the new IPv4 address", || {
        addresses() == Some(json!(["192.0.2.77", "2001:db8:a::77"]))
    });
    await_condition("the other node follows", || {
        let hops = site.node(1).sh("ip nexthop show");
        hops.contains(" 192.0.2.77 ") && !hops.contains(" 192.0.2.1 ")
    });
    await_ready(node, &agents[0]);
    assert_eq!(prefixes(node), own);
    await_condition("pods reach each other", || {
        Matrix::of(&pods).count() == (4, 4)
    });
    // An MTU is told in the same way.
    node.sh("ip link set eth0 mtu 1400");
    await_condition("the entry has the new MTU", || {
        crate::etcd::entry(&etcd, "n1").is_some_and(|kept| kept.value.contains("\"mtu\":1400"))
    });
}

fn a_node_in_flannels_keys_keeps_its_prefix_when_its_address_changes<P: Over>() {
    let layout = Layout::new(2).pods(Families::V4).underlay(Families::V4);
    let cluster = Cluster::build(&layout);
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let keys = json!({ "layout": "flannel", "podNetworks": [{ "prefix": "10.244.0.0/16" }] });
    let site = Site::over(cluster, P::PATH, &host, &keys);
    let agents = site.agents();
    let pods = site.pods();
    let (node, own) = (site.node(0), prefixes(site.node(0)));
    node.sh("ip address del 192.0.2.1/24 dev eth0; ip address add 192.0.2.77/24 dev eth0");
    let key = format!("/coreos.com/network/subnets/{}", own[0].replace('/', "-"));
    await_condition("the key has the new address", || {
        let kept = etcd.keys(&key);
        kept.len() == 1 && kept[0].value.contains("\"PublicIP\":\"192.0.2.77\"")
    });
    await_ready(node, &agents[0]);
    await_peers(site.node(1), 1);
    assert_eq!(prefixes(node), own);
    assert_eq!(etcd.keys("/coreos.com/network/subnets/").len(), 2);
    await_condition("pods reach each other", || {
        Matrix::of(&pods).count() == (2, 2)
    });
}
