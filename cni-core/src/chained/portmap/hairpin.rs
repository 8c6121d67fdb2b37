//! Hairpin mode of the pod's port of a bridge.
//!
//! Where bridged packets pass the host's rules (`net.bridge.bridge-nf-call-iptables`), the kernel does not route what a rule
//! leads to a pod on the same bridge, but bridges it (`br_nf_pre_routing_finish`, `bridged_dnat`). A pod that asks for its own
//! published port is then reached only if its port may send out what came in by it.

use crate::error::Result;
use crate::host::Host;
use crate::host::firewall::Value;
use crate::host::netlink::{
    Link, LinkFilter, NetlinkChange, NetlinkError, NetlinkExt, PortSettings, errno,
};
use crate::spec::Attachment;

use super::table::{HAIRPIN_PORTS, table};

/// What tells whether bridged packets pass the host's rules.
const FILTERED: [&str; 2] = [
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
];

/// The attachment's port, where it needs hairpin mode from us, or has it from us. Not on a promiscuous bridge, which hands
/// the packet to the host, and with hairpin mode would deliver it twice.
pub(super) async fn port(host: &Host, attachment: &Attachment) -> Result<Option<String>> {
    let mut filtered = false;
    for key in FILTERED {
        filtered |= host.sysctl.read(key).await?.as_deref() == Some("1");
    }
    let name = attachment.host_name();
    let name = name.as_str();
    if !filtered {
        return Ok(None);
    }
    let Some(link) = host.netlink.link(name).await? else {
        return Ok(None);
    };
    let (Some(master), Some(settings)) = (link.master, link.port) else {
        return Ok(None);
    };
    let key = [Value::Interface(name.to_owned())];
    let firewall = &host.firewall;
    if settings.hairpin
        && firewall
            .element(&table(), HAIRPIN_PORTS, &key)
            .await?
            .is_none()
    {
        return Ok(None);
    }
    let bridge: Vec<Link> = host.netlink.links(LinkFilter::Index(master)).await?;
    let promiscuous = bridge.first().is_some_and(|bridge| bridge.promiscuous);
    Ok((!promiscuous).then(|| name.to_owned()))
}

/// Whether a port has hairpin mode.
pub(super) async fn is_on(host: &Host, port: &str) -> Result<bool> {
    let link = host.netlink.link(port).await?;
    let settings = link.and_then(|link| link.port);
    Ok(settings.is_some_and(|settings| settings.hairpin))
}

/// Turns it on or off; a port that is gone has none.
pub(super) async fn set(host: &Host, port: &str, hairpin: bool) -> Result<()> {
    let Some(link) = host.netlink.link(port).await? else {
        return Ok(());
    };
    let Some(settings) = link.port.filter(|settings| settings.hairpin != hairpin) else {
        return Ok(());
    };
    let outcome = host
        .netlink
        .apply_one(change(port, settings, hairpin))
        .await;
    match outcome {
        Err(error) if is_gone(&error) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// The change, for people too.
pub(super) fn change(port: &str, settings: PortSettings, hairpin: bool) -> NetlinkChange {
    NetlinkChange::PortSet {
        link: port.to_owned(),
        settings: PortSettings {
            hairpin,
            ..settings
        },
    }
}

fn is_gone(error: &NetlinkError) -> bool {
    error.errno == errno::ENODEV
}
