//! Whole chains: as one, killed, collected.

use std::fs;
use std::net::IpAddr;

use cni_testkit::{Ping, Pod, Snapshot, Test, at_every_moment, tests};
use serde_json::{Value, json};

use crate::net::{GATEWAY, Net, bridge};

pub(crate) const TESTS: &[Test] = &tests![
    a_chain_works_as_one_without_any_program,
    an_add_killed_anywhere_leaves_nothing_after_del_and_gc,
    a_del_killed_anywhere_leaves_nothing_after_del_and_gc,
    a_lost_del_is_collected,
];

/// Every plugin of this workspace that can be in one chain, with a port of the node's published for either transport.
fn chain(port: u16) -> Net {
    let published = ["tcp", "udp"]
        .map(|protocol| json!({ "hostPort": port, "containerPort": 80, "protocol": protocol }));
    Net::of(&[
        bridge(),
        json!({ "type": "portmap" }),
        json!({ "type": "firewall", "ingressPolicy": "same-bridge" }),
        json!({
            "type": "bandwidth",
            "ingressRate": 80_000_000, "ingressBurst": 800_000, "egressRate": 80_000_000, "egressBurst": 800_000,
        }),
        json!({
            "type": "tuning", "mtu": 1400, "txQLen": 77,
            "sysctl": { "net.core.somaxconn": "512", "net.ipv4.conf.IFNAME.arp_filter": "1" },
        }),
    ])
    .capabilities(json!({ "portMappings": published }))
}

/// The host's links, disciplines, nftables and files, and who holds addresses. What the address store remembers besides (the
/// last address, its index) is nobody's, and the bridge's link-local address gets its routes some time after it was made.
fn state() -> (Snapshot, Vec<(String, String)>) {
    let kernel = Snapshot::take()
        .without("/var/lib/cni")
        .without("dst fe80::");
    let held = crate::net::files("/var/lib/cni/networks/net");
    let held = held
        .into_iter()
        .filter(|(name, _)| name.parse::<IpAddr>().is_ok());
    (kernel, held.collect())
}

#[track_caller]
fn assert_as_before(before: &(Snapshot, Vec<(String, String)>), what: &str) {
    let after = state();
    let changes = after.0.since(&before.0);
    assert!(changes.is_empty(), "{what}: the state changed:\n{changes}");
    assert_eq!(after.1, before.1, "{what}: addresses");
}

/// A node on which everything shared has been made: a pod stays, another one has come and gone.
struct Node {
    net: Net,
    pod: Pod,
    keeper: Net,
    valid: Value,
    result: Value,
    kept: Pod,
    before: (Snapshot, Vec<(String, String)>),
}

impl Node {
    fn new() -> Self {
        let (net, keeper) = (chain(8080), chain(8081));
        let (kept, pod) = (Pod::new("kept"), Pod::new("pod"));
        let result = keeper.add(&kept);
        net.add(&pod);
        net.del(&pod);
        let valid = json!([{ "containerID": kept.id(), "ifname": "eth0" }]);
        net.gc(&valid);
        Self {
            net,
            pod,
            keeper,
            valid,
            result,
            kept,
            before: state(),
        }
    }

    /// One DEL that knows nothing but the names, and a GC; then all is as before.
    #[track_caller]
    fn clean(&self, what: &str) {
        self.net.del(&self.pod);
        self.net.gc(&self.valid);
        assert_as_before(&self.before, what);
    }
}

fn a_chain_works_as_one_without_any_program() {
    let empty = "/run/no-programs";
    fs::create_dir_all(empty).expect("/run is the test's own");
    let net = chain(8080).env("PATH", empty);
    let pod = Pod::new("pod");
    for _ in 0..2 {
        let result = net.add(&pod);
        net.check(&pod, &result);
        for target in [GATEWAY, "fd00:9::1"] {
            let ping = pod.run(|| Ping::to(target).send());
            assert!(ping.is_ok(), "{target}: {ping:?}");
        }
        for plugin in net.plugins() {
            net.status(plugin).silent_success();
        }
        net.del_with(&pod, &result);
        net.del(&pod);
        net.gc(&json!([]));
    }
    let left = Snapshot::take();
    for text in [
        "link br0",
        "link veth",
        "link ifb",
        "qdisc ",
        "nft table",
        "/run/cni/tuning/",
    ] {
        assert_eq!(left.lines(text), Vec::<&str>::new(), "{text}");
    }
}

fn an_add_killed_anywhere_leaves_nothing_after_del_and_gc() {
    let node = Node::new();
    for (index, plugin) in node.net.plugins().iter().enumerate() {
        let died = at_every_moment(|number| {
            let mut result = Value::Null;
            for earlier in &node.net.plugins()[..index] {
                let run = node.net.run(earlier, "ADD", &node.pod, &result);
                result = run.run().result();
            }
            let run = node.net.run(plugin, "ADD", &node.pod, &result);
            let fate = run.killed_at(number);
            node.clean(&format!("ADD of {} {fate}", plugin["type"]));
            fate
        });
        assert!(died > 3, "{died} moments of {}", plugin["type"]);
    }
    node.keeper.check(&node.kept, &node.result);
}

fn a_del_killed_anywhere_leaves_nothing_after_del_and_gc() {
    let node = Node::new();
    for (index, plugin) in node.net.plugins().iter().enumerate() {
        let died = at_every_moment(|number| {
            node.net.add(&node.pod);
            for later in node.net.plugins()[index + 1..].iter().rev() {
                let run = node.net.run(later, "DEL", &node.pod, &Value::Null);
                run.run().silent_success();
            }
            let run = node.net.run(plugin, "DEL", &node.pod, &Value::Null);
            let fate = run.killed_at(number);
            node.clean(&format!("DEL of {} {fate}", plugin["type"]));
            fate
        });
        assert!(died > 3, "{died} moments of {}", plugin["type"]);
    }
    node.keeper.check(&node.kept, &node.result);
}

fn a_lost_del_is_collected() {
    let node = Node::new();
    for _ in 0..3 {
        let lost = Pod::new("lost");
        chain(8082).add(&lost);
        // With its namespace, and without.
        node.net.add(&node.pod);
        drop(lost);
        node.net.gc(&node.valid);
        assert_as_before(&node.before, "GC");
    }
    node.keeper.check(&node.kept, &node.result);
}
