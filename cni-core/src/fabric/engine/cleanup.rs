//! Everything of ours goes.

use crate::accept;
use crate::error::{Error, Result};
use crate::host::firewall::FirewallChange;
use crate::host::forwarding::{Entry, Kind, Scope};
use crate::plan::remove;

use super::super::diff::{Act, Step, Told};
use super::super::facts;
use super::super::items::Item;
use super::super::report::{Report, Thing};
use super::Engine;
use super::write::{Writer, is_gone};

impl Engine {
    /// From the near end to the far one. A device takes its neighbours and forwarding entries along.
    pub(super) async fn remove_all(&self, report: &mut Report) {
        let nobody = |_| None;
        for kind in [Kind::Rule, Kind::Route, Kind::NextHop] {
            match self.entries_of(kind).await {
                Ok(entries) => {
                    let steps = entries.into_iter().map(|entry| Step {
                        item: Item::Entry(entry),
                        told: Told::surplus(None),
                    });
                    let mut writer = Writer::new(self, &nobody, false, report);
                    writer.remove(steps.collect()).await;
                }
                Err(error) => report.failed("what is ours in the kernel", error),
            }
        }
        match facts::read(&self.host, &self.owner).await {
            Ok(read) => self.remove_links(&read.devices, report).await,
            Err(error) => report.failed("our devices", error),
        }
        // First the way through the host's rules, then what decides who takes it.
        match accept::removal(&self.host, &self.owner.table).await {
            Ok(plan) => {
                let errors = remove(&plan, &self.handles()).await;
                let removed = plan.steps().len().saturating_sub(errors.len());
                (0..removed).for_each(|_| report.count(Thing::Base, Act::Del));
                if let Some(error) = Error::join(errors) {
                    report.failed("our rules in the host's chains", error);
                }
            }
            Err(error) => report.failed("our rules in the host's chains", error),
        }
        let table = FirewallChange::TableDel(self.owner.table.clone());
        match self.host.firewall.commit(&[table]).await {
            Ok(()) => report.count(Thing::Table, Act::Del),
            Err(error) if is_gone(&error) => {}
            Err(error) => report.failed("our nftables table", error),
        }
    }

    /// Those of our protocol.
    async fn entries_of(&self, kind: Kind) -> Result<Vec<Entry>> {
        if kind == Kind::NextHop && !self.host.forwarding.has_next_hops().await? {
            return Ok(Vec::new());
        }
        let scope = Scope {
            kind,
            protocol: Some(self.owner.protocol),
            link: None,
        };
        let mut entries = Vec::new();
        let mut each = |entry| entries.push(entry);
        self.host.forwarding.read(&scope, &mut each).await?;
        Ok(entries)
    }
}
