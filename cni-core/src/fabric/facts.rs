//! What the host is like, read from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::error::Result;
use crate::host::Host;
use crate::host::firewall::Table;
use crate::host::forwarding::{Entry, Kind, Scope, Via};
use crate::host::netlink::{Link, LinkFilter, LinkKind};
use crate::spec::{Mark, NetworkName};

use super::{Owner, Uplink, tables};

/// What the host is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Links that are not our own devices and have addresses or on-link routes, by index.
    pub uplinks: Vec<Uplink>,
    /// Whether the kernel has next-hop objects.
    pub next_hops: bool,
    /// Whether new links speak IPv6.
    pub ipv6: bool,
    /// VXLAN devices whose outer packets leave by one link (`dev`), by name, and that link.
    pub bound: BTreeMap<Arc<str>, Arc<str>>,
    /// VXLAN devices of others for which nothing of ours sees to who sends to them, by name.
    pub exposed: BTreeMap<Arc<str>, Exposed>,
}

/// A VXLAN device that hears everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exposed {
    /// Its UDP port.
    pub port: u16,
    /// Where its filter would be, if it is the device of another network of ours.
    pub table: Option<Table>,
}

/// What was read in one go.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) facts: Facts,
    /// Names of links that are our devices.
    pub(super) devices: Vec<String>,
}

/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;

/// Protocols of routes that say what is in a segment: of the kernel, people, their configuration, router advertisements and DHCP
/// (`RTPROT_KERNEL`, `_BOOT`, `_STATIC`, `_RA`, `_DHCP`). What routing daemons and other networks for pods have without a gateway
/// are tunnels and pods. The kernel leaves the others out, ten thousand of our own among them.
const SEGMENTS: [u8; 5] = [2, 3, 4, 9, 16];

/// Whether routes of this protocol may say what is in a segment.
pub(super) fn tells_of_segments(protocol: u8) -> bool {
    SEGMENTS.contains(&protocol)
}

/// Reads the facts.
pub(super) async fn read(host: &Host, owner: &Owner) -> Result<Read> {
    let mut uplinks = BTreeMap::new();
    let mut devices = Vec::new();
    let (mut bound, mut exposed) = (BTreeMap::new(), BTreeMap::new());
    let alias = owner.network.shared_alias();
    for link in host.netlink.links(LinkFilter::All).await? {
        if let LinkKind::Vxlan(vxlan) = &link.kind
            && let Some(lower) = &vxlan.lower
        {
            bound.insert(link.name.as_str().into(), lower.as_str().into());
        }
        let is_device = is_device(&link, owner, &alias);
        if let LinkKind::Vxlan(vxlan) = &link.kind
            && !is_device
        {
            let table = table_of(&link);
            if !is_filter(host, table.as_ref()).await {
                let port = vxlan.port;
                exposed.insert(link.name.as_str().into(), Exposed { port, table });
            }
        }
        if is_device {
            devices.push(link.name);
        } else if !is_attachment(&link) {
            let name: Arc<str> = link.name.as_str().into();
            uplinks.insert(name.clone(), (uplink(name, &link), BTreeSet::new()));
        }
    }
    for address in host.netlink.addresses(None).await? {
        if let Some((uplink, prefixes)) = uplinks.get_mut(address.link.as_str())
            && !is_local(address.address)
        {
            uplink.addresses.push(address.address.ip());
            // The kernel's own route for it has a preferred source, which makes it none that this crate has a value for.
            let prefix = IpNetwork::new(address.address.network(), address.address.prefix());
            prefixes.extend(prefix.ok().filter(|_| !address.no_prefix_route));
        }
    }
    let mut on_link = |entry| {
        if let Some((link, prefix)) = without_gateway(&entry, owner.protocol)
            && let Some((_, prefixes)) = uplinks.get_mut(link)
        {
            prefixes.insert(prefix);
        }
    };
    for protocol in SEGMENTS {
        let scope = Scope {
            kind: Kind::Route,
            protocol: Some(protocol),
            link: None,
        };
        host.forwarding.read(&scope, &mut on_link).await?;
    }
    let uplinks = uplinks.into_values().map(|(mut uplink, prefixes)| {
        uplink.on_link = prefixes.into_iter().collect();
        uplink
    });
    let mut uplinks: Vec<Uplink> = uplinks
        .filter(|uplink| !uplink.addresses.is_empty() || !uplink.on_link.is_empty())
        .collect();
    uplinks.sort_by_key(|uplink| uplink.index);
    let facts = Facts {
        uplinks,
        next_hops: host.forwarding.has_next_hops().await?,
        ipv6: has_ipv6(host).await?,
        bound,
        exposed,
    };
    Ok(Read { facts, devices })
}

/// Our device: it bears the network's alias, as the network's bridge does, and is one of ours by its name or a VXLAN device.
fn is_device(link: &Link, owner: &Owner, alias: &str) -> bool {
    let known = owner.devices.contains(&link.name) || matches!(link.kind, LinkKind::Vxlan(_));
    known && link.alias.as_deref() == Some(alias)
}

/// The table of the network whose device it is.
fn table_of(link: &Link) -> Option<Table> {
    let alias = link.alias.as_deref()?;
    let network: NetworkName = alias.strip_prefix("cni:")?.parse().ok()?;
    (network.shared_alias() == alias).then(|| tables::table(&network))
}

/// Whether the table has a filter: without one (`"filter": false`) the device hears everybody.
async fn is_filter(host: &Host, table: Option<&Table>) -> bool {
    let Some(table) = table else {
        return false;
    };
    let chain = host.firewall.chain_rules(table, tables::FILTER).await;
    chain.is_ok_and(|chain| chain.is_some())
}

/// A pod's: they come and go.
fn is_attachment(link: &Link) -> bool {
    let alias = link.alias.as_deref();
    alias.is_some_and(|alias| Mark::parse(alias).is_some())
}

fn uplink(name: Arc<str>, link: &Link) -> Uplink {
    Uplink {
        link: name,
        index: link.index,
        mtu: link.mtu,
        up: link.up && link.carrier,
        addresses: Vec::new(),
        on_link: Vec::new(),
    }
}

/// Loopback and link-local addresses lead to no other node.
fn is_local(prefix: IpNetwork) -> bool {
    match prefix.ip() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()
        }
    }
}

/// The link and destination of another program's route in table `main` that says what is on a link. A default route without
/// a gateway (a point-to-point link's) says nothing of a segment.
fn without_gateway(entry: &Entry, protocol: u8) -> Option<(&str, IpNetwork)> {
    let Entry::Route(route) = entry else {
        return None;
    };
    let Via::Hop(hop) = &route.via else {
        return None;
    };
    let says = route.table == MAIN
        && route.protocol != protocol
        && hop.gateway.is_none()
        && hop.encap.is_none()
        && route.destination.prefix() > 0
        && !is_local(route.destination);
    says.then_some((&*hop.link, route.destination))
}

async fn has_ipv6(host: &Host) -> Result<bool> {
    for of in ["all", "default"] {
        let key = format!("net/ipv6/conf/{of}/disable_ipv6");
        if host.sysctl.read(&key).await?.as_deref() != Some("0") {
            return Ok(false);
        }
    }
    Ok(true)
}
