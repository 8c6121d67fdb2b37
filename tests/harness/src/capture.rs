//! Frames as they cross an interface, over a packet socket (packet(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Pod;

const OUTGOING: u8 = 4;

/// A packet socket on one interface: sees every frame in and out from the moment it is made, and can send raw frames.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    link: LinkAddr,
}

/// An Ethernet frame as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether the interface sent it; otherwise it was received.
    pub outgoing: bool,
    /// From the destination address on; without a VLAN tag, which the kernel keeps apart.
    pub bytes: Vec<u8>,
}

/// What an ARP packet or a neighbour advertisement tells about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourNews {
    /// Whose address.
    pub address: IpAddr,
    /// Where it is now.
    pub mac: [u8; 6],
    /// Told without having been asked: a gratuitous ARP, or an unsolicited advertisement.
    pub unasked: bool,
}

impl Capture {
    /// Captures on an interface of the calling thread's namespace.
    ///
    /// # Panics
    /// When there is no such Ethernet interface.
    pub fn here(interface: &str) -> Self {
        let link = nix::ifaddrs::getifaddrs()
            .expect("the list of interfaces")
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .unwrap_or_else(|| panic!("no interface {interface}"));
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .expect("a packet socket");
        // The address carries no protocol, which leaves the socket's own.
        bind(socket.as_raw_fd(), &link).expect("binding to the interface");
        let capture = Self { socket, link };
        // What arrived from other interfaces between socket and bind.
        while capture.next(Duration::from_millis(1)).is_some() {}
        capture
    }

    /// Captures on an interface of a pod.
    ///
    /// # Panics
    /// As [`Capture::here`].
    pub fn start(pod: &Pod, interface: &str) -> Self {
        pod.run(|| Self::here(interface))
    }

    /// The next frame, if one comes in time.
    ///
    /// # Panics
    /// When the interface is gone.
    pub fn next(&self, timeout: Duration) -> Option<Frame> {
        let microseconds = i64::try_from(timeout.as_micros()).expect("a short timeout");
        setsockopt(
            &self.socket,
            ReceiveTimeout,
            &TimeVal::microseconds(microseconds.max(1)),
        )
        .expect("a receive timeout");
        let mut bytes = vec![0; 65536];
        match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut bytes) {
            Ok((length, from)) => {
                bytes.truncate(length);
                let outgoing = from.is_some_and(|from| from.pkttype() == OUTGOING);
                Some(Frame { outgoing, bytes })
            }
            Err(nix::errno::Errno::EAGAIN) => None,
            Err(errno) => panic!("cannot receive from the packet socket: {errno}"),
        }
    }

    /// The first frame that `wanted` accepts, if one comes in time.
    pub fn find(&self, timeout: Duration, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let frame = self.next(left.max(Duration::from_millis(1)))?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// All frames seen so far.
    pub fn drain(&self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next(Duration::from_millis(1))).collect()
    }

    /// Sends a raw frame out of the interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.link,
            MsgFlags::empty(),
        )?;
        Ok(())
    }
}

impl Frame {
    /// The source hardware address.
    pub fn source_mac(&self) -> Option<[u8; 6]> {
        self.bytes.get(6..12)?.try_into().ok()
    }

    /// The EtherType.
    pub fn ethertype(&self) -> Option<u16> {
        self.u16(12)
    }

    /// The IP source address.
    pub fn source(&self) -> Option<IpAddr> {
        match self.ethertype()? {
            0x0800 => self.ipv4(26).map(IpAddr::V4),
            0x86dd => self.ipv6(22).map(IpAddr::V6),
            _ => None,
        }
    }

    /// The IP destination address.
    pub fn destination(&self) -> Option<IpAddr> {
        match self.ethertype()? {
            0x0800 => self.ipv4(30).map(IpAddr::V4),
            0x86dd => self.ipv6(38).map(IpAddr::V6),
            _ => None,
        }
    }

    /// What an ARP packet or a neighbour advertisement tells about its sender.
    pub fn neighbour_news(&self) -> Option<NeighbourNews> {
        match self.ethertype()? {
            0x0806 => {
                let (sender, target) = (self.ipv4(28)?, self.ipv4(38)?);
                Some(NeighbourNews {
                    address: sender.into(),
                    mac: self.bytes.get(22..28)?.try_into().ok()?,
                    unasked: sender == target,
                })
            }
            // ICMPv6 directly after the IPv6 header, neighbour advertisement (RFC 4861, section 4.4) with a target
            // link-layer address option.
            0x86dd if self.bytes.get(20) == Some(&58) && self.bytes.get(54) == Some(&136) => {
                let options = self.bytes.get(78..86)?;
                (options.first() == Some(&2)).then_some(())?;
                Some(NeighbourNews {
                    address: self.ipv6(62)?.into(),
                    mac: options.get(2..8)?.try_into().ok()?,
                    unasked: self.bytes.get(58)? & 0x40 == 0,
                })
            }
            _ => None,
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    fn ipv4(&self, at: usize) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.bytes.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    }

    fn ipv6(&self, at: usize) -> Option<Ipv6Addr> {
        let octets: [u8; 16] = self.bytes.get(at..at + 16)?.try_into().ok()?;
        Some(octets.into())
    }
}
