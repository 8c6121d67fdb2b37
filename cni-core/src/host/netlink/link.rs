//! Links, bridge ports and VLANs as values.

use std::fmt;
use std::str::FromStr;

use super::vxlan::{Vxlan, VxlanSettings};
use crate::host::netns::NetnsPath;

/// A hardware address of six bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

/// A link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is; the driver's own settings are inside.
    pub kind: LinkKind,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// The lower layer is there (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// RFC 2863 state.
    pub oper_state: OperState,
    /// MTU in bytes.
    pub mtu: u32,
    /// Hardware address; `None` when the device has none of six bytes.
    pub mac: Option<MacAddr>,
    /// Index of the bridge (or other master) it is a port of.
    pub master: Option<u32>,
    /// Index of the peer or lower device, in its own namespace.
    pub peer: Option<u32>,
    /// Whether the peer or lower device is in another namespace.
    pub peer_elsewhere: bool,
    /// Alias (`ip link set alias`).
    pub alias: Option<String>,
    /// Device group.
    pub group: u32,
    /// Promiscuity was asked for (`IFF_PROMISC`).
    pub promiscuous: bool,
    /// All multicast frames are received (`IFF_ALLMULTI`).
    pub all_multicast: bool,
    /// Transmit queue length in packets.
    pub tx_queue_len: u32,
    /// What it is set to as a bridge port, when it is one.
    pub port: Option<PortSettings>,
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind {
    /// `lo`, and hardware: no `IFLA_INFO_KIND`.
    Physical,
    /// A bridge.
    Bridge {
        /// Whether ports filter by VLAN (`vlan_filtering`).
        vlan_filtering: bool,
    },
    /// One end of a virtual Ethernet pair.
    Veth,
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// Any other driver, by its kind's name.
    Other(String),
}

/// RFC 2863 operational state (`IF_OPER_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperState {
    /// Drivers that do not tell.
    Unknown,
    /// Ready to pass packets.
    Up,
    /// Not ready, whatever the reason.
    Down,
}

/// Settings of a bridge port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PortSettings {
    /// Frames may go back out of the port they came in by.
    pub hairpin: bool,
    /// Isolated ports do not talk to each other.
    pub isolated: bool,
    /// Spanning tree state is `forwarding` (read only; ignored in a change).
    pub forwarding: bool,
}

/// A link to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewLink {
    /// Name.
    pub name: String,
    /// What to create.
    pub kind: NewLinkKind,
    /// MTU in bytes; `None` leaves the driver's default.
    pub mtu: Option<u32>,
    /// Hardware address; `None` leaves the choice to the kernel (a bridge will then follow its ports).
    pub mac: Option<MacAddr>,
    /// The bridge to make it a port of, by name.
    pub master: Option<String>,
    /// Whether to bring it up.
    pub up: bool,
    /// Whether the kernel gives it an IPv6 link-local address (`addrgenmode`).
    pub ipv6_link_local: bool,
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewLinkKind {
    /// A bridge.
    Bridge {
        /// Whether ports filter by VLAN.
        vlan_filtering: bool,
    },
    /// A virtual Ethernet pair. The peer is created down: with the peer already up the kernel answers ENOTCONN.
    Veth {
        /// The peer's name.
        peer: String,
        /// The peer's hardware address; `None` leaves the choice to the kernel.
        peer_mac: Option<MacAddr>,
        /// The namespace to create the peer in; `None` for this one.
        peer_netns: Option<NetnsPath>,
    },
    /// A VXLAN device. Its MTU is cut to what the lower link leaves, without an error; when it is set later, a larger one
    /// is EINVAL.
    Vxlan(Vxlan),
    /// A dummy device.
    Dummy,
    /// An intermediate functional block: what is led to it goes through its queueing discipline, and then on where it came in
    /// (`drivers/net/ifb.c`).
    Ifb,
}

/// Changes to a link that exists. `None` leaves a setting alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkSettings {
    /// Administrative state.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Hardware address. Setting the address that a link has makes the kernel announce it (`NETDEV_CHANGEADDR`).
    pub mac: Option<MacAddr>,
    /// The bridge to be a port of, by name; an empty name releases the port.
    pub master: Option<String>,
    /// Alias; empty removes it.
    pub alias: Option<String>,
    /// Promiscuous mode.
    pub promiscuous: Option<bool>,
    /// All-multicast mode.
    pub all_multicast: Option<bool>,
    /// Transmit queue length in packets.
    pub tx_queue_len: Option<u32>,
    /// Device group.
    pub group: Option<u32>,
    /// `IPV4_DEVCONF_ARP_NOTIFY`: announce IPv4 addresses when the link comes up or its hardware address is set.
    pub arp_notify: Option<bool>,
    /// Whether the kernel gives the link an IPv6 link-local address (`addrgenmode`).
    pub ipv6_link_local: Option<bool>,
    /// Bridges only: whether ports filter by VLAN.
    pub vlan_filtering: Option<bool>,
    /// VXLAN devices only.
    pub vxlan: Option<VxlanSettings>,
}

/// A VLAN of a bridge or bridge port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vlan {
    /// VLAN ID, 1 to 4094.
    pub id: u16,
    /// Untagged ingress frames get this VLAN.
    pub pvid: bool,
    /// Egress frames lose their tag.
    pub untagged: bool,
}

impl Link {
    /// A link with this index, name and kind; down, without addresses, MTU 1500.
    pub fn new(index: u32, name: impl Into<String>, kind: LinkKind) -> Self {
        Self {
            index,
            name: name.into(),
            kind,
            up: false,
            carrier: false,
            oper_state: OperState::Down,
            mtu: 1500,
            mac: None,
            master: None,
            peer: None,
            peer_elsewhere: false,
            alias: None,
            group: 0,
            promiscuous: false,
            all_multicast: false,
            tx_queue_len: 1000,
            port: None,
        }
    }
}

impl NewLink {
    /// A link to create, down and with the driver's defaults.
    pub fn new(name: impl Into<String>, kind: NewLinkKind) -> Self {
        Self {
            name: name.into(),
            kind,
            mtu: None,
            mac: None,
            master: None,
            up: false,
            ipv6_link_local: true,
        }
    }
}

impl MacAddr {
    /// Whether all bytes are zero: what a bridge without ports may have, and what no link may be given.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl FromStr for MacAddr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() {
            Err(())
        } else {
            Ok(Self(bytes))
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
