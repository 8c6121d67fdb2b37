//! What connects this node with the others: declare, diff, apply, for tens of thousands of peers.
//!
//! A [`Fabric`] says, as pure functions, what the node needs whoever its peers are ([`Fabric::base`]) and what one peer needs
//! ([`Fabric::peer`]). The engine compares that with the kernel and makes the difference: the next hop before the
//! route, the route gone before the next hop, so that there is no moment in which traffic has nowhere to go.

mod census;
mod diff;
mod drops;
mod engine;
mod facts;
mod hash;
mod ids;
mod index;
mod items;
mod report;
pub mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::cluster::Node;
use crate::error::Result;
use crate::host::firewall::{Table, TableSpec};
use crate::host::netlink::MacAddr;
use crate::plan::Desired;
use crate::spec::NetworkName;

pub use census::Census;
pub use drops::{DropCount, DropReason};
pub use engine::{Engine, Removal};
pub use facts::{Exposed, Facts};
pub use ids::NextHopIds;
pub use items::{Item, Member};
pub use report::{Count, Difference, DifferenceStep, Report, Thing};

/// A way of connecting nodes. Its functions are pure.
pub trait Fabric: Send + Sync + fmt::Debug {
    /// Whose the objects are: how they are told from everybody else's.
    fn owner(&self) -> Owner;

    /// What this node needs whoever its peers are: device, addresses, parameters, table, and entries without a peer.
    ///
    /// # Errors
    /// What keeps the node from being connected at all: it has no underlay address, the kernel lacks the data path.
    fn base(&self, me: &Node, census: &Census, facts: &Facts) -> Result<Base>;

    /// What one peer needs, given the base that was made of the same facts.
    fn peer(
        &self,
        me: &Node,
        base: &Base,
        facts: &Facts,
        ids: &dyn NextHopIds,
        peer: &Node,
    ) -> Reach;
}

/// What leads to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// What has to exist.
    pub items: Vec<Item>,
    /// Why some of the peer's addresses, or all of them, cannot be reached, in words that name the value: it is not in the same
    /// segment, has no address of the underlay's family. Empty where everything can.
    pub missing: Vec<String>,
}

/// How objects are known to be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The network.
    pub network: NetworkName,
    /// The `RTPROT_*` number of our routes, next hops and rules.
    pub protocol: u8,
    /// Names of devices that are ours where they bear the network's alias ([`NetworkName::shared_alias`]): today's, and those
    /// of other configurations.
    pub devices: Vec<String>,
    /// Our nftables table.
    pub table: Table,
}

/// By what peers' packets come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entrance {
    /// The tunnel's device, where there is one.
    pub device: Option<Arc<str>>,
    /// [`Base::port`].
    pub port: Option<u16>,
    /// [`Base::withheld`].
    pub withheld: Option<String>,
    /// The links that bear this node's underlay addresses.
    pub uplinks: Vec<Arc<str>>,
}

/// A link that leads to other nodes, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub link: Arc<str>,
    /// Its index.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Addresses of its own.
    pub addresses: Vec<IpAddr>,
    /// Prefixes whose addresses are in its segment: of its addresses' prefix routes, and of routes without a gateway that the
    /// kernel, people, router advertisements or DHCP made.
    pub on_link: Vec<IpNetwork>,
}

/// What a node needs whoever its peers are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base {
    /// Device, addresses and parameters, in the order in which they are made. The plan engine does it.
    pub desired: Desired,
    /// The table, with the sets that [`Item::Member`]s are in. Its rules come into force after the members are in.
    pub table: Option<TableSpec>,
    /// Entries and members that belong to no peer.
    pub items: Vec<Item>,
    /// The tunnel's device, where there is one: neighbours and forwarding entries of it are all ours.
    pub device: Option<Arc<str>>,
    /// The tunnel's UDP port, where there is one.
    pub port: Option<u16>,
    /// Why a firewall must not let everybody send to that port. `None` where the table's filter sees to it, for all who hear there.
    pub withheld: Option<String>,
    /// Next hops lead to peers' underlay addresses. Then their ids follow from those, too: a peer that moves gets its new next
    /// hop beside the old one, and its routes change over, one by one and without a gap. Where it is `false` the next hop would
    /// be replaced, and each replacement makes the kernel walk all routes (`nexthop_replace_notify`).
    pub hops_by_address: bool,
    /// The largest packet of a pod, in bytes.
    pub mtu: u32,
    /// What was chosen of several possibilities, for people: the data path, the underlay's family.
    pub choices: Vec<String>,
}

/// The hardware address of a node's VTEP: what the source says, else a function of its uid.
pub fn vtep_mac(node: &Node) -> MacAddr {
    node.vtep_mac
        .unwrap_or_else(|| crate::attach::derived_mac(&["vtep", node.uid.as_str()]))
}
