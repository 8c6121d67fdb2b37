//! firewalld's zone, from the plugin's side: at each ADD without an agent, and in CHECK and STATUS.

use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::update::{self, Updater};
use super::zones::{self, Input, Record, Wanted};
use crate::cancel::Cancel;
use crate::cluster::View;
use crate::error::{Error, ErrorKind, Result};
use crate::fabric::Entrance;

/// After this firewalld is asked nothing more, and an ADD goes on without; the next one does the rest.
const LIMIT: Duration = Duration::from_secs(3);

/// Whether there is time for a further question: one limit for all that belong together.
fn patience() -> impl Fn() -> bool {
    let end = Instant::now() + LIMIT;
    move || Instant::now() < end
}

impl Updater<'_> {
    /// What the network needs to be in the zone.
    pub(super) fn wanted(&self, view: &View, cluster: &[IpNetwork], entrance: &Entrance) -> Wanted {
        let input = Input {
            zone: &self.network.node.zone,
            own: &update::prefixes(view),
            entrance,
            direct: self.network.direct,
            cluster,
        };
        zones::wanted(&input, view.peers().map(|peer| &**peer))
    }

    /// Makes the zone be so. That this is not possible keeps no pod from being attached. The caller holds the lock.
    pub(super) fn pass(&self, wanted: &Wanted) {
        let zones = self.host.zones.as_ref();
        let passed = zones::pass(zones, &self.dir, wanted, true, &patience());
        for flaw in passed.flaws {
            tracing::warn!("{flaw}");
        }
    }

    /// Puts back what firewalld has forgotten, of a node on which nothing else is to be done: where it runs, that costs
    /// one question for each kind of member.
    pub(super) async fn let_through(&self, cancel: &Cancel) {
        if let Err(error) = self.put_back(cancel).await {
            tracing::warn!("{}", error.chain());
        }
    }

    async fn put_back(&self, cancel: &Cancel) -> Result<()> {
        let zones = self.host.zones.as_ref();
        if !zones.is_running()? {
            return Ok(());
        }
        if let Some(wanted) = self.written()?
            && zones::lacking(zones, &wanted, &patience())?.is_none()
        {
            return Ok(());
        }
        let _alone = self.dir.update_lock(cancel)?;
        // firewalld takes its time: meanwhile an agent may have come, who sees to it.
        if self.dir.has_agent()? {
            return Ok(());
        }
        match self.written()? {
            Some(wanted) => self.pass(&wanted),
            // firewalld has come after the node was connected.
            None => drop(self.update(cancel).await?),
        }
        Ok(())
    }

    pub(super) fn written(&self) -> Result<Option<Wanted>> {
        Ok(Record::read(&self.dir)?.map(|record| record.wanted))
    }

    /// What CHECK and STATUS tell of it. Where nobody has written down what is wanted, it has never been.
    pub(super) fn unknown(&self, wanted: Option<&Wanted>) -> Option<Error> {
        let zones = self.host.zones.as_ref();
        let lacking = |wanted: &Wanted| zones::lacking(zones, wanted, &patience());
        let found = match wanted {
            Some(wanted) => lacking(wanted),
            None => self
                .written()
                .and_then(|wanted| wanted.as_ref().map_or(Ok(None), lacking)),
        };
        match found {
            Ok(None) => None,
            Ok(Some(words)) => Some(Error::new(ErrorKind::Internal, words)),
            Err(error) => Some(error),
        }
    }

    /// What a dry run says of it.
    pub(super) fn commands(&self, wanted: &Wanted) -> Vec<String> {
        let commands = zones::commands(self.host.zones.as_ref(), &self.dir, wanted);
        commands.unwrap_or_else(|error| vec![format!("# {}", error.chain())])
    }
}

#[cfg(test)]
#[path = "zoned_tests.rs"]
mod tests;
