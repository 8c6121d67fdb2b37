//! The bridge plugin's VLANs, with frames to prove them.

use std::process::Command;
use std::time::{Duration, Instant};

use cni_core::host::netlink::{KernelNetlink, Netlink, NetlinkExt, Vlan};
use cni_testkit::{Invocation, Pod, Snapshot, Test, ping, tests, workspace_plugin};
use serde_json::{Value, json};

use crate::netlink::{add, del, native, now, vlan, witness};

pub(crate) const TESTS: &[Test] = &tests![
    pods_of_one_vlan_reach_each_other_and_no_others,
    a_trunk_carries_its_vlans_tagged_and_vlan_1_untagged,
    a_trunk_beside_a_vlan_carries_that_one_untagged,
    the_default_vlan_stays_when_it_is_to_be_preserved,
    gateways_of_vlans_are_reached_and_route_between_them,
    a_gateway_that_conflicts_leaves_nothing,
    check_names_vlans_that_are_gone_or_foreign,
    del_and_gc_leave_nothing,
    a_bridge_that_did_not_filter_begins_to,
    a_bridge_that_lost_its_last_port_is_ready_again_at_once,
];

/// A network: pods of all of them share the bridge, and (without a gateway) the subnet, so that only VLANs part them.
struct Network {
    config: Value,
}

struct Attached<'a> {
    network: &'a Network,
    pod: Pod,
    result: Value,
}

impl Network {
    /// The `number` sets the addresses apart: 10.9.0.`number`0 and on.
    fn new(name: &str, number: u8, changes: Value) -> Self {
        let mut config = json!({
            "cniVersion": "1.1.0",
            "name": name,
            "type": "bridge",
            "bridge": "br0",
            "ipam": {
                "type": "host-local",
                "ranges": [[{
                    "subnet": "10.9.0.0/24",
                    "rangeStart": format!("10.9.0.{number}0"),
                    "rangeEnd": format!("10.9.0.{number}9"),
                }]],
            },
        });
        for (key, value) in changes.as_object().expect("an object") {
            config[key] = value.clone();
        }
        Self { config }
    }

    fn run(&self, verb: &str, pod: &Pod, config: &Value) -> Invocation {
        Invocation::attachment(workspace_plugin("bridge"), verb, pod).config(config)
    }

    fn attach(&self) -> Attached<'_> {
        let pod = Pod::new("pod");
        let add = self.run("ADD", &pod, &self.config);
        let result = add.start().finish_or_try_again().result();
        let attached = Attached {
            network: self,
            pod,
            result,
        };
        attached.run("CHECK").run().silent_success();
        attached
    }
}

impl Attached<'_> {
    fn run(&self, verb: &str) -> Invocation {
        let mut config = self.network.config.clone();
        config["prevResult"] = self.result.clone();
        self.network.run(verb, &self.pod, &config)
    }

    fn address(&self) -> String {
        let text = self.result["ips"][0]["address"]
            .as_str()
            .expect("an address");
        text.split('/').next().expect("an address").to_owned()
    }

    fn port(&self) -> String {
        let name = self.result["interfaces"][1]["name"].as_str();
        name.expect("the host's end").to_owned()
    }

    fn vlans(&self) -> Vec<Vlan> {
        let netlink = KernelNetlink::open().expect("a socket");
        now(netlink.vlans(&self.port())).expect("the port's VLANs")
    }

    #[track_caller]
    fn reaches(&self, target: &str) {
        let answer = ping(&self.pod, target);
        assert!(answer.is_ok(), "{} to {target}: {answer:?}", self.address());
    }

    #[track_caller]
    fn does_not_reach(&self, target: &str) {
        let answer = ping(&self.pod, target);
        assert!(
            answer.is_err(),
            "{} to {target}: {answer:?}",
            self.address()
        );
    }

    /// A VLAN interface inside, as software in a pod with a trunk makes one.
    fn tagged(&self, id: u16, address: &str) {
        let commands = [
            format!("link add link eth0 name eth0.{id} type vlan id {id}"),
            format!("address add {address} dev eth0.{id}"),
            format!("link set eth0.{id} up"),
        ];
        self.pod.run(|| {
            for command in commands {
                let status = Command::new("ip").args(command.split(' ')).status();
                assert!(status.is_ok_and(|status| status.success()), "ip {command}");
            }
        });
    }
}

fn access(name: &str, number: u8, id: u16) -> Network {
    Network::new(name, number, json!({ "vlan": id }))
}

fn pods_of_one_vlan_reach_each_other_and_no_others() {
    let (blue, red) = (access("blue", 1, 100), access("red", 2, 200));
    let (a, b) = (blue.attach(), blue.attach());
    let (c, d) = (red.attach(), red.attach());
    a.reaches(&b.address());
    c.reaches(&d.address());
    a.does_not_reach(&c.address());
    d.does_not_reach(&b.address());
    assert_eq!(a.vlans(), [native(100)]);
    assert_eq!(
        witness(&c.port()),
        [(200, "PVID Egress Untagged".to_owned())]
    );
}

