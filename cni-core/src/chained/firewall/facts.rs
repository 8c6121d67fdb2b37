//! Reading what the declaration depends on.

use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::host::netlink::{Link, LinkKind, NetlinkExt};
use crate::spec::{AddResult, Attachment};

use super::desired::{ADMIN, Facts, Routed, table};
use super::{FirewallConfig, IngressPolicy};

/// Reads the facts: one chain, and for a policy the links that the previous result names.
///
/// # Errors
/// The kernel's; [`ErrorKind::InvalidConfig`] when a policy is asked for that nothing on the host could hold to.
pub(super) async fn read(
    host: &Host,
    attachment: &Attachment,
    config: &FirewallConfig,
    previous: &AddResult,
) -> Result<Facts> {
    let mut facts = Facts {
        admins: admins(host).await?,
        ..Facts::default()
    };
    if config.ingress == IngressPolicy::Open {
        return Ok(facts);
    }
    let mut links = Vec::new();
    for interface in &previous.interfaces {
        if interface.sandbox.is_empty() {
            links.extend(host.netlink.link(&interface.name).await?);
        }
    }
    facts.port = port(&links, attachment);
    facts.routed = routed(&links, attachment);
    if facts.routed.is_empty() {
        let message = "\"ingressPolicy\" needs an interface of the host that the container's packets come by, and \
                       prevResult names none: leave it out behind a plugin that makes none";
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(facts)
}

/// The chains that rules of the chain [`ADMIN`] lead to.
async fn admins(host: &Host) -> Result<Vec<String>> {
    let found = host.firewall.chain_rules(&table(), ADMIN).await?;
    let rules = found.unwrap_or_default().rules.into_iter();
    let jumps = rules.filter_map(|rule| {
        let comment = rule.comment?;
        Some(comment.strip_prefix("jump ")?.to_owned())
    });
    Ok(jumps.collect())
}

/// The attachment's own port where it can be told by its name, else the only one that is named.
fn port(links: &[Link], attachment: &Attachment) -> Option<String> {
    let name = attachment.host_name();
    let ports = || links.iter().filter(|link| link.port.is_some());
    let own = ports().find(|link| link.name == name.as_str());
    own.or_else(|| ports().next()).map(|link| link.name.clone())
}

/// Links that are no ports. The gateway of a VLAN is an interface beside the bridge: then packets are routed by that.
fn routed(links: &[Link], attachment: &Attachment) -> Vec<Routed> {
    let is_bridge = |link: &Link| matches!(link.kind, LinkKind::Bridge { .. });
    // A redirection for a limit's sake is no way of packets.
    let is_aside = |link: &Link| matches!(&link.kind, LinkKind::Other(kind) if kind == "ifb");
    let is_way = |link: &&Link| link.port.is_none() && !is_aside(link);
    let free: Vec<&Link> = links.iter().filter(is_way).collect();
    let beside = free.iter().any(|link| !is_bridge(link));
    let routed = free.iter().filter(|link| !beside || !is_bridge(link));
    let name = attachment.host_name();
    // A pair alone is one container's: its end is known by its name, or by there being no bridge.
    let alone = !links.iter().any(is_bridge);
    routed
        .map(|link| Routed {
            name: link.name.clone(),
            own: alone || link.name == name.as_str(),
        })
        .collect()
}
