//! A node, as others have to know it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::host::netlink::MacAddr;

/// What a node is known by for as long as it exists: not its address, which may change, and not its name, which a
/// successor may bear. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeUid(Arc<str>);

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Identity.
    pub uid: NodeUid,
    /// Name, for people.
    pub name: Arc<str>,
    /// When the node claimed its prefixes, in whatever counts up in the source (a revision, a time): of two that claim
    /// one, the lower has it. 0 where the source does not tell; then the lower uid has it.
    pub claimed: u64,
    /// Prefixes of its pods, of either family; none overlaps another.
    pub prefixes: Vec<IpNetwork>,
    /// Addresses under which the underlay reaches it: at most one of each family. Tunnels end there.
    pub underlay: Vec<IpAddr>,
    /// Further addresses that its own processes may send from.
    pub addresses: Vec<IpAddr>,
    /// Hardware address of its VTEP; `None` where it follows from the uid.
    pub vtep_mac: Option<MacAddr>,
    /// MTU of its underlay in bytes, when known.
    pub mtu: Option<u32>,
    /// What its data path can do; `None` where the source does not tell: then as much as this node's.
    pub capabilities: Option<Vec<Capability>>,
}

/// What a node's data path can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// VXLAN with Ethernet inside, with a forwarding entry and a neighbour for each peer: what Flannel does, too.
    Classic,
    /// VXLAN-GPE with IP inside, with an encapsulating next hop for each peer.
    Flow,
}

impl NodeUid {
    /// A uid; any text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Arc<str>> for NodeUid {
    /// Shares the text: a node's name, mostly.
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl fmt::Display for NodeUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Node {
    /// A node without prefixes and addresses.
    pub fn new(uid: NodeUid, name: &str) -> Self {
        Self {
            uid,
            name: name.into(),
            claimed: 0,
            prefixes: Vec::new(),
            underlay: Vec::new(),
            addresses: Vec::new(),
            vtep_mac: None,
            mtu: None,
            capabilities: None,
        }
    }

    /// Its underlay address of this family.
    pub fn underlay(&self, ipv6: bool) -> Option<IpAddr> {
        self.underlay
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == ipv6)
    }

    /// All addresses of its own, the underlay's first.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.underlay.iter().chain(&self.addresses).copied()
    }
}
