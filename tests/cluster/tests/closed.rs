//! Closed by default: what does not come out of a tunnel, and what never leaves a node.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Attached, Families, Forged, Layout, Matrix, Node, Segment};
use cni_testkit::{Capture, Ping, Pod, Test, counters, tests};
use serde_json::{Value, json};

use crate::world::{Classic, DataPath, Flow, HostGw, Net, Over, device_mac, mac};

pub(crate) const TESTS: &[Test] = &tests![
    a_sender_that_is_no_peer_is_dropped_and_counted::<Flow>,
    a_sender_that_is_no_peer_is_dropped_and_counted::<Classic>,
    a_peer_speaks_for_its_own_pods_and_itself_only::<Flow>,
    a_peer_speaks_for_its_own_pods_and_itself_only::<Classic>,
    another_vni_is_dropped_and_counted::<Flow>,
    another_vni_is_dropped_and_counted::<Classic>,
    another_network_shares_the_port_with_a_vni_of_its_own,
    without_the_filter_everybody_comes_in::<Flow>,
    without_the_filter_everybody_comes_in::<Classic>,
    a_node_that_leaves_the_file_is_a_stranger::<Flow>,
    a_node_that_leaves_the_file_is_a_stranger::<Classic>,
    an_unused_address_never_leaves_by_the_default_route::<Flow>,
    an_unused_address_never_leaves_by_the_default_route::<Classic>,
    an_unused_address_never_leaves_by_the_default_route::<HostGw>,
];

/// A packet into the tunnel of a cluster's first node, to its first pod.
struct Attack<'a> {
    net: &'a Net,
    path: DataPath,
    target: &'a Attached,
    vni: u32,
    /// What arrives at the node, and at the pod. To end a capture costs more than an attack.
    seen: [Capture; 2],
}

/// What became of an attack.
#[derive(Debug)]
struct Outcome {
    /// How many packets have arrived at the node.
    arrived: u64,
    /// How many the pod has seen.
    came: u64,
    /// By how much each counter of the node's filter has risen.
    counted: Vec<u64>,
}

/// How long something has to become of an attack.
const PATIENCE: Duration = Duration::from_secs(20);

/// When a packet that has not arrived is sent again: a busy machine may lose one on its way to the node.
const AGAIN: Duration = Duration::from_secs(1);

impl<'a> Attack<'a> {
    fn new(net: &'a Net, path: DataPath, target: &'a Attached) -> Self {
        let places = [net.node_of(target).network(), &target.pod];
        Self {
            net,
            path,
            target,
            vni: 1,
            seen: places.map(|place| Capture::start(place, "eth0")),
        }
    }

    /// Sends a packet from a namespace's own address like `outer`, with that source inside, and waits until it is known what
    /// became of every one that was sent.
    fn send(&self, from: &Pod, outer: IpAddr, source: IpAddr) -> Outcome {
        let node = self.net.node_of(self.target);
        let target = self.target.address_like(source).expect("an address");
        let forged = match self.path {
            DataPath::Flow => Forged::flow(self.vni, source, target),
            _ => Forged::classic(self.vni, mac(&device_mac(node)), source, target),
        };
        let forged = forged.text(&format!("{source} by {} {}", from.id(), unique()));
        let before = dropped(node);
        let [wire, inside] = &self.seen;
        for capture in &self.seen {
            capture.drain();
        }
        // What goes out may be an error that holds the packet.
        let seen = |capture: &Capture| -> u64 {
            let frames = capture.drain().into_iter();
            let ours = frames.filter(|frame| !frame.outgoing && forged.is_in(&frame.bytes));
            ours.count() as u64
        };
        let tunnel = SocketAddr::new(node.address_like(outer), self.path.port());
        let (start, mut sent) = (Instant::now(), 0);
        let (mut arrived, mut came) = (0, 0);
        loop {
            if arrived == 0 && start.elapsed() >= AGAIN * sent {
                forged.send(from, None, tunnel);
                sent += 1;
            }
            arrived += seen(wire);
            came += seen(inside);
            let now = dropped(node).into_iter().zip(&before);
            let counted: Vec<u64> = now.map(|(now, before)| now - before).collect();
            let known = arrived > 0 && came + counted.iter().sum::<u64>() >= arrived;
            // One that is late is not to be taken for another attack's: it counts as lost after all the patience alone.
            let all = arrived == u64::from(sent);
            if known && all || start.elapsed() > PATIENCE {
                return Outcome {
                    arrived,
                    came,
                    counted,
                };
            }
        }
    }

