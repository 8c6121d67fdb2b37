//! The engine of `cni_core::fabric`, as the loop's programmer.

use std::sync::Arc;

use async_trait::async_trait;
use cni_core::accept;
use cni_core::cluster::{NodeChange, View};
use cni_core::fabric::{Engine, Fabric, Removal, Report};
use cni_core::host::netlink::NetlinkExt as _;
use cni_core::host::zones as firewalld;
use cni_core::host::{Host, KernelEvent};

use crate::drops::DropCounts;
use crate::programmer::{Connection, Outcome, Programmer};

/// Connects the node.
#[derive(Debug)]
pub struct Connector {
    host: Host,
    engine: Engine,
    drops: Arc<DropCounts>,
    /// The last pass left everything as it must be: what the next one finds is drift.
    settled: bool,
    /// firewalld's rules were in force at the last look: with each comparison of everything, and where there is a doubt.
    firewalld: bool,
}

impl Connector {
    /// One that has not done anything yet. Whatever takes the filter's counters along is announced to `drops`.
    pub fn new(host: Host, fabric: Arc<dyn Fabric>, drops: Arc<DropCounts>) -> Self {
        Self {
            engine: Engine::new(host.clone(), fabric),
            host,
            drops,
            settled: false,
            firewalld: false,
        }
    }

    async fn outcome(&mut self, report: Report, drift: bool) -> Outcome {
        let failed = report.errors.len() as u64;
        if report.full {
            self.settled = report.is_complete();
            self.is_ruled().await;
        }
        let words =
            |(what, error): &(String, cni_core::Error)| format!("{what}: {}", error.chain());
        let made = report.made.iter();
        Outcome {
            full: report.full,
            changes: made
                .map(|(thing, count)| {
                    let sum = count.added + count.replaced + count.removed;
                    (thing.as_str(), sum)
                })
                .collect(),
            drift_found: report.drifted + if drift { failed } else { 0 },
            drift_repaired: report.drifted,
            errors: report.errors.iter().map(words).collect(),
            connection: self.connection(failed > 0).await,
            repaired: report.drift,
            unreachable: report.unreachable,
            clashes: [report.clashes, report.limits].concat(),
        }
    }

    /// `None` where the node could not be connected at all, its device being the least that it needs.
    async fn connection(&self, doubtful: bool) -> Option<Connection> {
        let base = self.engine.base()?;
        let device = base.device.as_deref();
        if doubtful
            && let Some(device) = device
            && !matches!(self.host.netlink.link(device).await, Ok(Some(_)))
        {
            return None;
        }
        Some(Connection {
            mtu: base.mtu,
            device: device.map(str::to_owned),
            entrance: self.engine.entrance().unwrap_or_default(),
            firewalld: self.firewalld,
            choices: base.choices.clone(),
        })
    }
}

#[async_trait]
impl Programmer for Connector {
    async fn full(&mut self, view: &View) -> Outcome {
        self.drops.refresh().await;
        let removal = match view.in_sync() {
            true => Removal::Allowed,
            false => Removal::Withheld,
        };
        let drift = self.settled;
        let report = self.engine.full(view, removal).await;
        self.outcome(report, drift).await
    }

    async fn update(&mut self, view: &View, changes: &[NodeChange]) -> Outcome {
        let report = self.engine.update(view, changes).await;
        self.outcome(report, false).await
    }

    async fn concerns(&mut self, event: &KernelEvent) -> bool {
        // Tables that other programs change all day: there it is one rule of ours that counts, and not everything.
        match event {
            KernelEvent::Firewall { table } if accept::concerns(table) => {
                !self.engine.is_let_through().await
            }
            event => self.engine.concerns(event),
        }
    }

    async fn is_ruled(&mut self) -> bool {
        self.firewalld = firewalld::rules(&self.host).await;
        self.firewalld
    }
}
