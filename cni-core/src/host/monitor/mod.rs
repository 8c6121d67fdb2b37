//! What happens in the kernel, as it happens.

use std::fmt;

use async_trait::async_trait;

use super::forwarding::Entry;

/// Tells of changes in one network namespace that others make.
#[async_trait]
pub trait Monitor: Send + fmt::Debug {
    /// The next event. It may be dropped at any await point, and loses nothing.
    async fn next(&mut self) -> KernelEvent;
}

/// Something changed. What this process's own sockets changed is left out as far as the kernel tells who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelEvent {
    /// A link was made, changed, renamed or removed.
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
    },
    /// An entry was made or replaced (`removed` false) or removed.
    Entry {
        /// The entry.
        entry: Entry,
        /// It is no more.
        removed: bool,
    },
    /// An nftables transaction of another process was committed.
    Firewall,
    /// Events were lost: everything may have changed.
    Overrun,
}
