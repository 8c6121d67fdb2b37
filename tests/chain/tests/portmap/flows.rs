//! UDP flows follow the port, and nobody else's do.

use cni_core::host::Host;
use cni_core::host::conntrack::{Flow, FlowFilter};
use cni_testkit::{Pod, Test, tests};

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    a_flow_moves_to_the_pod_at_add_and_back_to_the_host_at_del,
    a_flow_moves_from_one_pod_to_the_next,
    flows_of_others_stay_the_very_same,
    a_del_that_died_between_ports_and_flows_is_made_good,
    tcp_connections_outlive_the_port,
];

fn flows(is_ipv6: bool) -> Vec<Flow> {
    let host = Host::open().expect("the kernel");
    let mut all = block(host.conntrack.flows(&FlowFilter::of(is_ipv6, 17))).expect("flows");
    all.sort();
    all
}

fn a_flow_moves_to_the_pod_at_add_and_back_to_the_host_at_del() {
    let outside = outside();
    let network = Network::new().publishing(&["5353:53/udp"]);
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    // Connection tracking begins with the first rule that needs it: the bridge's masquerade.
    let _host = (
        Named::here("192.0.2.1:5353", "host"),
        Named::here("[2001:db8:1::1]:5353", "host"),
    );
    let _pod = pod.run(|| Named::here("[::]:53", "pod"));
    let clients = [
        Client::of(&outside, "192.0.2.1:5353"),
        Client::of(&outside, "[2001:db8:1::1]:5353"),
        Client::here("192.0.2.1:5353"),
    ];
    let all = |who: &str| {
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.ask().expect("an answer"), who, "client {number}");
        }
    };
    all("host");
    for _ in 0..2 {
        network.portmap("ADD", &pod, &result).run().result();
        all("pod");
        network.bare_del(&pod).silent_success();
        all("host");
    }
}

fn a_flow_moves_from_one_pod_to_the_next() {
    let outside = outside();
    let network = Network::new().publishing(&["5353:53/udp", "5354:54/udp"]);
    let (first, second) = (Pod::new("first"), Pod::new("second"));
    network.add(&first);
    let client = Client::of(&outside, "192.0.2.1:5353");
    let _one = first.run(|| Named::here("[::]:53", "first"));
    assert_eq!(client.ask().expect("an answer"), "first");
    // A runtime that lost the first container: no DEL of portmap before its interface went.
    let result = network.attach(&second);
    network.gc(&[]).silent_success();
    network.portmap("ADD", &second, &result).run().result();
    let _two = second.run(|| Named::here("[::]:53", "second"));
    assert_eq!(client.ask().expect("an answer"), "second");
}

fn flows_of_others_stay_the_very_same() {
    let outside = outside();
    let network = Network::new().publishing(&["5353:53/udp"]);
    let other = Network::new().publishing(&["5354:53/udp"]);
    let (pod, neighbour) = (Pod::new("pod"), Pod::new("neighbour"));
    let result = network.attach(&pod);
    other.add(&neighbour);
    let _servers = (
        neighbour.run(|| Named::here("[::]:53", "neighbour")),
        outside.run(|| Named::here("192.0.2.254:5353", "outside")),
        pod.run(|| Named::here("[::]:53", "pod")),
        Named::here("192.0.2.1:9999", "host"),
    );
    let clients = [
        // Another port of ours, the same port of another host, the pod's own port without the host's, another service.
        (Client::of(&outside, "192.0.2.1:5354"), "neighbour"),
        (Client::of(&neighbour, "192.0.2.254:5353"), "outside"),
        (Client::here(&format!("{}:53", ips(&result).0)), "pod"),
        (Client::of(&outside, "192.0.2.1:9999"), "host"),
    ];
    let ask = || {
        for (client, who) in &clients {
            assert_eq!(client.ask().expect("an answer"), *who);
        }
    };
    crate::net::flows_last();
    ask();
    let known: Vec<u16> = clients.iter().map(|(client, _)| client.port()).collect();
    let theirs = || -> Vec<Flow> {
        let mut all = flows(false);
        all.retain(|flow| known.contains(&flow.source.port()));
        all
    };
    let before = theirs();
    assert_eq!(before.len(), 4);
    network.portmap("ADD", &pod, &result).run().result();
    let mine = Client::of(&outside, "192.0.2.1:5353");
    assert_eq!(mine.ask().expect("an answer"), "pod");
    assert!(
        flows(false)
            .iter()
            .any(|flow| flow.destination.port() == 5353 && flow.reply_source.port() == 53)
    );
    ask();
    assert_eq!(theirs(), before, "after ADD");
    network.bare_del(&pod).silent_success();
    ask();
    assert_eq!(theirs(), before, "after DEL");
    assert!(
        !flows(false)
            .iter()
            .any(|flow| flow.reply_source.port() == 53 && flow.source.port() == mine.port())
    );
}

/// The ports are gone, the records are there: what a DEL leaves that dies at the worst moment.
fn a_del_that_died_between_ports_and_flows_is_made_good() {
    let outside = outside();
    let network = Network::new().publishing(&["5353:53/udp"]);
    let pod = Pod::new("pod");
    network.add(&pod);
    let _pod = pod.run(|| Named::here("[::]:53", "pod"));
    let client = Client::of(&outside, "192.0.2.1:5353");
    assert_eq!(client.ask().expect("an answer"), "pod");
    let host = Host::open().expect("the kernel");
    for set in ["ports4", "ports6", "published4", "published6"] {
        let gone = cni_core::host::firewall::FirewallChange::ElementDel {
            table: table(),
            set: set.to_owned(),
            elements: elements(set),
        };
        block(host.firewall.commit(&[gone])).expect("a deletion");
    }
    let _host = Named::here("192.0.2.1:5353", "host");
    assert_eq!(client.ask().expect("an answer"), "pod", "the flow goes on");
    network.bare_del(&pod).silent_success();
    assert_eq!(client.ask().expect("an answer"), "host");
    assert_eq!(elements("records"), []);
}

/// A connection has an end of its own: what is open when a port goes may finish.
fn tcp_connections_outlive_the_port() {
    use std::io::{Read, Write};
    let outside = outside();
    let network = Network::new().publishing(&["8080:80/tcp", "5353:53/udp"]);
    let pod = Pod::new("pod");
    network.add(&pod);
    let listener = pod.run(|| std::net::TcpListener::bind("0.0.0.0:80").expect("a free port"));
    let mut client =
        outside.run(|| std::net::TcpStream::connect("192.0.2.1:8080").expect("a connection"));
    let (mut server, _) = listener.accept().expect("a peer");
    network.bare_del(&pod).silent_success();
    server.write_all(b"still here").expect("a write");
    let mut buffer = [0; 10];
    client.read_exact(&mut buffer).expect("an answer");
    assert_eq!(&buffer, b"still here");
}
