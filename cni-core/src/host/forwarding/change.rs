//! Changes, and the commands that they print as.

use std::fmt;

use super::Entry;
use crate::host::netlink::NetlinkError;

/// One change. `Display` is the `ip` or `bridge` command that an operator would type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// Makes an entry, exclusively: EEXIST when its key is taken.
    Add(Entry),
    /// Makes an entry in place of whatever has its key, in one step: no packet finds neither.
    Replace(Entry),
    /// Makes a route before another program's route of the same key, which stays (`ip route prepend`). IPv4 routes only.
    Prepend(Entry),
    /// Removes an entry by its key; ENOENT, ESRCH or ENODEV when it is not there. A route goes only where its protocol is the
    /// entry's, too.
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

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Add(_) => "add",
            Self::Replace(_) => "replace",
            Self::Prepend(_) => "prepend",
            Self::Del(_) => "delete",
        };
        write!(f, "{verb} {:?}", self.entry())
    }
}
