//! The Kubernetes network model, line by line, on three nodes: by plugin and cluster file alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cni_testkit::cluster::{
    Attached, Cluster, Families, Layout, Matrix, Node, Segment, await_condition,
};
use cni_testkit::{Ping, TcpEcho, Test, UdpEcho, tests};
use serde_json::{Value, json};

use crate::world::{Classic, DataPath, Flow, HostGw, Net, Over, count, like};

pub(crate) const TESTS: &[Test] = &tests![
    every_pod_reaches_every_pod_under_its_own_address::<Flow>,
    every_pod_reaches_every_pod_under_its_own_address::<Classic>,
    every_pod_reaches_every_pod_under_its_own_address::<HostGw>,
    every_mix_of_families_works::<Flow>,
    every_mix_of_families_works::<Classic>,
    every_mix_of_families_works::<HostGw>,
    a_node_reaches_its_own_pods::<Flow>,
    a_node_reaches_its_own_pods::<Classic>,
    a_node_reaches_its_own_pods::<HostGw>,
    nodes_reach_all_pods_whatever_address_they_send_from::<Flow>,
    nodes_reach_all_pods_whatever_address_they_send_from::<Classic>,
    nodes_reach_all_pods_whatever_address_they_send_from::<HostGw>,
    pods_reach_the_addresses_of_all_nodes_under_their_own::<Flow>,
    pods_reach_the_addresses_of_all_nodes_under_their_own::<Classic>,
    pods_reach_the_addresses_of_all_nodes_under_their_own::<HostGw>,
    only_what_leaves_the_cluster_is_masqueraded::<Flow>,
    only_what_leaves_the_cluster_is_masqueraded::<Classic>,
    only_what_leaves_the_cluster_is_masqueraded::<HostGw>,
    without_masquerade_the_outside_sees_the_pod::<Flow>,
    without_masquerade_the_outside_sees_the_pod::<HostGw>,
    tunnels_pass_the_router::<Flow>,
    tunnels_pass_the_router::<Classic>,
    kernels_without_next_hop_objects_work_as_well::<Flow>,
    kernels_without_next_hop_objects_work_as_well::<Classic>,
    kernels_without_next_hop_objects_work_as_well::<HostGw>,
    pods_on_a_routed_pair_are_reached_as_well::<Flow>,
    pods_on_a_routed_pair_are_reached_as_well::<Classic>,
    pods_on_a_routed_pair_are_reached_as_well::<HostGw>,
];

fn every_pod_reaches_every_pod_under_its_own_address<P: Over>() {
    for families in [Families::V4, Families::V6, Families::Dual] {
        connected(P::PATH, &Layout::new(3).pods(families), families, json!({}));
    }
}

fn every_mix_of_families_works<P: Over>() {
    for pods in [Families::V4, Families::V6] {
        for underlay in P::PATH.underlays(pods) {
            println!("{pods:?} over {underlay:?}");
            let layout = Layout::new(3).pods(pods).underlay(underlay);
            connected(P::PATH, &layout, pods, json!({}));
        }
    }
}

fn tunnels_pass_the_router<P: Over>() {
    for underlay in [Families::V4, Families::V6] {
        let layout = Layout::new(3).underlay(underlay).behind_the_router(&[2]);
        connected(P::PATH, &layout, Families::Dual, json!({}));
    }
}

fn kernels_without_next_hop_objects_work_as_well<P: Over>() {
    let keys = json!({ "nextHopObjects": false });
    connected(P::PATH, &Layout::new(3), Families::Dual, keys);
}

fn pods_on_a_routed_pair_are_reached_as_well<P: Over>() {
    let keys = json!({ "attach": { "type": "ptp" } });
    let (net, pods) = connected(P::PATH, &Layout::new(3), Families::Dual, keys);
    nodes_reach(&net, &pods, &[0, 1, 2]);
    for pod in &pods {
        let node = net.node_of(pod);
        node.check(&net.chain, pod).expect("nothing is missing");
        node.detach(&net.chain, pod);
    }
}

/// Four pods on three nodes, all pairs of which work, in each family.
fn connected(
    path: DataPath,
    layout: &Layout,
    families: Families,
    keys: Value,
) -> (Net, Vec<Attached>) {
    let (net, pods) = Net::with_pods(layout, path.plugin(&keys));
    Matrix::of(&pods).assert_all(12 * count(families));
    (net, pods)
}

