//! Any implementation of the traits, with [`Faults`].

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::error::{Error, ErrorKind, Result};
use crate::host::conntrack::{Conntrack, Flow, FlowFilter};
use crate::host::firewall::{
    ChainRules, Element, Family, Firewall, FirewallChange, Table, TableState, Value,
};
use crate::host::forwarding::{Change, Entry, Failed, Forwarding, Scope};
use crate::host::legacy::{LegacyChange, LegacyRule, LegacyTables};
use crate::host::netlink::{
    Address, ApplyError, Link, LinkFilter, Neighbour, Netlink, NetlinkChange, NetlinkError, Route,
    Traffic, Vlan,
};
use crate::host::{Host, NamespaceOpener, NetnsPath, Sandbox, Sysctl};
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::ValidAttachments;
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, NetworkName};

use super::faults::{Fault, Faults};

/// Wraps handles, fake or real, so that their writes are counted and fail as [`Faults`] says. Reads are counted and pass through.
///
/// Changes that travel together are split at the failing one: those before it are made.
#[derive(Debug)]
pub struct Faulty;

impl Faulty {
    /// The host's handles. Namespaces that they open are wrapped as well.
    pub fn host(host: &Host, faults: &Faults) -> Host {
        Host {
            netlink: wrap(&host.netlink, faults),
            forwarding: wrap(&host.forwarding, faults),
            firewall: wrap(&host.firewall, faults),
            legacy: wrap(&host.legacy, faults),
            conntrack: wrap(&host.conntrack, faults),
            sysctl: wrap(&host.sysctl, faults),
            lock: host.lock.clone(),
            namespaces: wrap(&host.namespaces, faults),
            zones: host.zones.clone(),
        }
    }

    /// A container's handles.
    pub fn sandbox(sandbox: &Sandbox, faults: &Faults) -> Sandbox {
        Sandbox {
            path: sandbox.path.clone(),
            netlink: wrap(&sandbox.netlink, faults),
            sysctl: wrap(&sandbox.sysctl, faults),
        }
    }

    /// Address management: `allocate`, `release` and `gc` are writes.
    pub fn ipam(ipam: &Arc<dyn Ipam>, faults: &Faults) -> Arc<dyn Ipam> {
        wrap(ipam, faults)
    }
}

struct Wrapped<T: ?Sized> {
    inner: Arc<T>,
    faults: Faults,
}

fn wrap<T: ?Sized>(inner: &Arc<T>, faults: &Faults) -> Arc<Wrapped<T>> {
    Arc::new(Wrapped {
        inner: inner.clone(),
        faults: faults.clone(),
    })
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Wrapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

impl<T: ?Sized> Wrapped<T> {
    fn count(&self, what: impl FnOnce() -> String) -> Result<()> {
        self.faults.count().map_err(|fault| failed(fault, what()))
    }
}

fn failed(fault: Fault, what: String) -> Error {
    let source = std::io::Error::from_raw_os_error(fault.errno());
    Error::new(ErrorKind::Io, format!("could not {what}: injected fault")).with_source(source)
}

fn refused(fault: Fault, operation: String) -> NetlinkError {
    NetlinkError::new(operation, fault.errno()).with_message("injected fault")
}

#[async_trait]
impl Netlink for Wrapped<dyn Netlink> {
    async fn links(&self, filter: LinkFilter<'_>) -> Result<Vec<Link>, NetlinkError> {
        self.faults.count_read();
        self.inner.links(filter).await
    }

    async fn addresses(&self, link: Option<&str>) -> Result<Vec<Address>, NetlinkError> {
        self.faults.count_read();
        self.inner.addresses(link).await
    }

    async fn routes(&self, link: Option<&str>) -> Result<Vec<Route>, NetlinkError> {
        self.faults.count_read();
        self.inner.routes(link).await
    }

    async fn neighbours(&self, link: Option<&str>) -> Result<Vec<Neighbour>, NetlinkError> {
        self.faults.count_read();
        self.inner.neighbours(link).await
    }

    async fn vlans(&self, link: &str) -> Result<Vec<Vlan>, NetlinkError> {
        self.faults.count_read();
        self.inner.vlans(link).await
    }

    async fn traffic(&self, link: &str) -> Result<Traffic, NetlinkError> {
        self.faults.count_read();
        self.inner.traffic(link).await
    }

    async fn is_local(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        self.faults.count_read();
        self.inner.is_local(address).await
    }

    async fn link_to(&self, address: IpAddr) -> Result<Option<String>, NetlinkError> {
        self.faults.count_read();
        self.inner.link_to(address).await
    }

    async fn apply(&self, changes: &[NetlinkChange]) -> Result<(), ApplyError> {
        let Some((before, fault)) = self.faults.count_batch(changes.len() as u64) else {
            return self.inner.apply(changes).await;
        };
        let before = before as usize;
        if let Some(made) = changes.get(..before)
            && !made.is_empty()
        {
            self.inner.apply(made).await?;
        }
        let operation = changes.get(before).map(NetlinkChange::to_string);
        let error = refused(fault, operation.unwrap_or_default());
        Err(ApplyError::new(before, error))
    }
}

#[async_trait]
impl Conntrack for Wrapped<dyn Conntrack> {
    async fn flows(&self, filter: &FlowFilter) -> Result<Vec<Flow>, NetlinkError> {
        self.faults.count_read();
        self.inner.flows(filter).await
    }

    async fn delete(&self, flows: &[Flow]) -> Result<(), NetlinkError> {
        let mut first = Ok(());
        for flow in flows {
            let outcome = match self.faults.count() {
                Ok(()) => self.inner.delete(std::slice::from_ref(flow)).await,
                Err(fault) => Err(refused(fault, format!("conntrack -D {flow}"))),
            };
            first = first.and(outcome);
        }
        first
    }
}

#[async_trait]
impl Forwarding for Wrapped<dyn Forwarding> {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        self.faults.count_read();
        self.inner.read(scope, each).await
    }

    /// A failure does not end the write, so that each change is counted by itself.
    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let mut failed = Vec::new();
        let mut rest = changes;
        let mut done = 0;
        while !rest.is_empty() {
            let (before, fault) = match self.faults.count_batch(rest.len() as u64) {
                None => (rest.len(), None),
                Some((before, fault)) => (before as usize, Some(fault)),
            };
            let (made, others) = rest.split_at_checked(before).unwrap_or((rest, &[]));
            if !made.is_empty() {
                let failures = self.inner.write(made).await;
                failed.extend(failures.into_iter().map(|mut failure| {
                    failure.index += done;
                    failure
                }));
            }
            done += made.len();
            rest = others;
            if let (Some(fault), Some((struck, others))) = (fault, rest.split_first()) {
                failed.push(Failed {
                    index: done,
                    error: refused(fault, struck.to_string()),
                });
                done += 1;
                rest = others;
            }
        }
        failed
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        self.faults.count_read();
        self.inner.has_next_hops().await
    }
}

