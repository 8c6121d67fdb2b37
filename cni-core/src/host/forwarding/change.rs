//! Changes, and the commands that they print as.

use super::Entry;
use crate::host::netlink::NetlinkError;

/// One change. `Display` is the `ip` or `bridge` command that an operator would type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// Makes an entry, exclusively: EEXIST when its key is taken.
    Add(Entry),
    /// Makes an entry in place of whatever has its key, in one step: no packet finds neither. Of several IPv4 routes of one
    /// key it takes the first one's place, whoever made that. A rule is its key: one that is there stays.
    Replace(Entry),
    /// Makes a route before another program's route of the same key, which stays (`ip route prepend`). IPv4 routes only;
    /// EOPNOTSUPP for others.
    Prepend(Entry),
    /// Removes an entry by its key; ENOENT, ESRCH or ENODEV when it is not there. A route or rule goes only where its
    /// protocol is the entry's, too, and an IPv4 route only where both lead somewhere or both nowhere. In the removal of
    /// a route the kernel takes metric 0 for any; the lowest comes first.
    Del(Entry),
}

/// A change that failed.
#[derive(Debug)]
pub struct Failed {
    /// Its place in the list.
    pub index: usize,
    /// Why.
    pub error: NetlinkError,
}

impl Change {
    /// The entry that is made or removed.
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Add(entry) | Self::Replace(entry) | Self::Prepend(entry) | Self::Del(entry) => {
                entry
            }
        }
    }
}
