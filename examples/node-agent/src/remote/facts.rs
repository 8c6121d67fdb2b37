//! What this node tells of itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cni_core::cluster::Capability;
use cni_core::host::Host;
use cni_core::host::netlink::{Address, LinkKind, MacAddr, NetlinkExt as _};

use crate::moved::Moved;

/// What a node tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where other nodes reach it: one address of a family at most.
    pub addresses: Vec<IpAddr>,
    /// MTU of the link that bears them, in bytes.
    pub mtu: Option<u32>,
    /// What its data path can do; `None` where that is left to the kernel.
    pub capabilities: Option<Vec<Capability>>,
    /// The hardware address of the tunnel's device, where that is there: other nodes know it by this one.
    pub vtep_mac: Option<MacAddr>,
}

/// Who knows.
#[async_trait]
pub trait Knows: Send + Sync + std::fmt::Debug {
    /// The facts. `local` is this host's address on the connection with the service.
    ///
    /// # Errors
    /// A sentence that says what cannot be found out, and what to do.
    async fn facts(&self, local: Option<IpAddr>) -> Result<Facts, String>;

    /// Returns when they may have changed since it did so last; never where nobody tells. It may be dropped at any await point, and
    /// loses nothing.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// The facts by addresses that somebody says are the node's, as far as this host has them: the first, and the first of the other
/// family.
#[cfg(feature = "kubernetes")]
pub(crate) async fn by_told(knows: &dyn Knows, told: Vec<IpAddr>) -> Option<Facts> {
    let mut found: Option<(IpAddr, Facts)> = None;
    for address in told {
        let Ok(facts) = knows.facts(Some(address)).await else {
            continue;
        };
        match &mut found {
            // Configured addresses are what they are, whatever was asked for.
            None if !facts.addresses.contains(&address) => return Some(facts),
            None => found = Some((address, facts)),
            Some((first, known)) if first.is_ipv6() != address.is_ipv6() => {
                known.addresses = vec![*first, address];
                known.addresses.sort_unstable();
                break;
            }
            Some(_) => {}
        }
    }
    found.map(|(_, facts)| facts)
}

/// Addresses come and go in pairs: the host is looked at so long after the first.
pub(crate) const TO_SETTLE: Duration = Duration::from_millis(50);

/// Returns when somebody says that the facts may have changed; never where nobody is there to say so.
pub(crate) async fn changed(knows: Option<&Arc<dyn Knows>>) {
    match knows {
        Some(knows) => knows.changed().await,
        None => std::future::pending().await,
    }
}

/// Somebody who knows, and is told of changes.
#[derive(Debug, Clone)]
pub struct Told<K> {
    /// Who knows.
    pub knows: K,
    /// Who tells.
    pub moved: Moved,
}

#[async_trait]
impl<K: Knows> Knows for Told<K> {
    async fn facts(&self, local: Option<IpAddr>) -> Result<Facts, String> {
        self.knows.facts(local).await
    }

    async fn changed(&self) {
        self.moved.told().await;
    }
}

/// The host's links tell.
#[derive(Debug, Clone)]
pub struct OfHost {
    /// The kernel.
    pub host: Host,
    /// `addresses` of the configuration.
    pub configured: Vec<IpAddr>,
    /// What the service is called, and the key of the configuration that `configured` is from.
    pub service: (&'static str, &'static str),
    /// From `dataPath` of the configuration.
    pub capabilities: Option<Vec<Capability>>,
    /// Name and VNI of the tunnel's device, where the one that is there counts.
    pub device: Option<(String, u32)>,
}

#[async_trait]
impl Knows for OfHost {
    /// The configured addresses, else the one from which the service is reached, and one of the other family on the same link.
    async fn facts(&self, local: Option<IpAddr>) -> Result<Facts, String> {
        let all = self.host.netlink.addresses(None).await;
        let all = all.map_err(|error| format!("the host's addresses cannot be read: {error}"))?;
        let local = local.filter(|local| !local.is_loopback());
        let Some(first) = self.configured.first().copied().or(local) else {
            let (service, key) = self.service;
            return Err(format!(
                "{service} is reached over the loopback interface, which tells nothing of where other nodes reach this one: \
                 set `{key}`"
            ));
        };
        let Some(bearer) = all.iter().find(|address| address.address.ip() == first) else {
            return Err(format!("no link of this host has the address {first}"));
        };
        let mut addresses = self.configured.clone();
        if addresses.is_empty() {
            addresses.push(first);
            addresses.extend(second(&all, bearer, !first.is_ipv6()));
        }
        addresses.sort_unstable();
        let link = self.host.netlink.link(&bearer.link).await;
        let link = link.map_err(|error| format!("{} cannot be read: {error}", bearer.link))?;
        Ok(Facts {
            addresses,
            mtu: link.map(|link| link.mtu),
            capabilities: self.capabilities.clone(),
            vtep_mac: self.vtep_mac().await?,
        })
    }
}

/// The address of a family that the bearer's link has had longest: what comes later and goes again, to another node perhaps, is
/// none that others should send to. The kernel lists IPv4 addresses of a link in the order in which they came, and IPv6 addresses
/// the other way round (`inet_insert_ifa`, `ipv6_link_dev_addr`).
fn second(all: &[Address], bearer: &Address, ipv6: bool) -> Option<IpAddr> {
    let mut usable = all.iter().filter(|address| {
        let sound = !(address.tentative || address.dad_failed);
        let lasts = !(address.temporary || address.deprecated);
        let here = address.link == bearer.link && address.address.is_ipv6() == ipv6;
        here && sound && lasts && address.scope == 0
    });
    let oldest = if ipv6 {
        usable.next_back()
    } else {
        usable.next()
    };
    oldest.map(|address| address.address.ip())
}

impl OfHost {
    /// One with Ethernet inside has an address; that of another VNI is nobody's to know.
    async fn vtep_mac(&self) -> Result<Option<MacAddr>, String> {
        let Some((name, vni)) = &self.device else {
            return Ok(None);
        };
        let link = self.host.netlink.link(name).await;
        let link = link.map_err(|error| format!("{name} cannot be read: {error}"))?;
        let found = link.and_then(|link| match link.kind {
            LinkKind::Vxlan(vxlan) if !vxlan.external && vxlan.vni == *vni => link.mac,
            _ => None,
        });
        Ok(found.filter(|mac| !mac.is_zero()))
    }
}