#[async_trait]
impl Firewall for Wrapped<dyn Firewall> {
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError> {
        self.faults.count_read();
        self.inner.table(table).await
    }

    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
        self.faults.count_read();
        self.inner.elements(table, set).await
    }

    async fn each_element(
        &self,
        table: &Table,
        set: &str,
        each: &mut (dyn FnMut(Element) + Send),
    ) -> Result<(), NetlinkError> {
        self.faults.count_read();
        self.inner.each_element(table, set, each).await
    }

    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError> {
        self.faults.count_read();
        self.inner.element(table, set, key).await
    }

    async fn chain_rules(
        &self,
        table: &Table,
        chain: &str,
    ) -> Result<Option<ChainRules>, NetlinkError> {
        self.faults.count_read();
        self.inner.chain_rules(table, chain).await
    }

    async fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError> {
        self.faults
            .count()
            .map_err(|fault| refused(fault, "nft -f".to_owned()))?;
        self.inner.commit(changes).await
    }
}

#[async_trait]
impl LegacyTables for Wrapped<dyn LegacyTables> {
    async fn rules(&self, family: Family, chain: &str) -> Result<Option<Vec<LegacyRule>>> {
        self.faults.count_read();
        self.inner.rules(family, chain).await
    }

    async fn apply(&self, change: &LegacyChange) -> Result<()> {
        self.count(|| format!("run {change}"))?;
        self.inner.apply(change).await
    }
}

#[async_trait]
impl Sysctl for Wrapped<dyn Sysctl> {
    async fn read(&self, key: &str) -> Result<Option<String>> {
        self.faults.count_read();
        self.inner.read(key).await
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        self.count(|| format!("write the kernel parameter {key}"))?;
        self.inner.write(key, value).await
    }
}

#[async_trait]
impl NamespaceOpener for Wrapped<dyn NamespaceOpener> {
    async fn open(&self, path: &NetnsPath) -> Result<Sandbox> {
        let sandbox = self.inner.open(path).await?;
        Ok(Faulty::sandbox(&sandbox, &self.faults))
    }

    /// What is done there is done to nobody.
    async fn scratch(&self) -> Result<Sandbox> {
        self.inner.scratch().await
    }

    async fn is_own(&self, path: &NetnsPath) -> bool {
        self.inner.is_own(path).await
    }
}

#[async_trait]
impl Ipam for Wrapped<dyn Ipam> {
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult> {
        self.count(|| format!("reserve addresses for {}", request.attachment))?;
        self.inner.allocate(request).await
    }

    async fn preview(&self, request: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        self.inner.preview(request).await
    }

    async fn held(&self, request: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        self.inner.held(request).await
    }

    async fn release(&self, request: &IpamRequest<'_>) -> Result<()> {
        self.count(|| format!("release the addresses of {}", request.attachment))?;
        self.inner.release(request).await
    }

    async fn check(&self, request: &IpamRequest<'_>) -> Result<()> {
        self.inner.check(request).await
    }

    async fn gc(
        &self,
        network: &NetworkName,
        config: &NetworkConfig,
        valid: &ValidAttachments,
    ) -> Result<()> {
        self.count(|| format!("release stale addresses of {network}"))?;
        self.inner.gc(network, config, valid).await
    }

    async fn status(&self, network: &NetworkName, config: &NetworkConfig) -> Result<()> {
        self.inner.status(network, config).await
    }
}
