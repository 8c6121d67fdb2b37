//! The kernel's own time: the same objects as an attachment's, made by messages that were encoded before, in one process.

use std::fs::File;
use std::os::fd::AsRawFd;

use cni_testkit::Pod;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::wire::{CREATE_EXCLUSIVE, Message, ifinfo, request};

/// Messages and sockets for one attachment that is made and removed again and again.
pub(crate) struct Floor {
    host: Socket,
    container: Socket,
    add_host: Vec<u8>,
    add_container: Vec<Vec<u8>>,
    delete: Vec<u8>,
    /// Keeps the descriptor in the message alive.
    _namespace: File,
    _pod: Pod,
}

const BRIDGE: u32 = 9_000;
const PORT: u32 = 9_001;
const ETH0: u32 = 9_002;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const IFNAME: u16 = 3;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const NET_NS_FD: u16 = 28;

impl Floor {
    /// A bridge with one address, and everything encoded.
    pub(crate) fn new() -> Self {
        let pod = Pod::new("floor");
        let namespace = File::open(pod.path()).expect("the pod's namespace");
        let host = socket();
        let container = pod.run(socket);
        let bridge = Message::new(NEWLINK, CREATE_EXCLUSIVE, &ifinfo(BRIDGE, true))
            .attribute(IFNAME, b"floor0\0")
            .nested(LINKINFO, Message::inside(&[]).attribute(1, b"bridge\0"));
        request(&host, &bridge.finish(), "a bridge");
        request(
            &host,
            &address(BRIDGE, [10, 250, 0, 1]),
            "the bridge's address",
        );

        let descriptor = u32::try_from(namespace.as_raw_fd()).expect("a descriptor");
        let peer = Message::inside(&ifinfo(ETH0, false))
            .attribute(IFNAME, b"eth0\0")
            .attribute(NET_NS_FD, &descriptor.to_ne_bytes());
        let info = Message::inside(&[])
            .attribute(1, b"veth\0")
            .nested(2, Message::inside(&[]).nested(1, peer));
        let add_host = Message::new(NEWLINK, CREATE_EXCLUSIVE, &ifinfo(PORT, true))
            .attribute(IFNAME, b"floorport\0")
            .attribute(MASTER, &BRIDGE.to_ne_bytes())
            .nested(LINKINFO, info)
            .finish();
        let up = Message::new(NEWLINK, 0, &ifinfo(ETH0, true)).finish();
        // struct rtmsg: IPv4, default, table main, boot, universe, unicast.
        let route = Message::new(
            NEWROUTE,
            CREATE_EXCLUSIVE,
            &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0],
        )
        .attribute(5, &[10, 250, 0, 1])
        .attribute(4, &ETH0.to_ne_bytes())
        .finish();
        Self {
            host,
            container,
            add_host,
            add_container: vec![up, address(ETH0, [10, 250, 0, 2]), route],
            delete: Message::new(DELLINK, 0, &ifinfo(PORT, false)).finish(),
            _namespace: namespace,
            _pod: pod,
        }
    }

    /// What ADD makes: a pair with one end in the bridge, an address, a route.
    pub(crate) fn add(&self) {
        request(&self.host, &self.add_host, "a veth pair");
        for message in &self.add_container {
            request(&self.container, message, "the container's end");
        }
    }

    /// What DEL removes.
    pub(crate) fn del(&self) {
        request(&self.host, &self.delete, "deleting the pair");
    }
}

fn socket() -> Socket {
    let mut socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
    socket.bind_auto().expect("binding a netlink socket");
    socket
}

fn address(link: u32, address: [u8; 4]) -> Vec<u8> {
    // struct ifaddrmsg: IPv4, /24.
    let mut header = vec![2, 24, 0, 0];
    header.extend_from_slice(&link.to_ne_bytes());
    Message::new(NEWADDR, CREATE_EXCLUSIVE, &header)
        .attribute(2, &address)
        .attribute(1, &address)
        .finish()
}
