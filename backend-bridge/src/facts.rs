//! Reading what the declaration depends on.

use cni_core::Result;
use cni_core::attach::derived_mac;
use cni_core::host::Host;
use cni_core::host::netlink::{Link, LinkKind, MacAddr, Netlink, NetlinkExt, Route};
use cni_core::spec::Attachment;
use cni_core::{Error, ErrorKind};

use crate::config::BridgeConfig;
use crate::desired::{Facts, made_by_us};

/// Reads the facts: one link, and only where the bridge is not of our making the routes of the host.
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
        _ => bridge_mac(host, &config.bridge).await,
    };
    let container_mac = derived_mac(&[
        attachment.network.as_str(),
        attachment.container.as_str(),
        attachment.interface.as_str(),
    ]);
    Ok(Facts {
        bridge,
        uplink_mtu,
        ipv6: ipv6.is_some(),
        bridge_mac,
        container_mac,
        expected: None,
    })
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
/// to share a layer 2, and be the same for all that make the bridge.
async fn bridge_mac(host: &Host, bridge: &str) -> MacAddr {
    let mut parts = vec![bridge.to_owned()];
    for key in ["kernel/random/boot_id", "kernel/hostname"] {
        // Whatever cannot be read makes the address less unique, and no more.
        parts.extend(host.sysctl.read(key).await.ok().flatten());
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    derived_mac(&parts)
}
