//! Who hears at the tunnel's port.

use std::sync::Arc;

use cni_core::fabric::{Exposed, Facts};
use cni_core::host::netlink::Vxlan;

use crate::config::VxlanConfig;

/// Why a firewall must not let everybody send to the port. The classic path's filter leaves other networks' packets to those
/// ([`cni_core::fabric::tables`]), whose devices may hear everybody; the flow's drops them.
pub(crate) fn withheld(config: &VxlanConfig, vxlan: &Vxlan, facts: &Facts) -> Option<String> {
    if !config.filter {
        return Some("the tunnel has no filter (`filter` is false)".to_owned());
    }
    let hears = |(name, exposed): &(&Arc<str>, &Exposed)| {
        exposed.port == vxlan.port && name.as_ref() != config.device
    };
    let others = facts.exposed.iter().filter(hears);
    let others: Vec<&str> = others.map(|(name, _)| &**name).collect();
    (!others.is_empty() && !vxlan.external).then(|| {
        format!(
            "nothing sees to who sends to {} at the same port",
            others.join(", ")
        )
    })
}
