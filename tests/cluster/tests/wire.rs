//! What is on the wire between nodes, and what a pod's interface sees of it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cni_testkit::cluster::{Attached, Families, Layout, Matrix};
use cni_testkit::{Capture, Frame, Ping, Test, tests};
use serde_json::json;

use crate::world::{Classic, DataPath, Flow, HostGw, Net, Over};

pub(crate) const TESTS: &[Test] = &tests![
    the_wire_shows_what_it_should_and_pods_see_no_trace_of_it::<Flow>,
    the_wire_shows_what_it_should_and_pods_see_no_trace_of_it::<Classic>,
    the_wire_shows_what_it_should_and_pods_see_no_trace_of_it::<HostGw>,
    a_pods_largest_packet_fills_the_wire_to_the_byte::<Flow>,
    a_pods_largest_packet_fills_the_wire_to_the_byte::<Classic>,
    a_pods_largest_packet_fills_the_wire_to_the_byte::<HostGw>,
    the_outer_checksum_over_ipv6_is_there::<Flow>,
    the_outer_checksum_over_ipv6_is_there::<Classic>,
    what_carries_packets_is_no_connection::<Flow>,
    what_carries_packets_is_no_connection::<Classic>,
    options_show_on_the_wire::<Flow>,
    options_show_on_the_wire::<Classic>,
];

const ETHERNET: usize = 14;
const SOON: Duration = Duration::from_secs(20);

fn the_wire_shows_what_it_should_and_pods_see_no_trace_of_it<P: Over>() {
    for underlay in P::PATH.underlays(Families::Dual) {
        let layout = Layout::new(3).underlay(underlay);
        let (net, pods) = Net::with_pods(&layout, P::PATH.plugin(&json!({})));
        let (from, to) = (&pods[0], &pods[2]);
        for target in &to.addresses {
            let seen = Seen::between(&net, from, to, *target);
            let source = from.address_like(*target).expect("an address");
            for frame in [&seen.sent, &seen.received] {
                assert_eq!(frame.source(), Some(source));
                assert_eq!(frame.destination(), Some(*target));
            }
            let (near, far) = (net.node_of(from), net.node_of(to));
            let outer = seen.wire.source().expect("an address on the wire");
            let more = seen.wire.bytes.len() - seen.sent.bytes.len();
            assert_eq!(more, P::PATH.overhead(outer.is_ipv6()), "{outer}");
            if P::PATH.is_tunnel() {
                assert_eq!(outer, near.address_like(outer));
                assert_eq!(seen.wire.destination(), Some(far.address_like(outer)));
                assert_eq!(ports(&seen.wire).1, P::PATH.port());
                assert_eq!(vni(&seen.wire), 1);
            } else {
                assert_eq!(seen.wire.source(), Some(source));
                assert_eq!(seen.wire.destination(), Some(*target));
            }
            // One router at either end, and none in between.
            let limits = [&seen.sent, &seen.received].map(hop_limit);
            assert_eq!(limits, [64, 62]);
        }
    }
}

fn what_carries_packets_is_no_connection<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    Matrix::of(&pods).assert_all(24);
    let port = format!("dport={} ", P::PATH.port());
    for node in net.cluster.nodes() {
        let tracked = node.sh("cat /proc/net/nf_conntrack");
        let inside = tracked.lines().filter(|line| line.contains("src=10.244."));
        assert!(inside.count() > 0, "{tracked}");
        let outside = tracked.lines().filter(|line| line.contains(&port));
        assert_eq!(outside.count(), 0, "{tracked}");
    }
}

fn a_pods_largest_packet_fills_the_wire_to_the_byte<P: Over>() {
    for mtu in [1500, 9000] {
        for underlay in [Families::V4, Families::V6] {
            // An IPv4 address is no next hop for IPv6 routes.
            let pods = match (P::PATH, underlay) {
                (DataPath::HostGw, Families::V4) => Families::V4,
                _ => Families::Dual,
            };
            let layout = Layout::new(3).underlay(underlay).pods(pods).mtu(mtu);
            let (net, pods) = Net::with_pods(&layout, P::PATH.plugin(&json!({})));
            let (from, to) = (&pods[0], &pods[2]);
            let wire = usize::try_from(mtu).expect("a small number");
            let largest = wire - P::PATH.overhead(underlay == Families::V6);
            for target in &to.addresses {
                let header = if target.is_ipv4() { 20 } else { 40 };
                let ping = Ping::to(&target.to_string()).size(largest - header - 8);
                let captures = [
                    Capture::start(&from.pod, "eth0"),
                    net.node_of(from).capture("eth0"),
                ];
                let answer = from.pod.run(|| ping.send());
                answer.unwrap_or_else(|error| panic!("{largest} bytes to {target}: {error}"));
                let [inner, outer] = captures.map(|capture| {
                    let large = |frame: &Frame| frame.bytes.len() > largest;
                    capture.find(SOON, large).expect("the large packet")
                });
                assert_eq!(inner.bytes.len(), largest + ETHERNET, "{target}");
                assert_eq!(outer.bytes.len(), wire + ETHERNET, "{target}");
                // Not in pieces, and never to be: `DF`, or no fragment header.
                match target {
                    IpAddr::V4(_) => assert_eq!(inner.bytes[20] & 0xe0, 0x40, "{target}"),
                    IpAddr::V6(_) => assert_eq!(inner.bytes[20], 58, "{target}"),
                }
            }
        }
    }
}

