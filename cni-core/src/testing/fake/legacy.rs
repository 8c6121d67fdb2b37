//! Legacy tables: `net/ipv4/netfilter/ip_tables.c` as its program shows it.

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::Family;
use crate::host::legacy::{LegacyChange, LegacyRule, LegacyTables};

use super::FakeKernel;
use super::handle::Handle;

impl FakeKernel {
    /// The same kernel, whose host has an empty legacy table `filter` of a family.
    #[must_use]
    pub fn with_legacy_filter(self, family: Family) -> Self {
        if let Ok(namespace) = self.state().namespace(self.inner.host) {
            namespace.legacy.entry(family).or_default();
        }
        self
    }

    /// The rules of the host's legacy tables.
    pub fn legacy_rules(&self) -> Vec<LegacyRule> {
        let mut state = self.state();
        let namespace = state.namespace(self.inner.host);
        let tables = namespace.map(|namespace| namespace.legacy.values().flatten());
        tables
            .map(|rules| rules.cloned().collect())
            .unwrap_or_default()
    }
}

#[async_trait]
impl LegacyTables for Handle {
    async fn rules(&self, family: Family, chain: &str) -> Result<Option<Vec<LegacyRule>>> {
        let mut state = self.kernel.state();
        let Ok(namespace) = state.namespace(self.ns) else {
            return Ok(None);
        };
        let of_chain = |rules: &Vec<LegacyRule>| {
            let rules = rules.iter().filter(|rule| rule.chain == chain);
            rules.cloned().collect()
        };
        Ok(namespace.legacy.get(&family).map(of_chain))
    }

    async fn apply(&self, change: &LegacyChange) -> Result<()> {
        if let Err(fault) = self.kernel.faults().count() {
            let source = std::io::Error::from_raw_os_error(fault.errno());
            let message = format!("could not run {change}");
            return Err(Error::new(ErrorKind::Io, message).with_source(source));
        }
        let mut state = self.kernel.state();
        let Ok(namespace) = state.namespace(self.ns) else {
            return Ok(());
        };
        match change {
            LegacyChange::Insert(rule) => {
                let rules = namespace.legacy.entry(rule.family).or_default();
                rules.insert(0, rule.clone());
            }
            LegacyChange::Delete(rule) => {
                if let Some(rules) = namespace.legacy.get_mut(&rule.family)
                    && let Some(position) = rules.iter().position(|found| found == rule)
                {
                    rules.remove(position);
                }
            }
        }
        Ok(())
    }
}
