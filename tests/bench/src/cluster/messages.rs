//! What connects a node with its peers, as netlink messages that are encoded before the clock runs.

use std::net::Ipv4Addr;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::peers::{OUTER, PROTOCOL, VNI, mac, prefix, underlay, vtep};
use crate::wire::{CREATE_EXCLUSIVE, Message};

const NEWROUTE: u16 = 24;
const NEWNEIGH: u16 = 28;
const NEWNEXTHOP: u16 = 104;
const NLM_F_ACK: u8 = 4;
/// Messages in one datagram.
const TOGETHER: usize = 64;

/// A permanent neighbour: a peer's VTEP.
pub(super) fn neighbour(index: u32, peer: u32) -> Vec<u8> {
    Message::new(NEWNEIGH, CREATE_EXCLUSIVE, &ndmsg(2, index, 0))
        .attribute(1, &vtep(peer).octets())
        .attribute(2, &mac(peer))
        .finish()
}

/// A forwarding entry: a peer's VTEP behind its underlay address.
pub(super) fn fdb(index: u32, peer: u32) -> Vec<u8> {
    Message::new(NEWNEIGH, CREATE_EXCLUSIVE, &ndmsg(7, index, 2))
        .attribute(2, &mac(peer))
        .attribute(1, &underlay(peer).octets())
        .finish()
}

/// A next hop into the tunnel.
pub(super) fn tunnel(index: u32, peer: u32) -> Vec<u8> {
    let encap = Message::inside(&[])
        .attribute(1, &u64::from(VNI).to_be_bytes())
        .attribute(2, &underlay(peer).octets())
        .attribute(3, &OUTER.octets());
    Message::new(NEWNEXTHOP, CREATE_EXCLUSIVE, &nhmsg(10, 0))
        .attribute(1, &peer.to_ne_bytes())
        .attribute(5, &index.to_ne_bytes())
        .attribute(7, &2_u16.to_ne_bytes())
        .nested(8, encap)
        .finish()
}

/// A next hop by a gateway.
pub(super) fn gateway(index: u32, peer: u32, address: Ipv4Addr, onlink: bool) -> Vec<u8> {
    Message::new(
        NEWNEXTHOP,
        CREATE_EXCLUSIVE,
        &nhmsg(2, if onlink { 4 } else { 0 }),
    )
    .attribute(1, &peer.to_ne_bytes())
    .attribute(5, &index.to_ne_bytes())
    .attribute(6, &address.octets())
    .finish()
}

/// A route to a peer's pods by its next hop.
pub(super) fn route(peer: u32) -> Vec<u8> {
    let header = [2, 24, 0, 0, 254, PROTOCOL, 0, 1, 0, 0, 0, 0];
    Message::new(NEWROUTE, CREATE_EXCLUSIVE, &header)
        .attribute(1, &prefix(peer).octets())
        .attribute(30, &peer.to_ne_bytes())
        .finish()
}

/// `struct ndmsg` of something permanent.
fn ndmsg(family: u8, index: u32, flags: u8) -> Vec<u8> {
    let mut header = vec![family, 0, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&0x80_u16.to_ne_bytes());
    header.extend_from_slice(&[flags, 0]);
    header
}

/// `struct nhmsg`.
fn nhmsg(family: u8, flags: u32) -> Vec<u8> {
    let mut header = vec![family, 0, PROTOCOL, 0];
    header.extend_from_slice(&flags.to_ne_bytes());
    header
}

/// Puts messages together, the last of which asks for an answer.
pub(super) fn datagrams(messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let messages: Vec<Vec<u8>> = messages.into_iter().collect();
    let together = messages.chunks(TOGETHER).map(|chunk| {
        let mut datagram = Vec::new();
        for (place, message) in chunk.iter().enumerate() {
            let start = datagram.len();
            datagram.extend_from_slice(message);
            if place + 1 < chunk.len() {
                datagram[start + 6] &= !NLM_F_ACK;
            }
        }
        datagram
    });
    together.collect()
}

/// A socket of the thread's namespace.
pub(super) fn socket() -> Socket {
    let mut socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
    socket.bind_auto().expect("binding a netlink socket");
    socket
}

/// Sends datagrams and reads their answers.
///
/// # Panics
/// When the kernel refuses.
pub(super) fn send(socket: &Socket, datagrams: &[Vec<u8>]) {
    let mut answer = Vec::with_capacity(64 * 1024);
    for datagram in datagrams {
        socket.send(datagram, 0).expect("sending to the kernel");
        answer.clear();
        socket.recv(&mut answer, 0).expect("the kernel's answer");
        let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
        let errno = -code.map_or(0, i32::from_ne_bytes);
        assert!(
            errno == 0,
            "the kernel refuses: {}",
            std::io::Error::from_raw_os_error(errno)
        );
    }
}