fn the_outer_checksum_over_ipv6_is_there<P: Over>() {
    let layout = Layout::new(3).underlay(Families::V6);
    let (net, pods) = Net::with_pods(&layout, P::PATH.plugin(&json!({})));
    for target in &pods[2].addresses {
        let seen = Seen::between(&net, &pods[0], &pods[2], *target);
        let checksum = &udp(&seen.wire)[6..8];
        assert_ne!(checksum, [0, 0], "{target}: RFC 8200 wants one");
    }
}

fn options_show_on_the_wire<P: Over>() {
    let keys = json!({ "vni": 77, "port": 5555, "device": "over0", "sourcePorts": [40000, 40003], "mtu": 1400, "underlay": "ipv6" });
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&keys));
    for target in &pods[2].addresses {
        let seen = Seen::between(&net, &pods[0], &pods[2], *target);
        assert!(seen.wire.source().is_some_and(|outer| outer.is_ipv6()));
        let (source, port) = ports(&seen.wire);
        assert_eq!(port, 5555);
        assert!((40000..=40003).contains(&source), "{source}");
        assert_eq!(vni(&seen.wire), 77);
        let header = if target.is_ipv4() { 20 } else { 40 };
        let capture = Capture::start(&pods[0].pod, "eth0");
        let ping = Ping::to(&target.to_string()).size(1400 - header - 8);
        let answer = pods[0].pod.run(|| ping.send());
        answer.unwrap_or_else(|error| panic!("1400 bytes to {target}: {error}"));
        let larger = |frame: &Frame| frame.bytes.len() >= 1400 + ETHERNET;
        let largest = capture.find(SOON, larger).expect("a packet of 1400 bytes");
        assert_eq!(largest.bytes.len(), 1400 + ETHERNET);
    }
    net.cluster.node(0).run(|| {
        assert!(std::path::Path::new("/sys/class/net/over0").exists());
    });
}

/// One datagram, where it passes.
pub(crate) struct Seen {
    /// On the sender's interface.
    pub(crate) sent: Frame,
    /// On its node's.
    pub(crate) wire: Frame,
    /// On the receiver's.
    pub(crate) received: Frame,
}

impl Seen {
    /// Sends a datagram between pods of different nodes.
    pub(crate) fn between(net: &Net, from: &Attached, to: &Attached, target: IpAddr) -> Self {
        const TEXT: &[u8] = b"a datagram that everybody looks at";
        let captures = [
            Capture::start(&from.pod, "eth0"),
            net.node_of(from).capture("eth0"),
            Capture::start(&to.pod, "eth0"),
        ];
        let target = SocketAddr::new(target, 4500);
        // A listener: the kernel's error in its place would hold the datagram, too.
        let listener = to.pod.run(|| UdpSocket::bind(target)).expect("a free port");
        from.pod.run(|| {
            let any = if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.send_to(TEXT, target).expect("a way");
        });
        let mut buffer = [0; 100];
        listener.set_read_timeout(Some(SOON)).expect("a timeout");
        let arrived = listener.recv_from(&mut buffer);
        let (_, source) = arrived.unwrap_or_else(|error| panic!("at {target}: {error}"));
        assert_eq!(Some(source.ip()), from.address_like(target.ip()));
        let [sent, wire, received] = captures.map(|capture| {
            let holds = |frame: &Frame| frame.bytes.windows(TEXT.len()).any(|part| part == TEXT);
            capture.find(SOON, holds).expect("the datagram")
        });
        Self {
            sent,
            wire,
            received,
        }
    }
}

/// What follows the outer IP header.
fn udp(frame: &Frame) -> &[u8] {
    let header = match frame.ethertype() {
        Some(0x0800) => usize::from(frame.bytes[ETHERNET] & 0xf) * 4,
        _ => 40,
    };
    &frame.bytes[ETHERNET + header..]
}

/// Source and destination.
pub(crate) fn ports(frame: &Frame) -> (u16, u16) {
    let udp = udp(frame);
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    (port(0), port(2))
}

fn vni(frame: &Frame) -> u32 {
    let header = &udp(frame)[8..16];
    assert_eq!(header[0] & 0x08, 0x08, "the VNI is valid");
    u32::from_be_bytes([0, header[4], header[5], header[6]])
}

fn hop_limit(frame: &Frame) -> u8 {
    let at = if frame.ethertype() == Some(0x0800) {
        8
    } else {
        7
    };
    frame.bytes[ETHERNET + at]
}
