//! What happens in the kernel, as it happens.

#[cfg(feature = "kernel")]
mod kernel;
#[cfg(any(test, feature = "kernel", feature = "testing"))]
pub(crate) mod queue;

use std::fmt;

use async_trait::async_trait;

use super::firewall::Table;
use super::forwarding::{Entry, Key};

#[cfg(feature = "kernel")]
pub use kernel::KernelMonitor;

/// Tells of changes in one network namespace that others make.
///
/// # Contract
///
/// * An event says that something has changed, not what it was before: who wants to know how things are now reads them.
///   What is changed twice may be told once.
/// * What nobody takes is kept up to some thousands of events; then [`KernelEvent::Overrun`] stands for all of them.
/// * What this process changes itself is left out, as far as that is known. The kernel does not say who made a change of
///   links (but for new and removed ones, since Linux 6.2) and of IPv6 addresses: these are told whoever made them. Nor does
///   it say so of forwarding entries and of removed neighbours: these are left out where they are as this process
///   has written them last.
/// * The kernel does not tell everything that it does by itself. When a link goes down, or is removed, its next-hop objects
///   and IPv4 routes go along without a word, and so do the IPv4 routes of a next-hop object that is removed: the event of
///   the link, or of the next hop, stands for all of them. Of a link that is down, changes other than of its name, its MTU
///   and its hardware address are not told.
/// * Neighbours and forwarding entries are told of VXLAN devices alone: elsewhere they come and go with the traffic.
#[async_trait]
pub trait Monitor: Send + fmt::Debug {
    /// The next event. It may be dropped at any await point, and loses nothing.
    async fn next(&mut self) -> KernelEvent;
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelEvent {
    /// A link was made, changed or removed. One that is renamed is told as removed under its old name, and as made under the
    /// new one.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// It is no more.
        removed: bool,
    },
    /// An address came or went.
    Address {
        /// Index of its link.
        index: u32,
        /// Name of its link.
        name: String,
    },
    /// An entry was made or replaced (`removed` false) or removed.
    Entry {
        /// The entry.
        entry: Entry,
        /// It is no more.
        removed: bool,
    },
    /// What has this key now, if anything, is none of the entries that this crate has values for: a blackhole in place of a
    /// next hop, a neighbour that may expire in place of a permanent one. The kernel tells of a neighbour that is removed in
    /// this way, too: it has forgotten the rest.
    Gone {
        /// The key.
        key: Key,
    },
    /// An nftables transaction of another process was committed, and touched this table. One that touched several is told
    /// once for each.
    Firewall {
        /// The table.
        table: Table,
    },
    /// Events were lost: everything may have changed.
    Overrun,
}
