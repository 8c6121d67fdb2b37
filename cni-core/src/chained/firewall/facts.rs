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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::PortSettings;

    const BRIDGE: LinkKind = LinkKind::Bridge {
        vlan_filtering: true,
    };

    fn attachment() -> Attachment {
        Attachment {
            network: "n".parse().unwrap(),
            container: "c".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        }
    }

    fn link(name: &str, kind: LinkKind) -> Link {
        Link::new(1, name, kind)
    }

    fn port_of_a_bridge(name: &str) -> Link {
        let mut link = link(name, LinkKind::Veth);
        link.port = Some(PortSettings::default());
        link
    }

    fn told(links: &[Link]) -> (Vec<(String, bool)>, Option<String>) {
        let routed = routed(links, &attachment()).into_iter();
        let routed = routed.map(|found| (found.name, found.own)).collect();
        (routed, port(links, &attachment()))
    }

    #[test]
    fn a_bridge_is_shared_and_its_port_the_attachments() {
        let links = [link("br0", BRIDGE), port_of_a_bridge("veth0")];
        let wanted = vec![("br0".to_owned(), false)];
        assert_eq!(told(&links), (wanted, Some("veth0".to_owned())));
    }

    #[test]
    fn a_pair_without_a_bridge_is_the_attachments_own() {
        let wanted = vec![("veth0".to_owned(), true)];
        assert_eq!(told(&[link("veth0", LinkKind::Veth)]), (wanted, None));
    }

    #[test]
    fn on_a_vlan_packets_are_routed_by_the_gateways_interface() {
        let own = attachment().host_name().to_string();
        let links = [
            link("br0", BRIDGE),
            port_of_a_bridge("br0.100p"),
            port_of_a_bridge(&own),
            link("br0.100", LinkKind::Veth),
        ];
        let wanted = vec![("br0.100".to_owned(), false)];
        assert_eq!(told(&links), (wanted, Some(own)));
    }

    #[test]
    fn a_bridge_in_a_vrf_is_no_port_and_a_limits_redirection_no_way() {
        let mut bridge = link("br0", BRIDGE);
        bridge.master = Some(9);
        let aside = link("bwp0", LinkKind::Other("ifb".to_owned()));
        let links = [bridge, port_of_a_bridge("veth0"), aside];
        let wanted = vec![("br0".to_owned(), false)];
        assert_eq!(told(&links).0, wanted);
    }

    #[test]
    fn without_an_interface_of_the_host_there_is_none() {
        assert_eq!(told(&[]), (Vec::new(), None));
    }
}
