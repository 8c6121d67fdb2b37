//! Next hops, routes, neighbours, forwarding entries and policy rules by the ten thousand: what connects a node with its
//! peers.
//!
//! [`Netlink`](super::Netlink) is for the handful of objects that an attachment has; here the values are compact, reads
//! are streamed, and a write takes many changes, batches them, goes on past failures and says which failed.

mod change;
mod display;
mod entry;
#[cfg(any(feature = "kernel", feature = "testing", test))]
mod fault;
#[cfg(feature = "kernel")]
pub(in crate::host) mod kernel;

use std::fmt;

use async_trait::async_trait;

use super::netlink::NetlinkError;

pub use change::{Change, Failed};
pub use entry::{
    Encap, Entry, FdbEntry, Hop, Key, Kind, LinkName, Neighbour, NextHop, PolicyRule, Route, Via,
};
#[cfg(feature = "kernel")]
pub use kernel::KernelForwarding;

/// What connects nodes, in one network namespace.
///
/// [`testing::conformance`](crate::testing) has the contract as a function.
#[async_trait]
pub trait Forwarding: Send + Sync + fmt::Debug {
    /// Hands every entry in the scope to `each`, in no order that means anything. An entry that this crate has no value
    /// for (a group of next hops, say) is left out. A link that does not exist has no entries.
    ///
    /// Entries are handed over as the kernel sends them. Where others make changes meanwhile, the read begins anew: what
    /// has been handed over already comes again, as it is then, and what has gone has been handed over all the same.
    /// `each` must not use this handle.
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError>;

    /// Makes the changes in their order, goes on past those that fail, and returns the failures in their order. An
    /// empty list: all were made.
    async fn write(&self, changes: &[Change]) -> Vec<Failed>;

    /// Whether the kernel has next-hop objects (since Linux 5.3). Asked once, then remembered.
    async fn has_next_hops(&self) -> Result<bool, NetlinkError>;
}

/// Which entries to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Of this kind.
    pub kind: Kind,
    /// Next hops, routes and rules by this protocol alone (`RTPROT_*`, `nhm_protocol`, `FRA_PROTOCOL`); of neighbours
    /// and forwarding entries it says nothing.
    pub protocol: Option<u8>,
    /// Neighbours and forwarding entries of this link, and only permanent ones; of others it says nothing.
    pub link: Option<&'a str>,
}
