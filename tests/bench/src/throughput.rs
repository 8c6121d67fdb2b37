//! Packets from pod to pod on two nodes, beside the same way made by hand.
//!
//! By hand means `ip` commands and a rule for nft that masquerades what leaves the cluster, as the network needs. A tunnel that
//! carries what pods send to the addresses of nodes, so that it need not be translated, needs a rule for routing, too, which
//! makes each lookup of a route in the namespace a longer one (`fib4_has_custom_rules`); so the tunnels are measured by hand with
//! and without it. And there is the bare way, with nothing else on the node.
//!
//! What is measured has a real-time priority: each packet of a question wakes a thread, and whatever else runs on the machine
//! would be in between.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Cluster, Families, Layout, Node, flannel_mac, join_as_flannel};
use cni_testkit::{Chain, Pod};
use serde_json::json;

use crate::contestants::Contestants;
use crate::measure::settle;

/// What one transfer carries.
const BYTES: usize = 1 << 28;
const CHUNK: usize = 128 << 10;
/// Questions of one byte, each answered by one.
const TRIPS: u32 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Classic,
    Flow,
    HostGw,
}

/// Two pods on two nodes.
struct Pair {
    _cluster: Cluster,
    pods: [Pod; 2],
    target: IpAddr,
    /// Gigabits per second.
    throughput: Vec<f64>,
    /// Microseconds.
    trip: Vec<f64>,
    /// Milliseconds of processor time for a GiB, of both ends and of all that is done for their packets within their calls.
    spent: Vec<f64>,
}

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    let Some(ours) = contestants.all.first() else {
        return;
    };
    let runs = runs.min(30);
    println!(
        "\n== From pod to pod on another node, one TCP connection: medians of {runs} transfers of 256 MiB, and of {runs} times \
         {TRIPS} questions of one byte, interleaved; ratios are medians of the rounds' own"
    );
    if !hurry("-r", "10") {
        println!(
            "(without a real-time priority, which `chrt` gives to root: the machine has to be quiet)"
        );
    }
    println!(
        "{:<10} {:<26} {:>8} {:>7} {:>12} {:>10} {:>7}",
        "", "", "Gbit/s", "ratio", "cpu ms/GiB", "us a trip", "ratio"
    );
    for way in [Way::Classic, Way::Flow, Way::HostGw] {
        measure(way, &ours.directory, runs);
    }
    hurry("-o", "0");
}

/// Gives this process, and the threads that it begins from now on, another priority.
fn hurry(policy: &str, priority: &str) -> bool {
    let mut chrt = std::process::Command::new("chrt");
    let chrt = chrt.args([policy, "-p", priority, &std::process::id().to_string()]);
    chrt.output().is_ok_and(|output| output.status.success())
}

fn measure(way: Way, plugins: &std::path::Path, runs: usize) {
    let mut all = vec![
        ("ours", Pair::ours(way, plugins)),
        ("by hand", Pair::by_hand(way, &[MASQUERADE, TO_NODES])),
        ("by hand, pods to pods", Pair::by_hand(way, &[MASQUERADE])),
        ("bare", Pair::by_hand(way, &[])),
    ];
    if way == Way::HostGw {
        // Nothing but routes is needed.
        all.remove(1);
    }
    // The first of each pays for neighbours and caches.
    all.iter().for_each(|(_, pair)| pair.warm_up());
    let count = all.len();
    for run in 0..runs {
        // Whoever is next finds the processor as the one before has left it.
        all.rotate_left(run % count);
        all.iter_mut().for_each(|(_, pair)| pair.round());
        all.rotate_right(run % count);
    }
    let Some((_, ours)) = all.first() else {
        return;
    };
    for (name, pair) in &all {
        let [rate, spent, trip] =
            [&pair.throughput, &pair.spent, &pair.trip].map(|series| median(series));
        println!(
            "{:<10} {name:<26} {rate:>8.2} {:>7.3} {spent:>12.0} {trip:>10.2} {:>7.3}",
            way.name(),
            ratio(&ours.throughput, &pair.throughput),
            ratio(&ours.trip, &pair.trip)
        );
    }
}

/// The median of what each round's pair gives: the machine is not the same for a minute, but mostly for a round.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    median(&ratios)
}

/// What leaves the cluster is masqueraded.
const MASQUERADE: &str = "nft add table ip nat
    nft add chain ip nat postrouting '{ type nat hook postrouting priority srcnat; }'
    nft add rule ip nat postrouting ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade";

/// What pods send to the addresses of nodes has a table of its own, whose routes lead into the tunnel.
const TO_NODES: &str = "ip rule add from 10.244.0.0/16 lookup 167 pref 31000";

fn median(series: &[f64]) -> f64 {
    let mut sorted = series.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Flow => "flow",
            Self::HostGw => "host-gw",
        }
    }

    /// What a packet of a pod has less than one of the underlay, in bytes.
    fn overhead(self) -> u32 {
        match self {
            Self::Classic => 50,
            Self::Flow => 36,
            Self::HostGw => 0,
        }
    }
}

fn layout() -> Layout {
    Layout::new(2).pods(Families::V4).underlay(Families::V4)
}

