//! Pods with addresses of prefixes that were their node's and are not any more. The node and its other pods reach them as before,
//! new pods as they reach the world outside. Other nodes have no way to them, or it leads to the prefix's new owner.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::{Error, ErrorKind, Result};
use crate::ipam::HostLocal;
use crate::spec::NetworkName;
use crate::spec::config::NetworkConfig;

/// How many addresses are told by themselves.
const WORDS_MAX: usize = 4;

/// Whether pods of the network hold such addresses, as STATUS tells.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn held(
    network: &NetworkName,
    config: &NetworkConfig,
    own: &[IpNetwork],
) -> Result<Option<Error>> {
    let outside = HostLocal::new().held_outside(network, config, own)?;
    Ok(told(&outside, own, ErrorKind::LimitedConnectivity))
}

/// Whether a pod's addresses are among them, as CHECK tells.
pub(super) fn of_pod(addresses: &[IpNetwork], own: &[IpNetwork]) -> Option<Error> {
    let is_own = |ip: &IpAddr| own.iter().any(|prefix| prefix.contains(*ip));
    let ips = addresses.iter().map(IpNetwork::ip);
    let outside: Vec<IpAddr> = ips.filter(|ip| !is_own(ip)).collect();
    told(&outside, own, ErrorKind::Internal)
}

fn told(outside: &[IpAddr], own: &[IpNetwork], kind: ErrorKind) -> Option<Error> {
    if outside.is_empty() || own.is_empty() {
        return None;
    }
    let some = outside.iter().take(WORDS_MAX).map(IpAddr::to_string);
    let mut some: Vec<String> = some.collect();
    if let Some(more @ 1..) = outside.len().checked_sub(WORDS_MAX) {
        some.push(format!("{more} more"));
    }
    let own: Vec<String> = own.iter().map(IpNetwork::to_string).collect();
    let message = format!(
        "pods of this node have addresses outside its prefixes ({}): {}; other nodes do not reach them until they are made anew",
        own.join(", "),
        some.join(", ")
    );
    Some(Error::new(kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_former_prefixes_are_told_and_others_are_not() {
        let own = [
            "10.244.21.0/24".parse().unwrap(),
            "fd00:244:1::/64".parse().unwrap(),
        ];
        let of = |texts: &[&str]| {
            let addresses: Vec<IpNetwork> =
                texts.iter().map(|text| text.parse().unwrap()).collect();
            of_pod(&addresses, &own).map(|error| error.to_string())
        };
        assert_eq!(of(&["10.244.21.2/24", "fd00:244:1::2/64"]), None);
        assert_eq!(
            of(&["10.244.1.2/32", "fd00:244:1::2/64"]).unwrap(),
            "pods of this node have addresses outside its prefixes (10.244.21.0/24, fd00:244:1::/64): 10.244.1.2; other nodes do \
             not reach them until they are made anew"
        );
        let five = of(&[
            "10.0.0.1/32",
            "10.0.0.2/32",
            "10.0.0.3/32",
            "10.0.0.4/32",
            "10.0.0.5/32",
        ]);
        assert!(five.unwrap().contains("10.0.0.4, 1 more;"));
    }
}
