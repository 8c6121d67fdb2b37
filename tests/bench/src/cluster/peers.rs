//! Peers by number, and a node for them.

use std::net::Ipv4Addr;
use std::process::Command;

/// Who makes the entries.
pub(super) const PROTOCOL: u8 = 167;
/// VXLAN network identifier.
pub(super) const VNI: u32 = 1;
/// This node's underlay address. 198.18.0.0/15 is for benchmarks (RFC 2544).
pub(super) const OUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The classic device and the flow's, of the low level.
pub(super) const CLASSIC: &str = "vx";
pub(super) const FLOW: &str = "flow";

/// A peer's underlay address. Peers begin at 1.
pub(super) fn underlay(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc612_0100 + peer)
}

/// A peer's prefix, of 24 bits. This node's is 10.0.0.0/24.
pub(super) fn prefix(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + (peer << 8))
}

/// A peer's VTEP address.
pub(super) fn vtep(peer: u32) -> Ipv4Addr {
    prefix(peer)
}

/// A peer's VTEP hardware address.
pub(super) fn mac(peer: u32) -> [u8; 6] {
    let [a, b, c, d] = peer.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// Makes the links in the thread's namespace: the uplink.
pub(super) fn uplink() {
    shell(
        "ip link add eth0 type veth peer name far
        ip address add 198.18.0.1/15 dev eth0
        ip link set far up
        ip link set eth0 up",
    );
}

/// The devices that a tunnel ends at, for what is measured below the engine.
pub(super) fn devices() {
    shell(
        "ip link add vx type vxlan id 1 dstport 8472 local 198.18.0.1 dev eth0 nolearning
        ip link add flow type vxlan dstport 4790 external gpe
        ip address add 10.0.0.0/32 dev vx
        ip link set vx up
        ip link set flow up",
    );
}

/// Runs commands.
///
/// # Panics
/// When one fails.
pub(super) fn shell(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output();
    let output = output.expect("a shell");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {error}");
}

/// The index of a link of the thread's namespace.
pub(super) fn index(link: &str) -> u32 {
    nix::net::if_::if_nametoindex(link).expect("the link")
}
