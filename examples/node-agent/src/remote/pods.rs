//! Which addresses pods of this node hold, as far as that decides on prefixes.

use std::net::IpAddr;

use cni_core::ipam::HostLocal;
use cni_core::spec::NetworkName;
use cni_core::spec::config::NetworkConfig;
use ipnetwork::IpNetwork;

/// How many addresses are told by themselves.
const MOST_WORDS: usize = 4;

/// Knows which addresses pods of this node hold.
pub trait Pods: Send + Sync + std::fmt::Debug {
    /// Those that are in none of these prefixes.
    ///
    /// # Errors
    /// A sentence: it cannot be told.
    fn outside(&self, prefixes: &[IpNetwork]) -> Result<Vec<IpAddr>, String>;
}

/// What host-local has given to pods of the network.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) network: NetworkName,
    pub(crate) config: NetworkConfig,
}

impl Pods for Given {
    fn outside(&self, prefixes: &[IpNetwork]) -> Result<Vec<IpAddr>, String> {
        let held = HostLocal::new().held_outside(&self.network, &self.config, prefixes);
        held.map_err(|error| {
            format!(
                "which addresses pods hold cannot be read: {}",
                error.chain()
            )
        })
    }
}

/// Why new pods have to wait for those that have addresses of other prefixes than these, which are the node's now; `None` where
/// there are no such pods. `subject` is what begins the sentence: whose prefixes are others than they were.
pub(crate) fn why_to_wait(
    pods: &dyn Pods,
    prefixes: &[IpNetwork],
    subject: &str,
) -> Option<String> {
    let mut outside = match pods.outside(prefixes) {
        Ok(outside) => outside,
        Err(reason) => return Some(reason),
    };
    // Where Flannel has two families and the node joins with one, pods of Flannel's have addresses of the other, which is nobody's here.
    outside.retain(|address| {
        let same = |prefix: &IpNetwork| prefix.is_ipv6() == address.is_ipv6();
        prefixes.iter().any(same)
    });
    if outside.is_empty() {
        return None;
    }
    let mut some: Vec<String> = outside
        .iter()
        .take(MOST_WORDS)
        .map(IpAddr::to_string)
        .collect();
    if let Some(more @ 1..) = outside.len().checked_sub(MOST_WORDS) {
        some.push(format!("{more} more"));
    }
    let own: Vec<String> = prefixes.iter().map(IpNetwork::to_string).collect();
    Some(format!(
        "{subject} than it had ({}), and pods of this node still have addresses of the former ones: {}; new pods wait until those \
         have been made anew",
        own.join(", "),
        some.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Held(&'static [&'static str]);

    impl Pods for Held {
        fn outside(&self, prefixes: &[IpNetwork]) -> Result<Vec<IpAddr>, String> {
            let held = self.0.iter().map(|text| text.parse().unwrap());
            let is_outside = |ip: &IpAddr| !prefixes.iter().any(|prefix| prefix.contains(*ip));
            Ok(held.filter(is_outside).collect())
        }
    }

    fn why(held: &'static [&'static str], prefixes: &[&str]) -> Option<String> {
        let prefixes: Vec<IpNetwork> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        why_to_wait(&Held(held), &prefixes, "node n1 has other prefixes")
    }

    #[test]
    fn new_pods_wait_for_addresses_of_other_prefixes_but_not_of_another_family() {
        let held = &["10.244.1.7", "fd00:244:1::7"];
        assert_eq!(why(held, &["10.244.1.0/24", "fd00:244:1::/64"]), None);
        assert_eq!(why(held, &["10.244.1.0/24"]), None);
        assert_eq!(
            why(held, &["10.244.2.0/24", "fd00:244:1::/64"]).unwrap(),
            "node n1 has other prefixes than it had (10.244.2.0/24, fd00:244:1::/64), and pods of this node still have addresses of \
             the former ones: 10.244.1.7; new pods wait until those have been made anew"
        );
        let many = &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
        let words = why(many, &["10.244.2.0/24"]).unwrap();
        assert!(
            words.contains(": 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 1 more; "),
            "{words}"
        );
    }
}
