//! Address management in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::error::{Error, ErrorKind, Result};
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::ValidAttachments;
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, Attachment, IpConfig, NetworkName, Route};

/// An address store in memory: one address of each pool for every attachment, lowest first. Clones share it.
///
/// It is as strict as `host-local`: an attachment that holds addresses cannot have more before it released them.
#[derive(Debug, Clone)]
pub struct FakeIpam(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pools: Vec<Pool>,
    held: Mutex<BTreeMap<Attachment, Vec<IpNetwork>>>,
}

#[derive(Debug)]
struct Pool {
    subnet: IpNetwork,
    gateway: IpAddr,
}

impl FakeIpam {
    /// A store that gives every attachment one address of each subnet. A subnet's first address is its gateway; with
    /// each comes a default route.
    pub fn new(subnets: impl IntoIterator<Item = IpNetwork>) -> Self {
        let pools = subnets.into_iter().map(|subnet| Pool {
            subnet,
            gateway: nth(subnet, 1),
        });
        Self(Arc::new(Inner {
            pools: pools.collect(),
            held: Mutex::default(),
        }))
    }

    /// What is held, by attachment: what is left when all attachments have been detached is a leak.
    pub fn all_held(&self) -> BTreeMap<Attachment, Vec<IpNetwork>> {
        self.held_by_attachment().clone()
    }

    fn held_by_attachment(&self) -> MutexGuard<'_, BTreeMap<Attachment, Vec<IpNetwork>>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(
        &self,
        held: &BTreeMap<Attachment, Vec<IpNetwork>>,
    ) -> Result<Vec<(IpNetwork, IpAddr)>> {
        let taken: Vec<IpAddr> = held.values().flatten().map(IpNetwork::ip).collect();
        let mut found = Vec::new();
        for pool in &self.0.pools {
            let host_bits = if pool.subnet.is_ipv4() { 32 } else { 128 } - pool.subnet.prefix();
            // The last IPv4 address is the broadcast address.
            let size = 1u128 << host_bits.min(16);
            let end = if pool.subnet.is_ipv4() {
                size - 1
            } else {
                size
            };
            let ip = (2..end)
                .map(|n| nth(pool.subnet, n))
                .find(|ip| !taken.contains(ip));
            let address = ip.and_then(|ip| IpNetwork::new(ip, pool.subnet.prefix()).ok());
            match address {
                Some(address) => found.push((address, pool.gateway)),
                None => {
                    return Err(Error::new(
                        ErrorKind::Plugin(110),
                        format!("no address of {} is free", pool.subnet),
                    ));
                }
            }
        }
        Ok(found)
    }
}

fn nth(subnet: IpNetwork, n: u128) -> IpAddr {
    match subnet {
        IpNetwork::V4(v4) => {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            IpAddr::V4(u32::from(v4.network()).saturating_add(n).into())
        }
        IpNetwork::V6(v6) => IpAddr::V6(u128::from(v6.network()).saturating_add(n).into()),
    }
}

fn result(addresses: &[(IpNetwork, IpAddr)]) -> AddResult {
    let mut result = AddResult::default();
    for (address, gateway) in addresses {
        let mut ip = IpConfig::new(*address);
        ip.gateway = Some(*gateway);
        result.ips.push(ip);
        let everywhere = if address.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        if let Ok(destination) = everywhere.parse() {
            result.routes.push(Route::new(destination));
        }
    }
    result
}

#[async_trait]
impl Ipam for FakeIpam {
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult> {
        let mut held = self.held_by_attachment();
        if held.contains_key(request.attachment) {
            return Err(Error::new(
                ErrorKind::Plugin(111),
                format!("{} holds addresses already", request.attachment),
            ));
        }
        let free = self.free(&held)?;
        let addresses = free.iter().map(|(address, _)| *address).collect();
        held.insert(request.attachment.clone(), addresses);
        Ok(result(&free))
    }

    async fn preview(&self, request: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        let _ = request;
        let free = self.free(&self.held_by_attachment())?;
        Ok(Some(result(&free)))
    }

    async fn held(&self, request: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        let held = self.held_by_attachment();
        Ok(Some(
            held.get(request.attachment).cloned().unwrap_or_default(),
        ))
    }

    async fn release(&self, request: &IpamRequest<'_>) -> Result<()> {
        self.held_by_attachment().remove(request.attachment);
        Ok(())
    }

    async fn check(&self, request: &IpamRequest<'_>) -> Result<()> {
        if self.held_by_attachment().contains_key(request.attachment) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Plugin(112),
            format!("{} holds no address", request.attachment),
        ))
    }

    async fn gc(
        &self,
        network: &NetworkName,
        _config: &NetworkConfig,
        valid: &ValidAttachments,
    ) -> Result<()> {
        self.held_by_attachment().retain(|attachment, _| {
            attachment.network != *network
                || valid.contains(&attachment.container, &attachment.interface)
        });
        Ok(())
    }

    async fn status(&self, _network: &NetworkName, _config: &NetworkConfig) -> Result<()> {
        match self.free(&self.held_by_attachment()) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.with_kind(ErrorKind::NotAvailable)),
        }
    }
}
