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
    let outside = match pods.outside(prefixes) {
        Ok(outside) => outside,
        Err(reason) => return Some(reason),
    };
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
