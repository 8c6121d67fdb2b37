//! Publishing a port beside another one and beside ten thousand, and reaching the first and the last of those.
//!
//! On both nodes a connection is tracked: where none is, flows of UDP need not be looked for.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::{Chain, Invocation, Pod};
use serde_json::{Value, json};

use crate::contestants::Contestants;
use crate::measure::Series;

/// So many attachments with so many ports each.
const ATTACHMENTS: u16 = 100;
const EACH: u16 = 100;
const FIRST: u16 = 20_000;
const LAST: u16 = FIRST + ATTACHMENTS * EACH - 1;
/// Ports that are none of those.
const OTHER: u16 = 8080;
const STANDING: u16 = 8081;
const CONNECTIONS: usize = 2_000;

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    let Some(ours) = contestants.all.first() else {
        return;
    };
    println!("\n== One more published port, ms at p50 of {runs} runs (portmap alone)");
    println!(
        "{:<10} {:>12} {:>12} {:>8} {:>12} {:>12} {:>8}",
        "", "ADD, one", "10,000", "ratio", "DEL, one", "10,000", "ratio"
    );
    let nodes = [Node::new(&ours.directory), Node::new(&ours.directory)];
    nodes.iter().for_each(Node::begin);
    nodes[1].crowd();
    for protocol in ["tcp", "udp"] {
        let mut series = [(); 2].map(|()| (Series::default(), Series::default()));
        for _ in 0..runs {
            for (node, (add, del)) in nodes.iter().zip(&mut series) {
                node.pod_of_the_node.run(|| {
                    add.run(&node.portmap("ADD", "one", &ports(OTHER, 1, protocol)));
                    del.run(&node.portmap("DEL", "one", &ports(OTHER, 1, protocol)));
                });
            }
        }
        let p50 = |series: &Series| series.percentile(50);
        let [(add, del), (add_many, del_many)] = &series;
        println!(
            "{protocol:<10} {:>12.2} {:>12.2} {:>8.2} {:>12.2} {:>12.2} {:>8.2}",
            p50(add),
            p50(add_many),
            p50(add_many) / p50(add),
            p50(del),
            p50(del_many),
            p50(del_many) / p50(del)
        );
    }
    connect(&nodes[1]);
}

fn ports(first: u16, count: u16, protocol: &str) -> Value {
    let all = (first..first + count)
        .map(|port| json!({ "hostPort": port, "containerPort": 80, "protocol": protocol }));
    json!({ "portMappings": all.collect::<Vec<_>>() })
}

/// New TCP connections from outside, through the first and the last port in turn.
fn connect(node: &Node) {
    let server = node.serve();
    std::thread::spawn(move || while server.accept().is_ok() {});
    let mut times = [Vec::new(), Vec::new()];
    node.outside.run(|| {
        for round in 0..CONNECTIONS {
            for place in [round % 2, 1 - round % 2] {
                let port = [FIRST, LAST][place];
                let start = Instant::now();
                let stream = TcpStream::connect(("192.0.2.1", port)).expect("a connection");
                times[place].push(start.elapsed());
                drop(stream);
            }
        }
    });
    let [first, last] = times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    });
    println!(
        "\na new connection from outside among 10,000 ports, us at p50 of {CONNECTIONS}: through the first {first:.1}, \
         through the last {last:.1}, ratio {:.3}",
        last / first
    );
}

/// A node with a pod, and a host outside.
struct Node {
    plugins: PathBuf,
    pod_of_the_node: Pod,
    outside: Pod,
    pod: Pod,
    result: Value,
}

impl Node {
    fn new(plugins: &std::path::Path) -> Self {
        let (node, outside, pod) = (Pod::new("node"), Pod::new("outside"), Pod::new("pod"));
        node.run(|| {
            sh(&format!(
                "ip link add up0 type veth peer name eth0 netns {}\n\
                 ip address add 192.0.2.1/24 dev up0\n\
                 ip link set up0 up\n\
                 ip link set lo up\n\
                 sysctl -qw net.ipv4.ip_forward=1",
                outside.path().display()
            ));
        });
        outside.run(|| sh("ip address add 192.0.2.254/24 dev eth0\nip link set eth0 up"));
        let list = json!({ "cniVersion": "1.1.0", "name": "ports", "plugins": [{
            "type": "bridge", "bridge": "bench0", "isDefaultGateway": true,
            "ipam": {
                "type": "host-local", "ranges": [[{ "subnet": "10.80.0.0/24" }]], "dataDir": format!("/run/bench/{}", node.id()),
            },
        }] });
        let chain = Chain::new(list, &[plugins]);
        let added = node.run(|| chain.add(&pod, "eth0"));
        Self {
            plugins: plugins.to_owned(),
            pod_of_the_node: node,
            outside,
            pod,
            result: added.unwrap_or_else(|outcome| panic!("{outcome}")),
        }
    }

    /// A run of portmap for the pod's interface as this container's.
    fn portmap(&self, verb: &str, container: &str, ports: &Value) -> Invocation {
        let config = json!({
            "cniVersion": "1.1.0", "name": "ports", "type": "portmap", "runtimeConfig": ports,
            "prevResult": self.result,
        });
        Invocation::attachment(self.plugins.join("portmap"), verb, &self.pod)
            .env("CNI_CONTAINERID", container)
            .config(&config)
    }

    /// Publishes a port, and connects to it.
    fn begin(&self) {
        let ports = ports(STANDING, 1, "tcp");
        let outcome = self
            .pod_of_the_node
            .run(|| self.portmap("ADD", "standing", &ports).run());
        assert!(outcome.is_success(), "{outcome}");
        let _server = self.serve();
        let stream = self
            .outside
            .run(|| TcpStream::connect(("192.0.2.1", STANDING)));
        stream.expect("a connection");
    }

    fn crowd(&self) {
        self.pod_of_the_node.run(|| {
            for number in 0..ATTACHMENTS {
                let ports = ports(FIRST + number * EACH, EACH, "tcp");
                let outcome = self.portmap("ADD", &format!("c{number}"), &ports).run();
                assert!(outcome.is_success(), "{outcome}");
            }
        });
    }

    /// What listens; the kernel completes connections by itself.
    fn serve(&self) -> TcpListener {
        let listener = self.pod.run(|| TcpListener::bind("0.0.0.0:80"));
        listener.expect("the pod's port")
    }
}

fn sh(script: &str) {
    let status = Command::new("/bin/sh").args(["-ec", script]).status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
}
