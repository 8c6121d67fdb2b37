//! Our nodes and Flannel's in one etcd: the exact keys and values, and a node as Flannel makes it.

use std::fmt::Write as _;

use cni_testkit::cluster::{
    Attached, Cluster, Families, Layout, Matrix, await_condition, flannel_mac, join_as_flannel,
};
use cni_testkit::etcd::Etcd;
use cni_testkit::{Process, Test, require, tests};
use serde_json::{Value, json};

use crate::agent::{said, task};
use crate::etcd::{Site, await_peers, await_word, prefixes, server};
use crate::lab;
use crate::world::{Classic, Over, await_ready, device_mac};

pub(crate) const TESTS: &[Test] = &tests![our_nodes_and_flannels_are_one_network::<Classic>,];

const SUBNETS: &str = "/coreos.com/network/subnets/";

/// What Flannel's daemon writes for a node.
fn lease(address: &str, mac: &str) -> String {
    format!(
        r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    )
}

fn our_nodes_and_flannels_are_one_network<P: Over>() {
    let _ = require(lab::which("ip"), "iproute2");
    let layout = Layout::new(3).pods(Families::V4).underlay(Families::V4);
    let cluster = Cluster::build(&layout);
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let configure = |vni: u32| {
        let config = json!({
            "Network": "10.244.0.0/16", "SubnetMin": "10.244.128.0", "EnableIPv6": true, "IPv6Network": "fd00:244::/48",
            "Backend": { "Type": "vxlan", "VNI": vni },
        });
        etcd.put("/coreos.com/network/config", &config.to_string(), 0);
    };
    configure(7);
    // Where prefixes come from, Flannel's own configuration says.
    let keys = json!({ "layout": "flannel", "podNetworks": [] });
    let site = Site::over(cluster, P::PATH, &host, &keys);
    let flannel = site.node(2);
    let mac = flannel_mac(flannel, &flannel.pod_prefixes()[0]);
    etcd.put(
        &format!("{SUBNETS}10.244.3.0-24"),
        &lease("192.0.2.3", &mac),
        0,
    );
    // The first of ours was Flannel's until now: what it had is found by its address.
    etcd.put(
        &format!("{SUBNETS}10.244.1.0-24"),
        &lease("192.0.2.1", "0e:00:00:00:00:01"),
        0,
    );
    let mut agents: Vec<Process> = (0..2).map(|position| site.agent(position)).collect();
    await_word(
        site.node(0),
        "`Backend.VNI` is 7 there, and `vni` is 1 here",
    );
    configure(1);
    for (position, agent) in agents.iter().enumerate() {
        await_ready(site.node(position), agent);
        await_peers(site.node(position), 2);
    }
    assert_eq!(prefixes(site.node(0)), ["10.244.1.0/24"]);
    let second = &prefixes(site.node(1))[0];
    let third: u8 = second
        .split('.')
        .nth(2)
        .and_then(|part| part.parse().ok())
        .expect("a prefix");
    assert!(third >= 128, "{second} is before `SubnetMin`");
    for position in 0..2 {
        let node = site.node(position);
        let own = prefixes(node).remove(0);
        let key = format!("{SUBNETS}{}", own.replace('/', "-"));
        let kept = etcd.keys(&key).remove(0);
        assert_eq!(kept.key, key);
        assert_eq!(
            kept.value,
            lease(&node.addresses()[0].to_string(), &device_mac(node))
        );
    }
    let mut pods: Vec<Attached> = (0..2)
        .map(|position| site.node(position).attach(&site.net.chain))
        .collect();
    // What Flannel's daemon does with what it finds in etcd.
    join_as_flannel(flannel, &[], |_, _| String::new());
    let mut script = String::new();
    for kept in etcd
        .keys(SUBNETS)
        .iter()
        .filter(|kept| !kept.key.contains("10.244.3.0"))
    {
        let subnet = kept.key.trim_start_matches(SUBNETS).replace('-', "/");
        let base = subnet.split('/').next().unwrap_or_default();
        let value: Value = serde_json::from_str(&kept.value).expect("a lease");
        let mac = value["BackendData"]["VtepMAC"]
            .as_str()
            .expect("a hardware address");
        let address = value["PublicIP"].as_str().expect("an address");
        let _ = writeln!(
            script,
            "ip neigh replace {base} lladdr {mac} dev flannel.1 nud permanent\n\
             bridge fdb append {mac} dev flannel.1 dst {address}\n\
             ip route replace {subnet} via {base} dev flannel.1 onlink"
        );
    }
    flannel.sh(&script);
    pods.push(flannel.attach(&lab::bridge(flannel)));
    Matrix::of(&pods).assert_all(6);
    // One that speaks another tunnel is told by name, and left out.
    let other = r#"{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"udp"}"#;
    etcd.put(&format!("{SUBNETS}10.244.9.0-24"), other, 0);
    await_word(site.node(0), "its backend is \"udp\"");
    // Of one with two families, the IPv4 one is used: its IPv6 comes over IPv6, where our device does not listen.
    let dual = format!("{SUBNETS}10.244.8.0-24&fd00:244:0:8::-64");
    let value = r#"{"PublicIP":"192.0.2.8","PublicIPv6":"2001:db8:a::8","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:08"},"BackendV6Data":{"VNI":1,"VtepMAC":"0e:00:00:00:06:08"}}"#;
    etcd.put(&dual, value, 0);
    await_condition("a route to its IPv4", || {
        let routes = site
            .node(0)
            .sh("ip route show table all; bridge fdb show dev vxlan.1");
        routes.contains("10.244.8.0/24") && routes.contains("0e:00:00:00:00:08 dst 192.0.2.8")
    });
    // 8472, among the sockets of the node.
    let sockets = |family: &str| {
        site.node(0)
            .sh(&format!("cat /proc/thread-self/net/{family}"))
    };
    assert!(sockets("udp").contains(":2118 ") && !sockets("udp6").contains(":2118 "));
    assert_eq!(etcd.keys(&dual)[0].value, value);
    etcd.delete(&dual);
    // Flannel's node leaves.
    etcd.delete(&format!("{SUBNETS}10.244.3.0-24"));
    await_condition("nothing is left of it", || {
        !site
            .node(0)
            .sh("ip route show table all")
            .contains("10.244.3.0")
    });
    Matrix::of(&pods[..2]).assert_all(2);
    // One of ours leaves, when no pod uses what it had.
    let node = site.node(1);
    let key = format!("{SUBNETS}{}", prefixes(node).remove(0).replace('/', "-"));
    agents.remove(1).stop().expect("an end");
    let cleanup = ["--cleanup"];
    let text = said(&task(&site.net, 1, &cleanup));
    assert!(
        text.contains(&format!("{key} left: 1 of its addresses")),
        "{text}"
    );
    assert_eq!(etcd.keys(&key).len(), 1);
    node.detach(&site.net.chain, &pods[1]);
    let text = said(&task(&site.net, 1, &cleanup));
    assert!(text.contains(&format!("{key} removed")), "{text}");
    assert_eq!(etcd.keys(&key), []);
    await_peers(site.node(0), 0);
}