fn a_trunk_carries_its_vlans_tagged_and_vlan_1_untagged() {
    let (blue, red) = (access("blue", 1, 100), access("red", 2, 200));
    let (green, plain) = (access("green", 3, 103), Network::new("plain", 4, json!({})));
    let trunk = json!({ "vlanTrunk": [{ "minID": 100, "maxID": 102 }, { "id": 200 }] });
    let trunk = Network::new("trunk", 5, trunk);
    let (a, c, e) = (blue.attach(), red.attach(), green.attach());
    let (p, t) = (plain.attach(), trunk.attach());
    let expected = [native(1), vlan(100), vlan(101), vlan(102), vlan(200)];
    assert_eq!(t.vlans(), expected);
    t.reaches(&p.address());
    t.does_not_reach(&a.address());
    // One VLAN a subnet inside, so that the route names the interface.
    for (id, peer) in [(100, &a), (200, &c), (103, &e)] {
        t.tagged(id, &format!("10.{}.0.1/24", id - 90));
        let inside = format!("address add 10.{}.0.2/24 dev eth0", id - 90);
        peer.pod.run(|| {
            let status = Command::new("ip").args(inside.split(' ')).status();
            assert!(status.is_ok_and(|status| status.success()));
        });
    }
    t.reaches("10.10.0.2");
    t.reaches("10.110.0.2");
    t.does_not_reach("10.13.0.2");
}

fn a_trunk_beside_a_vlan_carries_that_one_untagged() {
    let blue = access("blue", 1, 100);
    let both = json!({ "vlan": 100, "vlanTrunk": [{ "minID": 99, "maxID": 101 }] });
    let both = Network::new("both", 2, both);
    let (a, t) = (blue.attach(), both.attach());
    assert_eq!(t.vlans(), [vlan(99), native(100), vlan(101)]);
    t.reaches(&a.address());
    a.reaches(&t.address());
}

fn the_default_vlan_stays_when_it_is_to_be_preserved() {
    let keep = json!({ "vlan": 100, "preserveDefaultVlan": true });
    let (keep, drop) = (Network::new("keep", 1, keep), access("drop", 2, 100));
    let plain = Network::new("plain", 3, json!({}));
    let (k, d, p) = (keep.attach(), drop.attach(), plain.attach());
    let former = Vlan {
        pvid: false,
        ..native(1)
    };
    assert_eq!(k.vlans(), [former, native(100)]);
    assert_eq!(d.vlans(), [native(100)]);
    assert_eq!(p.vlans(), [native(1)]);
    k.reaches(&d.address());
    d.does_not_reach(&p.address());
    // It receives VLAN 1 and sends into VLAN 100.
    k.does_not_reach(&p.address());
}

fn a_bridge_that_did_not_filter_begins_to() {
    let plain = Network::new("plain", 1, json!({}));
    let (blue, red) = (access("blue", 2, 100), access("red", 3, 200));
    let (p, q) = (plain.attach(), plain.attach());
    assert_eq!(p.vlans(), [native(1)]);
    let (a, b, c) = (blue.attach(), blue.attach(), red.attach());
    a.reaches(&b.address());
    p.reaches(&q.address());
    a.does_not_reach(&c.address());
    p.does_not_reach(&a.address());
    p.run("CHECK").run().silent_success();
}

fn gatewayed(name: &str, id: u16, subnet: &str) -> Network {
    let changes = json!({
        "vlan": id,
        "isDefaultGateway": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": subnet }], [{ "subnet": format!("fd00:{id}::/64") }]] },
    });
    Network::new(name, 0, changes)
}

fn gateways_of_vlans_are_reached_and_route_between_them() {
    let blue = gatewayed("blue", 100, "10.1.0.0/24");
    let red = gatewayed("red", 200, "10.2.0.0/24");
    let (a, b, c) = (blue.attach(), blue.attach(), red.attach());
    let names = a.result["interfaces"].as_array().expect("interfaces");
    assert_eq!(names[3]["name"], "br0.100");
    assert!(
        names[3]["mac"].as_str().is_some_and(|mac| mac.len() == 17),
        "{names:?}"
    );
    for (pod, gateways) in [
        (&a, ["10.1.0.1", "fd00:100::1"]),
        (&b, ["10.1.0.1", "fd00:100::1"]),
        (&c, ["10.2.0.1", "fd00:200::1"]),
    ] {
        gateways.iter().for_each(|gateway| pod.reaches(gateway));
    }
    a.reaches(&b.address());
    a.reaches(&c.address());
    c.reaches(&a.address());
    // The later attachments found the gateway's pair as it should be.
    a.run("CHECK").run().silent_success();
    let netlink = KernelNetlink::open().expect("a socket");
    let gateway = now(netlink.link("br0.100"))
        .expect("a link")
        .expect("br0.100");
    let peer = gateway.peer.expect("a peer");
    let filter = cni_core::host::netlink::LinkFilter::Index(peer);
    let port = now(netlink.links(filter)).expect("links").remove(0);
    assert_eq!(
        now(netlink.vlans(&port.name)).expect("VLANs"),
        [native(100)]
    );
    now(netlink.apply_one(del(&port.name, 100, 100))).expect("a deletion");
    let failure = a.run("CHECK").run().failure();
    let text = format!("{} {}", failure.msg, failure.details);
    assert!(
        text.contains(&format!("{} is not in VLAN 100", port.name)),
        "{text}"
    );
    a.does_not_reach("10.1.0.1");
    // The next attachment repairs what they share.
    let d = blue.attach();
    d.reaches("10.1.0.1");
    a.reaches("10.1.0.1");
}

