//! What Flannel's own CNI plugin reads in place of a state file: `subnet.env` (flannel-io/cni-plugin, `flannel.go`,
//! `loadFlannelSubnetEnv`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_core::cluster::{Node, View};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// The file's text, of the node's own prefixes that new pods may have addresses of. `None` while there is nothing to say: the plugin
/// refuses a file without a subnet.
///
/// The network is what the cluster's prefixes have in common when they are not told: the plugin takes one prefix of each
/// family. `FLANNEL_SUBNET` is the gateway's address, the first of the node's prefix.
pub fn text(
    view: &View,
    own: &[IpNetwork],
    cluster: &[IpNetwork],
    mtu: u32,
    masquerade: bool,
) -> Option<String> {
    let me = view.me()?;
    let mut text = String::new();
    for (ipv6, family) in [(false, ""), (true, "IPV6_")] {
        let Some(own) = own.iter().find(|prefix| prefix.is_ipv6() == ipv6) else {
            continue;
        };
        let network = common(cluster.iter(), ipv6).or_else(|| {
            let nodes = view.peers().chain([me]).map(AsRef::<Node>::as_ref);
            common(nodes.flat_map(|node: &Node| &node.prefixes), ipv6)
        })?;
        let (gateway, length) = (gateway(own), own.prefix());
        text.push_str(&format!(
            "FLANNEL_{family}NETWORK={network}\nFLANNEL_{family}SUBNET={gateway}/{length}\n"
        ));
    }
    if text.is_empty() {
        return None;
    }
    text.push_str(&format!("FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ={masquerade}\n"));
    Some(text)
}

fn gateway(prefix: &IpNetwork) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().saturating_add(1)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().saturating_add(1)).into(),
    }
}

/// The longest prefix of a family that holds all of the given ones.
fn common<'a>(prefixes: impl Iterator<Item = &'a IpNetwork>, ipv6: bool) -> Option<IpNetwork> {
    let bits = |prefix: &IpNetwork| match prefix.network() {
        IpAddr::V4(base) => u128::from(base.to_bits()) << 96,
        IpAddr::V6(base) => base.to_bits(),
    };
    let mut prefixes = prefixes.filter(|prefix| prefix.is_ipv6() == ipv6);
    let first = prefixes.next()?;
    let (base, mut length) = (bits(first), u32::from(first.prefix()));
    for other in prefixes {
        let same = (base ^ bits(other)).leading_zeros();
        length = length.min(same).min(u32::from(other.prefix()));
    }
    let base = base & u128::MAX.checked_shl(128 - length).unwrap_or(0);
    let length = u8::try_from(length).ok()?;
    match ipv6 {
        true => Some(
            Ipv6Network::new(Ipv6Addr::from_bits(base), length)
                .ok()?
                .into(),
        ),
        false => {
            let base = u32::try_from(base >> 96).ok()?;
            Some(
                Ipv4Network::new(Ipv4Addr::from_bits(base), length)
                    .ok()?
                    .into(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn common_of(texts: &[&str], ipv6: bool) -> Option<String> {
        common(prefixes(texts).iter(), ipv6).map(|prefix| prefix.to_string())
    }

    #[test]
    fn the_network_is_what_prefixes_have_in_common() {
        let v4 = |texts: &[&str]| common_of(texts, false);
        assert_eq!(v4(&["10.244.7.0/24"]).unwrap(), "10.244.7.0/24");
        assert_eq!(
            v4(&["10.244.0.0/24", "10.244.1.0/24"]).unwrap(),
            "10.244.0.0/23"
        );
        assert_eq!(
            v4(&["10.244.0.0/24", "10.244.255.0/24", "10.244.3.0/26"]).unwrap(),
            "10.244.0.0/16"
        );
        assert_eq!(v4(&["10.0.0.0/8", "192.168.0.0/16"]).unwrap(), "0.0.0.0/0");
        assert_eq!(v4(&["fd00::/64"]), None);
        assert_eq!(
            common_of(&["fd00:244:1::/64", "10.0.0.0/8", "fd00:244:2::/64"], true).unwrap(),
            "fd00:244::/46"
        );
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        let gateways: Vec<String> = prefixes(&["10.244.7.0/24", "fd00:244:7::/64"])
            .iter()
            .map(|prefix| gateway(prefix).to_string())
            .collect();
        assert_eq!(gateways, ["10.244.7.1", "fd00:244:7::1"]);
    }
}