fn a_node_reaches_its_own_pods<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    for pod in &pods {
        let node = net.node_of(pod);
        for address in &pod.addresses {
            let ping = Ping::to(&address.to_string());
            let answer = node.network().run(|| ping.send());
            answer.unwrap_or_else(|error| panic!("{} to {address}: {error}", node.name()));
        }
    }
    nodes_reach(&net, &pods, &[0, 1, 2]);
}

fn nodes_reach_all_pods_whatever_address_they_send_from<P: Over>() {
    for underlay in P::PATH.underlays(Families::Dual) {
        let (net, pods) = spread::<P>(&Layout::new(3).underlay(underlay));
        nodes_reach(&net, &pods, &[0, 1, 2]);
    }
}

/// From each of a node's addresses, over UDP and TCP, and from the one that the kernel chooses; the pod sees that address.
fn nodes_reach(net: &Net, pods: &[Attached], nodes: &[usize]) {
    introduce(net, pods);
    let _servers: Vec<_> = pods.iter().map(|pod| (pod.serve(), tcp(pod))).collect();
    for node in nodes {
        let node = net.cluster.node(*node);
        let own = own_addresses(node);
        for target in pods.iter().flat_map(|pod| &pod.addresses) {
            let what = || format!("{} to {target}", node.name());
            let chosen = node.network().run(|| Attached::seen_at(*target, None));
            let chosen = chosen.unwrap_or_else(|error| panic!("{}: {error}", what()));
            assert!(own.contains(&chosen), "{}: seen as {chosen}", what());
            let mut tried = 0;
            for source in like(&own, *target) {
                let what = || format!("{} from {source}", what());
                let udp = node
                    .network()
                    .run(|| Attached::seen_at(*target, Some(source)));
                let udp = udp.unwrap_or_else(|error| panic!("{}: {error}", what()));
                assert_eq!(udp, source, "{}", what());
                let server = SocketAddr::new(*target, TCP);
                let tcp = node
                    .network()
                    .run(|| TcpEcho::ask_from(Some(source), server));
                let tcp = tcp.unwrap_or_else(|error| panic!("{} over TCP: {error}", what()));
                assert_eq!(tcp.ip(), source, "{}", what());
                tried += 1;
            }
            assert!(tried > 0, "{} has no address like {target}", node.name());
        }
    }
}

fn pods_reach_the_addresses_of_all_nodes_under_their_own<P: Over>() {
    for underlay in P::PATH.underlays(Families::Dual) {
        let (net, pods) = spread::<P>(&Layout::new(3).underlay(underlay));
        introduce(&net, &pods);
        for node in net.cluster.nodes() {
            let addresses = own_addresses(node);
            let servers = addresses.iter().map(|address| {
                let server = SocketAddr::new(*address, UDP).to_string();
                UdpEcho::start(node.network(), &server)
            });
            let servers: Vec<UdpEcho> = servers.collect();
            for pod in &pods {
                for source in &pod.addresses {
                    for target in like(&addresses, *source) {
                        let server = SocketAddr::new(target, UDP);
                        let seen = pod.pod.run(|| UdpEcho::ask_from(None, server));
                        let what = || format!("{}/{source} to {target}", pod.node);
                        let seen = seen.unwrap_or_else(|error| panic!("{}: {error}", what()));
                        assert_eq!(seen.ip(), *source, "{}", what());
                    }
                }
            }
            drop(servers);
        }
    }
}

fn only_what_leaves_the_cluster_is_masqueraded<P: Over>() {
    let (net, pods) = Net::with_pods(&Layout::new(3), P::PATH.plugin(&json!({})));
    // The outside host, and one in the nodes' own segment that is no node.
    let stranger = net.cluster.stranger(Segment::A);
    for host in [net.cluster.outside(), &stranger] {
        for target in &host.addresses {
            let server = SocketAddr::new(*target, UDP);
            let _server = UdpEcho::start(&host.pod, &server.to_string());
            for pod in &pods {
                let seen = pod.pod.run(|| UdpEcho::ask_from(None, server));
                let seen = seen.unwrap_or_else(|error| panic!("{} to {target}: {error}", pod.node));
                let node = net.node_of(pod);
                assert_eq!(seen.ip(), node.address_like(*target), "{}", pod.node);
            }
            // A node's own packets are nobody's business.
            let node = net.cluster.node(0);
            let seen = node.network().run(|| UdpEcho::ask_from(None, server));
            assert_eq!(seen.expect("an answer").ip(), node.address_like(*target));
        }
    }
    // With every connection of the masquerade still known: no pod is seen under another's address.
    Matrix::of(&pods).assert_all(24);
}

