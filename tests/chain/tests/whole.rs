//! Whole chains: as one, killed, collected.

use std::fs;
use std::net::IpAddr;

use cni_core::host::Host;
use cni_core::host::conntrack::{Flow, FlowFilter};
use cni_testkit::{Ping, Pod, Snapshot, Test, at_every_moment, tests};
use serde_json::{Value, json};

use crate::cable::{NODE4, NODE6, block};
use crate::net::{GATEWAY, Net, bridge};
use crate::portmap::world::{Client, Named, outside};

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

/// What has to be as it was.
struct State {
    /// The host's links, disciplines, nftables and files. What the address store remembers (the last address, its index) is
    /// nobody's, and the bridge's link-local address gets its routes some time after it was made.
    kernel: Snapshot,
    /// Who holds addresses.
    held: Vec<(String, String)>,
    /// UDP flows that are led elsewhere than they were sent to, each with the kernel's number of it: by that one that was
    /// forgotten and has begun again is another.
    led: Vec<Flow>,
}

impl State {
    fn take() -> Self {
        let kernel = Snapshot::take()
            .without("/var/lib/cni")
            .without("dst fe80::");
        let held = crate::net::files("/var/lib/cni/networks/net");
        let held = held
            .into_iter()
            .filter(|(name, _)| name.parse::<IpAddr>().is_ok());
        Self {
            kernel,
            held: held.collect(),
            led: led(),
        }
    }

    #[track_caller]
    fn assert_is_back(&self, what: &str) {
        let after = Self::take();
        let changes = after.kernel.since(&self.kernel);
        assert!(changes.is_empty(), "{what}: the state changed:\n{changes}");
        assert_eq!(after.held, self.held, "{what}: addresses");
        assert_eq!(after.led, self.led, "{what}: flows");
    }
}

fn led() -> Vec<Flow> {
    let host = Host::open().expect("the kernel");
    let of = |is_ipv6| block(host.conntrack.flows(&FlowFilter::of(is_ipv6, 17))).expect("flows");
    let mut all: Vec<Flow> = [false, true].into_iter().flat_map(of).collect();
    all.retain(|flow| flow.reply_source != flow.destination);
    all.sort();
    all
}

/// Clients outside that ask a published port by an address of either family.
fn clients(outside: &Pod, port: u16) -> [Client; 2] {
    [format!("{NODE4}:{port}"), format!("[{NODE6}]:{port}")]
        .map(|target| Client::of(outside, &target))
}

#[track_caller]
fn answers(clients: &[Client; 2], who: &str) {
    for client in clients {
        assert_eq!(client.ask().expect("an answer"), who);
    }
}

/// A node on which everything shared has been made: a pod stays, whose port is asked from outside; another one has come and gone.
struct Node {
    outside: Pod,
    net: Net,
    pod: Pod,
    keeper: Net,
    valid: Value,
    result: Value,
    kept: Pod,
    asking: [Client; 2],
    _servers: [Named; 2],
    before: State,
}

impl Node {
    fn new() -> Self {
        let outside = outside();
        let (net, keeper) = (chain(8080), chain(8081));
        let (kept, pod) = (Pod::new("kept"), Pod::new("pod"));
        let _servers = [(&kept, "kept"), (&pod, "pod")]
            .map(|(pod, name)| pod.run(|| Named::here("[::]:80", name)));
        let result = keeper.add(&kept);
        net.add(&pod);
        net.del(&pod);
        let valid = json!([{ "containerID": kept.id(), "ifname": "eth0" }]);
        net.gc(&valid);
        let asking = clients(&outside, 8081);
        crate::net::flows_last();
        answers(&asking, "kept");
        let before = State::take();
        assert_eq!(before.led.len(), 2, "{:?}", before.led);
        Self {
            outside,
            net,
            pod,
            keeper,
            valid,
            result,
            kept,
            asking,
            _servers,
            before,
        }
    }

    /// One DEL that knows nothing but the names, and a GC; then all is as before.
    #[track_caller]
    fn clean(&self, what: &str) {
        self.net.del(&self.pod);
        self.collect(what);
    }

    #[track_caller]
    fn collect(&self, what: &str) {
        self.net.gc(&self.valid);
        // The flows of the port that stays go on.
        answers(&self.asking, "kept");
        self.before.assert_is_back(what);
    }

    /// The pod's port is asked from outside in either family, in flows of their own beside so many to others that will go.
    #[track_caller]
    fn ask_beside(&self, others: usize) {
        answers(&clients(&self.outside, 8080), "pod");
        let flows = led().len() - self.before.led.len();
        assert_eq!(flows, others + 2, "flows to the pod and to others");
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

/// A listener of the host's has the port before, and its clients go on asking whatever happens.
fn an_add_killed_anywhere_leaves_nothing_after_del_and_gc() {
    let node = Node::new();
    let _listeners = [format!("{NODE4}:8080"), format!("[{NODE6}]:8080")]
        .map(|address| Named::here(&address, "host"));
    let clients = clients(&node.outside, 8080);
    for (index, plugin) in node.net.plugins().iter().enumerate() {
        let died = at_every_moment(|number| {
            let mut result = Value::Null;
            for earlier in &node.net.plugins()[..index] {
                let run = node.net.run(earlier, "ADD", &node.pod, &result);
                result = run.run().result();
            }
            let run = node.net.run(plugin, "ADD", &node.pod, &result);
            let fate = run.killed_at(number);
            for client in &clients {
                let who = client.ask().expect("an answer");
                assert!(["host", "pod"].contains(&who.as_str()), "{who} answers");
            }
            node.clean(&format!("ADD of {} {fate}", plugin["type"]));
            answers(&clients, "host");
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
            node.ask_beside(0);
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
        let server = lost.run(|| Named::here("[::]:80", "lost"));
        chain(8082).add(&lost);
        answers(&clients(&node.outside, 8082), "lost");
        // With its namespace, and without.
        node.net.add(&node.pod);
        node.ask_beside(2);
        drop((server, lost));
        node.collect("GC");
    }
    node.keeper.check(&node.kept, &node.result);
}
