//! From where a published port is reached, and what the pod sees.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::Command;

use cni_testkit::{Pod, TcpEcho, Test, UdpEcho, skip, sysctl, tests};
use socket2::{Domain, Protocol, Socket, Type};

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    an_outside_host_reaches_the_pod_and_is_seen_by_it,
    sctp_is_led_to_the_pod,
    the_node_reaches_its_own_ports,
    a_pod_reaches_itself_and_its_neighbours_where_bridged_packets_pass_the_rules,
    a_pod_reaches_itself_and_its_neighbours_where_they_do_not,
    what_passes_through_the_node_is_not_translated,
    direct_traffic_between_neighbours_keeps_its_source,
    a_pod_does_not_reach_the_hosts_loopback,
    a_pod_of_another_network_reaches_the_port,
];

/// A node with one pod that serves TCP and UDP on port 80 of both families.
struct Site {
    outside: Pod,
    pod: Pod,
    ips: (String, String),
    _servers: (TcpEcho, UdpEcho),
}

const PORTS: [&str; 2] = ["8080:80/tcp", "8081:80/udp"];

fn site(network: &Network) -> Site {
    let (outside, pod) = (outside(), Pod::new("pod"));
    let ips = ips(&network.add(&pod));
    let servers = (
        TcpEcho::start(&pod, "[::]:80"),
        UdpEcho::start(&pod, "[::]:80"),
    );
    Site {
        outside,
        pod,
        ips,
        _servers: servers,
    }
}

fn an_outside_host_reaches_the_pod_and_is_seen_by_it() {
    let site = site(&Network::new().publishing(&PORTS));
    sees(tcp(&site.outside, "192.0.2.1:8080"), OUTSIDE4);
    sees(tcp(&site.outside, "[2001:db8:1::1]:8080"), OUTSIDE6);
    sees(udp(&site.outside, "192.0.2.1:8081"), OUTSIDE4);
    sees(udp(&site.outside, "[2001:db8:1::1]:8081"), OUTSIDE6);
    // The protocol is part of the port.
    assert!(tcp(&site.outside, "192.0.2.1:8081").is_err());
}

fn the_node_reaches_its_own_ports() {
    let site = site(&Network::new().publishing(&PORTS));
    let ask = |target: &str| TcpEcho::ask(target).map(address);
    sees(ask("192.0.2.1:8080"), NODE4);
    sees(ask("[2001:db8:1::1]:8080"), NODE6);
    sees(ask("10.9.0.1:8080"), "10.9.0.1");
    sees(ask("127.0.0.1:8080"), "10.9.0.1");
    sees(ask("127.5.6.7:8080"), "10.9.0.1");
    sees(UdpEcho::ask("127.0.0.1:8081").map(address), "10.9.0.1");
    // The kernel takes no answer to ::1 but on lo: refused at once.
    let refused = TcpEcho::ask("[::1]:8080").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    drop(site);
}

fn a_pod_reaches_itself_and_its_neighbours_where_bridged_packets_pass_the_rules() {
    filter_bridged(true);
    itself_and_neighbours();
}

fn a_pod_reaches_itself_and_its_neighbours_where_they_do_not() {
    filter_bridged(false);
    itself_and_neighbours();
}

/// Whether bridged packets pass the host's rules. Without `br_netfilter` they do not.
fn filter_bridged(filter: bool) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        let written = std::fs::write(path, if filter { "1" } else { "0" });
        if let (Err(error), true) = (written, filter) {
            skip(&format!("br_netfilter: {error}"));
        }
    }
}

fn itself_and_neighbours() {
    let network = Network::new().publishing(&PORTS);
    let site = site(&network);
    let neighbour = Pod::new("neighbour");
    network.clone().publishing(&[]).add(&neighbour);
    for from in [&site.pod, &neighbour] {
        for node in [NODE4, "10.9.0.1"] {
            sees(tcp(from, &format!("{node}:8080")), "10.9.0.1");
            sees(udp(from, &format!("{node}:8081")), "10.9.0.1");
        }
        for node in [NODE6, "fd00:9::1"] {
            sees(tcp(from, &format!("[{node}]:8080")), "fd00:9::1");
            sees(udp(from, &format!("[{node}]:8081")), "fd00:9::1");
        }
    }
}