fn without_masquerade_the_outside_sees_the_pod<P: Over>() {
    let plugin = P::PATH.plugin(&json!({ "masquerade": false }));
    let (net, pods) = Net::with_pods(&Layout::new(3), plugin);
    let outside = net.cluster.outside();
    for target in &outside.addresses {
        let capture = cni_testkit::Capture::start(&outside.pod, "eth0");
        let pod = &pods[0];
        let ping = Ping::to(&target.to_string()).timeout(Duration::from_millis(1));
        // No answer: nobody outside knows a way to a pod.
        let answer = pod.pod.run(|| ping.send());
        assert!(answer.is_err(), "{target} knows a way to a pod");
        let source = pod.address_like(*target).expect("an address");
        let seen = capture.find(Duration::from_secs(20), |frame| {
            frame.source() == Some(source)
        });
        assert!(seen.is_some(), "{source} is not seen by {target}");
    }
    Matrix::of(&pods).assert_all(24);
}

/// As [`Net::with_pods`], each node with one more address that others know of, where a tunnel takes it there: without one
/// that is for the underlay's own routing.
fn spread<P: Over>(layout: &Layout) -> (Net, Vec<Attached>) {
    let cluster = Cluster::build(layout);
    let mut file = cluster.describe(0..cluster.nodes().len());
    if P::PATH.is_tunnel() {
        for (index, node) in cluster.nodes().iter().enumerate() {
            let number = node.number();
            let further = [format!("10.99.0.{number}"), format!("fd00:99::{number}")];
            node.network().run(|| add_to_loopback(&further));
            file["nodes"][index]["furtherAddresses"] = json!(further);
        }
    }
    let net = Net::over(cluster, P::PATH.plugin(&json!({})));
    net.tell(&file);
    let nodes = net.cluster.nodes().iter();
    let pods = nodes.map(|node| node.attach(&net.chain)).collect();
    (net, pods)
}

fn add_to_loopback(addresses: &[String]) {
    for address in addresses {
        let length = if address.contains(':') { 128 } else { 32 };
        let address = address.parse().expect("an address");
        cni_testkit::cluster::add_address("lo", address, length).expect("a free address");
    }
}

/// Has every pod ask for the address of its node's tunnel. Over IPv6 that is the anycast address of the routers on the pods'
/// link (RFC 4291, section 2.6.1), and for such a one the kernel answers neighbours after a random time of up to 0.8 s.
fn introduce(net: &Net, pods: &[Attached]) {
    let mut servers = Vec::new();
    std::thread::scope(|scope| {
        for node in net.cluster.nodes() {
            let own = own_addresses(node);
            let anycast = own.into_iter().find(|address| {
                let prefix = format!("{address}/64");
                address.is_ipv6() && node.pod_prefixes().contains(&prefix)
            });
            let Some(server) = anycast.map(|address| SocketAddr::new(address, UDP)) else {
                continue;
            };
            servers.push(UdpEcho::start(node.network(), &server.to_string()));
            for pod in pods.iter().filter(|pod| pod.node == node.name()) {
                scope.spawn(move || {
                    await_condition(&format!("{} reaches {server}", pod.node), || {
                        pod.pod.run(|| UdpEcho::ask_from(None, server)).is_ok()
                    });
                });
            }
        }
    });
}

/// All addresses of a node but those that are its own business: `lo`'s first ones and link-local ones.
fn own_addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.network().run(cni_testkit::cluster::addresses_here);
    let global = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    all.into_iter().filter(global).collect()
}

const UDP: u16 = 4343;
const TCP: u16 = 4344;

fn tcp(pod: &Attached) -> Vec<TcpEcho> {
    let addresses = pod.addresses.iter();
    addresses
        .map(|address| TcpEcho::start(&pod.pod, &SocketAddr::new(*address, TCP).to_string()))
        .collect()
}
