//! Changes to links, ports, VLANs, addresses and routes.

use super::link::{LinkSettings, NewLink, PortSettings, Vlan};
use super::route::{Address, Route};
use super::traffic::Qdisc;

/// One change to the kernel's network state.
///
/// `Display` is the command that an operator would type: iproute2, one command a line. It is more than one line where
/// iproute2 needs more than one command for it (`addrgenmode` of a new link, `arp_notify`).
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
    /// Adds a route, exclusively unless it says otherwise. `ip route add`.
    RouteAdd(Route),
    /// Removes a route. `ip route delete`.
    RouteDel(Route),
    /// Adds a queueing discipline, exclusively: EEXIST when its place is taken. `tc qdisc add`.
    QdiscAdd {
        /// Name of the link.
        link: String,
        /// The discipline.
        qdisc: Qdisc,
    },
    /// Removes a queueing discipline of this kind that is ours, and with it its filters. `tc qdisc delete`.
    QdiscDel {
        /// Name of the link.
        link: String,
        /// The discipline.
        qdisc: Qdisc,
    },
    /// Leads all that comes in by a link to another one, as if it went out there. It takes [`Qdisc::Ingress`] on the link, or
    /// `clsact`. `tc filter add`.
    RedirectAdd {
        /// Name of the link by which it comes in.
        link: String,
        /// Name of the link to which it is led.
        to: String,
    },
    /// Removes what [`NetlinkChange::RedirectAdd`] added. `tc filter delete`.
    RedirectDel {
        /// Name of the link by which it comes in.
        link: String,
        /// Name of the link to which it is led; not looked at.
        to: String,
    },
}
