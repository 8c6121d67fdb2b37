//! VXLAN packets made by hand: what anybody who reaches the tunnel port can send.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::Pod;
use crate::ping::checksum;

/// A VXLAN payload (RFC 7348, and for [`Forged::flow`] draft-ietf-nvo3-vxlan-gpe) that carries one UDP datagram.
#[derive(Debug, Clone)]
pub struct Forged {
    vni: u32,
    ethernet: Option<[u8; 6]>,
    source: IpAddr,
    target: IpAddr,
    text: String,
}

/// The UDP ports of the datagram inside; nobody listens there.
const PORT: u16 = 9;

impl Forged {
    /// A datagram in an Ethernet frame, as the classic data path has it, to the device with this hardware address.
    ///
    /// # Panics
    /// When source and target differ in family.
    pub fn classic(vni: u32, device: [u8; 6], source: IpAddr, target: IpAddr) -> Self {
        Self {
            ethernet: Some(device),
            ..Self::flow(vni, source, target)
        }
    }

    /// A bare IP packet, as the flow data path has it (VXLAN-GPE).
    ///
    /// # Panics
    /// When source and target differ in family.
    pub fn flow(vni: u32, source: IpAddr, target: IpAddr) -> Self {
        assert_eq!(source.is_ipv4(), target.is_ipv4(), "one packet, one family");
        Self {
            vni,
            ethernet: None,
            source,
            target,
            text: format!("forged from {source} to {target}"),
        }
    }

    /// The datagram's text, by which a capture knows it.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Sends it from a namespace to a tunnel port, from the namespace's own address for that way, or from `from`.
    ///
    /// # Panics
    /// When the kernel does not send it.
    pub fn send(&self, pod: &Pod, from: Option<IpAddr>, to: SocketAddr) {
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let any: IpAddr = any.parse().expect("an address");
        let payload = self.payload();
        pod.run(|| {
            let socket = UdpSocket::bind((from.unwrap_or(any), 0)).expect("an own address");
            socket.send_to(&payload, to).expect("a way to the target");
        });
    }

    /// Whether bytes that were captured hold the datagram.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let text = self.text.as_bytes();
        bytes.windows(text.len()).any(|window| window == text)
    }

    /// What follows the outer UDP header.
    pub fn payload(&self) -> Vec<u8> {
        // Flags: the VNI is valid; with GPE, so is the next protocol (1 IPv4, 2 IPv6).
        let mut bytes = match (self.ethernet, self.target) {
            (Some(_), _) => vec![0x08, 0, 0, 0],
            (None, IpAddr::V4(_)) => vec![0x0c, 0, 0, 1],
            (None, IpAddr::V6(_)) => vec![0x0c, 0, 0, 2],
        };
        bytes.extend_from_slice(&(self.vni << 8).to_be_bytes());
        if let Some(device) = self.ethernet {
            bytes.extend_from_slice(&device);
            bytes.extend_from_slice(&[0x02, 0, 0, 0, 0, 0x66]);
            let ethertype: u16 = if self.target.is_ipv4() {
                0x0800
            } else {
                0x86dd
            };
            bytes.extend_from_slice(&ethertype.to_be_bytes());
        }
        bytes.extend_from_slice(&self.packet());
        bytes
    }

    fn packet(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.text.len()).expect("a short text");
        let mut udp = Vec::new();
        for word in [PORT, PORT, length, 0] {
            udp.extend_from_slice(&word.to_be_bytes());
        }
        udp.extend_from_slice(self.text.as_bytes());
        match (self.source, self.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let total = (20 + length).to_be_bytes();
                let mut header = vec![0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 17, 0, 0];
                header.extend_from_slice(&source.octets());
                header.extend_from_slice(&target.octets());
                let sum = checksum(&header).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                // A UDP checksum of zero is none, over IPv4.
                [header, udp].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let length = length.to_be_bytes();
                let addresses = [source.octets(), target.octets()].concat();
                let pseudo = [
                    addresses.as_slice(),
                    &[0, 0, length[0], length[1], 0, 0, 0, 17],
                    &udp,
                ];
                let sum = checksum(&pseudo.concat()).to_be_bytes();
                udp[6..8].copy_from_slice(&sum);
                let header = [0x60, 0, 0, 0, length[0], length[1], 17, 64];
                [header.as_slice(), &addresses, &udp].concat()
            }
            _ => unreachable!("one packet, one family"),
        }
    }
}
