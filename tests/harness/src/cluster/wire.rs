//! The netlink requests that lay the cables of a cluster. Each acts in the calling thread's network namespace.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::net::if_::if_nametoindex;

use crate::netlink::{attributes, dump, request};

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.
const NLM_F_ACK: u16 = 0x4;
const CREATE: u16 = NLM_F_ACK | 0x600;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `ip link add NAME type bridge`, and up.
pub(super) fn add_bridge(name: &str) -> io::Result<()> {
    let mut info = Vec::new();
    put(&mut info, IFLA_INFO_KIND, b"bridge");
    let mut body = link_header(0, true);
    put(&mut body, IFLA_IFNAME, &text(name));
    put(&mut body, IFLA_LINKINFO, &info);
    request(NETLINK_ROUTE, RTM_NEWLINK, CREATE, &body).map(|_| ())
}

/// `ip link add NAME mtu MTU master MASTER type veth peer name PEER mtu MTU netns NAMESPACE`, and this end up.
pub(super) fn add_cable(
    name: &str,
    master: Option<&str>,
    mtu: u32,
    (peer, namespace): (&str, &File),
) -> io::Result<()> {
    let mut other = link_header(0, false);
    put(&mut other, IFLA_IFNAME, &text(peer));
    put(&mut other, IFLA_MTU, &mtu.to_ne_bytes());
    put(
        &mut other,
        IFLA_NET_NS_FD,
        &namespace.as_raw_fd().to_ne_bytes(),
    );
    let mut data = Vec::new();
    put(&mut data, VETH_INFO_PEER, &other);
    let mut info = Vec::new();
    put(&mut info, IFLA_INFO_KIND, b"veth");
    put(&mut info, IFLA_INFO_DATA, &data);
    let mut body = link_header(0, true);
    put(&mut body, IFLA_IFNAME, &text(name));
    put(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
    if let Some(master) = master {
        put(&mut body, IFLA_MASTER, &index_of(master)?.to_ne_bytes());
    }
    put(&mut body, IFLA_LINKINFO, &info);
    request(NETLINK_ROUTE, RTM_NEWLINK, CREATE, &body).map(|_| ())
}

/// `ip link set NAME up` or `down`.
pub(super) fn set_up(name: &str, up: bool) -> io::Result<()> {
    let body = link_header(index_of(name)?, up);
    request(NETLINK_ROUTE, RTM_NEWLINK, NLM_F_ACK, &body).map(|_| ())
}

/// `ip link del NAME`.
pub(super) fn delete(name: &str) -> io::Result<()> {
    let body = link_header(index_of(name)?, true);
    request(NETLINK_ROUTE, RTM_DELLINK, NLM_F_ACK, &body).map(|_| ())
}

/// `ip address add ADDRESS/LENGTH dev NAME nodad`.
pub(super) fn add_address(name: &str, address: IpAddr, length: u8) -> io::Result<()> {
    let mut body = vec![family(address), length, IFA_F_NODAD, 0];
    body.extend_from_slice(&index_of(name)?.to_ne_bytes());
    put(&mut body, IFA_LOCAL, &octets(address));
    put(&mut body, IFA_ADDRESS, &octets(address));
    request(NETLINK_ROUTE, RTM_NEWADDR, CREATE, &body).map(|_| ())
}

/// `ip route add default via GATEWAY`.
pub(super) fn add_default_route(gateway: IpAddr) -> io::Result<()> {
    // struct rtmsg: family, lengths, tos, table main, protocol static, scope universe, type unicast, flags.
    let mut body = vec![family(gateway), 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    put(&mut body, RTA_GATEWAY, &octets(gateway));
    request(NETLINK_ROUTE, RTM_NEWROUTE, CREATE, &body).map(|_| ())
}

/// `ip route flush protocol PROTOCOL`, of both families and all tables; how many there were.
pub(super) fn flush_routes(protocol: u8) -> io::Result<usize> {
    // After the netlink header, struct rtmsg: the protocol is its sixth byte.
    const HEADER: usize = 16;
    const RTMSG: usize = 12;
    const PROTOCOL: usize = HEADER + 5;
    // RTA_DST, RTA_PRIORITY, RTA_TABLE. A next hop's id and what it stands for are both told, and not both taken.
    const TELLING: [u16; 3] = [1, 6, 15];
    let routes = dump(NETLINK_ROUTE, RTM_GETROUTE, &[0; RTMSG])?;
    let ours = routes.iter().filter(|route| route[PROTOCOL] == protocol);
    let mut count = 0;
    for route in ours {
        let mut body = route[HEADER..HEADER + RTMSG].to_vec();
        for (kind, value) in attributes(&route[HEADER + RTMSG..]).unwrap_or_default() {
            if TELLING.contains(&kind) {
                put(&mut body, kind, value);
            }
        }
        match request(NETLINK_ROUTE, RTM_DELROUTE, NLM_F_ACK, &body) {
            Ok(_) => count += 1,
            // ESRCH: somebody was quicker.
            Err(error) if error.raw_os_error() == Some(3) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(if_nametoindex(name)?)
}

/// `struct ifinfomsg` of a link that is to be up, or down.
fn link_header(index: u32, up: bool) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, u32::from(up) * IFF_UP, IFF_UP] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body
}

fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("a short attribute");
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
