//! The verbs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::attach;
use crate::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::chained::{addresses, previous};
use crate::error::{Error, ErrorKind, Result};
use crate::host::lock::Guard;
use crate::plan::{
    Desired, Handles, Plan, Planning, Scope, apply, diff, observe, remove, under_lock,
};
use crate::spec::{AddResult, Attachment, Mark};

use super::desired::{Input, bridge_table, declare, table};
use super::removal::{self, joined};
use super::zones::{Firewalld, Zones};
use super::{Backend, FirewallConfig, IngressPolicy, facts};

/// The plugin `firewall`.
#[derive(Debug, Clone)]
pub struct Firewall {
    zones: Arc<dyn Zones>,
}

impl Default for Firewall {
    fn default() -> Self {
        Self::new()
    }
}

impl Firewall {
    /// With the firewalld of this host, where it has one.
    pub fn new() -> Self {
        Self::with_zones(Arc::new(Firewalld::new()))
    }

    /// With this firewalld.
    pub fn with_zones(zones: Arc<dyn Zones>) -> Self {
        Self { zones }
    }

    /// Whether addresses are put into a zone.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] where the configuration wants firewalld, which does not run.
    async fn asks_firewalld(&self, config: &FirewallConfig) -> Result<bool> {
        if config.backend == Backend::Nftables {
            return Ok(false);
        }
        let running = self.zones.running().await;
        if !running && config.backend == Backend::Firewalld {
            let message =
                "\"backend\" is \"firewalld\", which does not run: start it, or leave the key out";
            return Err(Error::new(ErrorKind::TryAgain, message));
        }
        Ok(running)
    }

    async fn put_into_zone(&self, zone: &str, addresses: &[IpNetwork]) -> Result<()> {
        for address in addresses {
            tracing::debug!(zone, address = %address.ip(), "putting the address into firewalld's zone");
            self.zones.add(zone, address.ip()).await?;
        }
        Ok(())
    }

    /// Removes the attachments that are `doomed`, as far as that is possible.
    async fn collect(
        &self,
        cx: &Context<'_>,
        doomed: &(dyn Fn(&Mark) -> bool + Sync),
    ) -> Result<()> {
        let mut alone: Option<Box<dyn Guard>> = None;
        let mut left = BTreeSet::new();
        // Two at once each see what the other one needs: so whoever has not had the lock looks again.
        loop {
            let state = removal::read(cx.host).await?;
            let mut found = removal::removal(cx.host, &state, doomed).await?;
            if found.plan.is_empty() {
                return Ok(());
            }
            found.addresses.retain(|address| left.insert(*address));
            if !found.addresses.is_empty() {
                // firewalld may take its time: nobody is to wait for it. What tells of the addresses stays until it has
                // answered, so that the next DEL finds them, whatever becomes of this one.
                let looks_again = alone.take().is_some();
                self.leave_zones(&found.addresses).await?;
                if looks_again {
                    continue;
                }
            }
            let mut errors = Vec::new();
            if found.plan.touches_shared() && alone.is_none() {
                match cx.host.lock.exclusive(cx.cancel).await {
                    Ok(guard) => {
                        alone = Some(guard);
                        // Another ADD may have come to need it.
                        continue;
                    }
                    Err(error) => {
                        errors.push(error);
                        found.plan = removal::own(&state, doomed);
                    }
                }
            }
            errors.extend(remove(&found.plan, &handles(cx)).await);
            if alone.is_some() || !errors.is_empty() {
                return joined(errors);
            }
        }
    }

    async fn leave_zones(&self, addresses: &[IpAddr]) -> Result<()> {
        if addresses.is_empty() || !self.zones.running().await {
            return Ok(());
        }
        let mut errors = Vec::new();
        for address in addresses {
            errors.extend(self.zones.remove(*address).await.err());
        }
        joined(errors)
    }
}

fn handles<'a>(cx: &Context<'a>) -> Handles<'a> {
    Handles {
        host: cx.host,
        sandbox: None,
    }
}

/// What the previous result and the host come to.
async fn desired(
    cx: &Context<'_>,
    attachment: &Attachment,
    config: &FirewallConfig,
    previous: &AddResult,
) -> Result<Desired> {
    let facts = facts::read(cx.host, attachment, config, previous).await?;
    Ok(declare(&Input {
        attachment,
        config,
        addresses: &addresses(attachment, previous),
        facts: &facts,
    }))
}

