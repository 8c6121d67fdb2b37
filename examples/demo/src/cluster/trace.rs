//! One datagram, seen at every place that it passes.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cni_testkit::{Capture, Frame, Pod};

use super::pods::Pods;
use super::site::Site;
use crate::Result;
use crate::attached::Attached;

/// A datagram's way from a pod to one on another node.
pub(super) struct Way {
    from: String,
    to: String,
    pub(super) hops: Vec<Hop>,
}

/// The datagram as an interface saw it.
pub(super) struct Hop {
    /// Where the interface is.
    place: String,
    interface: &'static str,
    pub(super) packet: Packet,
    /// Length of the whole frame, in bytes.
    pub(super) length: usize,
}

/// What an IP packet says.
pub(super) struct Packet {
    source: IpAddr,
    target: IpAddr,
    hop_limit: u8,
    /// UDP port, VNI, and what is inside, when it is a tunnel's.
    pub(super) inside: Option<(u16, u32, Box<Packet>)>,
}

const TEXT: &[u8] = b"where do I come along?";
const PORT: u16 = 7001;

/// The ports of a tunnel: the classic data path's and the flow's.
const TUNNELS: [u16; 2] = [8472, 4790];

/// Follows one datagram of each family from the first node to the last.
pub(super) fn follow(site: &Site, pods: &Pods) -> Result<Vec<Way>> {
    let (first, last) = pods.far()?;
    let (from, to) = (&first.attached, &last.attached);
    let router = [("a", "router"), ("b", "router")].map(|(leg, name)| {
        let wanted = site.args.router;
        wanted.then_some((name.to_owned(), leg, site.cluster.router()))
    });
    let (near, far) = (site.node(first.node)?, site.node(last.node)?);
    let mut places: Vec<(String, &'static str, &Pod)> = vec![
        (from.name.clone(), "eth0", &from.pod),
        (near.name().to_owned(), "eth0", near.network()),
    ];
    places.extend(router.into_iter().flatten());
    places.push((far.name().to_owned(), "eth0", far.network()));
    places.push((to.name.clone(), "eth0", &to.pod));
    (0..2)
        .map(|family| one(from, to, &places, family))
        .collect()
}

fn one(
    from: &Attached,
    to: &Attached,
    places: &[(String, &'static str, &Pod)],
    family: usize,
) -> Result<Way> {
    let (source, target) = (from.address(family)?, to.address(family)?);
    let captures = places.iter();
    let captures: Vec<Capture> = captures
        .map(|(_, interface, pod)| Capture::start(pod, interface))
        .collect();
    let failed = |error| format!("no datagram from {source} to {target}: {error}");
    // Somebody listens, lest the answer be an error that holds the datagram, too.
    let listener = to.pod.run(|| UdpSocket::bind((target, PORT)));
    let listener = listener.map_err(failed)?;
    let sent = from.pod.run(|| {
        let socket = UdpSocket::bind((source, 0))?;
        socket.send_to(TEXT, SocketAddr::new(target, PORT))
    });
    sent.map_err(failed)?;
    let mut hops = Vec::new();
    for ((place, interface, _), capture) in places.iter().zip(&captures) {
        let seen = capture.find(Duration::from_secs(1), |frame| {
            frame.bytes.windows(TEXT.len()).any(|part| part == TEXT)
        });
        let hop = seen.and_then(|frame| hop(place, interface, &frame));
        hops.push(hop.ok_or_else(|| {
            format!("the datagram from {source} to {target} was not seen on {interface} of {place}")
        })?);
    }
    drop(listener);
    Ok(Way {
        from: from.name.clone(),
        to: to.name.clone(),
        hops,
    })
}

fn hop(place: &str, interface: &'static str, frame: &Frame) -> Option<Hop> {
    const ETHERNET: usize = 14;
    Some(Hop {
        place: place.to_owned(),
        interface,
        packet: Packet::read(frame.bytes.get(ETHERNET..)?)?,
        length: frame.bytes.len(),
    })
}

impl Packet {
    /// RFC 791, RFC 8200; RFC 7348 and draft-ietf-nvo3-vxlan-gpe for what is in a tunnel.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (source, target, hop_limit, protocol, rest) = match bytes.first()? >> 4 {
            4 => {
                let words = usize::from(bytes.first()? & 0xf);
                let address = |at: usize| {
                    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
                    Some(IpAddr::from(octets))
                };
                let (limit, protocol) = (*bytes.get(8)?, *bytes.get(9)?);
                let rest = bytes.get(words * 4..)?;
                (address(12)?, address(16)?, limit, protocol, rest)
            }
            6 => {
                let address = |at: usize| {
                    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                    Some(IpAddr::from(octets))
                };
                let (protocol, limit) = (*bytes.get(6)?, *bytes.get(7)?);
                (address(8)?, address(24)?, limit, protocol, bytes.get(40..)?)
            }
            _ => return None,
        };
        Some(Self {
            source,
            target,
            hop_limit,
            inside: (protocol == 17).then(|| Self::inside(rest)).flatten(),
        })
    }

    fn inside(udp: &[u8]) -> Option<(u16, u32, Box<Self>)> {
        const UDP: usize = 8;
        const VXLAN: usize = 8;
        const GPE: u8 = 0x04;
        let port = u16::from_be_bytes(udp.get(2..4)?.try_into().ok()?);
        TUNNELS.contains(&port).then_some(())?;
        let header = udp.get(UDP..UDP + VXLAN)?;
        let vni = u32::from_be_bytes(header.get(4..)?.try_into().ok()?) >> 8;
        let ethernet = if header.first()? & GPE == 0 { 14 } else { 0 };
        let packet = Self::read(udp.get(UDP + VXLAN + ethernet..)?)?;
        Some((port, vni, Box::new(packet)))
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, target) = (self.source, self.target);
        match &self.inside {
            None => write!(f, "{source} → {target}, hop limit {}", self.hop_limit),
            Some((port, vni, packet)) => {
                write!(f, "{source} → {target}, UDP {port}, VNI {vni} [ {packet} ]")
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A datagram from {} to {}, as seen on",
            self.from, self.to
        )?;
        let first = self.hops.first().map_or(0, |hop| hop.length);
        for hop in &self.hops {
            let more = match hop.length.saturating_sub(first) {
                0 => String::new(),
                more => format!(" ({more} more)"),
            };
            writeln!(
                f,
                "  {:<7} {:<5} {:>4} bytes{more}: {}",
                hop.place, hop.interface, hop.length, hop.packet
            )?;
        }
        Ok(())
    }
}
