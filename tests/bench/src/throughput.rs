//! Packets from pod to pod on two nodes, beside the same way made by hand: by `ip` commands and a rule for nft that masquerades what
//! leaves the cluster, as the network needs; and by `ip` commands alone, with nothing else on the node.

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
const BYTES: usize = 1 << 30;
const CHUNK: usize = 128 << 10;
/// Questions of one byte, each answered by one.
const TRIPS: u32 = 10_000;

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
}

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    let Some(ours) = contestants.all.first() else {
        return;
    };
    let runs = runs.min(15);
    println!(
        "\n== From pod to pod on another node, one TCP connection: medians of {runs} transfers of 1 GiB, and of {runs} times \
         {TRIPS} questions of one byte, interleaved"
    );
    for unit in ["Gbit/s", "us a trip"] {
        print!("{:<10} {unit:>10} {:>34}", "", "");
    }
    println!();
    for _ in 0..2 {
        print!(
            "{:<10} {:>10} {:>10} {:>6} {:>9} {:>6}",
            "", "ours", "by hand", "ratio", "bare", "ratio"
        );
    }
    println!();
    for way in [Way::Classic, Way::Flow, Way::HostGw] {
        let mut all = [
            Pair::ours(way, &ours.directory),
            Pair::by_hand(way, true),
            Pair::by_hand(way, false),
        ];
        // The first of each pays for neighbours and caches.
        all.iter().for_each(Pair::warm_up);
        for run in 0..runs {
            // Whoever is next finds the processor as the one before has left it.
            all.rotate_left(run % 3);
            all.iter_mut().for_each(Pair::round);
            all.rotate_right(run % 3);
        }
        let series = [
            all.each_ref().map(|pair| median(&pair.throughput)),
            all.each_ref().map(|pair| median(&pair.trip)),
        ];
        for [ours, hand, bare] in series {
            print!(
                "{:<10} {ours:>10.2} {hand:>10.2} {:>6.3} {bare:>9.2} {:>6.3}",
                way.name(),
                ours / hand,
                ours / bare
            );
        }
        println!();
    }
}

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

    fn by_hand(way: Way, masquerades: bool) -> Self {
        let cluster = Cluster::build(&layout());
        let pods = [0, 1].map(|position| by_hand(way, &cluster, position));
        for node in cluster.nodes().iter().filter(|_| masquerades) {
            node.sh("nft add table ip nat
                 nft add chain ip nat postrouting '{ type nat hook postrouting priority srcnat; }'
                 nft add rule ip nat postrouting ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade");
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
        let seconds = transfer(self.connect(), BYTES).as_secs_f64();
        self.throughput.push(BYTES as f64 * 8e-9 / seconds);
        settle();
        let seconds = ask(self.connect()).as_secs_f64();
        self.trip.push(seconds * 1e6 / f64::from(TRIPS));
    }
}

fn transfer((mut near, mut far): (TcpStream, TcpStream), bytes: usize) -> Duration {
    let start = Instant::now();
    let writer = thread::spawn(move || {
        let chunk = vec![7; CHUNK];
        for _ in 0..bytes / CHUNK {
            near.write_all(&chunk).expect("the connection stands");
        }
    });
    let (mut buffer, mut seen) = (vec![0; CHUNK], 0);
    loop {
        match far.read(&mut buffer).expect("the connection stands") {
            0 => break,
            length => seen += length,
        }
    }
    let took = start.elapsed();
    writer.join().expect("the writer");
    assert_eq!(seen, bytes);
    took
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
