//! How many packets the tunnel's filter has refused, over the lives of its rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cni_core::fabric::{DropCount, DropReason};
use cni_core::host::Firewall;
use cni_core::host::firewall::Table;

use crate::site::Drops;

/// Adds up what the rules count: one that is made anew, in a repair, say, begins at zero.
#[derive(Debug)]
pub struct DropCounts {
    firewall: Arc<dyn Firewall>,
    table: Table,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    /// Of rules that are no more.
    gone: BTreeMap<DropReason, u64>,
    /// Of those that are, by handle.
    rules: BTreeMap<u64, (DropReason, u64)>,
}

impl DropCounts {
    /// Those of a network's table.
    pub fn new(firewall: Arc<dyn Firewall>, table: Table) -> Self {
        Self {
            firewall,
            table,
            sums: Mutex::default(),
        }
    }

    /// Reads the counters, to be called before something may take them along. What the kernel does not tell stays as it was.
    pub async fn refresh(&self) {
        let Ok(state) = self.firewall.table(&self.table).await else {
            return;
        };
        let counts = state.map(|state| DropCount::of(&state)).unwrap_or_default();
        self.lock().see(&counts);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Drops for DropCounts {
    async fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.refresh().await;
        self.lock().total()
    }
}

impl Sums {
    fn see(&mut self, counts: &[DropCount]) {
        for (handle, (reason, packets)) in std::mem::take(&mut self.rules) {
            let same = counts.iter().find(|count| count.handle == handle);
            // A table that is made anew may give a handle again.
            if same.is_none_or(|count| count.reason != reason || count.packets < packets) {
                *self.gone.entry(reason).or_default() += packets;
            }
        }
        let rules = counts.iter();
        self.rules = rules
            .map(|count| (count.handle, (count.reason, count.packets)))
            .collect();
    }

    fn total(&self) -> BTreeMap<&'static str, u64> {
        let mut total = BTreeMap::new();
        let gone = self
            .gone
            .iter()
            .map(|(reason, packets)| (*reason, *packets));
        for (reason, packets) in gone.chain(self.rules.values().copied()) {
            *total.entry(reason.as_str()).or_default() += packets;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(handle: u64, packets: u64) -> DropCount {
        DropCount {
            handle,
            reason: DropReason::Stranger,
            packets,
            bytes: 100 * packets,
        }
    }

    #[test]
    fn rules_that_are_made_anew_go_on_counting_where_the_old_ones_ended() {
        let mut sums = Sums::default();
        let mut after = |counts: &[DropCount]| {
            sums.see(counts);
            sums.total().get("stranger").copied()
        };
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[count(3, 0), count(4, 1)]), Some(1));
        assert_eq!(after(&[count(3, 5), count(4, 1)]), Some(6));
        // The chain was filled anew.
        assert_eq!(after(&[count(7, 0), count(8, 2)]), Some(8));
        // The table was deleted and made anew.
        assert_eq!(after(&[]), Some(8));
        assert_eq!(after(&[count(7, 1), count(8, 0)]), Some(9));
        assert_eq!(after(&[count(7, 0), count(8, 1)]), Some(10));
    }
}