#[async_trait]
impl NetworkBackend for Firewall {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let result = previous(request)?;
        let config = FirewallConfig::parse(request.config)?;
        let addresses = addresses(request.attachment, result);
        let asks = self.asks_firewalld(&config).await?;
        let plan = || -> Planning<'_> {
            Box::pin(async {
                let desired = desired(cx, request.attachment, &config, result).await?;
                let observed = observe(&handles(cx), &desired, Scope::Shared).await?;
                diff(&desired, &observed)
            })
        };
        if cx.dry_run {
            let zone = addresses.iter().filter(|_| asks).map(|address| {
                let (zone, address) = (&config.zone, address.ip());
                format!("firewall-cmd --zone={zone} --add-source={address}")
            });
            return Ok(Added::new(result.clone(), plan().await?.after(zone)));
        }
        // What the declaration is made from is read under the lock, too: the operators' chains are in it.
        let (wanted, guard) = under_lock(cx.host.lock.as_ref(), cx.cancel, &plan).await?;
        apply(&wanted, &handles(cx), cx.cancel).await?.keep();
        drop(guard);
        if asks && let Err(error) = self.put_into_zone(&config.zone, &addresses).await {
            let mark = request.attachment.mark();
            let undone = self.collect(cx, &|found| *found == mark).await;
            return Err(match undone {
                Ok(()) => error,
                Err(second) => {
                    let message = format!(
                        "{error}; and taking back what was done failed: {}",
                        second.chain()
                    );
                    error.context(message)
                }
            });
        }
        Ok(Added::new(result.clone(), wanted))
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        let mark = request.attachment.mark();
        self.collect(cx, &|found| *found == mark).await
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let mark = request.attachment.mark();
        let state = removal::read(cx.host).await?;
        let found = removal::removal(cx.host, &state, &|found| *found == mark).await?;
        let mut zones = Vec::new();
        if !found.addresses.is_empty() && self.zones.running().await {
            let command = |address| format!("firewall-cmd --remove-source={address}");
            zones.extend(found.addresses.iter().map(command));
        }
        Ok(Some(found.plan.after(zones)))
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let config = FirewallConfig::parse(request.config)?;
        let previous = request.prev_result;
        let mut drifts = Vec::new();
        if self.asks_firewalld(&config).await? {
            for address in addresses(request.attachment, previous) {
                let (zone, address) = (&config.zone, address.ip());
                match self.zones.has(zone, address).await {
                    Ok(true) => {}
                    Ok(false) => {
                        drifts.push(format!("{address} is not in firewalld's zone {zone}"))
                    }
                    Err(error) => drifts.push(error.chain()),
                }
            }
        }
        let desired = desired(cx, request.attachment, &config, previous).await?;
        attach::check(cx, request, &desired, false, drifts).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        let valid = request.valid.marks(request.network);
        let stale = |mark: &Mark| mark.is_of(request.network) && !valid.contains(mark);
        self.collect(cx, &stale).await
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        let config = FirewallConfig::parse(request.config)?;
        let mut tables = vec![(table(), "the firewall")];
        if config.ingress == IngressPolicy::Isolated {
            tables.push((bridge_table(), "\"ingressPolicy\": \"isolated\""));
        }
        for (table, what) in tables {
            cx.host.firewall.table(&table).await.map_err(|error| {
                Error::new(ErrorKind::NotAvailable, format!("{what} needs nftables"))
                    .with_source(error)
            })?;
        }
        let asks = self
            .asks_firewalld(&config)
            .await
            .map_err(|error| Error::new(ErrorKind::NotAvailable, error.to_string()))?;
        if asks {
            // Any address will do: it is the zone that is asked for.
            let nobody = IpAddr::from([192, 0, 2, 1]);
            self.zones
                .has(&config.zone, nobody)
                .await
                .map_err(|error| {
                    let message = format!("firewalld's zone {} cannot be used", config.zone);
                    Error::new(ErrorKind::NotAvailable, message).with_source(error)
                })?;
        }
        Ok(())
    }
}
