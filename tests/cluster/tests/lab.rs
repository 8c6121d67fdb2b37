//! The lab itself, by a cluster made by hand: what the other tests take for granted.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cni_testkit::cluster::{
    Attached, Cluster, Families, Forged, Layout, Matrix, Node, Segment, Stream, await_condition,
    flannel_mac, join_as_flannel,
};
use cni_testkit::{
    Capture, Chain, Ping, Snapshot, Test, ping, require, sysctl, tests, workspace_plugin_dir,
};
use serde_json::json;

use crate::world;

pub(crate) const TESTS: &[Test] = &tests![
    a_cluster_made_by_hand_connects_all_pods_in_both_families,
    a_cluster_made_by_hand_works_on_an_underlay_of_one_family,
    a_cluster_made_by_hand_works_across_the_router,
    nodes_have_files_of_their_own_and_see_every_pods_namespace,
    a_cluster_of_thirty_nodes_is_built_whole,
    a_stream_counts_what_is_lost,
    nothing_reaches_a_pod_without_a_way,
    a_forged_packet_comes_out_of_a_tunnel_that_lets_everybody_in,
    a_program_on_a_node_ends_with_the_test,
];

fn a_cluster_made_by_hand_connects_all_pods_in_both_families() {
    by_hand(&Layout::new(3), 12);
}

fn a_cluster_made_by_hand_works_on_an_underlay_of_one_family() {
    // As with Flannel, pods of a family go over an underlay of that family.
    for families in [Families::V4, Families::V6] {
        by_hand(&Layout::new(3).underlay(families).pods(families), 6);
    }
}

fn a_cluster_made_by_hand_works_across_the_router() {
    let cluster = by_hand(&Layout::new(3).behind_the_router(&[2]), 12);
    assert_eq!(cluster.node(2).segment(), Segment::B);
}

fn by_hand(layout: &Layout, ways: usize) -> Cluster {
    let cluster = Cluster::build(layout);
    let pods = connect(&cluster);
    Matrix::of(&pods).assert_all(ways);
    cluster
}

/// Every node made as Flannel makes it, with a pod of our bridge plugin.
fn connect(cluster: &Cluster) -> Vec<Attached> {
    let _ = require(which("ip"), "iproute2");
    for node in cluster.nodes() {
        let others = cluster.nodes().iter();
        let peers: Vec<&Node> = others.filter(|peer| peer.name() != node.name()).collect();
        join_as_flannel(node, &peers, flannel_mac);
    }
    let nodes = cluster.nodes().iter();
    nodes.map(|node| node.attach(&bridge(node))).collect()
}

/// What Flannel's own CNI plugin delegates to.
pub(crate) fn bridge(node: &Node) -> Chain {
    let ranges = node.pod_prefixes().iter();
    let ranges: Vec<_> = ranges.map(|prefix| json!([{ "subnet": prefix }])).collect();
    let plugin = json!({
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": true,
        "mtu": 1430,
        "ipam": { "type": "host-local", "ranges": ranges },
    });
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
    Chain::new(list, &[&workspace_plugin_dir()])
}

fn nodes_have_files_of_their_own_and_see_every_pods_namespace() {
    let early = cni_testkit::Pod::new("early");
    let cluster = Cluster::build(&Layout::new(2));
    let late = cni_testkit::Pod::new("late");
    let [first, second] = [cluster.node(0), cluster.node(1)];
    let before = second.snapshot();
    first.write("/run/cni-fabric/167/state.json", "{}");
    first.sh("mkdir -p /var/lib/cni && echo 10.244.1.2 > /var/lib/cni/reserved");
    second.snapshot().assert_unchanged_since(&before);
    assert_eq!(
        first.read("/run/cni-fabric/167/state.json").as_deref(),
        Some("{}")
    );
    assert_eq!(second.read("/run/cni-fabric/167/state.json"), None);
    assert!(Snapshot::take().lines("cni-fabric").is_empty());
    for pod in [&early, &late] {
        let itself = pod.run(|| identity(Path::new("/proc/thread-self/ns/net")));
        for node in cluster.nodes() {
            let seen = node.run(|| identity(pod.path()));
            assert_eq!(seen, itself, "{}", pod.id());
        }
    }
    first.run(|| assert_eq!(sysctl("net/ipv4/ip_forward").as_deref(), Some("1")));
    assert_eq!(sysctl("net/ipv4/ip_forward").as_deref(), Some("0"));
    let links = first.sh("ls /sys/class/net");
    assert!(links.contains("eth0"), "{links}");
}

