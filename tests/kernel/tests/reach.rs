//! The data path of the bridge: who reaches whom, with the first packet, and under which address.

use std::time::Duration;

use cni_core::host::netlink::MacAddr;
use cni_testkit::{Capture, Ping, Pod, Test, UdpEcho, tests};
use serde_json::{Value, json};

use crate::world::{
    NODE4, NODE6, Network, OUTSIDE4, OUTSIDE6, addresses, ips, link, mac, outside, port, reaches,
};

pub(crate) const TESTS: &[Test] = &tests![
    the_first_packet_is_forwarded_between_two_fresh_bridges,
    every_way_works_with_ipv4_alone,
    every_way_works_with_ipv6_alone,
    every_way_works_with_both_families,
    what_stays_in_the_network_is_not_masqueraded,
    multicast_is_not_masqueraded,
    the_first_packet_to_the_gateway_of_a_fresh_bridge_is_answered,
    the_first_packet_to_a_new_pod_is_answered,
    an_address_under_another_hardware_address_is_found_at_once,
    the_bridge_keeps_its_hardware_address,
    a_pod_on_two_networks_reaches_both,
    two_interfaces_of_a_pod_may_be_on_one_network,
];

const PORT: &str = "4242";

fn every_way_works_with_ipv4_alone() {
    every_way(&["10.9.0.0/24"], &[(NODE4, OUTSIDE4)]);
}

fn every_way_works_with_ipv6_alone() {
    every_way(&["fd00:9::/64"], &[(NODE6, OUTSIDE6)]);
}

fn every_way_works_with_both_families() {
    every_way(
        &["10.9.0.0/24", "fd00:9::/64"],
        &[(NODE4, OUTSIDE4), (NODE6, OUTSIDE6)],
    );
}

fn every_way(subnets: &[&str], outer: &[(&str, &str)]) {
    let outside = outside(1500);
    let network = Network::of(subnets);
    let pods = [Pod::new("a"), Pod::new("b")];
    let results = [network.add(&pods[0]), network.add(&pods[1])];
    for (family, (node, far)) in outer.iter().enumerate() {
        let [a, b] = [0, 1].map(|pod: usize| ips(&results[pod])[family].clone());
        reaches(&pods[0], &b);
        reaches(&pods[1], &a);
        reaches(&pods[0], node);
        let down = Ping::to(&b).send();
        assert!(down.is_ok(), "node to {b}: {down:?}");
        reaches(&pods[0], far);
        let any = if far.contains(':') { "[::]" } else { "0.0.0.0" };
        let _echo = UdpEcho::start(&outside, &format!("{any}:{PORT}"));
        assert_eq!(ask(&pods[0], far), *node, "the source as seen outside");
    }
}

fn ask(pod: &Pod, target: &str) -> String {
    let target = match target.contains(':') {
        true => format!("[{target}]:{PORT}"),
        false => format!("{target}:{PORT}"),
    };
    let seen = pod.run(|| UdpEcho::ask(&target));
    seen.expect("an answer").ip().to_string()
}

fn what_stays_in_the_network_is_not_masqueraded() {
    let network = Network::dual();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let (first, second) = (network.add(&a), network.add(&b));
    // The other pod sees the pod's own address, and so does the node behind the gateway's.
    for (family, any) in ["0.0.0.0", "[::]"].into_iter().enumerate() {
        let own = ips(&first)[family].clone();
        let _echo = UdpEcho::start(&b, &format!("{any}:{PORT}"));
        assert_eq!(ask(&a, &ips(&second)[family]), own);
        let _echo = UdpEcho::here(&format!("{any}:{PORT}"));
        let gateway = first["ips"][family]["gateway"].as_str().expect("a gateway");
        assert_eq!(ask(&a, gateway), own);
    }
}

fn multicast_is_not_masqueraded() {
    let rules = {
        let network = Network::dual();
        let pod = Pod::new("a");
        let _outside = outside(1500);
        let result = network.add(&pod);
        // What would be masqueraded leaves under the node's address: a look at the bridge's port of a peer tells.
        let peer = Pod::new("b");
        network.add(&peer);
        let capture = Capture::start(&peer, "eth0");
        let group = "224.0.0.251:5353";
        pod.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(b"hello", group).expect("multicast is sent");
        });
        let wanted: std::net::IpAddr = "224.0.0.251".parse().expect("a group");
        let frame = capture.find(Duration::from_secs(20), |frame| {
            frame.destination() == Some(wanted) && frame.bytes.ends_with(b"hello")
        });
        let frame = frame.expect("multicast reaches the peer");
        let own = ips(&result)[0].parse().expect("an address");
        assert_eq!(frame.source(), Some(own));
        cni_testkit::Snapshot::take()
    };
    // On the way out of the node: the rules come before those that masquerade.
    for text in ["ip daddr 224.0.0.0/4 return", "ip6 daddr ff00::/8 return"] {
        assert_eq!(rules.lines(text).len(), 1, "{rules:?}");
    }
}

fn the_first_packet_to_the_gateway_of_a_fresh_bridge_is_answered() {
    for number in 0..4 {
        let name = format!("br{number}");
        let network = Network::dual().with(json!({ "bridge": name, "name": name }));
        let pod = Pod::new("a");
        let result = network.add(&pod);
        // IPv6 first: a tentative address would not answer for two seconds.
        reaches(&pod, "fd00:9::1");
        reaches(&pod, "10.9.0.1");
        for ip in ips(&result) {
            let outcome = Ping::to(&ip).send();
            assert!(outcome.is_ok(), "node to {ip}: {outcome:?}");
        }
        network.del(&pod);
        network.gc(json!([])).silent_success();
    }
}

