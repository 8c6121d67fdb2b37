//! The few netlink requests that the test kit makes by itself, so that what it reports does not depend on the code under
//! test.

use std::io;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const RTM_NEWLINK: u16 = 16;
const HEADER: usize = 16;

/// Sets `lo` up in the calling thread's network namespace (`ip link set lo up`).
pub(crate) fn set_loopback_up() -> io::Result<()> {
    // struct ifinfomsg: family, pad, type, index 1 (always lo), flags IFF_UP, change mask IFF_UP.
    let mut body = vec![0; 4];
    for word in [1_u32, 1, 1] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    request(NETLINK_ROUTE, RTM_NEWLINK, NLM_F_ACK, &body).map(|_| ())
}

/// All messages of a dump, each with its netlink header. Repeated while the kernel says that the state changed under it.
pub(crate) fn dump(protocol: isize, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    loop {
        let messages = request(protocol, kind, NLM_F_DUMP, body)?;
        if messages
            .iter()
            .all(|message| u16_at(message, 6) & NLM_F_DUMP_INTR == 0)
        {
            return Ok(messages);
        }
    }
}

/// One request, and what the kernel answers to it.
pub(crate) fn request(
    protocol: isize,
    kind: u16,
    flags: u16,
    body: &[u8],
) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    let length = HEADER + body.len();
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    socket.send(&message, 0)?;
    collect(&socket)
}

fn collect(socket: &Socket) -> io::Result<Vec<Vec<u8>>> {
    let mut messages = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while rest.len() >= HEADER {
            let length = u32_at(rest, 0) as usize;
            let (message, _) = rest.split_at(length.clamp(HEADER, rest.len()));
            match u16_at(message, 4) {
                NLMSG_DONE => return Ok(messages),
                NLMSG_ERROR => {
                    return match u32_at(message, HEADER).cast_signed() {
                        0 => Ok(messages),
                        errno => Err(io::Error::from_raw_os_error(-errno)),
                    };
                }
                _ => messages.push(message.to_vec()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Attributes (type without flags, payload) of a netlink message's tail.
pub(crate) fn attributes(mut rest: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        if rest.len() < 4 {
            return None;
        }
        let length = usize::from(u16_at(rest, 0));
        let kind = u16_at(rest, 2) & 0x3fff;
        all.push((kind, rest.get(4..length)?));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(all)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