fn a_gateway_that_conflicts_leaves_nothing() {
    let blue = gatewayed("blue", 100, "10.1.0.0/24");
    let other = gatewayed("other", 100, "10.3.0.0/24");
    let a = blue.attach();
    let before = settled();
    let pod = Pod::new("refused");
    let failure = other.run("ADD", &pod, &other.config).run().failure();
    assert!(failure.msg.contains("10.1.0.1"), "{failure:?}");
    drop(pod);
    settled().assert_unchanged_since(&before);
    a.reaches("10.1.0.1");
}

fn check_names_vlans_that_are_gone_or_foreign() {
    let trunk = json!({ "vlan": 100, "vlanTrunk": [{ "minID": 10, "maxID": 12 }] });
    let network = Network::new("net", 1, trunk);
    let attached = network.attach();
    let port = attached.port();
    let netlink = KernelNetlink::open().expect("a socket");
    let apply = |change| now(netlink.apply_one(change)).expect("a change of VLANs");
    let drifts = || {
        let failure = attached.run("CHECK").run().failure();
        format!("{} {}", failure.msg, failure.details)
    };
    apply(del(&port, 100, 100));
    let text = drifts();
    assert!(
        text.contains(&format!("{port} is not in VLAN 100")),
        "{text}"
    );
    apply(add(&port, native(100), 100));
    attached.run("CHECK").run().silent_success();

    apply(del(&port, 11, 12));
    let text = drifts();
    assert!(
        text.contains(&format!("{port} is not in VLAN 11-12")),
        "{text}"
    );
    apply(add(&port, vlan(11), 12));
    apply(add(&port, vlan(7), 8));
    let text = drifts();
    assert!(text.contains(&format!("{port} is in VLAN 7-8")), "{text}");
    apply(del(&port, 7, 8));
    // In the VLAN, but untagged frames are in another.
    apply(add(&port, native(12), 12));
    let text = drifts();
    assert!(
        text.contains("VLAN 100") && text.contains("VLAN 12"),
        "{text}"
    );
}

/// What may stay: the forwarding switches, which nobody can tell the owner of, and the store's directory.
fn settled() -> Snapshot {
    Snapshot::take()
        .without("sysctl ")
        .without("/run/netns")
        .without(" /var/lib/cni")
        .without(" /run/cni")
        // A bridge gets its link-local address when duplicate address detection is through.
        .without("dst fe80:")
        .without("3333ff")
}

fn del_and_gc_leave_nothing() {
    let before = settled();
    let blue = gatewayed("blue", 100, "10.1.0.0/24");
    let trunk = json!({ "vlanTrunk": [{ "minID": 2, "maxID": 4094 }], "bridge": "br1" });
    let trunk = Network::new("trunk", 1, trunk);
    for network in [&blue, &trunk] {
        let (a, b) = (network.attach(), network.attach());
        a.run("DEL").run().silent_success();
        a.run("DEL").run().silent_success();
        b.run("CHECK").run().silent_success();
        b.run("DEL").run().silent_success();
        let mut config = network.config.clone();
        config["cni.dev/valid-attachments"] = json!([]);
        let gc = Invocation::new(workspace_plugin("bridge"), "GC").env("CNI_PATH", "/plugins");
        gc.config(&config).run().silent_success();
    }
    settled().assert_unchanged_since(&before);
}

/// The kernel looks at carriers at its leisure, and before 6.9 nobody can hurry it.
fn a_bridge_that_lost_its_last_port_is_ready_again_at_once() {
    let network = gatewayed("blue", 100, "10.1.0.0/24");
    let mut slowest = Duration::ZERO;
    for _ in 0..4 {
        let start = Instant::now();
        let attached = network.attach();
        slowest = slowest.max(start.elapsed());
        attached.reaches("10.1.0.1");
        attached.run("DEL").run().silent_success();
    }
    println!("slowest ADD and CHECK: {slowest:?}");
    let untagged = Network::new("red", 1, json!({ "isGateway": true, "bridge": "br1" }));
    for _ in 0..4 {
        let attached = untagged.attach();
        attached.reaches("10.9.0.1");
        attached.run("DEL").run().silent_success();
    }
}