impl Pair {
    fn ours(way: Way, plugins: &std::path::Path) -> Self {
        let cluster = Cluster::build(&layout());
        let mut plugin =
            json!({ "cluster": { "file": "/run/cluster.json" }, "ipam": { "type": "host-local" } });
        plugin["type"] = if way == Way::HostGw {
            "host-gw"
        } else {
            "vxlan"
        }
        .into();
        if way != Way::HostGw {
            plugin["dataPath"] = way.name().into();
        }
        let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
        let chain = Chain::new(list, &[plugins]);
        let pods = [0, 1].map(|position| {
            let node = cluster.node(position);
            node.write("/run/cluster.json", &cluster.describe(0..2).to_string());
            node.attach(&chain)
        });
        let target = pods[1].addresses[0];
        Self::of(cluster, pods.map(|attached| attached.pod), target)
    }

    fn by_hand(way: Way, scripts: &[&str]) -> Self {
        let cluster = Cluster::build(&layout());
        let pods = [0, 1].map(|position| by_hand(way, &cluster, position));
        for node in cluster.nodes() {
            scripts.iter().for_each(|script| {
                node.sh(script);
            });
        }
        let target = pod_address(cluster.node(1)).parse().expect("an address");
        Self::of(cluster, pods, target)
    }

    fn of(cluster: Cluster, pods: [Pod; 2], target: IpAddr) -> Self {
        Self {
            _cluster: cluster,
            pods,
            target,
            throughput: Vec::new(),
            trip: Vec::new(),
            spent: Vec::new(),
        }
    }

    /// A connection from the first pod to the second: its two ends.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let listener = self.pods[1].run(|| TcpListener::bind((self.target, 0)));
        let listener = listener.expect("a port of the second pod");
        let address = listener.local_addr().expect("its number");
        let end = Instant::now() + Duration::from_secs(20);
        let near = loop {
            match self.pods[0].run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)))
            {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "no connection to {address}: {error}"),
            }
        };
        let (far, _) = listener.accept().expect("the connection");
        (near, far)
    }

    fn warm_up(&self) {
        transfer(self.connect(), BYTES / 8);
    }

    fn round(&mut self) {
        settle();
        let (took, spent) = transfer(self.connect(), BYTES);
        self.throughput
            .push(BYTES as f64 * 8e-9 / took.as_secs_f64());
        let share = (1 << 30) as f64 / BYTES as f64;
        self.spent.push(spent.as_secs_f64() * 1e3 * share);
        settle();
        let seconds = ask(self.connect()).as_secs_f64();
        self.trip.push(seconds * 1e6 / f64::from(TRIPS));
    }
}

/// How long it took, and the processor time of both threads.
fn transfer((mut near, mut far): (TcpStream, TcpStream), bytes: usize) -> (Duration, Duration) {
    let (start, before) = (Instant::now(), processor_time());
    let writer = thread::spawn(move || {
        let chunk = vec![7; CHUNK];
        for _ in 0..bytes / CHUNK {
            near.write_all(&chunk).expect("the connection stands");
        }
        processor_time()
    });
    let (mut buffer, mut seen) = (vec![0; CHUNK], 0);
    loop {
        match far.read(&mut buffer).expect("the connection stands") {
            0 => break,
            length => seen += length,
        }
    }
    let took = start.elapsed();
    let spent = writer.join().expect("the writer") + processor_time().saturating_sub(before);
    assert_eq!(seen, bytes);
    (took, spent)
}

/// What the calling thread has used (`/proc/thread-self/schedstat`).
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

fn ask((mut near, mut far): (TcpStream, TcpStream)) -> Duration {
    for end in [&near, &far] {
        end.set_nodelay(true).expect("no delay");
    }
    let answers = thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() {
            far.write_all(&byte).expect("the connection stands");
        }
    });
    let start = Instant::now();
    let mut byte = [7];
    for _ in 0..TRIPS {
        near.write_all(&byte).expect("the connection stands");
        near.read_exact(&mut byte).expect("an answer");
    }
    let took = start.elapsed();
    drop(near);
    answers.join().expect("whoever answers");
    took
}

fn pod_address(node: &Node) -> String {
    format!("{}.9", third_of(node))
}

/// `10.244.1` of the first node.
fn third_of(node: &Node) -> &str {
    let prefix = node.pod_prefixes().first().map_or("", String::as_str);
    prefix.rsplit_once('.').map_or("", |(start, _)| start)
}

/// A pod on a bridge, and the way to the other node.
fn by_hand(way: Way, cluster: &Cluster, position: usize) -> Pod {
    let (node, peer) = (cluster.node(position), cluster.node(1 - position));
    let pod = Pod::new("by-hand");
    let mtu = 1500 - way.overhead();
    let network = third_of(node);
    node.sh(&format!(
        "ip link add cni0 mtu {mtu} type bridge\n\
         ip address add {network}.1/24 dev cni0\n\
         ip link set cni0 up\n\
         ip link add veth0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}\n\
         ip link set veth0 master cni0 up",
        pod.path().display()
    ));
    pod.run(|| {
        let script = format!(
            "ip address add {} dev eth0; ip link set eth0 up; ip route add default via {network}.1",
            pod_address(node) + "/24"
        );
        let status = std::process::Command::new("/bin/sh")
            .args(["-ec", &script])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{script}");
    });
    let (prefix, outer) = (&peer.pod_prefixes()[0], peer.addresses()[0]);
    match way {
        Way::Classic => join_as_flannel(node, &[peer], flannel_mac),
        Way::Flow => {
            node.sh(&format!(
                "ip link add vxlan.1 mtu {mtu} type vxlan dstport 4790 external gpe\n\
                 ip link set vxlan.1 up\n\
                 ip route add {prefix} encap ip id 1 dst {outer} dev vxlan.1"
            ));
        }
        Way::HostGw => {
            node.sh(&format!("ip route add {prefix} via {outer}"));
        }
    }
    pod
}
