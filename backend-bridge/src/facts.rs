//! Reading what the declaration depends on.

use cni_core::Result;
use cni_core::attach::derived_mac;
use cni_core::host::Host;
use cni_core::host::netlink::{Link, LinkFilter, LinkKind, MacAddr, Netlink, NetlinkExt, Route};
use cni_core::spec::names::host_name_is_of;
use cni_core::spec::{Attachment, NetworkName};
use cni_core::{Error, ErrorKind};

use crate::config::BridgeConfig;
use crate::desired::{Facts, made_by_us};

/// Reads the facts: one link, and only where the bridge is not of our making its ports and the routes of the host.
///
/// # Errors
/// The kernel's; [`ErrorKind::InvalidConfig`] when there is a link of the bridge's name that is no bridge.
pub(crate) async fn read(
    host: &Host,
    attachment: &Attachment,
    config: &BridgeConfig,
) -> Result<Facts> {
    let bridge = host.netlink.link(&config.bridge).await?;
    if let Some(link) = &bridge
        && !matches!(link.kind, LinkKind::Bridge { .. })
    {
        let message = format!(
            "{} exists and is no bridge: remove it, or name another one in \"bridge\"",
            link.name
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    let ours = attachment.network.shared_alias();
    let settled = bridge
        .as_ref()
        .is_some_and(|bridge| made_by_us(bridge, &ours));
    let uplink_mtu = match settled || config.mtu.is_some() {
        true => None,
        false => uplink_mtu(host.netlink.as_ref(), &config.bridge).await?,
    };
    let ipv6 = host.sysctl.read("net/ipv6/conf/all/forwarding").await?;
    let bridge_mac = match &bridge {
        Some(Link { mac: Some(mac), .. }) if !mac.is_zero() => *mac,
        _ => bridge_mac(host.netlink.as_ref(), &config.bridge).await?,
    };
    let container_mac = container_mac(attachment);
    let bridge_follows = match &bridge {
        Some(bridge) => follows(host.netlink.as_ref(), bridge, &attachment.network).await?,
        None => false,
    };
    Ok(Facts {
        bridge,
        bridge_follows,
        uplink_mtu,
        ipv6: ipv6.is_some(),
        bridge_mac,
        container_mac,
        expected: None,
    })
}

/// The hardware address of a container's interface that is given none.
pub(crate) fn container_mac(attachment: &Attachment) -> MacAddr {
    derived_mac(&[
        attachment.network.as_str(),
        attachment.container.as_str(),
        attachment.interface.as_str(),
    ])
}

/// Whether the bridge's hardware address would move with its ports (`br_stp_recalculate_bridge_id`).
///
/// The kernel does not tell. A bridge that this SDK made was given its address. One without ports may take the first
/// port's. Any other has the lowest of its ports' if it follows them, so that it does not when no port has its address.
/// Where a port of this network is there already, the attachment before has seen to it.
async fn follows(netlink: &dyn Netlink, bridge: &Link, network: &NetworkName) -> Result<bool> {
    let ours = |alias: &str| alias.starts_with("cni:");
    if bridge.alias.as_deref().is_some_and(ours) {
        return Ok(false);
    }
    if !bridge.carrier || bridge.mac.is_none_or(MacAddr::is_zero) {
        return Ok(true);
    }
    let ports = netlink.links(LinkFilter::Master(&bridge.name)).await?;
    let done = ports
        .iter()
        .any(|port| host_name_is_of(&port.name, network));
    let follows = ports.is_empty() || ports.iter().any(|port| port.mac == bridge.mac);
    Ok(follows && !done)
}

/// MTU of the link of the default route in table `main`: IPv4's, else IPv6's; of several the preferred one.
async fn uplink_mtu(netlink: &dyn Netlink, bridge: &str) -> Result<Option<u32>> {
    let routes = netlink.routes(None).await?;
    let default = routes
        .iter()
        .filter(|route| route.destination.prefix() == 0 && route.table == Route::MAIN)
        .filter(|route| route.link.as_deref().is_some_and(|link| link != bridge))
        .min_by_key(|route| (route.destination.is_ipv6(), route.metric));
    let Some(name) = default.and_then(|route| route.link.as_deref()) else {
        return Ok(None);
    };
    Ok(netlink.link(name).await?.map(|link| link.mtu))
}

/// An address of this host's own for a bridge: it must differ from that of other hosts, with which the bridge may come
/// to share a layer 2. The hardware addresses of the host's other links make it so; it is asked for once, when the bridge
/// is made.
async fn bridge_mac(netlink: &dyn Netlink, bridge: &str) -> Result<MacAddr> {
    let links = netlink.links(LinkFilter::All).await?;
    let macs = links.iter().filter(|link| link.alias.is_none());
    let macs = macs.filter_map(|link| link.mac.filter(|mac| !mac.is_zero()));
    let parts: Vec<String> = macs.map(|mac| mac.to_string()).collect();
    let parts: Vec<&str> = [bridge]
        .into_iter()
        .chain(parts.iter().map(String::as_str))
        .collect();
    Ok(derived_mac(&parts))
}