    #[track_caller]
    fn is_dropped(&self, from: &Pod, outer: IpAddr, source: IpAddr) {
        let outcome = self.send(from, outer, source);
        let counted: u64 = outcome.counted.iter().sum();
        let right = outcome.came == 0 && outcome.arrived > 0 && counted == outcome.arrived;
        assert!(
            right,
            "{source} by {} is to be dropped: {outcome:?}",
            from.id()
        );
    }

    #[track_caller]
    fn passes(&self, from: &Pod, outer: IpAddr, source: IpAddr) {
        let outcome = self.send(from, outer, source);
        let counted: u64 = outcome.counted.iter().sum();
        let right = counted == 0 && outcome.arrived > 0 && outcome.came == outcome.arrived;
        assert!(right, "{source} by {} is to pass: {outcome:?}", from.id());
    }
}

/// A number that no other packet of the test bears.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// What the counters of a node's filter have counted.
fn dropped(node: &Node) -> Vec<u64> {
    node.run(|| counters("cni_fabric_", "input"))
}

/// Both families outside, both inside.
fn each_mix(net: &Net, pods: &[Attached], mut body: impl FnMut(IpAddr, usize)) {
    for outer in net.cluster.node(0).addresses() {
        for family in 0..pods[0].addresses.len() {
            body(*outer, family);
        }
    }
}

fn a_sender_that_is_no_peer_is_dropped_and_counted<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let stranger = net.cluster.stranger(Segment::A);
    let outside = net.cluster.outside();
    let attack = Attack::new(&net, P::PATH, &pods[0]);
    each_mix(&net, &pods, |outer, family| {
        let pod = pods[1].addresses[family];
        let own = net.cluster.node(1).address_like(pod);
        for sender in [&stranger.pod, &outside.pod] {
            for source in [pod, own] {
                attack.is_dropped(sender, outer, source);
            }
        }
    });
    Matrix::of(&pods).assert_all(24);
}

fn a_peer_speaks_for_its_own_pods_and_itself_only<P: Over>() {
    // Of an underlay of both families a tunnel uses IPv4, unless it is told otherwise.
    for (underlay, ipv6) in [("auto", false), ("ipv6", true)] {
        speaks_for_itself_only(P::PATH, &json!({ "underlay": underlay }), ipv6);
    }
}

fn speaks_for_itself_only(path: DataPath, keys: &Value, ipv6: bool) {
    let (net, pods) = Net::with_pods(&Layout::new(3), path.plugin(keys));
    let attack = Attack::new(&net, path, &pods[0]);
    let peer = net.cluster.node(1);
    each_mix(&net, &pods, |outer, family| {
        let [own, others, targets] = [1, 2, 0].map(|pod: usize| pods[pod].addresses[family]);
        let sender = peer.network();
        for source in [own, peer.address_like(own)] {
            // From its other address a peer sends nothing.
            match outer.is_ipv6() == ipv6 {
                true => attack.passes(sender, outer, source),
                false => attack.is_dropped(sender, outer, source),
            }
        }
        attack.is_dropped(sender, outer, others);
        // The node's own pod, its own address, and somebody outside.
        attack.is_dropped(sender, outer, targets);
        attack.is_dropped(sender, outer, net.cluster.node(0).address_like(own));
        attack.is_dropped(sender, outer, net.cluster.node(2).address_like(own));
        let outside = &net.cluster.outside().addresses;
        attack.is_dropped(sender, outer, outside[family]);
    });
}

fn another_vni_is_dropped_and_counted<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let peer = net.cluster.node(1).network();
    let mut attack = Attack::new(&net, P::PATH, &pods[0]);
    for vni in [0, 2, 0x0001_0001, 0x00ff_ffff] {
        attack.vni = vni;
        each_mix(&net, &pods, |outer, family| {
            attack.is_dropped(peer, outer, pods[1].addresses[family]);
        });
    }
}

