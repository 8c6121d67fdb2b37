//! rtnetlink as this crate sees it: four typed reads and one write.
//!
//! Objects are named, not numbered: a change names its link, and the implementation looks the index up. That keeps
//! `desired` functions pure and lets a [`NetlinkChange`] print as the command an operator would type.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;

mod change;
mod display;
mod error;
#[cfg(feature = "kernel")]
mod kernel;
mod link;
mod route;
mod traffic;
mod vxlan;

pub use change::NetlinkChange;
pub(in crate::host) use display::Word;
pub use error::{ApplyError, NetlinkError, errno};
#[cfg(feature = "kernel")]
pub use kernel::KernelNetlink;
pub use link::{
    Link, LinkKind, LinkSettings, MacAddr, NewLink, NewLinkKind, OperState, PortSettings, Vlan,
};
pub use route::{Address, Neighbour, Route};
pub use traffic::{Qdisc, Tbf, TbfState, Traffic};
pub use vxlan::{Vxlan, VxlanSettings};

/// Links, addresses, routes and neighbours of one network namespace.
///
/// Reading something of a link that does not exist is ENODEV, except where a link itself is asked for.
///
/// [`testing::conformance`](crate::testing) has the contract as a function.
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

    /// Whether packets to this address are delivered here (`ip route get ADDRESS` says `local`). One request.
    ///
    /// An IPv6 address is listed a moment before that: the kernel makes its route in the background.
    async fn is_local(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        let known = self.addresses(None).await?;
        Ok(known.iter().any(|known| known.address.ip() == address))
    }

    /// What controls the traffic of a link (`tc qdisc show dev LINK`, `tc filter show dev LINK ingress`). Where the kernel has
    /// no traffic control, nothing does.
    async fn traffic(&self, link: &str) -> Result<Traffic, NetlinkError> {
        let _ = link;
        Ok(Traffic::default())
    }

    /// The link by which packets to this address leave (`ip route get ADDRESS`), `None` where no route leads there. One
    /// request.
    async fn link_to(&self, address: IpAddr) -> Result<Option<String>, NetlinkError> {
        let mut routes = self.routes(None).await?;
        routes.retain(|route| route.destination.contains(address) && route.link.is_some());
        routes.sort_by_key(|route| (u8::MAX - route.destination.prefix(), route.metric));
        Ok(routes.into_iter().next().and_then(|route| route.link))
    }

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
