//! Connection tracking, with flows of real sockets.

use std::net::UdpSocket;

use cni_core::host::Conntrack;
use cni_core::host::conntrack::{Flow, FlowFilter, KernelConntrack};

use crate::support::*;

tests!(
    flows_are_found_and_deleted_by_their_addresses,
    without_flows_there_are_none
);

fn without_flows_there_are_none() -> Result<(), String> {
    let conntrack = KernelConntrack::new();
    for is_ipv6 in [false, true] {
        let flows = wait(conntrack.flows(&FlowFilter::of(is_ipv6, 17)));
        assert_eq!(flows, Ok(Vec::new()));
    }
    Ok(())
}

fn flows_are_found_and_deleted_by_their_addresses() -> Result<(), String> {
    // Whoever translates needs connection tracking.
    commit(&masquerade().converge()).unwrap();
    // None lapses meanwhile, however slow the machine is.
    let lasting = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
    std::fs::write(lasting, "3600").unwrap();
    up("lo");
    let mut sockets = Vec::new();
    for address in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", "[::1]:0"] {
        let server = UdpSocket::bind(address).unwrap();
        let client = UdpSocket::bind(address).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.send(b"x").unwrap();
        sockets.push((server, client));
    }
    let conntrack = KernelConntrack::new();
    let mut flows: Vec<Flow> = Vec::new();
    for is_ipv6 in [false, true] {
        flows.extend(wait(conntrack.flows(&FlowFilter::of(is_ipv6, 17))).unwrap());
    }
    assert_eq!(flows.len(), 4, "{flows:?}");
    for (server, client) in &sockets {
        let is = |flow: &&Flow| flow.source == client.local_addr().unwrap();
        let flow = flows.iter().find(is).unwrap();
        assert_eq!(flow.destination, server.local_addr().unwrap());
        assert_eq!(
            (flow.reply_source, flow.reply_destination),
            (flow.destination, flow.source)
        );
        assert_ne!(flow.id, 0);
    }
    #[cfg(feature = "testing")]
    wait(cni_core::testing::conformance::conntrack(
        &conntrack, &flows,
    ));
    Ok(())
}

fn up(link: &str) {
    use cni_core::host::netlink::{KernelNetlink, LinkSettings, NetlinkChange, NetlinkExt};
    let mut settings = LinkSettings::default();
    settings.up = Some(true);
    let change = NetlinkChange::LinkSet {
        link: link.to_owned(),
        settings,
    };
    wait(KernelNetlink::open().unwrap().apply_one(change)).unwrap();
}
