//! rtnetlink as this crate sees it: four typed reads and one write.
//!
//! Objects are named, not numbered: a change names its link, and the implementation looks the index up. That keeps
//! `desired` functions pure and lets a [`NetlinkChange`] print as the command an operator would type.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::netns::NetnsPath;

/// Links, addresses, routes and neighbours of one network namespace.
#[async_trait]
pub trait Netlink: Send + Sync + fmt::Debug {
    /// Links (`ip -d link show`). A name or index that does not exist gives an empty list.
    async fn links(&self, filter: LinkFilter<'_>) -> Result<Vec<Link>, NetlinkError>;

    /// Addresses of both families (`ip address show`), of one link or of all.
    async fn addresses(&self, link: Option<&str>) -> Result<Vec<Address>, NetlinkError>;

    /// Unicast routes of both families in all tables (`ip route show table all`), of one link or of all. Routes that
    /// the kernel keeps for itself (table `local`, cloned entries) are left out.
    async fn routes(&self, link: Option<&str>) -> Result<Vec<Route>, NetlinkError>;

    /// Neighbours of both families and bridge forwarding entries (`ip neigh`, `bridge fdb`), of one link or of all.
    async fn neighbours(&self, link: Option<&str>) -> Result<Vec<Neighbour>, NetlinkError>;

    /// VLANs of a bridge or bridge port (`bridge vlan show dev LINK`).
    async fn vlans(&self, link: &str) -> Result<Vec<Vlan>, NetlinkError>;

    /// Makes the changes in order and stops at the first that fails. Messages may travel together where a failure of
    /// one cannot make a later one act on the wrong object.
    async fn apply(&self, changes: &[NetlinkChange]) -> Result<(), ApplyError>;
}

/// Which links to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkFilter<'a> {
    /// All links.
    All,
    /// The link with this name: one request, not a dump.
    Name(&'a str),
    /// The link with this index: one request, not a dump.
    Index(u32),
    /// The ports of the bridge with this name.
    Master(&'a str),
}

/// A failed request to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetlinkError {
    /// What was asked, as the command that an operator would type.
    pub operation: String,
    /// The positive errno; 0 when the failure was not the kernel's (a socket or a message that cannot be decoded).
    pub errno: i32,
    /// The kernel's own sentence (extended acknowledgement), or the reason of a failure that is not the kernel's.
    pub message: Option<String>,
}

/// A failed [`Netlink::apply`]: which change failed, and how. All changes before it are in force, none after it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyError {
    /// Index of the failed change; equally the number of changes in force.
    pub index: usize,
    /// What the kernel said.
    pub error: NetlinkError,
}