fn what_passes_through_the_node_is_not_translated() {
    let network = Network::new().publishing(&PORTS);
    let site = site(&network);
    let _far = (
        TcpEcho::start(&site.outside, "192.0.2.254:8080"),
        UdpEcho::start(&site.outside, "192.0.2.254:8081"),
    );
    // Masqueraded by the bridge, and served by the outside host: not by the pod.
    sees(tcp(&site.pod, "192.0.2.254:8080"), NODE4);
    sees(udp(&site.pod, "192.0.2.254:8081"), NODE4);
    sees(TcpEcho::ask("192.0.2.254:8080").map(address), NODE4);
}

/// Where bridged packets pass the host's rules, too, neighbours that do without the published port are not masqueraded, even
/// where both ports have one number.
fn direct_traffic_between_neighbours_keeps_its_source() {
    let network = Network::new().publishing(&["80:80/tcp"]);
    let site = site(&network);
    let neighbour = Pod::new("neighbour");
    let (own, _) = ips(&network.clone().publishing(&[]).add(&neighbour));
    filter_bridged(true);
    sees(tcp(&neighbour, &format!("{}:80", site.ips.0)), &own);
    sees(tcp(&neighbour, &format!("{NODE4}:80")), "10.9.0.1");
}

fn a_pod_does_not_reach_the_hosts_loopback() {
    let site = site(&Network::new().publishing(&PORTS));
    let key = "net/ipv4/conf/br9/route_localnet";
    assert_eq!(sysctl(key).as_deref(), Some("1"));
    let _private = TcpEcho::here("127.0.0.1:9999");
    let script = "ip route del local 127.0.0.1 dev lo table local; ip route del local 127.0.0.0/8 dev lo table local; \
                  echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.1 via 10.9.0.1";
    let made = site
        .pod
        .run(|| Command::new("sh").args(["-ec", script]).status());
    match made {
        Ok(status) => assert!(status.success()),
        Err(error) => skip(&format!("sh and ip: {error}")),
    }
    assert!(tcp(&site.pod, "127.0.0.1:9999").is_err());
    let host = cni_core::host::Host::open().expect("the kernel");
    let state = block(host.firewall.table(&table())).expect("a look");
    let chains = state.expect("the table").chains;
    let guard = chains.iter().find(|chain| chain.name == "guard");
    let dropped = guard.expect("the guard").rules[0]
        .counter
        .expect("a counter");
    assert!(dropped.packets > 0, "the packets came as far as the guard");
}

fn a_pod_of_another_network_reaches_the_port() {
    let site = site(&Network::new().publishing(&PORTS));
    let other = Pod::new("other");
    let (own, _) = ips(&Network::named("other", 8).add(&other));
    let seen = tcp(&other, "192.0.2.1:8080").expect("an answer");
    // Its own network masquerades what leaves it; portmap has no need to.
    assert!(
        [own.as_str(), "10.9.0.1"].contains(&seen.as_str()),
        "{seen}"
    );
    drop(site);
}

/// An INIT chunk over a raw socket: it needs no SCTP in the kernel but that of connection tracking.
fn sctp_is_led_to_the_pod() {
    let site = site(&Network::new().publishing(&["8082:80/SCTP"]));
    let raw = |domain| {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(132))).expect("a socket");
        let patience = std::time::Duration::from_secs(20);
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        socket
    };
    for (domain, header, target) in [
        (Domain::IPV4, 20, "192.0.2.1:0"),
        (Domain::IPV6, 0, "[2001:db8:1::1]:0"),
    ] {
        let server = site.pod.run(|| raw(domain));
        let target: SocketAddr = target.parse().expect("an address");
        let sent = site
            .outside
            .run(|| raw(domain).send_to(&init(8082), &target.into()));
        sent.expect("a packet");
        let mut buffer = [0; 256];
        let length = (&server).read(&mut buffer).expect("a packet in the pod");
        let ports = &buffer[header..length.min(header + 4)];
        assert_eq!(ports, [0x30, 0x39, 0, 80], "{target}");
    }
}

/// From port 12345 (RFC 9260, 3.1 and 3.3.2).
fn init(port: u16) -> Vec<u8> {
    let mut packet = vec![0x30, 0x39];
    packet.extend(port.to_be_bytes());
    packet.extend([0; 8]);
    // INIT, 20 bytes: tag, window, streams out and in, first TSN.
    packet.extend([
        1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 1,
    ]);
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

/// CRC32c, reflected (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}
