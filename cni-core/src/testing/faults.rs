//! Which write fails, and how.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `EIO`: what a process that is "dead" since [`Faults::crash_at`] is told.
pub(crate) const EIO: i32 = 5;

/// Counts writes and decides which of them fail. Clones share one count.
///
/// A write is one netlink change, one change of next hops, routes, neighbours, forwarding entries or rules, one kernel
/// parameter, one nftables transaction, or one call that changes an address store. Numbers begin at 1 after
/// [`Faults::reset`].
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    writes: u64,
    reads: u64,
    failing: BTreeMap<u64, i32>,
    crash_at: Option<u64>,
    fired: u64,
}

/// A write that has to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Fails once, with this errno.
    Errno(i32),
    /// The process is dead: neither this write nor any later one happens.
    Crashed,
}

impl Fault {
    /// The errno to report: for a crash, `EIO`.
    pub fn errno(self) -> i32 {
        match self {
            Self::Errno(errno) => errno,
            Self::Crashed => EIO,
        }
    }
}

impl Faults {
    /// No faults; nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes attempted since the last [`Faults::reset`], failed ones included.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Reads since the last [`Faults::reset`], where [`Faulty`](super::Faulty) stands before the kernel; how much each of them
    /// told does not count.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Counts one read.
    pub(super) fn count_read(&self) {
        self.state().reads += 1;
    }

    /// Faults that struck since the last [`Faults::reset`].
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// The `n`-th write fails with `errno`, once.
    pub fn fail_write(&self, n: u64, errno: i32) {
        self.state().failing.insert(n, errno);
    }

    /// From the `n`-th write on everything fails: the process died there. Reading still works.
    pub fn crash_at(&self, n: u64) {
        self.state().crash_at = Some(n);
    }

    /// A new process: what [`Faults::crash_at`] said is over.
    pub fn revive(&self) {
        self.state().crash_at = None;
    }

    /// Forgets all faults and begins to count anew.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// Counts one write.
    ///
    /// # Errors
    /// The fault, when this write has to fail.
    pub fn count(&self) -> Result<(), Fault> {
        match self.count_batch(1) {
            None => Ok(()),
            Some((_, fault)) => Err(fault),
        }
    }

    /// Counts up to `size` writes that travel together. When one of them has to fail: how many come before it, and
    /// how it fails; it is the last one counted.
    pub fn count_batch(&self, size: u64) -> Option<(u64, Fault)> {
        let mut state = self.state();
        for before in 0..size {
            state.writes += 1;
            let n = state.writes;
            let fault = match state.crash_at {
                Some(at) if n >= at => Some(Fault::Crashed),
                _ => state.failing.remove(&n).map(Fault::Errno),
            };
            if let Some(fault) = fault {
                state.fired += 1;
                return Some((before, fault));
            }
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_and_at_its_number() {
        let faults = Faults::new();
        faults.fail_write(2, 17);
        assert_eq!(faults.count(), Ok(()));
        assert_eq!(faults.count(), Err(Fault::Errno(17)));
        assert_eq!(faults.count(), Ok(()));
        assert_eq!((faults.writes(), faults.fired()), (3, 1));
    }

    #[test]
    fn a_batch_is_split_at_the_fault() {
        let faults = Faults::new();
        faults.fail_write(3, 17);
        assert_eq!(faults.count_batch(5), Some((2, Fault::Errno(17))));
        assert_eq!(faults.writes(), 3);
        assert_eq!(faults.count_batch(5), None);
    }

    #[test]
    fn after_a_crash_nothing_is_written_until_revived() {
        let faults = Faults::new();
        faults.crash_at(2);
        assert_eq!(faults.count(), Ok(()));
        assert_eq!(faults.count(), Err(Fault::Crashed));
        assert_eq!(faults.count(), Err(Fault::Crashed));
        faults.revive();
        assert_eq!(faults.count(), Ok(()));
    }
}