/// As Flannel's beside ours. In the flow the kernel gives nobody else the port.
fn another_network_shares_the_port_with_a_vni_of_its_own() {
    let plugin = Classic::PATH.plugin(&json!({}));
    let (net, pods) = Net::with_pods(&Layout::new(3), plugin);
    let [one, other] = [0, 1].map(|number| net.cluster.node(number));
    // It says nothing unasked: what it says is counted, too.
    for (node, remote, number, theirs) in [(one, other, 1, 2), (other, one, 2, 1)] {
        let (local, remote) = (node.addresses()[0], remote.addresses()[0]);
        node.sh(&format!(
            "ip link add theirs address 02:00:00:00:00:0{number} \
               type vxlan id 2 dstport 8472 local {local} remote {remote} \
             && sysctl -qw net.ipv6.conf.theirs.disable_ipv6=1 \
             && ip addr add 198.18.9.{number}/24 dev theirs && ip link set theirs up \
             && ip neigh add 198.18.9.{theirs} lladdr 02:00:00:00:00:0{theirs} dev theirs nud permanent"
        ));
    }
    for (node, target) in [(one, "198.18.9.2"), (other, "198.18.9.1")] {
        let answer = node.run(|| Ping::to(target).send());
        assert!(answer.is_ok(), "{target}: {answer:?}");
    }
    Matrix::of(&pods).assert_all(24);
    // Ours is as closed as without it.
    let attack = Attack::new(&net, Classic::PATH, &pods[0]);
    let stranger = net.cluster.stranger(Segment::A);
    attack.is_dropped(&stranger.pod, one.addresses()[0], pods[1].addresses[0]);
}

fn without_the_filter_everybody_comes_in<P: Over>() {
    let keys = json!({ "filter": false });
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&keys));
    let stranger = net.cluster.stranger(Segment::A);
    let attack = Attack::new(&net, P::PATH, &pods[0]);
    let outer = net.cluster.node(0).addresses()[0];
    for address in &pods[1].addresses {
        attack.passes(&stranger.pod, outer, *address);
    }
}

fn a_node_that_leaves_the_file_is_a_stranger<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    let attack = Attack::new(&net, P::PATH, &pods[0]);
    let leaver = net.cluster.node(1);
    let outer = net.cluster.node(0).addresses()[0];
    attack.passes(leaver.network(), outer, pods[1].addresses[0]);
    net.tell(&net.cluster.describe([0, 2]));
    // The next ADD takes the file to heart.
    let late = net.cluster.node(0).attach(&net.chain);
    attack.is_dropped(leaver.network(), outer, pods[1].addresses[0]);
    let quick = Ping::to(&pods[1].addresses[0].to_string()).timeout(Duration::from_millis(200));
    assert!(late.pod.run(|| quick.send()).is_err());
    net.tell(&net.cluster.describe([0, 1, 2]));
    let later = net.cluster.node(0).attach(&net.chain);
    attack.passes(leaver.network(), outer, pods[1].addresses[0]);
    Matrix::of(&[late, later]).assert_all(4);
    Matrix::of(&pods).assert_all(24);
}

fn an_unused_address_never_leaves_by_the_default_route<P: Over>() {
    let (net, pods) = Net::with_pods(
        &Layout::new(3).pods(Families::Dual),
        P::PATH.plugin(&json!({})),
    );
    let node = net.cluster.node(0);
    let unused = ["10.244.1.200", "fd00:244:1::200"];
    // With the bridge there, and without it.
    for bridge in [true, false] {
        if !bridge {
            for pod in pods.iter().filter(|pod| pod.node == node.name()) {
                node.detach(&net.chain, pod);
            }
            net.call(node, "GC").silent_success();
            assert!(node.snapshot().lines("link cni0 ").is_empty());
        }
        for target in unused {
            let target: IpAddr = target.parse().expect("an address");
            let capture = node.capture("eth0");
            let ping = Ping::to(&target.to_string()).timeout(Duration::from_millis(100));
            // From the node itself, and from another node's pod.
            for from in [node.network(), &pods[1].pod] {
                let answer = from.run(|| ping.send());
                assert!(answer.is_err(), "{target} answers");
            }
            let left = capture.drain().into_iter().filter(|frame| frame.outgoing);
            let plain: Vec<_> = left
                .filter(|frame| frame.destination() == Some(target))
                .collect();
            assert!(
                plain.is_empty(),
                "{target} has left {}: {plain:?}",
                node.name()
            );
        }
    }
}