/// The identity of a namespace's file: the file system of namespaces, and the namespace's number in it.
fn identity(path: &Path) -> (u64, u64) {
    let metadata = std::fs::metadata(path).expect("a namespace");
    (metadata.dev(), metadata.ino())
}

fn a_cluster_of_thirty_nodes_is_built_whole() {
    let cluster = Cluster::build(&Layout::new(30));
    let last = cluster.node(29);
    for address in cluster.node(0).addresses() {
        assert!(ping(last.network(), &address.to_string()).is_ok());
    }
}

fn a_stream_counts_what_is_lost() {
    let cluster = Cluster::build(&Layout::new(2));
    let [first, second] = [cluster.node(0), cluster.node(1)];
    for target in second.addresses() {
        let stream = Stream::start(first.network(), *target, Duration::from_millis(5));
        stream.await_sent(40);
        let tally = stream.finish();
        assert_eq!(tally.lost, 0, "{tally:?}");
    }
    let target = second.addresses()[0];
    let stream = Stream::start(first.network(), target, Duration::from_millis(5));
    stream.await_sent(20);
    cluster.set_cable(second, false);
    let before = stream.sent();
    std::thread::sleep(Duration::from_millis(150));
    // One may have been on its way.
    stream.await_sent(before + 12);
    cluster.set_cable(second, true);
    await_condition("the cable works again", || {
        let again = Ping::to(&target.to_string()).timeout(Duration::from_millis(50));
        first.network().run(|| again.send()).is_ok()
    });
    let tally = stream.finish();
    assert!(tally.lost >= 10, "{tally:?}");
    assert!(tally.longest >= Duration::from_millis(100), "{tally:?}");
}

fn nothing_reaches_a_pod_without_a_way() {
    let cluster = Cluster::build(&Layout::new(2));
    let nodes = cluster.nodes().iter();
    let pods: Vec<Attached> = nodes.map(|node| node.attach(&bridge(node))).collect();
    let outside = &cluster.outside().pod;
    for target in &pods[1].addresses {
        for from in [&pods[0].pod, cluster.node(0).network(), outside] {
            let quick = Ping::to(&target.to_string()).timeout(Duration::from_millis(100));
            let outcome = from.run(|| quick.send());
            assert!(outcome.is_err(), "{} reaches {target}", from.id());
        }
    }
}

fn a_forged_packet_comes_out_of_a_tunnel_that_lets_everybody_in() {
    // The counterpart of the tests in which it must not: Flannel's device takes packets from anybody.
    let cluster = Cluster::build(&Layout::new(2));
    let pods = connect(&cluster);
    let stranger = cluster.stranger(Segment::A);
    let node = cluster.node(0);
    for (family, prefix) in node.pod_prefixes().iter().enumerate() {
        let (source, target) = (pods[1].addresses[family], pods[0].addresses[family]);
        let device = world::mac(&flannel_mac(node, prefix));
        let tunnel = (node.address_like(target), 8472).into();
        let capture = Capture::start(&pods[0].pod, "eth0");
        let wrong = Forged::classic(2, device, source, target).text("of another network");
        let forged = Forged::classic(1, device, source, target);
        // A busy machine may lose one.
        let seen = (0..10).find_map(|_| {
            wrong.send(&stranger.pod, None, tunnel);
            forged.send(&stranger.pod, None, tunnel);
            capture.find(Duration::from_millis(500), |frame| {
                assert!(!wrong.is_in(&frame.bytes), "a wrong VNI came in");
                forged.is_in(&frame.bytes)
            })
        });
        let seen = seen.expect("the forged packet");
        assert_eq!(seen.source(), Some(source));
        assert_eq!(seen.destination(), Some(target));
    }
}

fn a_program_on_a_node_ends_with_the_test() {
    let cluster = Cluster::build(&Layout::new(1));
    let node = cluster.node(0);
    let mut sleep = Command::new("/bin/sh");
    sleep.args([
        "-c",
        "echo hello > /run/hello; echo started; exec sleep 1000",
    ]);
    let process = node.start(&mut sleep);
    await_condition("it runs", || process.log().contains("started"));
    assert_eq!(node.read("/run/hello").as_deref(), Some("hello\n"));
    let directory = format!("/proc/{}", process.id());
    assert!(Path::new(&directory).exists());
    let status = process.stop().expect("an end");
    assert_eq!(status.signal(), Some(15));
    let process = node.start(&mut sleep);
    let directory = format!("/proc/{}", process.id());
    drop(process);
    assert!(!Path::new(&directory).exists());
}

pub(crate) fn which(program: &str) -> Option<String> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| format!("{directory}/{program}"))
        .find(|path| std::path::Path::new(path).is_file())
}