/// Errnos that decisions are made on (`include/uapi/asm-generic/errno-base.h`, `errno.h`).
pub mod errno {
    #![allow(missing_docs)]
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const ESRCH: i32 = 3;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const ENODEV: i32 = 19;
    pub const EINVAL: i32 = 22;
    pub const ERANGE: i32 = 34;
    pub const EOPNOTSUPP: i32 = 95;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETDOWN: i32 = 100;
    pub const ENETUNREACH: i32 = 101;
    pub const ENOBUFS: i32 = 105;
    pub const ENOTCONN: i32 = 107;
}

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
    /// A dummy device.
    Dummy,
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
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Address {
    /// Name of the link.
    pub link: String,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// Duplicate address detection has not ended: the address cannot be used yet (IPv6; read only).
    pub tentative: bool,
    /// Duplicate address detection found another owner (IPv6; read only).
    pub dad_failed: bool,
    /// Skip duplicate address detection (IPv6).
    pub no_dad: bool,
    /// Do not make a route for the prefix (`noprefixroute`).
    pub no_prefix_route: bool,
    /// Scope, an `RT_SCOPE_*` number; 0 is global.
    pub scope: u8,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Route {
    /// Destination prefix; a prefix length of 0 is the default route.
    pub destination: IpNetwork,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Name of the outgoing link.
    pub link: Option<String>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric. The kernel turns 0 into 1024 for IPv6.
    pub metric: u32,
    /// Table; 254 is `main`.
    pub table: u32,
    /// Scope, an `RT_SCOPE_*` number; 0 is global, 253 is link. IPv4 only.
    pub scope: u8,
    /// Who made it, an `RTPROT_*` number.
    pub protocol: u8,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// TCP maximum segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// The gateway is on the link even where no prefix says so.
    pub onlink: bool,
}

/// A neighbour (ARP, ND) or a bridge forwarding entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Neighbour {
    /// Name of the link.
    pub link: String,
    /// The protocol address; `None` for a bridge forwarding entry.
    pub address: Option<IpAddr>,
    /// The hardware address, when resolved.
    pub mac: Option<MacAddr>,
    /// `NUD_*` state bits.
    pub state: u16,
    /// VLAN of a bridge forwarding entry.
    pub vlan: Option<u16>,
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

/// One change to the kernel's network state. `Display` is the command that an operator would type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetlinkChange {
    /// Creates a link, exclusively: EEXIST when the name is taken. `ip link add`.
    LinkAdd(NewLink),
    /// Changes a link. `ip link set`.
    LinkSet {
        /// Name of the link.
        link: String,
        /// What to set.
        settings: LinkSettings,
    },
    /// Deletes a link, and with a veth its peer. `ip link delete`.
    LinkDel {
        /// Name of the link.
        link: String,
    },
    /// Deletes all links of a device group in one go: the kernel waits once for all of them. `ip link delete group`.
    GroupDel {
        /// The group; never 0, which every link is in.
        group: u32,
    },
    /// Changes a bridge port. `bridge link set`.
    PortSet {
        /// Name of the port's link.
        link: String,
        /// What to set.
        settings: PortSettings,
    },
    /// Adds VLANs to a port, or to the bridge itself. `bridge vlan add`.
    VlanAdd {
        /// Name of the link.
        link: String,
        /// First VLAN and flags.
        vlan: Vlan,
        /// Last VLAN of a range; the same as the first for one.
        last: u16,
        /// On the bridge device itself rather than on a port.
        on_bridge: bool,
    },
    /// Removes VLANs from a port, or from the bridge itself. `bridge vlan delete`.
    VlanDel {
        /// Name of the link.
        link: String,
        /// First VLAN.
        first: u16,
        /// Last VLAN of a range; the same as the first for one.
        last: u16,
        /// On the bridge device itself rather than on a port.
        on_bridge: bool,
    },
    /// Adds an address, exclusively. `ip address add`.
    AddressAdd(Address),
    /// Removes an address. `ip address delete`.
    AddressDel(Address),
    /// Adds a route, exclusively. `ip route add`.
    RouteAdd(Route),
    /// Removes a route. `ip route delete`.
    RouteDel(Route),
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

impl Address {
    /// A global address of `link` that is usable at once (no duplicate address detection).
    pub fn new(link: impl Into<String>, address: IpNetwork) -> Self {
        Self {
            link: link.into(),
            address,
            tentative: false,
            dad_failed: false,
            no_dad: address.is_ipv6(),
            no_prefix_route: false,
            scope: 0,
        }
    }
}

impl Route {
    /// Table `main`.
    pub const MAIN: u32 = 254;
    /// `RT_SCOPE_LINK`.
    pub const SCOPE_LINK: u8 = 253;
    /// `RTPROT_BOOT`, what `ip route add` writes.
    pub const PROTOCOL_BOOT: u8 = 3;

    /// A route to `destination` through `link` in table `main`, without a gateway.
    pub fn new(destination: IpNetwork, link: impl Into<String>) -> Self {
        Self {
            destination,
            gateway: None,
            link: Some(link.into()),
            source: None,
            metric: 0,
            table: Self::MAIN,
            scope: 0,
            protocol: Self::PROTOCOL_BOOT,
            mtu: None,
            advmss: None,
            onlink: false,
        }
    }
}

/// Conveniences on top of the small trait.
#[async_trait]
pub trait NetlinkExt: Netlink {
    /// The link with this name, if there is one.
    async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links(LinkFilter::Name(name)).await?.into_iter().next())
    }

    /// One change.
    async fn apply_one(&self, change: NetlinkChange) -> Result<(), NetlinkError> {
        self.apply(std::slice::from_ref(&change))
            .await
            .map_err(|error| error.error)
    }
}

impl<T: Netlink + ?Sized> NetlinkExt for T {}

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

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed", self.operation)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if self.errno != 0 {
            write!(f, " ({})", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for NetlinkError {}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

impl NetlinkError {
    /// A failure with the kernel's errno (positive).
    pub fn new(operation: impl Into<String>, errno: i32) -> Self {
        Self {
            operation: operation.into(),
            errno,
            message: None,
        }
    }

    /// The same failure with the kernel's sentence.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

impl ApplyError {
    /// The change at `index` failed.
    pub fn new(index: usize, error: NetlinkError) -> Self {
        Self { index, error }
    }
}

impl fmt::Display for NetlinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