fn the_first_packet_to_a_new_pod_is_answered() {
    let network = Network::dual();
    let peer = Pod::new("peer");
    network.add(&peer);
    for _ in 0..6 {
        let pod = Pod::new("new");
        let result = network.add(&pod);
        for ip in ips(&result) {
            reaches(&peer, &ip);
        }
        network.del(&pod);
    }
}

fn an_address_under_another_hardware_address_is_found_at_once() {
    let network = Network::dual().with(json!({ "capabilities": { "mac": true } }));
    let range = json!({ "type": "host-local", "ranges": [
        [{ "subnet": "10.9.0.0/24", "rangeEnd": "10.9.0.3" }],
        [{ "subnet": "fd00:9::/64", "rangeEnd": "fd00:9::3" }],
    ] });
    let network = network.with(json!({ "ipam": range }));
    let peer = Pod::new("peer");
    network.add(&peer);
    let old = Pod::new("old");
    let first = network.add(&old);
    for ip in ips(&first) {
        reaches(&peer, &ip);
    }
    network.del(&old);
    let capture = Capture::start(&peer, "eth0");
    let pod = Pod::new("new");
    let second = network.add(&pod);
    assert_eq!(ips(&first), ips(&second), "the addresses are used again");
    let new_mac = container_mac(&second);
    assert_ne!(container_mac(&first), new_mac);
    for ip in ips(&second) {
        reaches(&peer, &ip);
        let address: std::net::IpAddr = ip.parse().expect("an address");
        let MacAddr(wanted) = new_mac;
        let news = capture.drain_until(|frame| {
            frame
                .neighbour_news()
                .is_some_and(|news| news.address == address && news.unasked && news.mac == wanted)
        });
        assert!(news, "no announcement of {ip} reached the peer");
    }
}

/// Frames since the capture began, each looked at for one question at a time.
trait DrainUntil {
    fn drain_until(&self, wanted: impl Fn(&cni_testkit::Frame) -> bool) -> bool;
}

impl DrainUntil for Capture {
    fn drain_until(&self, wanted: impl Fn(&cni_testkit::Frame) -> bool) -> bool {
        self.find(Duration::from_secs(20), wanted).is_some()
    }
}

fn container_mac(result: &Value) -> MacAddr {
    mac(result["interfaces"][2]["mac"].as_str().expect("a mac"))
}

fn the_bridge_keeps_its_hardware_address() {
    let network = Network::dual();
    let first = Pod::new("first");
    let result = network.add(&first);
    let before = link("br0").expect("a bridge").mac;
    assert_eq!(
        before.map(|mac| mac.to_string()).as_deref(),
        result["interfaces"][0]["mac"].as_str()
    );
    for number in 0..8 {
        // Lower than any derived address, which a bridge would follow by itself.
        let network = network.clone().with(json!({
            "runtimeConfig": { "mac": format!("00:00:00:00:00:{:02x}", number + 1) },
        }));
        let pod = Pod::new("pod");
        network.add(&pod);
        assert_eq!(link("br0").expect("a bridge").mac, before);
        network.del(&pod);
        assert_eq!(link("br0").expect("a bridge").mac, before);
    }
    network.del(&first);
    assert_eq!(link("br0").expect("a bridge").mac, before);
}

fn a_pod_on_two_networks_reaches_both() {
    let one = Network::dual();
    let other = Network::of(&["10.8.0.0/24", "fd00:8::/64"])
        .with(json!({ "name": "other", "bridge": "br1", "isDefaultGateway": null, "isGateway": true }))
        .interface("net1");
    let pod = Pod::new("pod");
    one.add(&pod);
    other.add(&pod);
    for gateway in ["10.9.0.1", "fd00:9::1", "10.8.0.1", "fd00:8::1"] {
        reaches(&pod, gateway);
    }
    other.del(&pod);
    reaches(&pod, "10.9.0.1");
}

fn two_interfaces_of_a_pod_may_be_on_one_network() {
    let network = Network::of(&["10.9.0.0/24"]).with(json!({
        "isDefaultGateway": null, "isGateway": true,
    }));
    let (pod, peer) = (Pod::new("pod"), Pod::new("peer"));
    network.add(&peer);
    let first = network.add(&pod);
    let second = network.clone().interface("net1").add(&pod);
    assert_ne!(ips(&first), ips(&second));
    assert_ne!(port(&first), port(&second));
    for result in [&first, &second] {
        for ip in ips(result) {
            reaches(&peer, &ip);
        }
    }
    network.del(&pod);
    assert!(link(&port(&second)).is_some(), "the other interface stays");
    reaches(&peer, &ips(&second)[0]);
    network.clone().interface("net1").del(&pod);
    assert!(link(&port(&second)).is_none());
}

/// The kernel looks for the second pod's hardware address by itself: from the link-local address of a bridge that has just
/// come up.
fn the_first_packet_is_forwarded_between_two_fresh_bridges() {
    let network = Network::dual();
    let other = Network::of(&["10.8.0.0/24", "fd00:8::/64"])
        .with(json!({ "name": "other", "bridge": "br1", "ipMasq": false }));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    network.add(&a);
    let far = other.add(&b);
    for bridge in ["br0", "br1"] {
        let known = addresses(bridge);
        assert!(known.iter().all(|address| !address.tentative), "{known:?}");
    }
    for address in ips(&far) {
        reaches(&a, &address);
    }
}
