//! What this process has written, for those notifications that do not say who caused them.
//!
//! Notifications of VXLAN forwarding entries bear no port id, nor do those of removed neighbours. But one whose outcome is
//! what this process wrote last under the same key needs no look at the kernel: be it caused by that write or by somebody
//! else's, things are as they were writes.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::OWN_NETNS;
use super::netlink::MacAddr;

/// Writes of one network namespace that have not been seen in a notification, while somebody watches for those.
#[derive(Debug, Default)]
pub(in crate::host) struct OwnWrites {
    watchers: AtomicUsize,
    last: Mutex<HashMap<Key, Option<IpAddr>>>,
}

/// What is written, by the index of its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::host) enum Key {
    Fdb(u32, MacAddr),
    Neighbour(u32, IpAddr),
}

/// More are forgotten. A write that has no effect causes no notification and stays.
const MOST: usize = 64 * 1024;
/// Room that is kept when all have been seen.
const ROOM: usize = 1024;

impl OwnWrites {
    /// Of the calling thread's network namespace.
    pub(in crate::host) fn here() -> Arc<Self> {
        static ALL: Mutex<Vec<(u64, Weak<OwnWrites>)>> = Mutex::new(Vec::new());
        let Ok(namespace) = fs::metadata(OWN_NETNS) else {
            // Then nobody is connected with anybody, and everything is told.
            return Arc::default();
        };
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, writes)| writes.strong_count() > 0);
        let known = all.iter().find(|(inode, _)| *inode == namespace.ino());
        if let Some(writes) = known.and_then(|(_, writes)| writes.upgrade()) {
            return writes;
        }
        let writes = Arc::default();
        all.push((namespace.ino(), Arc::downgrade(&writes)));
        writes
    }

    /// A forwarding entry is about to lead there, or to be removed.
    pub(in crate::host) fn forwarding_entry(&self, key: Key, remote: Option<IpAddr>) {
        if let Some(mut last) = self.watched() {
            if last.len() >= MOST {
                last.clear();
            }
            last.insert(key, remote);
        }
    }

    /// A neighbour is about to be removed, or else made: which is told with a port id.
    pub(in crate::host) fn neighbour(&self, key: Key, removed: bool) {
        if removed {
            self.forwarding_entry(key, None);
        } else if let Some(mut last) = self.watched() {
            last.remove(&key);
        }
    }

    /// Whether this is what was written last. It is asked once for each write.
    pub(in crate::host) fn is_so(&self, key: Key, remote: Option<IpAddr>) -> bool {
        let mut last = self.last();
        let so = last.get(&key) == Some(&remote);
        if so {
            last.remove(&key);
            if last.is_empty() && last.capacity() > ROOM {
                last.shrink_to(ROOM);
            }
        }
        so
    }

    /// From now on writes are kept, until the result is dropped.
    pub(in crate::host) fn watch(self: Arc<Self>) -> Watching {
        self.watchers.fetch_add(1, Ordering::SeqCst);
        Watching(self)
    }

    fn watched(&self) -> Option<MutexGuard<'_, HashMap<Key, Option<IpAddr>>>> {
        (self.watchers.load(Ordering::SeqCst) > 0).then(|| self.last())
    }

    fn last(&self) -> MutexGuard<'_, HashMap<Key, Option<IpAddr>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who reads notifications.
#[derive(Debug)]
pub(in crate::host) struct Watching(Arc<OwnWrites>);

impl std::ops::Deref for Watching {
    type Target = OwnWrites;

    fn deref(&self) -> &OwnWrites {
        &self.0
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if self.0.watchers.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.0.last() = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Key = Key::Fdb(4, MacAddr([2, 0, 0, 0, 0, 9]));

    fn remote(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[test]
    fn only_the_last_write_of_a_key_is_so_and_only_once() {
        let writes = Arc::new(OwnWrites::default()).watch();
        writes.forwarding_entry(MAC, remote(1));
        writes.forwarding_entry(MAC, remote(2));
        assert!(!writes.is_so(MAC, remote(1)));
        assert!(writes.is_so(MAC, remote(2)));
        assert!(!writes.is_so(MAC, remote(2)));
    }

    #[test]
    fn a_removal_by_others_is_not_taken_for_one_of_long_ago() {
        let writes = Arc::new(OwnWrites::default()).watch();
        let key = Key::Neighbour(4, [10, 244, 7, 0].into());
        writes.neighbour(key, true);
        writes.neighbour(key, false);
        assert!(!writes.is_so(key, None));
        writes.forwarding_entry(MAC, None);
        writes.forwarding_entry(MAC, remote(1));
        assert!(!writes.is_so(MAC, None));
    }

    #[test]
    fn nothing_is_kept_while_nobody_watches() {
        let writes = Arc::new(OwnWrites::default());
        writes.forwarding_entry(MAC, remote(1));
        let watching = Arc::clone(&writes).watch();
        assert!(!watching.is_so(MAC, remote(1)));
        watching.forwarding_entry(MAC, remote(1));
        drop(watching);
        assert!(!writes.is_so(MAC, remote(1)));
    }

    #[test]
    fn those_in_one_namespace_share_it() {
        assert!(Arc::ptr_eq(&OwnWrites::here(), &OwnWrites::here()));
    }
}
